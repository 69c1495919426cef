"""A progress bar as plain text: on standard output in a notebook, where the rest would be red."""

from __future__ import annotations

import sys
from typing import Any

from local_pipelines.workbench.front_end import running_kernel, widgets_work

__all__ = ["progress_bar", "somebody_looks"]


def progress_bar(total: int, unit: str) -> Any:
    """Make a bar for so many things; it is no widget, whose state a notebook would store."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(total=total, unit=unit, file=sys.stdout if running_kernel() else sys.stderr)


def somebody_looks() -> bool:
    """Whether a bar would be seen while it moves: in a terminal, or in a notebook that is open."""
    return widgets_work() if running_kernel() else sys.stderr.isatty()
