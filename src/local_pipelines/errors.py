"""The errors a learner may meet: the fact, the likely cause and the next step, one sentence each.

In a notebook such an error shows its sentences instead of a traceback. The traceback is not lost:
`import traceback; traceback.print_last()` in the next cell prints it.

The family:

    LocalPipelinesError
        AnswerError
        CacheError
        CredentialError
        DeviceError
        EnvironmentFileError
        ExportError
        MemoryShortageError
        MissingPackageError
        ModelError
            AccessError
            EngineError
            OfflineError
        ParameterError
        PromptFileError
        UnsupportedError

A program decides by the class and, where the Hub refused, by `model_id`, `status` and `state`.

Most of the sentences stand in the file sentences.toml of a wing; `failure` makes errors of them.
"""

from __future__ import annotations

from typing import Any, Literal

from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.sentences import filled, tables

__all__ = [
    "AccessError",
    "AnswerError",
    "CacheError",
    "CredentialError",
    "DeviceError",
    "EngineError",
    "EnvironmentFileError",
    "ExportError",
    "LocalPipelinesError",
    "MemoryShortageError",
    "MissingPackageError",
    "ModelError",
    "OfflineError",
    "ParameterError",
    "PromptFileError",
    "UnsupportedError",
]

State = Literal["not accepted", "pending", "rejected", "scope"]


class LocalPipelinesError(Exception):
    """The family of all errors that this package raises on purpose.

    Args:
        fact: What happened, one sentence.
        cause: Why it probably happened, one sentence; may be empty where the fact says it.
        next_step: What to type, click or change now, one sentence.
        model_id: The model that was asked for, where the Hub refused.
        status: The HTTP status that it refused with.
        state: Where a gated model's door stands: its licence is not accepted, the owners have not
            answered or have said no, or the token's scope leaves gated models out.
    """

    def __init__(
        self,
        fact: str,
        cause: str = "",
        next_step: str = "",
        *,
        model_id: str | None = None,
        status: int | None = None,
        state: State | None = None,
    ) -> None:
        self.fact = fact
        self.cause = cause
        self.next_step = next_step
        self.model_id = model_id
        self.status = status
        self.state = state
        super().__init__(paragraph(fact, cause, next_step))

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the parts and the data when the error travels between processes."""
        return type(self), (self.fact, self.cause, self.next_step), dict(vars(self))

    def _render_traceback_(self) -> list[str]:
        """Give IPython the lines it shows in place of a traceback."""
        parts = [f"  {part}" for part in (self.cause, self.next_step) if part]
        return [f"{type(self).__name__}: {self.fact}", *parts]


class AnswerError(LocalPipelinesError, ValueError):
    """An answer ended before its form was complete, or does not fit; `text` is what there is."""

    text: str = ""


class ParameterError(LocalPipelinesError, ValueError):
    """A parameter of a notebook or function has a value that cannot work."""


class ModelError(LocalPipelinesError, OSError):
    """A model is not where it was looked for, or what lies there is no model."""


class EngineError(ModelError):
    """The engine that was asked for cannot run this model; another one may."""


class AccessError(ModelError):
    """The owners of a gated model have not let this account read it, or not yet."""


class OfflineError(ModelError):
    """A model would have to be downloaded, and there is no way to the Hub."""


class DeviceError(LocalPipelinesError, ValueError):
    """The device asked for is not in this machine."""


class UnsupportedError(LocalPipelinesError, NotImplementedError):
    """What was asked for exists in LangChain and not for this model."""


class CacheError(LocalPipelinesError, OSError):
    """The folder for downloaded models cannot be used."""


class CredentialError(LocalPipelinesError):
    """No token was found where one is needed, or the token cannot be one."""


class EnvironmentFileError(LocalPipelinesError, OSError):
    """The file `.env` is there and cannot be read."""


class ExportError(LocalPipelinesError, OSError):
    """A model cannot be exported to that folder, or what lies there is no usable export."""


class MemoryShortageError(LocalPipelinesError, MemoryError):
    """The memory is too small even for one prompt at a time."""


class PromptFileError(LocalPipelinesError, OSError):
    """A file of prompts or answers cannot be read or written, or is not what it was."""


class MissingPackageError(LocalPipelinesError, ImportError):
    """A package that a lesson needs is not installed, or does not fit the others."""


def failure(name: str, hint: str = "", /, **words: Any) -> LocalPipelinesError:
    """Make the error of a table in sentences.toml.

    Args:
        name: The table's name.
        hint: A sentence behind the table's cause, or in its place where it has none.
        words: What is filled into the sentences; `model_id` and `status` become data, too.
    """
    table = tables()[name]
    kind: type[LocalPipelinesError] = globals()[table["error"]]
    fact, cause, more, step = filled(name, words)
    data = {"model_id": words.get("model_id"), "status": words.get("status")}
    return kind(fact, paragraph(cause, more, hint), step, **data, state=table.get("state"))
