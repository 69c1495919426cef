"""Lesson 9: each row of its table "If it fails" says what really happens; its files parse."""

from __future__ import annotations

import pickle
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_ends import NOTEBOOKS, row_with, rows, shows

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import run_on_ray
from local_pipelines.errors import LocalPipelinesError

pytest.importorskip("ray")
ROWS = [{"number": 1}]


def fails(call: Any) -> str:
    with pytest.raises(LocalPipelinesError) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


def chain() -> Any:
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(str)


def fenced(language: str) -> str:
    """Read the code of one language that the lesson shows."""
    text = "\n".join(cell.source for cell in read_as_stored(NOTEBOOKS / "09_scale_out.ipynb").cells)
    return next(iter(re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)))


def test_every_row_is_here() -> None:
    """The tests of this file are about all rows."""
    assert len(rows("09")) == 7


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row about Ray quotes the error."""
    monkeypatch.setattr("local_pipelines.scale_out.run.installed_version", lambda _: None)
    assert shows(row_with("09", "Ray Data"), fails(lambda: run_on_ray(chain, ROWS)))


def test_a_factory_that_cannot_travel() -> None:
    """The row about the factory quotes the error."""
    lock = threading.Lock()
    said = fails(lambda: run_on_ray(lambda: lock, ROWS))
    assert shows(row_with("09", "cannot be sent"), said)


def test_a_factory_that_fails() -> None:
    """The row about a chain that cannot be made quotes what becomes of a worker's report."""
    import pyarrow as pa

    from local_pipelines.errors import failure
    from local_pipelines.scale_out.inputs import Ticket
    from local_pipelines.scale_out.worker import Worker

    worker = Worker(b"no job")
    table = pa.table({"ticket": [pickle.dumps(Ticket(0, 0, 1))]})
    (told,) = worker(table).to_pylist()
    row = row_with("09", "make its chain")
    assert shows(row, f"EngineError: {failure(told['problem'], told['said'])}")


def test_a_folder_of_another_run(tmp_path: Path) -> None:
    """The row about another run quotes the error."""
    from local_pipelines.scale_out.inputs import look_at
    from local_pipelines.scale_out.parts import Form, check_run, opened

    found = look_at([{"number": 2}], 64, None)
    form = Form(tmp_path, found.schema, found.json_columns)
    with opened(form):
        check_run(form, found, 64, None)
    said = fails(lambda: run_on_ray(chain, ROWS, output=tmp_path))
    assert shows(row_with("09", "another run"), said)


def test_no_such_column() -> None:
    """The row about columns quotes the error."""
    said = fails(lambda: run_on_ray(chain, ROWS, column="prompt"))
    assert shows(row_with("09", "has no column"), said)


def test_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row about the address quotes the error."""
    import ray

    from local_pipelines.scale_out.cluster import connected

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def call() -> None:
        with connected("127.0.0.1:1", 1, 1, 0):
            pass

    assert shows(row_with("09", "No cluster"), fails(call))


def test_no_workers() -> None:
    """The row about concurrency quotes the error."""
    said = fails(lambda: run_on_ray(chain, ROWS, concurrency=0))
    assert shows(row_with("09", "concurrency=0"), said)


def test_the_cluster_file_is_one_for_ray_up() -> None:
    """Ray's own check accepts the cluster file, once it is filled up as `ray up` does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(fenced("yaml"))
    validate_config(prepare_config(config))
    assert config["docker"]["run_options"] == ["-v /mnt/shared:/mnt/shared"]


def test_the_commands_are_rays() -> None:
    """`ray up`, `ray job submit` and `ray down` have the options that the lesson shows."""
    import click
    from ray.scripts.scripts import cli

    for line in fenced("sh").splitlines():
        name, *words = shlex.split(line)
        assert name == "ray"
        command: Any = cli
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        options = words[: words.index("--")] if "--" in words else words
        known = {option for each in command.params for option in each.opts}
        assert {word for word in options if word.startswith("--")} <= known


def test_the_container_file_has_this_ray() -> None:
    """The container starts from the version of Ray that constraints.txt pins, and parses."""
    lines = fenced("dockerfile").replace("\\\n", " ").splitlines()
    assert [line.split()[0] for line in lines] == ["FROM", "RUN", "ENV"]
    pinned = re.search(
        r"^ray==(\S+)", (NOTEBOOKS.parent / "constraints.txt").read_text("utf-8"), re.M
    )
    assert pinned is None or f":{pinned[1]}-" in lines[0]
