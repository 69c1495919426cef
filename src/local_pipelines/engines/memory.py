"""Tells running out of memory from other failures, and gives memory back."""

from __future__ import annotations

import gc
import re
import sys

# CUDA, ROCm, XPU and MPS say "out of memory"; torch's allocator for the CPU, its libraries and
# OpenVINO each say it in their own words.
_SAYS_SO = re.compile(
    r"out of memory|can.t allocate memory|not enough memory|_ALLOC_FAILED|bad.?alloc|"
    r"CL_(OUT_OF_|MEM_OBJECT_ALLOCATION)",
    re.IGNORECASE,
)


def is_shortage(error: BaseException) -> bool:
    """Say whether an error means that memory was too small for what was asked."""
    # torch.OutOfMemoryError is a RuntimeError, and the other devices' errors are plain ones.
    said = isinstance(error, RuntimeError) and _SAYS_SO.search(str(error))
    return isinstance(error, MemoryError) or bool(said)


def free_memory() -> None:
    """Give back what nothing holds any more: no error either, as its frames hold tensors."""
    gc.collect()
    torch = sys.modules.get("torch")
    for name in ("cuda", "xpu", "mps"):
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            device.empty_cache()
