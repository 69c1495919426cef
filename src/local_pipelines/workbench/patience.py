"""Waiting in bounded time for something that may never answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def within(seconds: float, question: Callable[[], Result]) -> Result:
    """Call something in a thread and wait for it; it is left behind if it takes too long.

    Raises:
        TimeoutError: It takes longer.
        Exception: What it raises.
    """
    results: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            results.put((question(), None))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return] # it came out of `question`
