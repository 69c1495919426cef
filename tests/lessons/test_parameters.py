"""A notebook's parameters are checked before a model is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from local_pipelines import check_parameters
from local_pipelines.chains import loading
from local_pipelines.errors import DeviceError, MissingPackageError, ParameterError
from local_pipelines.lessons import parameters
from local_pipelines.openvino import config as config_module
from local_pipelines.workbench import devices


def test_good_parameters_pass() -> None:
    """The parameters as the notebooks have them are accepted without a word."""
    check_parameters(
        MODEL_ID="pocket",
        DEVICE="cpu",
        MAX_NEW_TOKENS=16,
        BATCH_SIZE=1,
        N_PROMPTS=64,
        TEMPERATURE=0,
        TOP_P=0.9,
        SEED=0,
        BACKEND="auto",
        WEIGHT_FORMAT="int8",
        GROUP_SIZE=32,
        N_RUNS=3,
    )


@pytest.mark.parametrize("name", ["MAX_NEW_TOKENS", "BATCH_SIZE", "N_PROMPTS", "GROUP_SIZE"])
@pytest.mark.parametrize(
    ("value", "correction"),
    [
        (0, "= 1."),
        (-1, "= 1."),
        (2.5, "= 2."),
        (32.0, "= 32."),
        (True, "= 16."),
        (None, "= 16."),
        (math.nan, "= 16."),
        (math.inf, "= 16."),
        ("many", "= 16."),
        ("64", "= 64 without quotes;"),
    ],
)
def test_a_count_that_cannot_work_is_corrected(name: str, value: object, correction: str) -> None:
    """Anything but a whole number from 1 upward is refused with the nearest that works."""
    with pytest.raises(ParameterError) as caught:
        check_parameters(**{name: value})
    assert caught.value.fact.startswith(f"{name} = ")
    assert correction in caught.value.next_step


def test_a_number_from_the_command_line_names_papermills_option() -> None:
    """A number that arrives as text is explained by papermill's -r, which passes text."""
    with pytest.raises(ParameterError, match="use -p, not -r"):
        check_parameters(MAX_NEW_TOKENS="64")


@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_a_model_needs_a_name(value: object) -> None:
    """A model that is no text, or an empty one, is refused with examples."""
    with pytest.raises(ParameterError, match=r"pocket"):
        check_parameters(MODEL_ID=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEMPERATURE", -0.1),
        ("TEMPERATURE", "hot"),
        ("TEMPERATURE", True),
        ("TEMPERATURE", math.inf),
        ("TEMPERATURE", math.nan),
        ("TOP_P", 1.5),
        ("REPETITION_PENALTY", 0.5),
        ("SEED", -1),
        ("SEED", 1.5),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: object) -> None:
    """A number outside its range, or something else, is refused with one that works."""
    with pytest.raises(ParameterError, match=f"Write {name} = "):
        check_parameters(**{name: value})


def test_a_choice_suggests_the_nearest_word() -> None:
    """A misspelt choice is refused with the word that is nearest to it."""
    with pytest.raises(ParameterError, match='Write BACKEND = "openvino"'):
        check_parameters(BACKEND="OpenVINO")


def test_an_unknown_name_is_refused() -> None:
    """A parameter that no notebook has is refused with the nearest and all known names."""
    with pytest.raises(ParameterError, match=r"Known are MODEL_ID, .* Write MAX_NEW_TOKENS\."):
        check_parameters(MAX_NEW_TOKEN=16)
    with pytest.raises(ParameterError, match="Take it away"):
        check_parameters(colour="blue")


@pytest.mark.parametrize("value", ["auto", "cpu", "CPU", -1])
def test_a_device_that_is_here_passes(value: object) -> None:
    """The CPU is accepted under each of its names."""
    check_parameters(DEVICE=value)


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "", -2, 1.0, True, None])
def test_what_is_no_device_is_refused_at_once(value: object) -> None:
    """A device that cannot exist anywhere is refused without asking torch."""
    with pytest.raises(ParameterError, match='Write DEVICE = "auto"'):
        check_parameters(DEVICE=value)


def test_a_device_as_text_loses_its_quotes() -> None:
    """A device's number that arrives as text is refused with the number to write."""
    with pytest.raises(ParameterError, match="Write DEVICE = 0 without quotes"):
        check_parameters(DEVICE="0")


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of another machine is refused by its number before a model is loaded."""
    monkeypatch.setattr(devices, "find_accelerators", lambda torch: ([], []))
    with pytest.raises(DeviceError, match="7"):
        check_parameters(DEVICE=7)


@pytest.mark.parametrize("backend", ["auto", "genai", "openvino"])
def test_openvinos_names_of_devices_pass(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Intel GPU is "GPU" to OpenVINO, which is asked whether it has one; torch is not."""
    asked: list[str] = []
    monkeypatch.setattr(loading, "installed_backend", lambda _: "2026.4")
    monkeypatch.setattr(
        config_module, "check_ov_config", lambda config, device: asked.append(device)
    )
    monkeypatch.setattr(
        "local_pipelines.chains.loading.check_ov_config",
        lambda config, device: asked.append(device),
    )
    monkeypatch.setattr(
        "local_pipelines.lessons.parameters.check_ov_config",
        lambda config, device: asked.append(device),
    )
    monkeypatch.setattr(parameters, "select_device", lambda _: pytest.fail("torch was asked"))
    for device in ("GPU", "GPU.1", "NPU"):
        check_parameters(BACKEND=backend, DEVICE=device)
    assert asked == ["GPU", "GPU.1", "NPU"]


@pytest.mark.parametrize("backend", [{}, {"BACKEND": "torch"}])
def test_torch_knows_no_device_by_openvinos_name(backend: dict[str, str]) -> None:
    """Where torch runs the model, "GPU" is refused with what to write."""
    with pytest.raises(ParameterError, match=r'OpenVINO.* Write DEVICE = "auto"'):
        check_parameters(DEVICE="GPU", **backend)


def test_no_gpu_is_no_reason_to_import_torch(run_python: Callable[..., str]) -> None:
    """For the CPU, for "auto" and for OpenVINO nothing has to be looked for."""
    shown = run_python(
        "import sys\n"
        "from local_pipelines import check_parameters\n"
        "check_parameters(MODEL_ID='pocket', DEVICE='auto', BACKEND='auto')\n"
        "check_parameters(DEVICE=-1)\n"
        "print('torch' in sys.modules)\n"
    )
    assert shown == "False\n"


@pytest.mark.parametrize(("typo", "meant"), [("pockte", "pocket"), ("SmolLM2-135M", "SmolLM2")])
def test_a_misspelt_model_is_named_with_the_nearest(typo: str, meant: str) -> None:
    """A name without an owner that is no folder is found now, not when the model is loaded."""
    with pytest.raises(ParameterError, match=rf'Did you mean ".*{meant}'):
        check_parameters(MODEL_ID=typo)


def test_other_names_of_models_pass() -> None:
    """Ids of the Hub, known or not, and old ids are left to who loads the model."""
    for name in ("gpt2", "distilgpt2", "some/model", "./no/such/folder"):
        check_parameters(MODEL_ID=name)


def test_other_faults_are_found_without_torch(run_python: Callable[..., str]) -> None:
    """A wrong number is refused before torch is imported, even beside a device."""
    shown = run_python(
        "import sys\n"
        "from local_pipelines import check_parameters\n"
        "try:\n"
        "    check_parameters(DEVICE=7, MAX_NEW_TOKENS=0)\n"
        "except ValueError as error:\n"
        "    print(error, 'torch' in sys.modules)\n"
    )
    assert "MAX_NEW_TOKENS = 0" in shown
    assert "False" in shown


def test_a_backend_that_is_not_installed_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it is there before any model is looked for."""
    monkeypatch.setattr(loading, "installed_backend", lambda _: None)
    with pytest.raises(MissingPackageError, match="install_packages"):
        check_parameters(BACKEND="genai")
    check_parameters(BACKEND="auto")
    check_parameters(BACKEND="torch")


@pytest.mark.parametrize("device", [0, "cuda", "mps"])
def test_a_device_that_the_backend_cannot_use_is_named_at_once(device: str | int) -> None:
    """OpenVINO has no such device; whether torch has one is not even asked."""
    pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")
    with pytest.raises(DeviceError, match="OpenVINO"):
        check_parameters(BACKEND="genai", DEVICE=device)
    check_parameters(BACKEND="openvino", DEVICE=-1)
