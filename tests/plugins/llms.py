"""Models for the tests of what runs them: the embedded one, a random one, and no model at all.

A test that takes `llm` runs once for each engine. To add an engine, add its name to `ENGINES` and
its loader to `LOADERS`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import model_path
from local_pipelines.chains.base import LocalLLM
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import ParameterError

NEW_TOKENS = 48

# The models here are so small that threads would wait for each other longer than they compute:
# up to a hundred times longer on a busy machine. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _load_torch(_: Path) -> Any:
    from local_pipelines import LocalPipeline

    return LocalPipeline.from_model_id(
        "pocket", task="text-generation", pipeline_kwargs={"max_new_tokens": NEW_TOKENS}
    )


def _load_openvino(export: Path) -> Any:
    from local_pipelines import LocalPipeline

    return LocalPipeline.from_model_id(
        str(export),
        task="text-generation",
        backend="openvino",
        pipeline_kwargs={"max_new_tokens": NEW_TOKENS},
    )


def _load_genai(export: Path) -> Any:
    pytest.importorskip("openvino_genai")
    from local_pipelines import GenAIPipeline

    return GenAIPipeline.from_model_dir(export, max_new_tokens=NEW_TOKENS)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "torch": _load_torch,
    "openvino": _load_openvino,
    "genai": _load_genai,
}
ENGINES = ["torch", pytest.param("openvino", marks=pytest.mark.slow), "genai"]


@pytest.fixture(scope="session")
def pocket_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in OpenVINO's format, exported once; tests must not change it."""
    pytest.importorskip("optimum.intel")
    from local_pipelines import export_openvino

    return export_openvino("pocket", tmp_path_factory.mktemp("ir") / "pocket", progress=False)


@pytest.fixture(scope="session", params=ENGINES)
def llm(request: pytest.FixtureRequest) -> Any:
    """The embedded model, as each engine runs it."""
    folder = Path() if request.param == "torch" else request.getfixturevalue("pocket_export")
    return LOADERS[request.param](folder)


@pytest.fixture(scope="session")
def genai_llm(pocket_export: Path) -> Any:
    """The embedded model run by OpenVINO GenAI."""
    return _load_genai(pocket_export)


@pytest.fixture(scope="session")
def torch_llm() -> Any:
    """The embedded model run by torch."""
    return _load_torch(Path())


@pytest.fixture(scope="session")
def random_llm() -> Any:
    """A tiny model with random weights: it writes any token, broken characters included."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, pipeline

    from local_pipelines import LocalPipeline

    tokenizer = AutoTokenizer.from_pretrained(model_path("pocket"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=1.0,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    pipe = pipeline(
        "text-generation",
        model=LlamaForCausalLM(config).eval(),
        tokenizer=tokenizer,
        device="cpu",
    )
    pipe.generation_config.update(do_sample=False, temperature=1.0, max_new_tokens=24)
    return LocalPipeline(pipeline=pipe, model_id="random")


@dataclass(eq=False)
class Script:
    """How `ScriptedLLM` behaves, and what it has done."""

    seconds_per_token: float = 0.0
    fail_at: int | None = None
    tokens: int = 0
    calls: list[list[str]] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class ScriptedLLM(LocalLLM):
    """A model without weights: it answers with the prompt in capitals."""

    script: Any

    def _answer(self, request: GenerationRequest) -> list[GeneratedAnswer]:
        self._check_prompts(request.prompts)
        with self.script.lock:
            self.script.at_work += 1
            self.script.most_at_work = max(self.script.most_at_work, self.script.at_work)
        try:
            return [self._one(prompt, request) for prompt in request.prompts]
        finally:
            self.script.at_work -= 1
            self.script.calls.append(request.prompts)

    def _one(self, prompt: str, request: GenerationRequest) -> GeneratedAnswer:
        text = ""
        for letter in prompt.upper():
            time.sleep(self.script.seconds_per_token)
            if not is_wanted(request.stopped):
                break
            if self.script.fail_at == self.script.tokens:
                raise RuntimeError("the model broke")
            self.script.tokens += 1
            text += letter
            if request.emit:
                request.emit(letter)
        request.advance(1)
        return GeneratedAnswer(text, len(prompt), len(text), 0.1, "eos")

    def _check_prompts(self, prompts: list[str], *, templated: bool = False) -> None:
        if "" in prompts:
            raise ParameterError("The prompt is empty.")

    def _token_ids(self, text: str, *, special: bool) -> list[int]:
        return [ord(letter) for letter in text]

    @property
    def _engine(self) -> object:
        return self.script

    @property
    def _model_name(self) -> str:
        return "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def chat_template(self) -> str | None:
        return "there is one"

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, template: str | None = None, **kwargs: Any
    ) -> str:
        return " ".join(message["content"] for message in messages)


@pytest.fixture
def scripted() -> Iterator[ScriptedLLM]:
    """A model without weights, for what takes many prompts, or a slow or failing model."""
    script = Script()
    yield ScriptedLLM(script=script)
    deadline = time.monotonic() + 10
    while script.at_work and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not script.at_work, "a model is still at work after its test"
