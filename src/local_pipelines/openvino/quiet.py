"""Holds back what the tools show while they convert a model."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any


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
