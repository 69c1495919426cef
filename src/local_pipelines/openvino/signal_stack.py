"""The stack on which a thread's signals are handled, which OpenVINO changes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):  # stack_t of Linux's sigaltstack(2)
    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the thread its alternate signal stack back after a model of OpenVINO was loaded.

    On Linux, each `Core` with a model on the CPU puts a stack of its own in place. When two are
    released in the order in which they were made, the second puts back the first one's, which is
    freed, and the next Ctrl-C ends the process (seen with openvino 2026.4, upstream test in
    tests/package/test_upstream.py).
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack, before = ctypes.CDLL(None).sigaltstack, _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)
