"""How widgets look, and what stands where none can be shown."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

_VIEW = "application/vnd.jupyter.widget-view+json"


def show(widget: Any, text: str) -> dict[str, Any]:
    """Make what IPython hands to the front end: the widget, and a text for where none can be."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"text/plain": text, _VIEW: view}


def made(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Make a widget of ipywidgets, of a CSS class."""
    import ipywidgets

    widget = getattr(ipywidgets, kind)(*arguments, **options)
    widget.add_class(name)
    return widget


def styled(name: str, children: list[Any], rule: str = "") -> Any:
    """Put widgets one below the other in a box of a CSS class, with style.css and one more rule."""
    sheet = (files("local_pipelines.widgets") / "style.css").read_text(encoding="utf-8")
    style = made("HTML", "lp-style", f"<style>{sheet}{rule}</style>", layout={"display": "none"})
    return made("VBox", name, [style, *children])
