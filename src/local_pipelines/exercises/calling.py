"""Calls what a learner wrote, in bounded time: an endless loop is ended, not left to run."""

from __future__ import annotations

import contextvars
import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any


class TooLongError(Exception):
    """The call took longer than it may."""


class RaisedError(Exception):
    """The call ended with an error of its own: `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(type(error).__name__)


class _EndedError(BaseException):
    """Is raised inside a call that has lasted too long; `except Exception` does not catch it."""


def bounded(function: Callable[[], Any], seconds: float) -> Any:
    """Call a function without arguments, in a thread of its own.

    Args:
        function: What is called.
        seconds: How long it may take.

    Returns:
        What it returns.

    Raises:
        TooLongError: It took longer, and was ended.
        RaisedError: It raised something, `SystemExit` included.
    """
    result: list[Any] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result.append(context.run(function))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="check_answer")
    thread.start()
    try:
        thread.join(seconds)
    except KeyboardInterrupt:
        _end(thread)
        raise
    if thread.is_alive():
        _end(thread)
        raise TooLongError
    if errors:
        raise RaisedError(errors[0])
    return result[0]


def _end(thread: threading.Thread) -> None:
    """Raise an error inside the thread until it ends; one that waits in C is left behind."""
    stop = time.monotonic() + 1
    while thread.is_alive() and time.monotonic() < stop:
        identity = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_EndedError))
        thread.join(0.05)
