"""The stack on which a thread's signals are handled, which OpenVINO changes.

On Linux, each `Core` with a model on the CPU puts a stack of its own in place. When two are
released in the order of their making, the second puts back the stack of the first, which is freed,
and the next Ctrl-C ends the process (openvino 2026.4; see tests/openvino/test_signal_stack.py).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """An alternate signal stack: `stack_t` of Linux's sigaltstack(2)."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """The alternate signal stack of this thread; elsewhere than on Linux an empty one."""
    stack = SignalStack()
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


def use_signal_stack(stack: SignalStack) -> None:
    """Handle this thread's signals on that stack; does nothing elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the thread its signal stack back after OpenVINO has loaded a model."""
    stack = signal_stack()
    try:
        yield
    finally:
        use_signal_stack(stack)
