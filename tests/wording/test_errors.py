"""Errors are sentences: the fact, the cause and the next step."""

from __future__ import annotations

import ast
import pickle
import string
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from local_pipelines import errors
from local_pipelines.wording.sentences import PARTS, tables

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


def _tree(kind: type[errors.LocalPipelinesError], depth: int = 0) -> Iterator[str]:
    yield "    " * depth + kind.__name__
    for child in sorted(kind.__subclasses__(), key=lambda each: each.__name__):
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def test_the_module_opens_with_the_family_as_it_is() -> None:
    """The tree in the docstring is that of the classes, and every class is public."""
    tree = list(_tree(errors.LocalPipelinesError))
    assert textwrap.indent("\n".join(tree), "    ") in (errors.__doc__ or "")
    assert {line.strip() for line in tree} == set(errors.__all__)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_carries_what_a_program_decides_by(
    kind: type[errors.LocalPipelinesError],
) -> None:
    """The model, the status and the state of the gate survive a journey; else they are None."""
    error = kind("The fact.", model_id="some/model", status=403, state="pending")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (back.model_id, back.status, back.state) == ("some/model", 403, "pending")
    plain = kind("The fact.")
    assert (plain.model_id, plain.status, plain.state) == (None, None, None)


# --- the sentences in sentences.toml ------------------------------------------------------------

PACKAGE = Path(errors.__file__).parent


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Each table that a call of `failure` or `told` names, and the call."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"failure", "told"}:
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value, node


@pytest.mark.parametrize("name", tables())
def test_a_table_is_well_formed(name: str) -> None:
    """It has a fact and nothing that nobody reads; an error that it names is one of the family."""
    table = tables()[name]
    assert table["fact"]
    assert table.get("error", "ModelError") in errors.__all__
    assert table.keys() <= {"hub", "error", "state", *PARTS}


def test_an_error_has_a_class() -> None:
    """Each table that becomes an error says which."""
    failures = {name for name, call in _calls() if ast.unparse(call.func) == "failure"}
    assert [name for name in sorted(failures) if "error" not in tables()[name]] == []


def test_no_two_wings_use_one_name() -> None:
    """A name stands for one table."""
    files = sorted(PACKAGE.glob("*/sentences.toml"))
    assert files
    count = sum(len(tomllib.loads(file.read_text(encoding="utf-8"))) for file in files)
    assert count == len(tables())


def test_every_table_is_used() -> None:
    """No sentence is left behind when the code that said it goes."""
    words = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                words.add(node.value)
    found = tables().items()
    assert [name for name, table in found if name not in words and "hub" not in table] == []


def test_a_call_fills_every_brace() -> None:
    """Each call names a table that there is, and gives all the words that its sentences need."""
    wrong = []
    for name, call in _calls():
        given = {word.arg for word in call.keywords}
        table = tables().get(name)
        if table is None:
            wrong.append(name)
        elif None not in given:
            said = " ".join(table.get(part, "") for part in PARTS)
            needed = {word for _, word, _, _ in string.Formatter().parse(said) if word}
            wrong += [f"{name}: {word}" for word in needed - given]
    assert wrong == []
