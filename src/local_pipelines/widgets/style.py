"""How widgets look, and what stands where none can be shown."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

_VIEW = "application/vnd.jupyter.widget-view+json"


def show(widget: Any, text: str) -> dict[str, Any]:
    """Make what IPython hands to the front end: the widget, and a text for those without widgets.

    Args:
        widget: The widget.
        text: What is shown where no widget can be, and in a notebook opened later.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"text/plain": text, _VIEW: view}


def styled(name: str, children: list[Any], rule: str = "") -> Any:
    """Put widgets one below the other, with the style of style.css.

    Args:
        name: The CSS class of the whole.
        children: The widgets.
        rule: One more rule of CSS.
    """
    import ipywidgets

    sheet = (files("local_pipelines.widgets") / "style.css").read_text(encoding="utf-8")
    style = ipywidgets.HTML(f"<style>{sheet}{rule}</style>", layout={"display": "none"})
    box = ipywidgets.VBox([style, *children])
    box.add_class(name)
    return box
