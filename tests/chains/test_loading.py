"""load_llm takes the engine that suits the machine, and says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import LocalChat, LocalPipeline, load_llm
from local_pipelines.chains import loading
from local_pipelines.errors import (
    DeviceError,
    EngineError,
    ExportError,
    MissingPackageError,
    ModelError,
    ParameterError,
)
from local_pipelines.models import checkpoint, fit, names, paths
from local_pipelines.models.names import locate
from local_pipelines.openvino.manifest import MANIFEST
from local_pipelines.workbench.devices import Device

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
CPU = Device(index=-1, name="cpu", dtype="float32", reason="No GPU.", memory_free=10**12)
GPU = replace(CPU, index=0, name="cuda:0", dtype="bfloat16", reason="A GPU is here.")


class Machine:
    """What the machine has, and which engine was asked to load."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed: set[str] = {"genai", "openvino"}
        self.device = CPU
        self.loaded: list[str] = []
        self.errors: dict[str, Exception] = {}
        monkeypatch.setattr(
            loading, "installed_backend", lambda b: "1" if b in self.installed else None
        )
        monkeypatch.setattr(loading, "may_have_accelerator", lambda: self.device.index >= 0)
        monkeypatch.setattr(loading, "select_device", lambda _: self.device)
        for name in ("torch", "openvino", "genai"):
            monkeypatch.setattr(loading, f"_load_{name}", self._loader(name))

    def _loader(self, name: str) -> Callable[[Any], Any]:
        def load(wish: Any) -> Any:
            if name in self.errors:
                raise self.errors[name]
            self.loaded.append(name)
            return LocalPipeline(model_id="pocket")

        return load


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without a GPU that has OpenVINO; nothing is loaded."""
    return Machine(monkeypatch)


def test_without_a_gpu_it_is_openvino_genai(machine: Machine) -> None:
    """It starts and answers soonest on a processor."""
    llm = load_llm()
    assert (llm.backend, machine.loaded) == ("genai", ["genai"])
    assert "OpenVINO GenAI" in llm.reason


def test_with_a_gpu_it_is_torch(machine: Machine) -> None:
    """The reason is the device's own."""
    machine.device = GPU
    llm = load_llm()
    assert (llm.backend, llm.reason) == ("torch", GPU.reason)
    assert load_llm(device="cuda").backend == "torch"
    assert load_llm(device="cpu").backend == "genai"


def test_without_the_extra_it_is_torch(machine: Machine) -> None:
    """The reason names the command that installs it."""
    machine.installed.clear()
    llm = load_llm()
    assert llm.backend == "torch"
    assert 'install_packages("openvino")' in llm.reason


@pytest.mark.parametrize("backend", ["openvino", "genai"])
def test_asking_for_what_is_not_installed(machine: Machine, backend: str) -> None:
    """The error names the package and both commands."""
    machine.installed.clear()
    with pytest.raises(MissingPackageError, match=r"not installed.*install_packages.*pip install"):
        load_llm(backend=backend)
    assert not machine.loaded


def test_a_model_that_cannot_be_exported_is_run_by_torch(machine: Machine) -> None:
    """The reason says why OpenVINO could not."""
    machine.errors["genai"] = ExportError("There is no room.")
    llm = load_llm()
    assert llm.backend == "torch"
    assert "There is no room." in llm.reason
    with pytest.raises(ExportError):
        load_llm(weight_format="int8")  # which torch would not give
    with pytest.raises(ExportError):
        load_llm(backend="genai")


def test_other_errors_are_not_hidden(machine: Machine) -> None:
    """A model that is not there is not looked for with the next engine."""
    machine.errors["genai"] = ModelError("There is no such model.")
    with pytest.raises(ModelError, match="no such model"):
        load_llm()
    assert not machine.loaded


def test_an_engine_that_is_asked_for_is_taken(machine: Machine) -> None:
    """Whatever the machine has."""
    for backend in ("torch", "openvino", "genai"):
        assert load_llm(backend=backend).backend == backend
    assert machine.loaded == ["torch", "openvino", "genai"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"backend": "gen-ai"}, ParameterError, 'Write backend="genai"'),
        ({"backend": "torch", "weight_format": "int8"}, ParameterError, "for OpenVINO"),
        ({"backend": "torch", "weight_format": "int3"}, ParameterError, 'Write weight_format="int'),
        ({"weight_format": []}, ParameterError, "none of the formats"),
        ({"batch_size": 2.5}, ParameterError, "from 1 upward"),
        ({"max_new_tokens": 0}, ParameterError, "from 1 upward"),
        ({"device": "gpu-please"}, DeviceError, "is no device"),
        ({"model_id": "no such model"}, ModelError, "is no model"),
        ({"model_id": "pocket "}, None, ""),
    ],
)
def test_arguments(
    machine: Machine, options: dict[str, Any], error: type[Exception] | None, words: str
) -> None:
    """What cannot work is refused before anything is loaded."""
    if error is None:
        assert load_llm(**options)
        return
    with pytest.raises(error, match=words):
        load_llm(**options)
    assert not machine.loaded


def test_a_model_that_genai_cannot_run(machine: Machine) -> None:
    """Asked for any engine, the next one takes it, and the reason says why."""
    machine.errors["genai"] = EngineError("GenAI has no such layer.")
    llm = load_llm()
    assert (llm.backend, machine.loaded) == ("torch", ["torch"])
    assert "GenAI has no such layer." in llm.reason


def test_an_export_that_genai_cannot_run(
    machine: Machine, pocket_export: Path, tmp_path: Path
) -> None:
    """optimum-intel takes it, as torch cannot read it."""
    machine.errors["genai"] = EngineError("GenAI has no such layer.")
    llm = load_llm(pocket_export)
    assert (llm.backend, machine.loaded) == ("openvino", ["openvino"])
    assert "GenAI has no such layer." in llm.reason
    machine.installed.discard("openvino")
    with pytest.raises(EngineError):
        load_llm(pocket_export)


def test_an_export_without_the_converted_tokenizer(
    machine: Machine, pocket_export: Path, tmp_path: Path
) -> None:
    """GenAI is not even asked."""
    folder = shutil.copytree(pocket_export, tmp_path / "ir")
    for file in [*folder.glob("openvino_tokenizer*"), *folder.glob("openvino_detokenizer*")]:
        file.unlink()
    (folder / MANIFEST).unlink()
    llm = load_llm(folder)
    assert llm.backend == "openvino"
    assert "lacks the tokenizer" in llm.reason


def test_a_folder_with_both_formats_is_for_torch_too(machine: Machine, tmp_path: Path) -> None:
    """A GPU and `backend="torch"` take its safetensors, a processor takes its export as it is."""
    folder = shutil.copytree(paths.model_path("pocket"), tmp_path / "both")
    for end in ("xml", "bin"):
        (folder / f"openvino_model.{end}").touch()
    wish = loading._Wish(locate(folder), "cpu", 8, None, None)
    assert loading._load_exported(wish, lambda place: place) == folder.resolve()
    assert load_llm(folder).backend == "genai"
    assert load_llm(folder, backend="torch").backend == "torch"
    assert load_llm(folder, weight_format="int8").backend == "genai"
    machine.device = GPU
    assert load_llm(folder).backend == "torch"
    assert load_llm(folder, device="GPU").backend == "genai"  # one of Intel's, by OpenVINO's name


@pytest.mark.parametrize("backend", ["openvino", "genai"])
def test_a_missing_intel_gpu_is_found_before_an_export(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export may take minutes."""
    pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")
    monkeypatch.setattr(loading, "_load_exported", lambda *_: pytest.fail("it was exported"))
    with pytest.raises(DeviceError):
        load_llm(backend=backend, device="GPU.7")


def test_torch_computes_with_32_bits_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it answers as the other engines do; with 16 only where 32 do not fit."""
    bf16 = replace(CPU, dtype="bfloat16")
    wish = loading._Wish(locate("pocket"), "cpu", 8, None, None)
    assert loading._fitting_dtype(wish, bf16) == "float32"
    need = {
        d: fit.will_it_fit("pocket", bf16, dtype=d).memory_needed for d in ("float32", "bfloat16")
    }
    tight = replace(bf16, memory_free=(need["float32"] + need["bfloat16"]) // 2)
    assert loading._fitting_dtype(wish, tight) == "bfloat16"
    assert loading._fitting_dtype(wish, GPU) == "bfloat16"


def test_a_device_of_the_other_library() -> None:
    """Names of torch's and of OpenVINO's devices are not mixed up."""
    with pytest.raises(DeviceError, match=r"torch's.*backend"):
        load_llm(backend="genai", device="cuda")
    with pytest.raises(DeviceError, match="OpenVINO's"):
        load_llm(backend="torch", device="GPU")


def test_a_model_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch the estimate is asked before a download, and names a smaller model."""
    tiny = replace(CPU, memory_free=1000, memory_total=1000)
    monkeypatch.setattr(loading, "select_device", lambda _: tiny)
    with pytest.raises(ModelError, match="does not fit on cpu"):
        load_llm("openai-community/gpt2", backend="torch")


@pytest.mark.parametrize("backend", ["openvino", "genai"])
def test_an_export_that_does_not_fit(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenVINO the weights are compared with the memory that is free."""
    pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")
    load_llm(backend=backend)
    monkeypatch.setattr(loading, "ram", lambda: (10**6, 10**6))
    with pytest.raises(ModelError, match=r"does not fit into the memory: its weights take"):
        load_llm(backend=backend)


def test_torch_answers(torch_llm: Any) -> None:
    """The torch engine is LocalPipeline."""
    llm = load_llm(backend="torch", device="cpu", max_new_tokens=24, batch_size=2)
    assert isinstance(llm, LocalPipeline)
    assert (llm.backend, llm.model_id, llm.batch_size) == ("torch", "pocket", 2)
    assert llm.invoke(FRANCE) == torch_llm.invoke(FRANCE)


def test_genai_answers(
    pocket_export: Path, torch_llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with an export is loaded as it is."""
    pytest.importorskip("openvino_genai")
    llm = load_llm(pocket_export, device="cpu", max_new_tokens=24)
    assert llm.backend == "genai"
    assert llm.invoke(FRANCE) == torch_llm.invoke(FRANCE)
    with pytest.raises(ParameterError, match="which torch cannot read"):
        load_llm(pocket_export, backend="torch")
    with pytest.raises(ParameterError, match="weight_format has no effect"):
        load_llm(pocket_export, weight_format="int8")


@pytest.mark.slow
def test_openvino_answers(pocket_export: Path, torch_llm: Any) -> None:
    """optimum-intel computes exactly, too."""
    llm = load_llm(pocket_export, backend="openvino", max_new_tokens=24)
    assert isinstance(llm, LocalPipeline)
    assert llm.invoke(FRANCE) == torch_llm.invoke(FRANCE)


def test_a_gated_model_needs_a_token(run_python: Callable[..., str]) -> None:
    """The way to a model is looked at before anything is converted or loaded."""
    pytest.importorskip("openvino_genai")
    printed = run_python("""
from local_pipelines.practice_hub import PracticeHub
with PracticeHub():
    from local_pipelines import load_llm
    try:
        load_llm("meta-llama/Llama-3.2-1B-Instruct", backend="genai")
    except Exception as error:
        print(type(error).__name__, error)
""")
    assert printed.startswith("CredentialError"), printed


@pytest.mark.parametrize("backend", ["torch", "genai", "auto"])
def test_a_name_is_resolved_once_and_the_weights_header_read_once(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is one value from the door to the engine, whichever engine that is."""
    if backend != "torch":
        pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")
        load_llm(backend="genai", device="cpu")  # so that there is an export
    calls: list[str] = []
    for module, name in [(names, "_from_text"), (names, "_in_folder"), (checkpoint, "_header")]:
        original = getattr(module, name)

        def counted(*args: Any, _name: str = name, _original: Any = original) -> Any:
            calls.append(_name)
            return _original(*args)

        monkeypatch.setattr(module, name, counted)
    load_llm("pocket", backend=backend, device="cpu")
    assert calls == ["_from_text", "_header"]


@pytest.mark.slow
def test_the_real_small_model_answers_alike_on_both_engines(smollm2_folder: Path) -> None:
    """smollm2's conversion keeps its tokens, its template and what it knows."""
    pytest.importorskip("openvino_genai")
    question = "What is the capital of France?"
    for backend in ("torch", "genai"):
        llm = load_llm(smollm2_folder, backend=backend, max_new_tokens=16)
        assert llm.get_token_ids(question) == [1780, 314, 260, 3575, 282, 4649, 47]
        assert LocalChat(llm=llm).invoke(question).content == "The capital of France is Paris."
