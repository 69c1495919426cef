"""Errors are sentences: the fact, the cause and the next step."""

from __future__ import annotations

import pickle

import pytest
from IPython.core.interactiveshell import InteractiveShell

from local_pipelines import errors

FAMILY = [getattr(errors, name) for name in errors.__all__]
BUILTIN = {
    errors.CacheError: OSError,
    errors.DeviceError: ValueError,
    errors.EnvironmentFileError: OSError,
    errors.MissingPackageError: ImportError,
    errors.ModelError: OSError,
    errors.OfflineError: errors.ModelError,
    errors.ParameterError: ValueError,
}


@pytest.mark.parametrize("kind", FAMILY)
def test_a_notebook_shows_sentences_and_no_traceback(
    kind: type[errors.LocalPipelinesError], capsys: pytest.CaptureFixture[str]
) -> None:
    """A real IPython shell shows the three parts and nothing of the stack."""
    shell = InteractiveShell.instance()
    shell.user_ns["error"] = kind("The fact.", "The cause.", "The next step.")
    shell.run_cell("def deep():\n    raise error\ndeep()")
    shown = capsys.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert lines == [f"{kind.__name__}: The fact.", "  The cause.", "  The next step."]


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_survives_a_journey_between_processes(
    kind: type[errors.LocalPipelinesError],
) -> None:
    """An error keeps its three parts when it is pickled, as Ray and multiprocessing do."""
    error = pickle.loads(pickle.dumps(kind("The fact.", "The cause.", "The next step.")))  # noqa: S301
    assert type(error) is kind
    assert (error.fact, error.cause, error.next_step) == (
        "The fact.",
        "The cause.",
        "The next step.",
    )
    assert str(error) == "The fact. The cause. The next step."


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_is_caught_as_what_it_stands_for(kind: type[Exception]) -> None:
    """Code that knows nothing of this package catches the errors by their built-in kind."""
    assert issubclass(kind, errors.LocalPipelinesError)
    assert issubclass(kind, BUILTIN.get(kind, Exception))  # type: ignore[call-overload]


def test_empty_parts_leave_no_gap() -> None:
    """An error without cause or next step has neither blank lines nor double blanks."""
    error = errors.ModelError("The fact.", next_step="The next step.")
    assert str(error) == "The fact. The next step."
    assert error._render_traceback_() == ["ModelError: The fact.", "  The next step."]
