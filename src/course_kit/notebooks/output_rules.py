"""What a run may leave behind in a notebook: one function a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from course_kit.notebooks.page import KERNEL, Finding, Page, Rule
from course_kit.notebooks.pages import tags

__all__ = ["OUTPUT_RULES"]

MAX_OUTPUT_LINES, MAX_IMAGE_BYTES, MAX_SPREAD = 50, 100_000, 3.0


def kernel_is_python3(page: Page) -> Iterator[Finding]:
    """Accept no kernel that carries the name of somebody's machine."""
    if page.nb.metadata.get("kernelspec") != KERNEL:
        yield page.finding(None, f"The kernelspec must be {json.dumps(KERNEL)}.")


def cells_have_unique_ids(page: Page) -> Iterator[Finding]:
    """Require ids: translations and diffs refer to them."""
    seen: set[str] = set()
    for number, cell in enumerate(page.nb.cells, 1):
        if not cell.get("id"):
            yield page.finding(number, "The cell has no id; `course_kit execute` gives it one.")
        elif cell.id in seen:
            yield page.finding(number, f"The id {cell.id} is taken by an earlier cell.")
        seen.add(cell.get("id", ""))


def executed_in_order(page: Page) -> Iterator[Finding]:
    """Require the counts 1, 2, 3, …: outputs come from one run from top to bottom."""
    for expected, (number, cell) in enumerate(page.cells("code"), 1):
        if not cell.source.strip():
            yield page.finding(number, "The code cell is empty.")
        if cell.execution_count != expected:
            count = cell.execution_count or " "
            yield page.finding(number, f"The cell was executed as [{count}], not [{expected}].")
            return


def no_stderr(page: Page) -> Iterator[Finding]:
    """Keep warnings and progress-bar debris out."""
    for number, _, output in page.outputs():
        if output.output_type == "stream" and output.name == "stderr":
            yield page.finding(number, f"There is stderr output: {_excerpt(output.text)}")


def no_private_paths(page: Page) -> Iterator[Finding]:
    """Keep the folders of a machine out of sources and outputs."""
    for number, cell in enumerate(page.nb.cells, 1):
        for match in _HOME.finditer(cell.source):
            yield page.finding(number, f"The source names a home folder: {match[0]}")
    for number, _, output in page.outputs():
        for text in _texts(output):
            if path := _private_path(text, page.private):
                yield page.finding(number, f"The output holds a path of this machine: {path}")


def _private_path(text: str, known: Sequence[str]) -> str:
    match = _HOME.search(text) or _MACHINE.search(text)
    return next((part for part in known if part in text), match[0] if match else "")


_HOME = re.compile(r"(?<![\w.~])(/home/(?!you\b)\w+|/Users/(?!you\b)\w+|/(?:root)/)"
                   r"|\b[A-Za-z]:\\{1,2}Users\\{1,2}(?!you\b)\w+")  # fmt: skip


_MACHINE = re.compile(r"(?<![\w.~])/(tmp|var/folders)/\w+|site-packages")


def no_tokens(page: Page) -> Iterator[Finding]:
    """Keep tokens out of the whole file; samples made of x or saying so are allowed."""
    for number, cell in enumerate(page.nb.cells, 1):
        for match in _TOKEN.finditer(json.dumps(cell)):
            if not _SAMPLE.search(match[0]):
                yield page.finding(number, f"There is what looks like a token: {match[0][:6]}…")
    if _TOKEN.search(json.dumps(page.nb.metadata)):
        yield page.finding(None, "The notebook's metadata hold what looks like a token.")


_TOKEN = re.compile(r"hf_[A-Za-z0-9]{24,}|lsv2_[a-z]{2}_[0-9a-f]{32}\w*")


_SAMPLE = re.compile(r"x{8}|sample|example|practice", re.IGNORECASE)


_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def no_widget_state(page: Page) -> Iterator[Finding]:
    """Keep widget state out: Colab calls such a notebook invalid."""
    if "widgets" in page.nb.metadata:
        yield page.finding(None, "The notebook's metadata hold widget state.")
    for number, _, output in page.outputs():
        if _WIDGET_VIEW in output.get("data", {}):
            yield page.finding(number, "The output is a widget, which shows nothing when stored.")


def only_wanted_errors(page: Page) -> Iterator[Finding]:
    """Allow errors in cells tagged `raises-exception` only, and require them there."""
    for number, cell in page.cells("code"):
        failed = any(output.output_type == "error" for output in cell.outputs)
        wanted = "raises-exception" in tags(cell)
        if failed and not wanted:
            yield page.finding(number, "The cell failed and has no tag raises-exception.")
        if wanted and not failed and cell.execution_count:
            yield page.finding(number, "The cell is tagged raises-exception and did not fail.")


def timings_are_steady(page: Page) -> Iterator[Finding]:
    """Refuse a table of times whose middle half is wide: the machine was busy with other work."""
    for number, _, output in page.outputs():
        for text in map(_plain, _texts(output)):
            for low, unit, high, larger in _MIDDLE_HALF.findall(text):
                if _seconds(high, larger) > MAX_SPREAD * _seconds(low, unit):
                    yield page.finding(
                        number,
                        f"Half of the runs took {low} {unit} to {high} {larger}, the others more or"
                        " less: run it again on a quiet machine.",
                    )


# Not the fastest and the slowest in brackets: one slow run says nothing.
_MIDDLE_HALF = re.compile(
    r"(?<![(（\d.,])(\d[\d.,]*)\s?(ns|µs|ms|s)\s?[a-zà至到–]{1,3}\s?(\d[\d.,]*)\s?(ns|µs|ms|s)\b"
)
_UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def _seconds(number: str, unit: str) -> float:
    return float(number.replace(",", "")) * _UNITS[unit]


def _plain(text: str) -> str:
    return re.sub(r"<[^>]+>", " ", text)


def outputs_are_short(page: Page) -> Iterator[Finding]:
    """Limit a cell's outputs to a screenful, and its pictures to what a repository can carry."""
    for number, cell in page.cells("code"):
        lines = sum(map(_height, cell.outputs))
        if lines > MAX_OUTPUT_LINES:
            text = f"The outputs have {lines} lines; at most {MAX_OUTPUT_LINES} are allowed."
            yield page.finding(number, text)
    for number, _, output in page.outputs():
        size = len(output.get("data", {}).get("image/png", "")) * 3 // 4
        if size > MAX_IMAGE_BYTES:
            yield page.finding(number, f"The picture has {size // 1000} kB; 100 are allowed.")


def _texts(output: Any) -> list[str]:
    data = output.get("data", {})
    found = [data[mime] for mime in data if mime.startswith("text/")]
    found += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    return [text for text in found if text]


def _height(output: Any) -> int:
    data = output.get("data", {})
    if "text/html" in data:  # what a reader sees instead of the plain text
        return len(re.findall(r"<(?:tr|p|li|h\d)\b", data["text/html"]))
    shown = [output.get("text", ""), data.get("text/plain", ""), *output.get("traceback", [])]
    return sum(len(text.splitlines()) for text in shown)


def _excerpt(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line[:80] + ("…" if len(line) > 80 else "")


OUTPUT_RULES: tuple[Rule, ...] = (
    kernel_is_python3,
    cells_have_unique_ids,
    executed_in_order,
    no_stderr,
    no_private_paths,
    no_tokens,
    no_widget_state,
    only_wanted_errors,
    outputs_are_short,
    timings_are_steady,
)
