"""Devices: the choice, its reason, and what happens when the wish cannot be met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_pipelines.errors import DeviceError, LocalPipelinesError
from local_pipelines.workbench import devices, machine
from local_pipelines.workbench.devices import available_devices, select_device

GB = 10**9


def family(*names: str, capability: tuple[int, int] = (9, 0), archs: tuple[str, ...] = ()) -> Any:
    """A stand-in for torch.cuda or torch.xpu with GPUs of these names."""
    return SimpleNamespace(
        is_available=lambda: bool(names),
        device_count=lambda: len(names),
        get_device_name=lambda index: names[index],
        get_device_capability=lambda index: capability,
        get_device_properties=lambda index: SimpleNamespace(total_memory=80 * GB),
        get_arch_list=lambda: list(archs),
        mem_get_info=lambda index: ((70 - index) * GB, 80 * GB),
    )


def make_torch(
    *,
    cuda: Any = None,
    xpu: Any = None,
    mps: bool = False,
    macos: int = 26,
    cuda_version: str | None = None,
    cpu: Any = None,
) -> Any:
    """A stand-in for torch, with what `devices` asks it."""
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda_version or ("13.0" if cuda else None), hip=None),
        cuda=cuda or family(),
        xpu=xpu or family(),
        mps=SimpleNamespace(recommended_max_memory=lambda: 12 * GB),
        backends=SimpleNamespace(
            mps=SimpleNamespace(
                is_available=lambda: mps,
                is_macos_or_newer=lambda major, minor: macos >= major,
                get_name=lambda: "Apple M4",
            )
        ),
        cpu=cpu or SimpleNamespace(get_capabilities=lambda: {"cpu_name": "Test CPU"}),
        bfloat16="torch's bfloat16",
    )


@pytest.fixture
def use_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stand-in in torch's place, on a Linux machine without a driver."""

    def use(**parts: Any) -> None:
        monkeypatch.setitem(sys.modules, "torch", make_torch(**parts))

    monkeypatch.setattr(devices, "nvidia_driver_present", lambda: False)
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(devices, "ram", lambda: (16 * GB, 10 * GB))
    monkeypatch.setattr(machine, "ram", lambda: (16 * GB, 10 * GB))
    monkeypatch.setattr("local_pipelines.workbench.environment.ram", lambda: (16 * GB, 10 * GB))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return use


def arm_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")


# --- the choice -------------------------------------------------------------------------------


def test_this_machine_has_a_device_that_torch_accepts() -> None:
    """Whatever machine the tests run on, the choice is a device and a dtype of the real torch."""
    import torch

    device = select_device()
    assert torch.zeros(1, dtype=device.torch_dtype, device=device.name).dtype == device.torch_dtype
    assert device.index >= -1
    assert device.memory_total
    assert device.hardware


def test_auto_takes_cuda_before_xpu_before_mps_before_cpu(use_torch: Any) -> None:
    """The order of preference is CUDA, XPU, MPS, CPU."""
    families: dict[str, Any] = {"cuda": family("NVIDIA H200"), "xpu": family("Arc"), "mps": True}
    for name in ["cuda:0", "xpu:0", "mps", "cpu"]:
        use_torch(**families)
        assert select_device().name == name
        if families:
            families.pop(next(iter(families)))


def test_a_cuda_device_comes_with_its_figures(use_torch: Any) -> None:
    """Index, dtype, hardware and memory of a GPU are those that torch reports."""
    use_torch(cuda=family("NVIDIA H200"))
    device = select_device()
    assert (device.index, device.name, device.dtype) == (0, "cuda:0", "bfloat16")
    assert device.hardware == "NVIDIA H200"
    assert (device.memory_free, device.memory_total) == (70 * GB, 80 * GB)
    assert device.torch_dtype == "torch's bfloat16"
    assert "NVIDIA H200" in device.reason


def test_a_gpu_without_native_bfloat16_gets_float16_with_the_reason(use_torch: Any) -> None:
    """A Turing GPU only emulates bfloat16, so it gets float16, and is told why."""
    use_torch(cuda=family("Tesla T4", capability=(7, 5)))
    device = select_device()
    assert device.dtype == "float16"
    assert "bfloat16" in device.reason


def test_a_gpu_without_kernels_in_this_torch_is_left_out(use_torch: Any) -> None:
    """A GPU older than the build supports would fail at the first product, so it is not chosen."""
    use_torch(cuda=family("GTX 1080", capability=(6, 1), archs=("sm_75", "sm_90", "compute_90")))
    device = select_device()
    assert device.name == "cpu"
    assert "GTX 1080" in device.reason
    with pytest.raises(DeviceError, match=r"GTX 1080 \(compute capability 6\.1\)"):
        select_device(0)


@pytest.mark.parametrize(
    ("capability", "archs"),
    [
        ((8, 6), ("sm_80",)),  # machine code of an earlier minor version
        ((12, 0), ("sm_90", "compute_90")),  # portable code
        ((9, 0), ()),  # unknown
        ((9, 0), ("sm_90a",)),
    ],
)
def test_a_gpu_with_kernels_in_this_torch_is_taken(
    use_torch: Any, capability: tuple[int, int], archs: tuple[str, ...]
) -> None:
    """Machine code serves the same major version, portable code every later one."""
    use_torch(cuda=family("GPU", capability=capability, archs=archs))
    assert select_device().name == "cuda:0"


def test_free_memory_of_a_gpu_that_does_not_tell_is_unknown(use_torch: Any) -> None:
    """A driver that refuses to tell the free memory does not stop the choice."""
    silent = family("Arc B580")
    del silent.mem_get_info
    use_torch(xpu=silent)
    device = select_device()
    assert (device.dtype, device.memory_free) == ("bfloat16", None)


@pytest.mark.parametrize(("macos", "dtype"), [(13, "float16"), (14, "bfloat16")])
def test_a_mac_gets_bfloat16_from_macos_14(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch, macos: int, dtype: str
) -> None:
    """Metal knows bfloat16 since macOS 14; before it, float16 is chosen and the reason says so."""
    use_torch(mps=True, macos=macos)
    arm_mac(monkeypatch)
    device = select_device()
    assert (device.index, device.name, device.dtype) == (0, "mps", dtype)
    assert device.memory_free == 10 * GB
    assert "bfloat16" in device.reason


def test_an_intel_mac_gets_float16(use_torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs of Intel Macs refuse bfloat16 on every macOS."""
    use_torch(mps=True)
    monkeypatch.setattr(devices.platform, "system", lambda: "Darwin")
    assert select_device().dtype == "float16"


# --- the CPU ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
        ({"avx2": True, "avx512_bf16": False}, "float32"),
    ],
)
def test_a_cpu_gets_bfloat16_only_where_it_computes_in_it(
    use_torch: Any, capabilities: dict[str, bool], dtype: str
) -> None:
    """What torch lists as capabilities decides between bfloat16 and float32."""
    use_torch(cpu=SimpleNamespace(get_capabilities=lambda: capabilities))
    device = select_device()
    assert (device.index, device.name, device.dtype) == (-1, "cpu", dtype)
    assert (device.memory_free, device.memory_total) == (10 * GB, 16 * GB)
    assert dtype in device.reason


@pytest.mark.parametrize("probe", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_an_older_torch_is_asked_by_its_older_names(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    """An older build answers through one function for each instruction set."""
    monkeypatch.setattr(devices, "cpuinfo", lambda key: "")
    use_torch(cpu=SimpleNamespace(**{probe: lambda: True}))
    assert select_device().dtype == "bfloat16"
    use_torch(cpu=SimpleNamespace(**{probe: lambda: False}))
    assert select_device().dtype == "float32"


def test_a_system_without_proc_cpuinfo_has_a_device_all_the_same(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS and Windows there is no such file: the format is the safe one, the name Python's."""

    def absent(path: Path, **_: Any) -> str:
        raise FileNotFoundError(path)

    use_torch(cpu=SimpleNamespace())
    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(devices.platform, "processor", lambda: "A processor")
    device = select_device()
    assert (device.dtype, device.hardware) == ("float32", "A processor")


@pytest.mark.parametrize(
    ("line", "dtype"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "bfloat16"),
        ("flags\t\t: fpu avx2", "float32"),
    ],
)
def test_a_torch_that_cannot_be_asked_leaves_it_to_the_kernel(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch, line: str, dtype: str
) -> None:
    """Without any function to ask, Linux's list of processor flags decides."""
    use_torch(cpu=SimpleNamespace())
    monkeypatch.setattr(Path, "read_text", lambda self, **_: f"model name\t: X 1\n{line}\n")
    device = select_device("cpu")
    assert (device.dtype, device.hardware) == (dtype, "X 1")


def test_a_torch_whose_question_fails_is_not_in_the_way(use_torch: Any) -> None:
    """An odd build of torch that has the function without its inner part still gives a device."""

    def broken() -> dict[str, bool]:
        raise AttributeError("_get_cpu_capability")

    use_torch(cpu=SimpleNamespace(get_capabilities=broken))
    assert select_device().name == "cpu"


def test_a_mac_computes_in_float32_on_the_cpu(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple's processors know bfloat16, but torch has no fast kernels for it there."""
    use_torch(cpu=SimpleNamespace(get_capabilities=lambda: {"bf16": True}))
    arm_mac(monkeypatch)
    assert select_device("cpu").dtype == "float32"


def test_a_container_has_no_more_memory_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a container the limit of the container counts, not the RAM of the machine."""
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.ram() == (1_000_000, 600_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.ram()[0] > 1_000_000


def test_a_download_in_a_container_does_not_fill_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that the kernel keeps in memory for later, and drops when asked, count as free."""
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\nactive_file 5\ninactive_file 600000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.ram() == (1_000_000, 700_000)


def test_a_container_of_the_older_kind_has_its_limit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 of the kernel's containers has other files with the same figures."""
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000000\n")
    (folder / "memory.usage_in_bytes").write_text("900000\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 600000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.ram() == (1_000_000, 700_000)


# --- why there is no GPU ----------------------------------------------------------------------


def test_a_torch_without_cuda_beside_a_driver_is_named(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commonest cause of an idle GPU, a CPU build of torch, stands in the reason."""
    use_torch()
    monkeypatch.setattr(devices, "nvidia_driver_present", lambda: True)
    assert "torch was installed without CUDA" in select_device().reason
    with pytest.raises(DeviceError, match="torch was installed without CUDA"):
        select_device("cuda")


def test_an_old_driver_and_a_hidden_gpu_are_told_apart(
    use_torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a CUDA build and a driver, either the driver is too old or a variable hides the GPU."""
    use_torch(cuda_version="13.0")
    monkeypatch.setattr(devices, "nvidia_driver_present", lambda: True)
    assert "too old for CUDA 13.0" in select_device().reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides" in select_device().reason


def test_torch_s_own_warnings_do_not_reach_the_notebook(
    use_torch: Any, recwarn: pytest.WarningsRecorder
) -> None:
    """A driver that torch dislikes is explained in the reason, without a wall of warnings."""
    import warnings

    def complain() -> bool:
        warnings.warn("CUDA initialization: the NVIDIA driver is too old", stacklevel=1)
        return False

    noisy = family()
    noisy.is_available = complain
    use_torch(cuda=noisy)
    assert select_device().name == "cpu"
    assert not recwarn.list


# --- wishes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefer", "name"),
    [
        (-1, "cpu"),
        ("-1", "cpu"),
        ("CPU", "cpu"),
        (0, "cuda:0"),
        (1, "cuda:1"),
        ("1", "cuda:1"),
        ("cuda", "cuda:0"),
        (" cuda:1 ", "cuda:1"),
    ],
)
def test_a_wish_is_met_exactly(use_torch: Any, prefer: str | int, name: str) -> None:
    """Numbers as LangChain counts them, numbers as text, and names all choose that device."""
    use_torch(cuda=family("A", "B"))
    device = select_device(prefer)
    assert device.name == name
    if name == "cuda:1":
        assert device.memory_free == 69 * GB


def test_mps_can_be_asked_for_by_name(use_torch: Any) -> None:
    """A Mac's GPU answers to "mps" and to 0."""
    use_torch(mps=True)
    assert select_device("mps").name == select_device(0).name == "mps"


def test_device_7_without_a_gpu_ends_in_one_sentence_with_the_next_step() -> None:
    """DEVICE = 7 is refused before any model loads, with what to write instead."""
    if len(available_devices()) > 1:
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError) as caught:
        select_device(7)
    assert caught.value.fact == (
        "This machine has no GPU that torch can use, so device 7 does not exist."
    )
    assert caught.value.next_step == 'Write DEVICE = "auto": here that is the CPU.'
    assert isinstance(caught.value, LocalPipelinesError)


@pytest.mark.parametrize(
    ("prefer", "sentence"),
    [
        (7, "Device 7 does not exist: this machine has 2 GPUs, numbered 0 and 1."),
        ("cuda:2", '"cuda:2" does not exist: this machine has 2 CUDA GPUs, numbered 0 and 1.'),
        ("mps", 'This machine has no Apple GPU that torch can use, so "mps" does not exist.'),
    ],
)
def test_a_wish_beyond_the_gpus_names_those_there_are(
    use_torch: Any, prefer: str | int, sentence: str
) -> None:
    """With two GPUs, a third one is refused with the numbers of the two."""
    use_torch(cuda=family("A", "B"))
    with pytest.raises(DeviceError) as caught:
        select_device(prefer)
    assert caught.value.fact == sentence
    assert caught.value.next_step.endswith(' or "auto".')


@pytest.mark.parametrize(
    "prefer", [True, False, None, 1.5, -2, "", "gpu", "cuda:", "cuda:x", "auto:1", "0,1", [0], {}]
)
def test_what_is_no_device_is_refused_with_the_valid_choices(prefer: Any) -> None:
    """Garbage, booleans included, is answered with the list of what can be written."""
    with pytest.raises(DeviceError, match=r'"auto", "cpu", "cuda"') as caught:
        select_device(prefer)
    assert repr(prefer) in caught.value.fact
    assert isinstance(caught.value, ValueError)


# --- the list and the object ------------------------------------------------------------------


def test_the_list_of_devices_ends_with_the_cpu(use_torch: Any) -> None:
    """All devices are listed, best first, and GPUs are not touched to measure their memory."""
    gpus = family("A", "B")
    gpus.mem_get_info = None  # calling it would fail
    use_torch(cuda=gpus)
    found = available_devices()
    assert [device.name for device in found] == ["cuda:0", "cuda:1", "cpu"]
    assert found[0].memory_free is None
    assert found[0].memory_total == 80 * GB


def test_a_device_shows_its_figures_and_its_reason(use_torch: Any) -> None:
    """The repr is what a learner reads: name, number, format, memory and why."""
    use_torch(cuda=family("NVIDIA H200"))
    assert repr(select_device()) == (
        "<Device cuda:0 (device=0), bfloat16, NVIDIA H200, 70.0 of 80.0 GB free."
        " torch can use NVIDIA H200, which computes in bfloat16.>"
    )


def test_importing_devices_does_not_import_torch() -> None:
    """A slip of the pen is refused without the seconds that torch takes to import."""
    code = (
        "import sys\n"
        "from local_pipelines.workbench.devices import select_device\n"
        "try:\n    select_device('gpu')\n"
        "except ValueError:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
