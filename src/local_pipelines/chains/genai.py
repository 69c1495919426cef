"""`GenAIPipeline`: a model on OpenVINO GenAI, for LangChain, with no torch in the process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from local_pipelines.chains.base import LocalLLM
from local_pipelines.chains.chat_template import read_chat_template
from local_pipelines.engines.genai_model import GenAIEngine, check_options
from local_pipelines.engines.genai_run import GenAIRun
from local_pipelines.engines.options import (
    check_generation_defaults,
    check_generation_options,
    check_no_token,
    unknown_option,
)
from local_pipelines.engines.request import GenerationRequest
from local_pipelines.errors import EngineError, failure
from local_pipelines.models.contents import checked_loading
from local_pipelines.openvino.config import check_genai_device, exact_config
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.kept import load_kept
from local_pipelines.workbench.checks import checked_size

_DEFAULT_NEW_TOKENS = 256  # as in transformers' pipeline
_DEFAULT_BATCH_SIZE = 64
_OWN_FIELDS = frozenset({"engine", "folder", "weight_format"})  # known from the folder


class GenAIPipeline(LocalLLM):
    """A model on this machine, computed by OpenVINO GenAI, for LangChain.

    It promises what `LocalPipeline` promises, starts in about a second, and computes the prompts
    of a batch together: when one answer ends, the next prompt takes its place. It is made by
    `from_model_dir` or `from_model_id`. While a batch computes a token, other threads and tasks
    of the process wait; beside a single prompt they run.

    Args:
        model_id: The model's name.
        folder: Where the exported model lies.
        device: The processor, as OpenVINO calls it.
        ov_config: OpenVINO's options, as they were given.
        pipeline_kwargs: Generation options, such as `{"max_new_tokens": 64}`.
        batch_size: How many prompts to run at a time.
        progress: Show a progress bar while several prompts are answered.
        backend: "genai".
    """

    backend: str = "genai"
    model_id: str = ""
    folder: Path | None = None
    device: str = "CPU"
    ov_config: dict[str, Any] | None = None
    pipeline_kwargs: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = _DEFAULT_BATCH_SIZE
    engine: Any = Field(default=None, exclude=True, repr=False)

    @classmethod
    def from_model_dir(
        cls,
        folder: str | os.PathLike[str],
        *,
        max_new_tokens: int = _DEFAULT_NEW_TOKENS,
        device: str = "CPU",
        ov_config: Mapping[str, Any] | None = None,
        batch_size: int = _DEFAULT_BATCH_SIZE,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model that `export_openvino` or `optimum-cli` has exported.

        Args:
            folder: Where it lies.
            max_new_tokens: The most tokens of an answer.
            device: "CPU", or "GPU" for one of Intel's.
            ov_config: OpenVINO's options. An fp32 export is computed in 32 bits on the CPU, so that
                it answers as torch does; `{"EXECUTION_MODE_HINT": "PERFORMANCE"}` leaves that to
                OpenVINO, as it is left for int8 and int4.
            batch_size: How many prompts to run at a time.
            pipeline_kwargs: More generation options, such as `{"repetition_penalty": 1.1}`.
            kwargs: Other fields of the class, such as `progress=True`.

        Raises:
            MissingPackageError: The `openvino` extra is not installed.
            ExportError: The folder holds no export, or only a part, or a newer one.
            ParameterError: An option cannot work.
            DeviceError: OpenVINO sees no such device.
            EngineError: OpenVINO GenAI cannot run this model.
        """
        generating = _checked(cls, batch_size, max_new_tokens, pipeline_kwargs, kwargs)
        export = read_export(folder)
        if not export.has_tokenizer:
            raise failure("no-converted-tokenizer", folder=export.folder)
        check_genai_device(device, ov_config)
        check_generation_defaults(export.folder)
        config = exact_config(device, export.weight_format, ov_config or {})
        name = str(kwargs.get("model_id") or export.model or folder)
        with checked_loading(name, export.folder, kind=EngineError):
            engine = GenAIEngine(export.folder, device, config)
        given = {"model_id": export.model or export.folder.resolve().name} | kwargs
        return cls(
            folder=export.folder.absolute(),  # the working folder may change
            device=device,
            ov_config=None if ov_config is None else dict(ov_config),
            pipeline_kwargs=generating,
            batch_size=batch_size,
            engine=engine,
            weight_format=export.weight_format,
            **given,
        )

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        *,
        weight_format: str = "fp32",
        max_new_tokens: int = _DEFAULT_NEW_TOKENS,
        device: str = "CPU",
        ov_config: Mapping[str, Any] | None = None,
        batch_size: int = _DEFAULT_BATCH_SIZE,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model; it is exported when it is first used, and kept in `HF_HOME`.

        Args:
            model_id: "pocket", an id of the Hub, a folder, or a GGUF file.
            weight_format: "fp32", "int8" or "int4".
            max_new_tokens: The most tokens of an answer.
            device: "CPU", or "GPU" for one of Intel's.
            ov_config: OpenVINO's options; see `from_model_dir`.
            batch_size: How many prompts to run at a time.
            pipeline_kwargs: More generation options.
            kwargs: Other fields of the class.

        Raises:
            LocalPipelinesError: As in `from_model_dir` and `export_openvino`.
        """
        # All of this before minutes of work.
        _checked(cls, batch_size, max_new_tokens, pipeline_kwargs, kwargs)
        check_genai_device(device, ov_config)
        load = partial(
            cls.from_model_dir,
            max_new_tokens=max_new_tokens,
            device=device,
            ov_config=ov_config,
            batch_size=batch_size,
            pipeline_kwargs=pipeline_kwargs,
            **({"model_id": str(model_id)} | kwargs),
        )
        return load_kept(model_id, weight_format, load)

    def _run_of(self, request: GenerationRequest) -> GenAIRun:
        return GenAIRun(self._engine, request, self.pipeline_kwargs)

    @property
    def _engine(self) -> GenAIEngine:
        if self.engine is None:
            raise failure("empty-genai-pipeline")
        engine: GenAIEngine = self.engine
        return engine

    @property
    def _model_name(self) -> str:
        return self.model_id

    @property
    def _llm_type(self) -> str:
        return "openvino_genai"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            **super()._identifying_params,
            "model_id": self.model_id,
            "folder": str(self.folder),
            "weight_format": self.weight_format,
            "device": self.device,
            "ov_config": self.ov_config,
            "pipeline_kwargs": self.pipeline_kwargs,
        }

    @property
    def chat_template(self) -> str | None:
        """The chat template in the model's folder; None if there is none."""
        return read_chat_template(self.folder or Path(), self._engine.tokenizer_config)

    def _token_names(self) -> Mapping[str, Any]:
        return self._engine.tokenizer_config

    def _token_ids(self, text: str, *, special: bool) -> list[int]:
        return self._engine.encode([text], special=special)[0]

    def _special_tokens(self) -> dict[str, int]:
        return self._engine.special_tokens


def _checked(
    cls: type[GenAIPipeline],
    batch_size: int,
    max_new_tokens: int,
    pipeline_kwargs: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Check arguments and give all generation options; lengths among them win over the default."""
    check_no_token(fields)
    known = (frozenset(cls.model_fields) | {"max_new_tokens"}) - _OWN_FIELDS
    for name in fields.keys() - known:
        raise unknown_option(name, known)
    checked_size(batch_size)
    given = dict(pipeline_kwargs or {})
    if not {"max_length", "max_new_tokens"} & given.keys():
        given["max_new_tokens"] = max_new_tokens
    check_generation_options(given)
    check_options(given)
    return given
