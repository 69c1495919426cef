"""What is shown while the tools convert a model: one line of progress, and nothing of theirs."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from local_pipelines.wording.messages import tr
from local_pipelines.workbench.front_end import running_kernel, widgets_work

__all__ = ["Stages", "no_logs", "no_warnings", "quiet"]


class Stages:
    """A bar that names the stage; nothing else is shown while the tools talk."""

    def __init__(self, title: str, progress: bool) -> None:
        self._title = title
        self._show = progress
        self._bar: Any = None

    def __enter__(self) -> Stages:
        if self._show and _is_watched():
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


def _is_watched() -> bool:
    """Whether somebody sees a bar: in a notebook that a program runs, it would be stored debris."""
    return running_kernel() is None or widgets_work()


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back tracing warnings, tables and bars of the tools; errors are raised all the same."""
    # Not by logging.disable(): optimum-intel switches that on and off itself.
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with no_warnings(), _no_widgets(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Hold back Python's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def no_logs() -> Iterator[None]:
    """Hold back what libraries log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _no_widgets() -> Iterator[None]:
    """In a notebook, the bars of transformers and of rich, which NNCF uses, are no text."""
    console: Any = sys.modules.get("rich.console")  # what the tools have not imported shows nothing
    transformers_logging: Any = sys.modules.get("transformers.utils.logging")
    is_notebook = getattr(console, "_is_jupyter", None)
    had_bars = bool(transformers_logging and transformers_logging.is_progress_bar_enabled())
    if is_notebook:
        console._is_jupyter = lambda: False
    if had_bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_notebook:
            console._is_jupyter = is_notebook
        if had_bars:
            transformers_logging.enable_progress_bar()
