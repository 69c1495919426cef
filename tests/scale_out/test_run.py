"""`run_on_ray`: inputs and outputs, bad rows, going on, and what cannot work."""

from __future__ import annotations

import csv
import errno
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import run_on_ray
from local_pipelines.engines.report import Interrupted
from local_pipelines.errors import (
    DeviceError,
    EngineError,
    MissingPackageError,
    ParameterError,
    PromptFileError,
)

ray = pytest.importorskip("ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

ROWS = [{"question": f"number {n}", "n": n} for n in range(50)]


def make() -> Any:
    """Make a chain that answers in capitals, and cannot bear what is bad."""
    from langchain_core.runnables import RunnableLambda

    def answer(row: Any) -> str:
        text = row if isinstance(row, str) else row["question"]
        if "bad" in text:
            raise ValueError(f"poison in {text}")
        return str(text.upper())

    return RunnableLambda(answer)


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[Any]:
    """Start Ray once for all tests of the file: run_on_ray takes what is there."""
    from local_pipelines.scale_out.cluster import connected

    with connected(None, 2, 1, 0) as here:
        yield here


def run(inputs: Any, factory: Any = make, **options: Any) -> Any:
    return run_on_ray(factory, inputs, **{"batch_size": 8, "progress": False} | options)


def test_a_list_of_texts() -> None:
    """Texts are asked as they are; the answers come in their order, each with the columns."""
    report = run(["first", "second"])
    assert [*report] == [
        {"prompt": text, "output": text.upper(), "usage": None, "error": None}
        for text in ("first", "second")
    ]
    assert (report.rows, report.answered, report.failed, report.resumed) == (2, 2, 0, 0)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_of_rows(tmp_path: Path, ending: str) -> None:
    """Each kind of file gives the rows of the same list; workers find theirs by themselves."""
    rows = [{**row, "question": f'a, "b"\nund ü {row["n"]}'} for row in ROWS]
    path = tmp_path / f"rows.{ending}"
    if ending == "jsonl":
        path.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    elif ending == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            table = csv.DictWriter(stream, rows[0])
            table.writeheader()
            table.writerows(rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    found = [*run(path, concurrency=2)]
    assert [row["question"] for row in found] == [row["question"] for row in rows]
    assert [int(row["n"]) for row in found] == [row["n"] for row in rows]
    assert [row["output"] for row in found] == [row["question"].upper() for row in rows]


def test_json_lines_as_output(tmp_path: Path) -> None:
    """A folder whose name ends in .jsonl gets JSON lines, one file for each part."""
    folder = tmp_path / "answers.jsonl"
    run(ROWS, output=folder)
    lines = [
        json.loads(line)
        for part in sorted(folder.glob("*.jsonl"))
        for line in part.read_text(encoding="utf-8").splitlines()
    ]
    assert [line["n"] for line in lines] == [*range(50)]
    assert lines[3]["output"] == "NUMBER 3"


def test_others_read_the_folder(tmp_path: Path) -> None:
    """The folder is one data set to pyarrow and to Ray, its manifest is passed over."""
    import pyarrow.parquet as pq

    run(ROWS, output=tmp_path / "answers")
    assert pq.read_table(tmp_path / "answers").num_rows == 50
    assert ray.data.read_parquet(str(tmp_path / "answers")).count() == 50


def test_one_column(tmp_path: Path) -> None:
    """`column` gives the chain the text alone."""
    assert [*run(ROWS[:2], column="question")][1]["output"] == "NUMBER 1"


def test_columns_of_all_kinds() -> None:
    """Mixed and nested values, None, large numbers and broken letters all come back."""
    rows: list[Any] = [
        {"question": "a", "v": 1, "w": None, "x": [1, {"y": 2}], "z": 1 << 70},
        {"question": "b\ud800", "v": "text", "w": 0.5, "x": None, "z": 1},
        {"question": "c", "extra": True},
    ]
    found = [*run(rows, batch_size=2)]
    assert [row["output"][0] for row in found] == ["A", "B", "C"]
    assert (found[0]["v"], found[1]["v"], found[1]["w"]) == ("1", '"text"', 0.5)
    assert json.loads(found[0]["x"]) == [1, {"y": 2}]
    assert found[2]["extra"] is True


def test_bad_rows_do_not_stop_the_others(tmp_path: Path) -> None:
    """A row that raises, a wrong type and a line that is no JSON get errors, the others answers."""
    path = tmp_path / "rows.jsonl"
    lines = ['{"question": "good"}', '{"question": "bad"}', "42", "no JSON", '{"question": "last"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    report = run(path)
    found = [*report]
    assert [row["output"] for row in found] == ["GOOD", None, None, None, "LAST"]
    assert found[1]["error"] == "poison in bad"
    assert "int" in found[2]["error"]
    assert "Line 4 is not JSON." in found[3]["error"]
    assert (report.answered, report.failed) == (2, 3)
    assert '3 have an "error" in place of an "output".' in repr(report)


def test_a_prompt_too_long_is_one_bad_row() -> None:
    """A model's own chain writes usage with each answer, and an error for what is too long."""

    def real() -> Any:
        from local_pipelines import load_llm

        return load_llm("pocket", backend="torch", device="cpu", max_new_tokens=12)

    found = [*run(["What is the capital of France?", "word " * 5000, "What is a GPU?"], real)]
    assert "Paris" in found[0]["output"]
    assert found[0]["usage"]["output_tokens"] > 0
    usage = found[2]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert found[1]["output"] is None
    assert "token" in found[1]["error"]


def test_going_on_and_asking_again(tmp_path: Path) -> None:
    """A second call does what is missing; `retry_errors` asks only the rows with an error."""
    log = tmp_path / "log"
    log.mkdir()
    rows = [*ROWS[:20], {"question": "bad", "n": 20}]

    def logging(mended: bool) -> Any:
        def factory() -> Any:
            from langchain_core.runnables import RunnableLambda

            def answer(row: Any) -> str:
                (log / f"{row['n']}-{mended}").touch()
                if row["n"] == 20 and not mended:
                    raise ValueError("poison")
                return "yes"

            return RunnableLambda(answer)

        return factory

    folder = tmp_path / "answers"
    assert run(rows, logging(False), output=folder).failed == 1
    (folder / "part-000000000.parquet").unlink()  # as if the run had been killed before it
    (folder / ".part-half").touch()
    for file in log.iterdir():
        file.unlink()
    again = run(rows, logging(False), output=folder, batch_size=5)  # it keeps its 8
    assert again.resumed == 13
    assert "13 of them were done before this call." in repr(again)
    assert {file.name for file in log.iterdir()} == {f"{n}-False" for n in range(8)}
    last = run(rows, logging(True), output=folder, retry_errors=True)
    assert (last.answered, last.failed, last.resumed) == (21, 0, 20)
    assert [file.name for file in log.glob("*-True")] == ["20-True"]
    assert not [*folder.glob(".part-*")]


def test_nothing_to_do(tmp_path: Path) -> None:
    """A finished run, and an empty input, make no chain."""

    def never() -> Any:
        raise AssertionError

    run(ROWS, output=tmp_path / "answers")
    assert run(ROWS, never, output=tmp_path / "answers").resumed == 50
    assert [*run([], never)] == []


def test_an_interruption_says_what_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    """Ctrl-C keeps the parts that are there, and says how to go on."""
    from local_pipelines.scale_out import report as room

    count = room.RayRun.count

    def interrupted(self: Any, result: Any) -> None:
        count(self, result)
        if result["load_seconds"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(room.RayRun, "count", interrupted)
    with pytest.raises(Interrupted, match=r"Stopped: \d+ of 50 rows are done and kept in answ"):
        run(ROWS, output=tmp_path / "answers")
    monkeypatch.setattr(room.RayRun, "count", count)
    report = run(ROWS, output=tmp_path / "answers")
    assert report.resumed >= 8
    assert [row["n"] for row in report] == [*range(50)]


# ------------------------------------------------------------------------ what cannot work


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there, and one of an unknown kind, are named."""
    with pytest.raises(PromptFileError, match=r"There is no file .*none\.csv"):
        run(tmp_path / "none.csv")
    with pytest.raises(ParameterError, match="Its ending tells what it is"):
        run(tmp_path / "rows.xlsx")
    with pytest.raises(ParameterError, match="no list and no file"):
        run(42)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    """Half a Parquet file is told before Ray is asked."""
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PromptFileError, match=r"rows\.parquet is no Parquet file"):
        run(tmp_path / "rows.parquet")


def test_no_column_of_that_name() -> None:
    """A column that is not there is named with those that are; a taken name is refused."""
    with pytest.raises(ParameterError, match=r'no column "prompt".*question and n'):
        run(ROWS, column="prompt")
    with pytest.raises(ParameterError, match='column "output"'):
        run([{"question": "a", "output": "b"}])


def test_a_factory_that_cannot_travel() -> None:
    """A factory that holds a lock, and a chain in a factory's place, are refused."""
    lock = threading.Lock()
    with pytest.raises(ParameterError, match="cannot be sent to a worker"):
        run(ROWS, lambda: lock)
    with pytest.raises(ParameterError, match="is no function, but of type str"):
        run(ROWS, "chain")


def test_a_factory_that_fails() -> None:
    """The error of a factory ends the run in one sentence."""

    def factory() -> Any:
        raise RuntimeError("no weights")

    with pytest.raises(EngineError, match=r"its chain\. RuntimeError: no weights"):
        run(ROWS, factory)


def test_an_output_of_another_run(tmp_path: Path) -> None:
    """A folder of other inputs, and one of other things, stay as they are."""
    run(ROWS[:3], output=tmp_path / "answers")
    with pytest.raises(PromptFileError, match="answers holds the answers of another run"):
        run(ROWS[:4], output=tmp_path / "answers")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    with pytest.raises(PromptFileError, match="mine holds something other"):
        run(ROWS, output=tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(PromptFileError, match="cannot be written"):
        run(ROWS, output=tmp_path / "file")


def test_two_runs_at_a_time(tmp_path: Path) -> None:
    """A second call on the same folder is refused while the first is at work."""
    from local_pipelines.scale_out.parts import Form, opened

    with (
        opened(Form(tmp_path, None, frozenset())),
        pytest.raises(PromptFileError, match="Another call of run_on_ray"),
    ):
        run(ROWS, output=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"batch_size": 0}, {"num_cpus": 0}, {"num_gpus": -1}, {"num_cpus": "2"}],
)
def test_numbers_that_cannot_work(wrong: dict[str, Any]) -> None:
    """No workers, no rows and no cores are refused, each by its name."""
    (name,) = wrong
    with pytest.raises(ParameterError, match=f"{name}=.*cannot work"):
        run(ROWS, **wrong)


def test_a_cluster_needs_a_shared_folder() -> None:
    """An address without an output is refused."""
    with pytest.raises(ParameterError, match="needs output="):
        run(ROWS, address="192.0.2.1:6379")


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that is full ends the run in a sentence; the next call does the rest."""

    def factory() -> Any:
        import os

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        os.fsync = full  # type: ignore[assignment]
        return make()

    with pytest.raises(EngineError, match=r"0 of 50 rows are kept in answers\. .*No space left"):
        run(ROWS, factory, output=tmp_path / "answers")
    assert not [*(tmp_path / "answers").glob("*part*")]
    assert [row["n"] for row in run(ROWS, output=tmp_path / "answers")] == [*range(50)]


def test_without_ray(monkeypatch: Any) -> None:
    """Without the extra, one sentence names the command."""
    monkeypatch.setattr("local_pipelines.scale_out.run.installed_version", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'install_packages\("scale"\)'):
        run(ROWS)


def test_an_address_where_nobody_answers(monkeypatch: Any, tmp_path: Path) -> None:
    """An unreachable cluster is named at once, where Ray would end the process after minutes."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # of the session of these tests
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(ParameterError, match=f"No cluster of Ray answers at {address}"):
            run(ROWS, output=tmp_path, address=address)


def test_no_gpu_here(monkeypatch: Any) -> None:
    """GPUs that this machine has not got are refused, where Ray would wait for ever."""
    from local_pipelines.scale_out import cluster

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(DeviceError, match="1 GPUs"), cluster.connected(None, 1, 1, 1):
        pass
