"""What can be examined: the checkpoint in torch, and its OpenVINO exports in three precisions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_pipelines import GenAIPipeline, LocalPipeline, export_openvino

__all__ = ["FORMATS", "Responder", "openvino_responder", "torch_responder"]

Responder = Callable[[Sequence[str]], list[str]]
"""Takes prompts, returns what the model writes after each, in the same order."""

FORMATS = ("fp32", "int8", "int4")
_MAX_NEW_TOKENS = 96
_BATCH_SIZE = 128


def torch_responder(folder: str | Path, device: str = "cpu") -> Responder:
    """Load a checkpoint with torch, in float32; it decodes greedily."""
    return _respond_with(
        LocalPipeline.from_model_id(
            str(folder),
            device=device,
            model_kwargs={"dtype": "float32"},
            pipeline_kwargs={"max_new_tokens": _MAX_NEW_TOKENS, "do_sample": False},
            batch_size=_BATCH_SIZE,
        )
    )


@contextmanager
def openvino_responder(folder: str | Path, weight_format: str) -> Iterator[Responder]:
    """Export a checkpoint to OpenVINO and answer with OpenVINO GenAI, decoding greedily.

    Args:
        folder: The checkpoint.
        weight_format: One of `FORMATS`.

    Yields:
        The engine; the export is deleted afterwards.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as exported:
        export_openvino(folder, exported, weight_format=weight_format, progress=False)
        yield _respond_with(
            GenAIPipeline.from_model_dir(
                exported, max_new_tokens=_MAX_NEW_TOKENS, batch_size=_BATCH_SIZE
            )
        )


def _respond_with(llm: LocalPipeline | GenAIPipeline) -> Responder:
    return lambda prompts: [answer.text for answer in llm.answers(list(prompts), stop=["\n\n"])]
