"""Whether a widget can be seen and used where this runs, and how an object shows itself there.

A widget needs a browser with a person before it. Without one it would leave an empty box in the
stored notebook, and widget state that some front ends call invalid. So there it is not even made.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from typing import Any

_SETTINGS = dict.fromkeys(("0", "false", "no", "off"), False) | dict.fromkeys(
    ("1", "true", "yes", "on"), True
)


def running_kernel() -> Any | None:
    """The Jupyter kernel that runs this code; `None` in a script and in IPython's terminal."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython.get_ipython() if ipython else None, "kernel", None)


def widgets_work() -> bool:
    """Say whether a widget shown now can be seen and used.

    The variable `LOCAL_PIPELINES_WIDGETS` (0 or 1) decides where it is set. Else the request that
    runs the cell does: with it a front end says whether it can ask a person for input. JupyterLab,
    Notebook, VS Code and Colab can; nbclient, and with it papermill, nbconvert and nbval, cannot.
    """
    if importlib.util.find_spec("ipywidgets") is None:
        return False
    setting = _SETTINGS.get(os.environ.get("LOCAL_PIPELINES_WIDGETS", "").strip().lower())
    if setting is not None:
        return setting
    kernel = running_kernel()
    if kernel is None:
        return False
    # Messages other than "run this cell" do not say it; those of a widget come from a browser.
    content = kernel.get_parent().get("content", {})
    return bool(content.get("allow_stdin", True))


class Record:
    """An output beside a widget, which a notebook keeps and shows when the widget is gone.

    A stored widget is a number: opened again, a notebook has "model not found" in its place. While
    the widget lives, its style (`hiding`) keeps the record out of sight; when it is gone, the
    record's style keeps that message out of sight, where JupyterLab trusts the notebook.
    """

    def __init__(self) -> None:
        self._class = f"lp-record-{secrets.token_hex(4)}"
        self._handle: Any = None

    @property
    def hiding(self) -> str:
        """The rule for the widget's style."""
        return f".{self._class} {{ display: none; }}"

    def show(self, html: str, text: str) -> None:
        """Write the record into the output of the cell that runs; in a script do nothing."""
        if running_kernel() is not None:
            from IPython.display import display

            self._handle = display(self._bundle(html, text), raw=True, display_id=self._class)

    def update(self, html: str, text: str) -> None:
        """Write it anew, wherever it is shown."""
        if self._handle is not None:
            self._handle.update(self._bundle(html, text), raw=True)

    def _bundle(self, html: str, text: str) -> dict[str, str]:
        place, record = ".jp-OutputArea-child", f'<div class="{self._class}">{html}</div>'
        gone = f"{place}:has(.{self._class}) + {place}:not(:has(.jupyter-widgets *))"
        style = f"<style>{gone} {{ display: none; }}</style>"
        return {"text/html": record + style, "text/plain": text}
