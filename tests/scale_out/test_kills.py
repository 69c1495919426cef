"""Kills of workers, a node and the driver on a real cluster: nothing lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_kills import Trial, cluster, expected, plan

pytest.importorskip("ray")

LONG = {"worker": 12, "raylet": 2, "run": 4, "before_rename": 1, "after_rename": 1}


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """Start a head and a node."""
    with cluster() as made:
        yield made


def check(trial: Trial) -> None:
    assert trial.lost_and_doubled() == (0, 0)
    assert trial.found() == [expected(number) for number in range(trial.rows)]
    assert not list(trial.output.glob(".part-*")), "a half-written part is left"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_three_kills(made: Any, tmp_path: Path) -> None:
    """A worker, a node, and the driver between write and report: each row is there once."""
    trial = Trial(made, tmp_path, rows=300)
    trial.run([(3, "worker"), (8, "raylet"), (12, "after_rename")], patience=200)
    check(trial)
    assert sum(trial.kills.values()) == 3
    assert "were done before this call" in trial.said[-1]


@pytest.mark.scale
@pytest.mark.timeout(1800)
def test_twenty_kills(made: Any, tmp_path: Path) -> None:
    """2,000 rows and 20 kills at moments drawn by lot: the rows of a single process, each once."""
    kinds = [kind for kind, number in LONG.items() for _ in range(number)]
    trial = Trial(made, tmp_path, rows=2_000)
    trial.run(plan(kinds, parts=200, seed=17), patience=1700)
    check(trial)
    assert trial.kills == LONG
    lost, doubled = trial.lost_and_doubled()
    print("\nkilled           times")
    for kind, number in LONG.items():
        print(f"{kind:<16}{number:>6}")
    print(f"rows {trial.rows}, lost {lost}, doubled {doubled}, runs {len(trial.said)}")
