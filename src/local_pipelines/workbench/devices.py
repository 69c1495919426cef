"""Which processor a model runs on, in which number format, and why.

The first question of every lesson is "do I have a GPU, and is it used?". `select_device` answers
it with a reason, before any model is loaded.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_pipelines.errors import DeviceError, failure
from local_pipelines.wording.grammar import capitalised, listed, sentence
from local_pipelines.wording.messages import mark, ntr, tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.machine import ram

if TYPE_CHECKING:
    import torch


_CHOICES = mark(
    '"auto", "cpu", "cuda", "cuda:1", "xpu", "mps", or a number: -1 the CPU, 0 the first GPU'
)
_NO_GPU = mark("No GPU that torch can use was found")
_MAKERS = {"cuda": mark("CUDA GPU"), "xpu": mark("Intel GPU"), "mps": mark("Apple GPU")}


@dataclass(frozen=True, kw_only=True, repr=False)
class Device:
    """A processor that torch can use here, and how to use it.

    Args:
        index: What LangChain's `from_model_id(device=…)` takes: -1 the CPU, 0… an accelerator.
        name: What torch calls it: "cpu", "cuda:0", "xpu:0", "mps".
        dtype: The number format to load a model in: "bfloat16", "float16" or "float32".
        reason: One sentence: why this device and this format.
        hardware: The maker's name for it, such as "NVIDIA H200"; empty if unknown.
        memory_total: Its memory in bytes (RAM for the CPU); None if unknown.
        memory_free: What of it was free when the device was selected, in bytes; None if unknown.
    """

    index: int
    name: str
    dtype: str
    reason: str
    hardware: str = ""
    memory_total: int | None = None
    memory_free: int | None = field(default=None, compare=False)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The same number format as an object of torch."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def __repr__(self) -> str:
        parts = [f"{self.name} (device={self.index})", self.dtype, self.hardware, self._memory()]
        return f"<Device {', '.join(filter(None, parts))}. {self.reason}>"

    def _memory(self) -> str:
        if self.memory_total is None:
            return ""
        total = f"{self.memory_total / 1e9:.1f} GB"
        if self.memory_free is None:
            return total
        return tr("{free} of {total} free").format(
            free=f"{self.memory_free / 1e9:.1f}", total=total
        )


def available_devices() -> list[Device]:
    """List what torch can use here, the best first; the CPU is always last.

    GPUs come without `memory_free`: measuring it would occupy memory on each.
    """
    import torch

    devices, obstacles = find_accelerators(torch)
    return [*devices, _cpu(torch, _why_no_gpu(torch, devices, obstacles))]


def select_device(prefer: str | int = "auto") -> Device:
    """Choose a device and say why; nothing is loaded onto it.

    Args:
        prefer: "auto" takes CUDA, else XPU, else MPS, else the CPU. A name ("cpu", "cuda",
            "cuda:1", "xpu", "mps") or a number as LangChain counts (-1 the CPU, 0 the first GPU)
            takes exactly that.

    Returns:
        The device, with its free memory measured now.

    Raises:
        DeviceError: `prefer` is no such name or number, or the machine has no such device.
    """
    kind, index = parse_device(prefer)  # first: a slip of the pen is not worth importing torch
    import torch

    accelerators, obstacles = find_accelerators(torch)
    obstacle = _why_no_gpu(torch, accelerators, obstacles)
    if kind == "cpu" or (kind == "auto" and not accelerators):
        return _cpu(torch, obstacle if kind == "auto" else tr("The CPU was asked for"))
    for device in accelerators:
        if kind in {"auto", "number", device.name.split(":")[0]} and index in {None, device.index}:
            return replace(device, memory_free=_free_memory(torch, device))
    raise _no_such_device(kind, index, accelerators, obstacle)


# --- what was asked for -----------------------------------------------------------------------


def parse_device(prefer: object) -> tuple[str, int | None]:
    """Read what was written as a device: its kind ("number" for any accelerator) and its index.

    Raises:
        DeviceError: If it is no name and no number of a device.

    >>> parse_device("cuda:1"), parse_device(-1), parse_device("0")
    (('cuda', 1), ('cpu', None), ('number', 0))
    """
    # papermill and pickers hand numbers over as text too; True and False are ints in Python only.
    text = "" if isinstance(prefer, bool) else str(prefer).strip().lower()
    if text in {"auto", "cpu", "-1"}:
        return ("auto" if text == "auto" else "cpu"), None
    if re.fullmatch(r"\d{1,4}", text):
        return "number", int(text)
    if match := re.fullmatch(r"(cuda|xpu|mps)(?::(\d{1,4}))?", text):
        return match[1], int(match[2]) if match[2] else None
    raise failure("no-device", prefer=prefer, choices=tr(_CHOICES))


def is_openvino_device(device: object) -> bool:
    """Say whether a device has a name that only OpenVINO gives.

    >>> is_openvino_device("GPU.1"), is_openvino_device("cuda:0")
    (True, False)
    """
    return isinstance(device, str) and device.partition(".")[0] in {"CPU", "GPU", "NPU", "AUTO"}


def _no_such_device(
    kind: str, index: int | None, accelerators: list[Device], obstacle: str
) -> DeviceError:
    same = [d for d in accelerators if kind in {"number", d.name.split(":")[0]}]
    maker = tr(_MAKERS.get(kind, "GPU"))
    asked = f'"{kind}"' if index is None else f'"{kind}:{index}"'
    asked = tr("device {index}").format(index=index) if kind == "number" else asked
    if same:
        names = [str(d.index) for d in same]
        cause = ""
        fact = ntr(
            "{asked} does not exist: this machine has {number} {maker}, numbered {indices}.",
            "{asked} does not exist: this machine has {number} {maker}s, numbered {indices}.",
            len(same),
        ).format(asked=capitalised(asked), number=len(same), maker=maker, indices=listed(names))
    else:
        names = [f'"{d.name}"' for d in accelerators]
        cause = "" if names or obstacle == tr(_NO_GPU) else sentence(obstacle)
        fact = tr(
            "This machine has no {maker} that torch can use, so {asked} does not exist."
        ).format(maker=maker, asked=asked)
    return DeviceError(
        fact,
        cause,
        tr("Write DEVICE = {names}.").format(names=tr(" or ").join([*names, '"auto"']))
        if names
        else tr('Write DEVICE = "auto": here that is the CPU.'),
    )


# --- accelerators -----------------------------------------------------------------------------


def find_accelerators(torch: Any) -> tuple[list[Device], list[str]]:
    """The usable accelerators, best family first, and why others cannot be used."""
    devices: list[Device] = []
    obstacles: list[str] = []
    with warnings.catch_warnings():
        # An old driver makes torch warn here; the same is said in `reason`, without the wall.
        warnings.simplefilter("ignore")
        for index in _count(torch.cuda):
            if obstacle := _too_old(torch, index):
                obstacles.append(obstacle)
            else:
                devices.append(_cuda(torch, index))
        devices += [_xpu(torch, index) for index in _count(getattr(torch, "xpu", None))]
        if torch.backends.mps.is_available():
            devices.append(_mps(torch))
    return devices, obstacles


def _count(family: Any) -> range:
    return range(family.device_count() if family is not None and family.is_available() else 0)


def _cuda(torch: Any, index: int) -> Device:
    # As torch.cuda.is_bf16_supported(including_emulation=False) decides, but for this very GPU.
    native = bool(torch.version.hip) or torch.cuda.get_device_capability(index)[0] >= 8
    hardware = torch.cuda.get_device_name(index)
    return Device(
        index=index,
        name=f"cuda:{index}",
        dtype="bfloat16" if native else "float16",
        reason=told("cuda-bfloat16" if native else "cuda-float16", hardware=hardware),
        hardware=hardware,
        memory_total=torch.cuda.get_device_properties(index).total_memory,
    )


def _too_old(torch: Any, index: int) -> str:
    """Why this build of torch has no kernels for the GPU; empty if it has.

    The rule is that of `torch.cuda._check_capability`: machine code ("sm_75") runs on the same
    major version, portable code ("compute_75") on every later one.
    """
    if torch.version.hip:
        return ""
    major, minor = torch.cuda.get_device_capability(index)
    built_for = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
    for kind, built_major, built_minor in built_for:
        built = (int(built_major), int(built_minor))
        if built <= (major, minor) and (kind == "compute" or built[0] == major):
            return ""
    if not built_for:
        return ""
    hardware = torch.cuda.get_device_name(index)
    return told("gpu-too-old", hardware=hardware, version=f"{major}.{minor}")


def _xpu(torch: Any, index: int) -> Device:
    hardware = torch.xpu.get_device_name(index)
    return Device(
        index=index,
        name=f"xpu:{index}",
        dtype="bfloat16",
        reason=told("xpu", hardware=hardware),
        hardware=hardware,
        memory_total=torch.xpu.get_device_properties(index).total_memory,
    )


def _mps(torch: Any) -> Device:
    # bfloat16 has the range of float32. In float16 some models overflow and answer nothing
    # (transformers issue 36822: Gemma 3). Metal knows bfloat16 since macOS 14; M1 and M2 emulate it
    # (transformers.utils.is_torch_bf16_gpu_available). Intel Macs cannot, whatever their system.
    safe = platform.machine() == "arm64" and torch.backends.mps.is_macos_or_newer(14, 0)
    maker = _MAKERS["mps"]
    hardware = getattr(torch.backends.mps, "get_name", lambda: tr(maker))()
    return Device(
        index=0,
        name="mps",
        dtype="bfloat16" if safe else "float16",
        reason=told("mps-bfloat16" if safe else "mps-float16", hardware=hardware),
        hardware=hardware,
        memory_total=torch.mps.recommended_max_memory(),
    )


def _free_memory(torch: Any, device: Device) -> int | None:
    if device.name == "mps":  # it shares the RAM, up to a limit
        return min(ram()[1], device.memory_total or ram()[0])
    family = getattr(torch, device.name.split(":")[0])
    with suppress(AttributeError, RuntimeError):  # torch.xpu has it since 2.6; drivers may refuse
        return int(family.mem_get_info(device.index)[0])
    return None


def _why_no_gpu(torch: Any, accelerators: list[Device], obstacles: list[str]) -> str:
    if accelerators:
        return tr("{device} is the better choice").format(device=accelerators[0].name)
    if obstacles:
        return obstacles[0]
    if not nvidia_driver_present():
        return tr(_NO_GPU)
    if not torch.version.cuda:
        return tr("torch was installed without CUDA though an NVIDIA driver is present")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return tr("CUDA_VISIBLE_DEVICES hides the NVIDIA GPU from torch")
    return told("driver-too-old", version=torch.version.cuda)


def nvidia_driver_present() -> bool:
    """Say whether an NVIDIA driver is there, without importing torch."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


# --- the CPU ----------------------------------------------------------------------------------


def _cpu(torch: Any, why: str) -> Device:
    fast = _cpu_computes_bfloat16(torch)
    total, free = ram()
    return Device(
        index=-1,
        name="cpu",
        dtype="bfloat16" if fast else "float32",
        reason=told("cpu-bfloat16" if fast else "cpu-float32", why=why),
        hardware=_cpu_name(torch),
        memory_total=total,
        memory_free=free,
    )


def _cpu_computes_bfloat16(torch: Any) -> bool:
    if platform.system() == "Darwin":
        return False  # the processors could, but torch has fast kernels for Linux and Windows only
    if (known := _capabilities(torch)) is not None:
        return any(map(known.get, ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # before get_capabilities
    with suppress(RuntimeError):
        if any(getattr(torch.cpu, probe, bool)() for probe in probes):
            return True
    flags = cpuinfo("flags") + " " + cpuinfo("features")
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


def _capabilities(torch: Any) -> dict[str, Any] | None:
    """What a recent torch knows about the processor; None where it cannot be asked."""
    with suppress(AttributeError, RuntimeError):  # AttributeError: an older torch
        capabilities: dict[str, Any] = torch.cpu.get_capabilities()
        return capabilities
    return None


def _cpu_name(torch: Any) -> str:
    known = (_capabilities(torch) or {}).get("cpu_name")
    return str(known or cpuinfo("model name") or platform.processor() or platform.machine())


def cpuinfo(key: str) -> str:
    """The first line of that name in Linux's /proc/cpuinfo; empty elsewhere."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if match := re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE | re.IGNORECASE):
            return match[1]
    return ""
