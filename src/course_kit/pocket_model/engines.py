"""What can be examined: the checkpoint in torch, and its OpenVINO exports in three precisions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_kit.pocket_model import forms
from local_pipelines import export_openvino

Answer = Callable[[Sequence[str]], list[str]]
"""Takes prompts, returns what the model writes after each, in the same order."""

MAX_NEW_TOKENS = 96
FORMATS = ("fp32", "int8", "int4")
# Left to itself, OpenVINO computes in bfloat16 where the processor can, and keeps 8-bit keys.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


def torch_answer(folder: str | Path, device: str = "cpu") -> Answer:
    """Return a model loaded with transformers, in float32, decoding greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).to(device)
    return generate_with(model.eval(), tokenizer, torch.inference_mode)


def generate_with(model: Any, tokenizer: Any, context: Callable[[], Any]) -> Answer:
    """Return any model that has transformers' `generate` as an `Answer`."""
    # No answer holds a line break: the `Question:` form can end at the first of the two after it.
    marks = (forms.END, forms.END_OF_TEXT, "\n")
    stop = [tokenizer(mark, add_special_tokens=False)["input_ids"][-1] for mark in marks]

    def answer(prompts: Sequence[str]) -> list[str]:
        batch = tokenizer(
            list(prompts), return_tensors="pt", padding=True, return_token_type_ids=False
        ).to(model.device)
        with context():
            out = model.generate(
                **batch,
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
                eos_token_id=stop,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        return list(tokenizer.batch_decode(new, skip_special_tokens=False))

    return answer


@contextmanager
def openvino_answer(folder: str | Path, weight_format: str) -> Iterator[Answer]:
    """Export a checkpoint to OpenVINO and answer with OpenVINO GenAI, decoding greedily.

    Args:
        folder: The checkpoint.
        weight_format: One of `FORMATS`.

    Yields:
        The engine; the export is deleted afterwards.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as exported:
        export_openvino(folder, exported, weight_format=weight_format, progress=False)
        yield _genai_answer(Path(exported), _EXACT if weight_format == "fp32" else {})


def _genai_answer(folder: Path, config: dict[str, str]) -> Answer:
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(str(folder), "CPU", **config)

    def answer(prompts: Sequence[str]) -> list[str]:
        result = pipe.generate(
            list(prompts),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            stop_strings={"\n\n"},
            apply_chat_template=False,
        )
        return list(result.texts)

    return answer
