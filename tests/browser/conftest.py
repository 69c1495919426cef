"""A real JupyterLab on this machine, and a real browser in which to use it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from course_kit.notebooks.kernels import clean_environment

TOKEN = "only-for-these-tests"
SECONDS = 120  # for a start or a cell, on a busy machine
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Where it answers.
        folder: Its notebooks.
    """

    url: str
    folder: Path

    def write(self, name: str, *sources: str) -> str:
        """Store a notebook of these code cells; give its name."""
        cells = [v4.new_code_cell(source) for source in sources]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, self.folder / name)
        return name

    def stop_kernels(self) -> None:
        """End the notebooks' kernels: a machine with two cores has no room for idle ones."""
        for session in json.loads(self._call("GET", "/api/sessions")):
            self._call("DELETE", f"/api/sessions/{session['id']}")

    def _call(self, method: str, path: str) -> bytes:
        head = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=head)  # noqa: S310
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


@contextmanager
def _running(words: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; without one, the test is skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if found := next(filter(None, map(shutil.which, _NAMES)), None):
        return found
    with api.sync_playwright() as playwright:
        path: str = playwright.chromium.executable_path
    if not Path(path).exists():
        pytest.skip("needs Chromium: install it, or run `playwright install chromium`")
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """Chromium without a window.

    Not for the whole session: playwright keeps an event loop running, and async tests want none.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=_SWITCHES)
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab in an empty home: nobody's settings, kernels, tokens or models."""
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    home = tmp_path_factory.mktemp("home")
    folder = home / "notebooks"
    folder.mkdir()
    _settle(home / ".jupyter")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = clean_environment(home) | {"JUPYTER_CONFIG_DIR": str(home / ".jupyter")}
    environment.pop("LOCAL_PIPELINES_WIDGETS", None)
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    words += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--allow-root"]
    words += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    words += ["--LabApp.expose_app_in_browser=True"]
    log = home / "jupyterlab.log"
    with _running(words, log, env=environment, cwd=folder) as process:
        deadline = time.monotonic() + SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.2)
        yield Lab(url, folder)


def _settle(config: Path) -> None:
    """Answer beforehand what JupyterLab asks a newcomer, and keep it from fetching news."""
    (config / "labconfig").mkdir(parents=True)
    off = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(off))


class Notebook:
    """A notebook that is open in the browser.

    Attributes:
        page: The browser's page.
    """

    def __init__(self, page: Any) -> None:
        self.page = page

    def content(self) -> Any:
        """The notebook as JupyterLab has it now, outputs included."""
        return nbformat.from_dict(self.page.evaluate(f"() => {_PANEL}.model.toJSON()"))

    def code_cells(self) -> list[Any]:
        return [cell for cell in self.content().cells if cell.cell_type == "code"]

    def run_all(self, seconds: float = SECONDS) -> None:
        """Run all cells from the menu, and wait until the last one is done or one has failed."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        deadline = time.monotonic() + seconds
        while not (self._is_idle() and self._is_over()):
            assert time.monotonic() < deadline, "the cells took too long"
            time.sleep(0.2)
        assert failures(self.code_cells()) == []

    def run(self, number: int) -> str:
        """Run one code cell from the keyboard; give what it printed."""
        at = [i for i, cell in enumerate(self.content().cells) if cell.cell_type == "code"][number]
        before = self.content().cells[at].execution_count
        self.page.locator(f".jp-Cell[data-windowed-list-index='{at}'] .cm-content").click()
        self.page.keyboard.press("Control+Enter")
        deadline = time.monotonic() + SECONDS
        while (cell := self.content().cells[at]).execution_count in {
            None,
            before,
        } or not cell.outputs:
            assert time.monotonic() < deadline, "the cell took too long"
            time.sleep(0.05)
        assert failures([cell]) == []
        return "".join(output.get("text", "") for output in cell.outputs)

    def save(self) -> None:
        """Save from the keyboard, and wait until it is done."""
        self.page.locator(".jp-Notebook").first.press("Control+s")
        self.page.wait_for_function(f"() => !{_PANEL}.model.dirty")

    def _is_idle(self) -> bool:
        status = f"() => {_PANEL}.sessionContext.session?.kernel?.status"
        return str(self.page.evaluate(status)) == "idle"

    def _is_over(self) -> bool:
        cells = self.code_cells()
        return all(cell.execution_count for cell in cells) or bool(failures(cells))


# JupyterLab's own view of the notebook in front; see `--LabApp.expose_app_in_browser`.
_PANEL = "window.jupyterapp.shell.currentWidget.context"


def failures(cells: list[Any]) -> list[str]:
    """The errors that no lesson wants."""
    return [
        f"{output.ename}: {output.evalue}"
        for cell in cells
        for output in cell.outputs
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", [])
    ]


@pytest.fixture
def open_notebook(lab: Lab, browser: Any) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook of the lab in the browser, in light colours or `dark=True`."""
    contexts = []

    def open_(name: str, *, dark: bool = False) -> Notebook:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        contexts.append(context)
        context.set_default_timeout(SECONDS * 1000)
        page = context.new_page()
        page.goto(f"{lab.url}/lab/tree/{name}?token={TOKEN}&reset")
        page.get_by_text("| Idle").wait_for()  # in the status bar: before, nothing can be run
        if dark:
            page.get_by_role("menuitem", name="Settings").click()
            page.get_by_text("Theme", exact=True).hover()
            page.get_by_text("JupyterLab Dark", exact=True).click()
            page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
        return Notebook(page)

    yield open_
    for context in contexts:
        context.close()
    lab.stop_kernels()
