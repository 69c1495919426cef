"""`GenAIPipeline`: a model on OpenVINO GenAI, for LangChain, with no torch in the process."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from local_pipelines._cache_folder import cache_home
from local_pipelines._chat_template import read_chat_template, render_chat_template
from local_pipelines._ir import read_export
from local_pipelines._local_llm import Answer, LocalLLM, Request, checked_size
from local_pipelines._messages import tr
from local_pipelines._options import check_generation_options, check_no_token, unknown_option
from local_pipelines.errors import DeviceError, ExportError, ParameterError

__all__ = ["GenAIPipeline"]

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
        from local_pipelines._genai_engine import GenAIEngine, check_options, exact_config

        check_no_token(kwargs)
        _check_fields(cls, kwargs)
        checked_size(batch_size)
        generating = _generation_options(max_new_tokens, pipeline_kwargs)
        check_options(generating)
        export = read_export(folder)
        if not export.has_tokenizer:
            raise _has_no_tokenizer(export.folder)
        check_device(device, ov_config)
        config = exact_config(device, export.weight_format, ov_config or {})
        engine = GenAIEngine(export.folder, device, config)
        given = {"model_id": export.model or export.folder.resolve().name} | kwargs
        return cls(
            folder=export.folder,
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
            model_id: "pocket", an id of the Hub, or a folder.
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
        from local_pipelines._genai_engine import check_options

        check_no_token(kwargs)  # all of this before minutes of work
        _check_fields(cls, kwargs)
        checked_size(batch_size)
        check_options(_generation_options(max_new_tokens, pipeline_kwargs))
        check_device(device, ov_config)
        return cls.from_model_dir(
            exported(model_id, weight_format),
            max_new_tokens=max_new_tokens,
            device=device,
            ov_config=ov_config,
            batch_size=batch_size,
            pipeline_kwargs=pipeline_kwargs,
            **({"model_id": str(model_id)} | kwargs),
        )

    # --- what LocalLLM asks for ---------------------------------------------------------------

    def _answer(self, request: Request) -> list[Answer]:
        run = self._run_of(request)
        try:
            answers: list[Answer] = run.answers()
            return answers
        finally:
            self._last_batch = run.report or self._last_batch  # of a call that failed too

    def _check_prompts(self, prompts: list[str], *, templated: bool = False) -> None:
        self._run_of(Request(prompts=prompts, templated=templated)).tokenize()

    def _run_of(self, request: Request) -> Any:
        from local_pipelines._genai_engine import GenAIRun

        return GenAIRun(self._engine, request, self.pipeline_kwargs)

    @property
    def _engine(self) -> Any:
        if self.engine is None:
            raise ParameterError(
                tr("This GenAIPipeline has no model."),
                tr("It was made without one."),
                tr('Write GenAIPipeline.from_model_id("pocket").'),
            )
        return self.engine

    @property
    def _model_name(self) -> str:
        return self.model_id

    @property
    def _llm_type(self) -> str:
        return "openvino_genai"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
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
        return read_chat_template(self._folder, self._engine.tokenizer_config)

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, template: str | None = None, **kwargs: Any
    ) -> str:
        """Write messages as the text that the model was trained on.

        Args:
            messages: Dictionaries with "role" and "content".
            template: Used in place of the model's own template.
            kwargs: More variables for the template, such as `tools`.
        """
        chosen = template or self.chat_template
        if chosen is None:
            raise ParameterError(
                tr("{model_id} has no chat template.").format(model_id=self.model_id),
                next_step=tr("Give one as template=…."),
            )
        return render_chat_template(chosen, messages, self._engine.tokenizer_config, **kwargs)

    @property
    def _folder(self) -> Path:
        return self.folder or Path()


# --- before anything is loaded -----------------------------------------------------------------


def _check_fields(cls: type[GenAIPipeline], kwargs: Mapping[str, Any]) -> None:
    known = (frozenset(cls.model_fields) | {"max_new_tokens"}) - _OWN_FIELDS
    for name in kwargs:
        if name not in known:
            raise unknown_option(name, known)


def _generation_options(
    max_new_tokens: int, pipeline_kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All options for generating; lengths in `pipeline_kwargs` win over the default."""
    given = dict(pipeline_kwargs or {})
    if not {"max_length", "max_new_tokens"} & given.keys():
        given["max_new_tokens"] = max_new_tokens
    check_generation_options(given)
    return given


def check_device(device: str, ov_config: Mapping[str, Any] | None) -> None:
    """Find out before a model is loaded that OpenVINO GenAI cannot use a device or its options."""
    if device != "CPU" or ov_config is not None:  # else there is nothing to check, and time to save
        from local_pipelines._ov_config import check_ov_config

        check_ov_config({} if ov_config is None else ov_config, device)
    if device.partition(".")[0] not in {"CPU", "GPU"}:
        raise DeviceError(
            tr("GenAIPipeline does not run on {device}.").format(device=device),
            tr("Continuous batching is for CPU and GPU."),
            tr('Write device="CPU", or use openvino_genai.LLMPipeline itself.'),
        )


def _has_no_tokenizer(folder: Path) -> ExportError:
    return ExportError(
        tr("{folder} lacks the converted tokenizer, openvino_tokenizer.xml.").format(folder=folder),
        tr("The model was exported without openvino-tokenizers."),
        tr('Run `install_packages("openvino")` and export the model again.'),
    )


# --- the export of a model id, made once -------------------------------------------------------


def exported(model_id: str | os.PathLike[str], weight_format: str) -> Path:
    """The folder with the export of a model, which is made if it is not there or outdated."""
    from local_pipelines.openvino import export_openvino

    target = _cache_folder() / _cache_name(model_id, weight_format)
    try:
        return export_openvino(model_id, target, weight_format=weight_format)
    except ExportError:
        if not target.exists():
            raise
    with _set_aside(target):  # of another version of the model, by another OpenVINO, or damaged
        return export_openvino(model_id, target, weight_format=weight_format)


def _cache_folder() -> Path:
    return cache_home() / "local_pipelines" / "openvino"


def _cache_name(model_id: str | os.PathLike[str], weight_format: str) -> str:
    """A name for a model and a format; two folders of one name do not share it."""
    from local_pipelines.models import _locate

    located = _locate(model_id)
    if isinstance(located, str):
        return f"{located.replace('/', '--')}-{weight_format}"
    if str(model_id).strip() == "pocket":
        return f"pocket-{weight_format}"
    place = hashlib.sha256(str(located).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", located.name)
    return f"{name}-{place}-{weight_format}"


@contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Give a folder another name while its successor is made, and its own back if that fails."""
    aside = folder.with_name(f".{folder.name}.old-{secrets.token_hex(3)}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise ExportError(
            tr("{folder} is outdated and cannot be replaced.").format(folder=folder),
            f"{error.strerror or error}.",
            tr("Close the programs that use it, or delete it yourself."),
        ) from error
    try:
        yield
    except BaseException:
        if not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
