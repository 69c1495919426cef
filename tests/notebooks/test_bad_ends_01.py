"""Each row of lesson 1's "If it fails" is what really happens; so is what it says in passing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_ends import rows, shows
from nbclient import NotebookClient
from nbformat import v4

from course_kit.notebooks.kernels import clean_environment, kernel_manager
from local_pipelines import PracticeHub, model_path

Provoke = Callable[[Path], object]


def load(model: str | Path, **options: object) -> object:
    """Load a tokenizer with transformers alone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, **options)


def misspelt(folder: Path) -> None:
    """Ask the Hub for a model that it does not have."""
    with PracticeHub():
        load("someone/no-such-model")


def not_here(folder: Path) -> None:
    """Ask an empty cache."""
    load("openai-community/gpt2", cache_dir=folder, local_files_only=True)


def gated(folder: Path) -> None:
    """Ask for a gated model without a token."""
    with PracticeHub():
        load("meta-llama/Llama-3.2-1B-Instruct")


def cut(folder: Path) -> None:
    """Load weights whose download was cut."""
    from transformers import AutoModelForCausalLM

    broken = Path(shutil.copytree(model_path("pocket"), folder / "model"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    AutoModelForCausalLM.from_pretrained(broken)


def misplaced(folder: Path) -> None:
    """Give the loader an option for writing."""
    from langchain_huggingface import HuggingFacePipeline

    HuggingFacePipeline.from_model_id(
        model_path("pocket"), task="text-generation", model_kwargs={"temperature": 0}
    )


def no_memory(folder: Path) -> None:
    """End a kernel as the system does when the memory is full: at once, without a word."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("import os; os._exit(9)")])
    manager = kernel_manager(clean_environment(folder))
    NotebookClient(notebook, kernel_manager_class=manager, timeout=60).execute()


PROVOKED = (misspelt, not_here, gated, cut, misplaced, no_memory)


@pytest.mark.parametrize(
    ("row", "provoke"),
    zip(rows("01"), PROVOKED, strict=True),
    ids=lambda part: getattr(part, "__name__", str(part)[:40]),
)
def test_row_is_what_happens(row: str, provoke: Provoke, tmp_path: Path) -> None:
    """What a row quotes is in the error that the fault gives."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the row says which
        provoke(tmp_path)
    message = f"{caught.typename}: {caught.value}"
    assert shows(row, message), message


def test_pipeline_samples_unless_told() -> None:
    """Without do_sample, transformers' pipeline draws at random."""
    from transformers import TextGenerationPipeline

    assert TextGenerationPipeline._default_generation_config.do_sample


def test_sdpa_never_holds_the_table() -> None:
    """The largest piece of memory that SDPA takes is far below that of the plain formula."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    query = torch.randn(1, 8, 1024, 64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    largest = max(event.cpu_memory_usage for event in watched.key_averages())
    assert largest < 8 * 1024 * 1024 * query.element_size() / 4


def test_hosted_code_makes_a_chat_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that are only shown are accepted; nothing is asked before `invoke`."""
    from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

    monkeypatch.setenv("HF_TOKEN", "hf_practice_not_a_real_token")
    endpoint = HuggingFaceEndpoint(repo_id="Qwen/Qwen3-0.6B", task="text-generation")
    assert ChatHuggingFace(llm=endpoint).llm is endpoint
