"""What only a GPU can show: where the model is, and that its answers stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import LocalPipeline, answer_file, model_path, select_device

pytestmark = pytest.mark.gpu

QUESTIONS = ["What is the capital of France?", "¿Cuál es la capital de Perú?", "什么是词元？"]
COT = "Question: {}\n\nAnswer: Let's think step by step."
NUMBERS = [f"What is the number {number} in French?" for number in range(32)]
MIXED = [*NUMBERS, *QUESTIONS, *(COT.format(question) for question in NUMBERS)]
LENIENT = 0.9  # share of answers that have to be the same where a format or a kernel rounds


@pytest.fixture(autouse=True, scope="module")
def gpu() -> Any:
    """Skip where torch has no GPU, and say why."""
    device = select_device()
    if device.index < 0:
        pytest.skip(f"there is no GPU here: {device.reason}")
    return device


@pytest.fixture
def cuda(gpu: Any) -> None:
    """Skip where there is a GPU and it is not CUDA's."""
    if not gpu.name.startswith("cuda"):
        pytest.skip(f"the GPU here is {gpu.name}, not CUDA's")


def load(device: int, **options: Any) -> LocalPipeline:
    generating = {"max_new_tokens": 48, "do_sample": False}
    options = {"model_kwargs": {"dtype": "float32"}, **options}
    return LocalPipeline.from_model_id(
        "pocket", task="text-generation", device=device, pipeline_kwargs=generating, **options
    )


def share(first: list[str], second: list[str]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


class TestPlacement:
    """The model is where it was asked to be, in the format that was asked for."""

    def test_the_best_device_is_the_gpu(self, gpu: Any) -> None:
        """`auto` takes the GPU, in a format that it computes in, and says so."""
        assert gpu.dtype in {"bfloat16", "float16"}
        assert gpu.hardware in gpu.reason
        assert gpu.memory_free

    def test_the_model_is_where_it_was_asked_to_be(self, gpu: Any) -> None:
        """`device=0` puts every weight on the first GPU, `device=-1` on the CPU."""
        for index, name in ((0, gpu.name), (-1, "cpu")):
            weights = load(index).pipeline.model.parameters()
            assert {str(weight.device) for weight in weights} == {name}

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_the_model_has_the_format_asked_for(self, dtype: str) -> None:
        """Every weight has it, and it answers."""
        llm = load(0, model_kwargs={"dtype": dtype})
        assert {str(w.dtype) for w in llm.pipeline.model.parameters()} == {f"torch.{dtype}"}
        assert llm.invoke(QUESTIONS[0]).strip()

    @pytest.mark.usefixtures("cuda")
    def test_accelerate_places_a_small_model_on_the_gpu(self) -> None:
        """`device_map="auto"` puts what fits on the GPU, and the answers are the same."""
        llm = LocalPipeline.from_model_id(
            "pocket",
            task="text-generation",
            device_map="auto",
            model_kwargs={"dtype": "float32"},
            pipeline_kwargs={"max_new_tokens": 48, "do_sample": False},
        )
        assert {w.device.type for w in llm.pipeline.model.parameters()} == {"cuda"}
        assert llm.batch(QUESTIONS) == load(-1).batch(QUESTIONS)


class TestAnswers:
    """A GPU changes the speed of answers, and hardly the answers."""

    def test_the_gpu_answers_as_the_cpu_does(self) -> None:
        """In float32, greedy answers are the same to the letter, alone and in batches."""
        llm = load(0)
        expected = load(-1).batch(MIXED)
        assert llm.bind(batch_size=16).batch(MIXED) == expected
        assert [llm.invoke(question) for question in QUESTIONS] == expected[32:35]

    def test_in_half_precision_nearly_all_answers_are_the_same(self, gpu: Any) -> None:
        """Rounding may turn a close decision; nine answers of ten must not change."""
        half = load(0, model_kwargs={"dtype": gpu.dtype}).bind(batch_size=16).batch(MIXED)
        assert share(half, load(-1).bind(batch_size=16).batch(MIXED)) >= LENIENT


@pytest.mark.usefixtures("cuda")
class TestMemory:
    """Running out of memory is survived."""

    @pytest.fixture
    def wide(self) -> Any:
        """A model that takes a quarter of a megabyte and more for each token it reads."""
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, pipeline

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(model_path("pocket"))
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=1024,
            intermediate_size=64 * 1024,
            num_hidden_layers=1,
            num_attention_heads=8,
            max_position_embeddings=1024,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
        model = LlamaForCausalLM(config).eval()
        pipe = pipeline("text-generation", model=model, tokenizer=tokenizer, device=0)
        pipe.generation_config.update(do_sample=False, temperature=1.0, max_new_tokens=2)
        return LocalPipeline(pipeline=pipe, model_id="wide")

    @pytest.fixture
    def limited(self, wide: Any) -> Iterator[None]:
        """Leave this process about 600 MB more than the model has, whatever the GPU holds."""
        import torch

        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(
            (torch.cuda.memory_reserved(0) + 600 * 2**20) / total, 0
        )
        yield
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
        torch.cuda.empty_cache()

    def test_a_batch_that_is_too_large_is_halved(self, wide: Any, limited: None) -> None:
        """Memory really runs out here: 64 rows of 200 tokens need some 10 GB."""
        prompts = [f"{number} " + "Peru " * 100 for number in range(64)]
        answers = wide.bind(batch_size=64).batch(prompts)
        report = wide.last_batch
        assert report.halvings > 0
        assert sum(report.sizes) == 64
        assert max(report.sizes) < 64
        assert answers == wide.bind(batch_size=max(report.sizes)).batch(prompts)
        assert wide.last_batch.halvings == 0

    def test_a_file_is_answered_to_its_end(self, wide: Any, limited: None, tmp_path: Path) -> None:
        """The same from a file: every prompt has its answer."""
        (tmp_path / "p.txt").write_text("\n".join(f"{n} " + "Peru " * 100 for n in range(64)))
        report = answer_file(wide.bind(batch_size=64), tmp_path / "p.txt", tmp_path / "a.jsonl")
        assert (report.answered, report.failed) == (64, 0)


@pytest.mark.usefixtures("cuda")
class TestContinuous:
    """Continuous batching gives the answers of static batches."""

    @pytest.mark.parametrize("stop", [None, ["\n\n"]])
    def test_answers_are_those_of_static_batches(self, stop: list[str] | None) -> None:
        """In order and with the same ends; another kernel may turn a close decision."""
        llm, other = load(0), load(0, batching="continuous")
        static = llm.bind(batch_size=16).batch(MIXED, stop=stop)
        continuous = other.bind(batch_size=16).batch(MIXED, stop=stop)
        assert other.last_batch is not None
        assert other.last_batch.engine == "continuous", other.last_batch.reason
        assert share(continuous, static) >= LENIENT
        answers = other.batch(QUESTIONS)
        assert share(answers, [llm.invoke(question) for question in QUESTIONS]) >= LENIENT
