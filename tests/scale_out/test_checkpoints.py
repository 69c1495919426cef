"""Why `run_on_ray` keeps its own record: what Ray Data's `CheckpointConfig` does not hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[Any]:
    """Start Ray."""
    from local_pipelines.scale_out.cluster import connected

    with connected(None, 1, 1, 0) as here:
        yield here


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write twenty rows, and switch Ray Data's checkpoints on."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from ray.data.checkpoint import CheckpointConfig

    (tmp_path / "rows").mkdir()
    rows = pa.table({"id": [str(number) for number in range(20)]})
    pq.write_table(rows, tmp_path / "rows" / "rows.parquet")
    config = CheckpointConfig(id_column="id", checkpoint_path=str(tmp_path / "checkpoints"))
    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "checkpoint_config", config)
    return tmp_path


def answer(folder: Path, poison: str = "") -> None:
    """Read, answer and write as Ray's pages show it: a read first, a write last, unique ids."""

    class Answering:
        def __call__(self, batch: Any) -> Any:
            if poison in batch["id"]:
                raise ValueError("poison")
            return batch | {"output": batch["id"]}

    pool = ray.data.ActorPoolStrategy(size=1)
    data = ray.data.read_parquet(str(folder / "rows")).map_batches(
        Answering, compute=pool, batch_size=5
    )
    data.write_parquet(str(folder / "answers"))


def written(folder: Path) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in folder.glob("answers/*.parquet"))


def test_a_bad_row_ends_the_run(folder: Path) -> None:
    """One row that raises, and no row is kept."""
    with pytest.raises(ray.exceptions.RayTaskError):
        answer(folder, poison="13")
    assert written(folder) == 0


def test_a_run_that_had_ended_is_done_again(folder: Path) -> None:
    """The record is deleted with the end of a run: who calls again has each row twice."""
    answer(folder)
    assert written(folder) == 20
    answer(folder)
    assert written(folder) == 40
