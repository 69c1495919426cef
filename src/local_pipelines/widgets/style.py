"""How widgets look, and what stands where none can be shown."""

from __future__ import annotations

from typing import Any

__all__ = [
    "show",
    "styled",
]


_VIEW = "application/vnd.jupyter.widget-view+json"


def show(widget: Any, text: str) -> dict[str, Any]:
    """Make what IPython hands to the front end: the widget, and a text for those without widgets.

    Args:
        widget: The widget.
        text: What is shown where no widget can be, and in a notebook opened later.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"text/plain": text, _VIEW: view}


def styled(name: str, css: str, children: list[Any]) -> Any:
    """Put widgets one below the other, with their style.

    Args:
        name: The CSS class of the whole.
        css: Rules; `&` stands for that class.
        children: The widgets.
    """
    import ipywidgets

    rules = (_COLOURS + css).replace("&", f".{name}")
    style = ipywidgets.HTML(f"<style>{rules}</style>", layout={"display": "none"})
    box = ipywidgets.VBox([style, *children])
    box.add_class(name)
    return box


# The colours of JupyterLab's theme, light or dark; then those of VS Code; then some that go with
# any background.
_COLOURS = """
& {
  --lp-text: var(--jp-ui-font-color1, var(--vscode-foreground, inherit));
  --lp-faint: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #767676));
  --lp-line: var(--jp-border-color2, var(--vscode-widget-border, rgba(127, 127, 127, .4)));
  --lp-page: var(--jp-layout-color1, var(--vscode-editor-background, transparent));
  --lp-raised: var(--jp-layout-color2, rgba(127, 127, 127, .12));
  --lp-accent: var(--jp-brand-color1, var(--vscode-focusBorder, #1976d2));
  --lp-error: var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f));
  color: var(--lp-text);
}
& .lp-unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
"""
