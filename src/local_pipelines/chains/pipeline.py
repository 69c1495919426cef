"""`LocalPipeline`: LangChain's `HuggingFacePipeline`, completed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary

from langchain_huggingface import HuggingFacePipeline
from pydantic import PrivateAttr

from local_pipelines.chains.base import LocalLLM
from local_pipelines.engines.options import (
    GENERATION_OPTIONS,
    check_generation_defaults,
    check_generation_options,
    check_model_kwargs,
    check_no_token,
)
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest
from local_pipelines.engines.torch_engine import answer_request, check_device
from local_pipelines.engines.torch_options import configured, echoes, generation_config
from local_pipelines.engines.torch_run import TorchRun, special_tokens
from local_pipelines.errors import ParameterError, failure
from local_pipelines.models.contents import check_is_filled, checked_loading
from local_pipelines.models.names import ModelName, locate
from local_pipelines.models.paths import model_path
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import checked_size
from local_pipelines.workbench.devices import select_device
from local_pipelines.workbench.versions import check_versions, explained_by_version

_TASK = "text-generation"
_BELOW = ("transformers", "huggingface_hub", "langchain-huggingface", "accelerate", "torch")
_marks: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # of models that lie nowhere
_DEFAULT_BATCH_SIZE = 4  # as in LangChain
_QUICK = 500_000_000  # bytes that are loaded within a second or so
_TEXT_OPTIONS = frozenset(
    {"add_special_tokens", "prefix", "tokenizer_encode_kwargs", "truncation"}
    | {"handle_long_generation", "return_full_text", "skip_special_tokens"}
)


class LocalPipeline(LocalLLM, HuggingFacePipeline):
    """A model of the Hugging Face library on this machine, for LangChain.

    It is LangChain's `HuggingFacePipeline` and is made like one. What differs is that `stop`
    works, that the prompt is not repeated unless `bind(skip_prompt=False)` asks for it, that
    streams end when nobody reads them, and that `batch` and the async methods do what they say.

    Args:
        pipeline: A transformers pipeline for text generation.
        model_id: The model's name.
        pipeline_kwargs: Generation options, such as `{"max_new_tokens": 64}`.
        model_kwargs: Options that the model was loaded with.
        batch_size: How many prompts to run at a time.
        progress: Show a progress bar while several prompts are answered.
        batching: "static" for batches that end with their last row, "continuous" for batches in
            which the next prompt takes the place of one that is done: for CUDA GPUs only.
    """

    batching: Literal["static", "continuous"] = "static"
    _mark: str = PrivateAttr(default="")

    def __init__(self, **kwargs: Any) -> None:
        _check_fields(kwargs)
        super().__init__(**kwargs)
        self._mark = _weights_mark(getattr(self.pipeline, "model", None))

    @classmethod
    def from_model_id(
        cls,
        model_id: ModelName,
        task: str = _TASK,
        backend: str = "default",
        device: int | str | None = None,
        device_map: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        pipeline_kwargs: dict[str, Any] | None = None,
        batch_size: int = _DEFAULT_BATCH_SIZE,
        **kwargs: Any,
    ) -> Self:
        """Load a model.

        Args:
            model_id: "pocket", an id of the Hub, or a folder.
            task: "text-generation".
            backend: "default" for torch, or "openvino".
            device: -1 the CPU, 0 the first GPU, or what else `select_device` takes; where
                transformers puts it if not given.
            device_map: "auto" lets Accelerate spread the model; not together with `device`.
            model_kwargs: Options for loading, such as `{"dtype": "bfloat16"}`.
            pipeline_kwargs: Generation options, such as `{"max_new_tokens": 64}`. What is not
                given is as the model's authors configured it.
            batch_size: How many prompts to run at a time.
            kwargs: Other fields of the class, such as `progress=True`.

        Raises:
            CredentialError: There is a token among the options.
            ParameterError: An option cannot work.
            DeviceError: There is no such device.
            ModelError: There is no such model.
        """
        check_versions(*_BELOW)
        _check_task(task)
        fields = {"batch_size": batch_size, "pipeline_kwargs": pipeline_kwargs}
        _check_fields(kwargs | fields)
        check_model_kwargs(model_kwargs)
        index = _checked_device(device, device_map, backend)
        if kwargs.get("batching") == "continuous" and (backend == "openvino" or index == -1):
            raise failure("continuous-needs-gpu")

        model = locate(model_id)
        path = model_path(model, revision=(model_kwargs or {}).get("revision"))
        folder = Path(path)
        check_generation_defaults(folder)
        given = dict(pipeline_kwargs or {})
        generating = {name: given.pop(name) for name in list(given) if name in GENERATION_OPTIONS}
        # Left open, transformers asks whether to run a repository's code, and "y" runs it.
        loading = {"trust_remote_code": False, **(model_kwargs or {})}
        if backend == "openvino" and folder.is_dir() and not list(folder.glob("*.xml")):
            loading = {"export": True, **loading}  # offline this is not found out by itself
        with (
            _quiet_loading(folder),
            checked_loading(model.name, folder),
            explained_by_version(*_BELOW),
        ):
            llm: Self = super().from_model_id(  # type: ignore[assignment] # it returns cls(…)
                path,
                task=task,
                backend=backend,
                device=index,
                device_map=device_map,
                model_kwargs=loading,
                pipeline_kwargs=given,
                batch_size=batch_size,
                **kwargs,
            )
        if backend == "default":
            check_is_filled(model.name, llm.pipeline.model, model.fetched(folder).weights)
        llm.model_id, llm.model_kwargs = model.name, model_kwargs
        llm.pipeline_kwargs = dict(pipeline_kwargs or {})
        with explained_by_version(*_BELOW):
            _configure(llm.pipeline, generating)
        return llm

    def _run_of(self, request: GenerationRequest) -> TorchRun:
        return TorchRun(self._checked_pipeline(), request, self._defaults())

    def _answers_of(self, run: TorchRun) -> list[GeneratedAnswer]:
        with explained_by_version(*_BELOW):
            return answer_request(run, continuous=self.batching == "continuous")

    def _echoes(self, request: GenerationRequest) -> bool:
        if request.echo is not None:
            return request.echo
        options = self._defaults() | request.options
        return bool(options.get("return_full_text", echoes(self._checked_pipeline())))

    @property
    def _engine(self) -> object:
        return self._checked_pipeline().model

    @property
    def _identifying_params(self) -> dict[str, Any]:
        config = getattr(self.pipeline, "generation_config", None)
        return {
            **super()._identifying_params,
            "backend": self.backend,
            "weight_format": self.weight_format,
            "weights": self._mark,
            "generation_config": config.to_diff_dict() if config else {},
        }

    @property
    def _model_name(self) -> str:
        return str(self.model_id or "")

    @property
    def chat_template(self) -> str | None:
        """The chat template of the loaded tokenizer; None if it has none."""
        template = getattr(self._checked_pipeline().tokenizer, "chat_template", None)
        if isinstance(template, dict):  # several by name
            template = template.get("default")
        return template or None

    def _token_names(self) -> Mapping[str, Any]:
        names: Mapping[str, Any] = self._checked_pipeline().tokenizer.special_tokens_map
        return names

    def _token_ids(self, text: str, *, special: bool) -> list[int]:
        tokenizer = self._checked_pipeline().tokenizer
        return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _special_tokens(self) -> dict[str, int]:
        return special_tokens(self._checked_pipeline().tokenizer)

    def _checked_pipeline(self) -> Any:
        if self.pipeline is None:
            raise failure("empty-local-pipeline")
        _check_task(getattr(self.pipeline, "task", _TASK))
        return self.pipeline

    def _defaults(self) -> dict[str, Any]:
        """The options in `pipeline_kwargs` that are not for making a pipeline."""
        known = GENERATION_OPTIONS | _TEXT_OPTIONS
        return {name: v for name, v in (self.pipeline_kwargs or {}).items() if name in known}


def _check_fields(fields: dict[str, Any]) -> None:
    """Find before and after loading what cannot work."""
    checked_size(fields.get("batch_size", _DEFAULT_BATCH_SIZE))
    check_no_token(fields)  # and what dictionaries hold in it
    check_generation_options(fields.get("pipeline_kwargs") or {})
    batching = fields.get("batching", "static")
    if batching not in {"static", "continuous"}:
        raise failure("no-such-batching", batching=batching)
    if batching == "continuous" and fields.get("pipeline") is not None:
        check_device(fields["pipeline"])


def _weights_mark(model: Any) -> str:
    """A short word for what a model computes with: where it lies, and its numbers' type."""
    config = getattr(model, "config", None)
    place = str(getattr(config, "name_or_path", "") or "")
    if not place:  # made in memory: only this object knows its weights
        return _marks.setdefault(model, secrets.token_hex(6)) if model is not None else ""
    folder = str(Path(place).resolve()) if Path(place).is_dir() else place
    commit, quantized = (getattr(config, n, None) for n in ("_commit_hash", "quantization_config"))
    parts = [folder, commit, type(model).__name__, getattr(model, "dtype", None), quantized]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _check_task(task: str) -> None:
    if task != _TASK:
        fact = tr('task="{task}" is not what LocalPipeline does: it goes on with a text.')
        step = tr('Write task="{task}", or use langchain_huggingface.HuggingFacePipeline.')
        raise ParameterError(fact.format(task=task), next_step=step.format(task=_TASK))


def _checked_device(device: int | str | None, device_map: str | None, backend: str) -> int | None:
    """The number of a device that is there, before a model is loaded for it."""
    if device is None:
        return None
    if device_map is not None:
        raise failure("device-and-map", device=device, device_map=device_map)
    if backend == "openvino":
        raise ParameterError(
            tr("device={device!r} has no effect with OpenVINO.").format(device=device),
            tr("Its devices have names of their own."),
            tr('Write model_kwargs={"device": "CPU"} or {"device": "GPU"}.'),
        )
    return select_device(device).index


def _configure(pipeline: Any, options: dict[str, Any]) -> None:
    """Give a new pipeline its generation options, and nothing that nobody asked for.

    transformers' text-generation pipeline samples with temperature 0.7 unless told otherwise, even
    if the model's own configuration says not to sample.
    """
    config, own = configured(pipeline), pipeline.model.generation_config
    config.do_sample = bool(own.do_sample)
    config.temperature = own.temperature if own.temperature is not None else 1.0
    pipeline.generation_config, _ = generation_config(pipeline, options, config)


@contextmanager
def _quiet_loading(folder: Path) -> Iterator[None]:
    """Show no progress bar for a model that is loaded before a bar can be read."""
    from transformers.utils import logging

    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    hide = folder.is_dir() and size <= _QUICK and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()
