"""What only a GPU can show: where the model is, and that its answers stay the same."""

from __future__ import annotations

from typing import Any

import pytest

from local_pipelines import LocalPipeline, select_device

pytestmark = pytest.mark.gpu

QUESTIONS = ["What is the capital of France?", "¿Cuál es la capital de Perú?", "什么是词元？"]


@pytest.fixture(autouse=True, scope="module")
def gpu() -> Any:
    """Skip where torch has no GPU, and say why."""
    device = select_device()
    if device.index < 0:
        pytest.skip(f"there is no GPU here: {device.reason}")
    return device


def load(device: int) -> LocalPipeline:
    options = {"max_new_tokens": 48, "do_sample": False}
    return LocalPipeline.from_model_id(
        "pocket", task="text-generation", device=device, pipeline_kwargs=options
    )


def test_the_best_device_is_the_gpu(gpu: Any) -> None:
    """`auto` takes the GPU, in a format that it computes in, and says so."""
    assert gpu.dtype in {"bfloat16", "float16"}
    assert gpu.hardware in gpu.reason
    assert gpu.memory_free


def test_the_model_is_where_it_was_asked_to_be(gpu: Any) -> None:
    """`device=0` puts every weight on the first GPU."""
    llm = load(0)
    assert {str(weight.device) for weight in llm.pipeline.model.parameters()} == {gpu.name}


def test_the_gpu_answers_as_the_cpu_does() -> None:
    """In float32, greedy answers are the same to the letter."""
    assert load(0).batch(QUESTIONS) == load(-1).batch(QUESTIONS)
