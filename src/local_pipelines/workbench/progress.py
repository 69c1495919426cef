"""A progress bar as plain text: on standard output in a notebook, where the rest would be red."""

from __future__ import annotations

import sys
from typing import Any

from local_pipelines.wording.messages import tr
from local_pipelines.workbench.front_end import running_kernel, widgets_work


def progress_bar(total: int, unit: str) -> Any:
    """Make a bar for so many things; it is no widget, whose state a notebook would store."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(total=total, unit=unit, file=sys.stdout if running_kernel() else sys.stderr)


def somebody_looks() -> bool:
    """Whether a bar would be seen while it moves: in a terminal, or in a notebook that is open."""
    return widgets_work() if running_kernel() else sys.stderr.isatty()


class Stages:
    """A bar that names the stage; nothing else is shown while the tools talk."""

    def __init__(self, title: str, progress: bool) -> None:
        self._title = title
        self._show = progress
        self._bar: Any = None

    def __enter__(self) -> Stages:
        # In a notebook that a program runs, a bar would be stored debris.
        if self._show and (running_kernel() is None or widgets_work()):
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            form = "{desc} {bar} {n}/{total} [{elapsed}]"
            self._bar = tqdm(total=3, desc=self._title, bar_format=form)
        return self

    def enter(self, stage: str, work: Any) -> Any:
        """Do the work of a stage, and give what it gives."""
        if self._bar is not None:
            self._bar.set_description(self._said(stage))
        result = work()
        if self._bar is not None:
            self._bar.update()
        return result

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.set_description(self._said(tr("done") if kind is None else tr("stopped")))
            self._bar.close()

    def _said(self, stage: str) -> str:
        return tr("{title}: {stage}").format(title=self._title, stage=stage)
