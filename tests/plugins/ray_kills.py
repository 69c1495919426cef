"""A real Ray cluster of two nodes on this machine, and kills of what works there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

DRIVER = '''
import os, sys
from pathlib import Path

from local_pipelines import run_on_ray

source, folder, output, address = sys.argv[1:]
(Path(folder) / "driver.pid").write_text(str(os.getpid()))


def answer(row):
    import time

    time.sleep(0.01)
    if row["number"] % 97 == 0:
        raise ValueError(f"poison {row['number']}")
    return f"{row['number']} squared is {row['number'] ** 2}"


def kill_between():
    """Where the test has put a flag: kill before a part is renamed, or before it is reported."""
    import signal
    import time

    rename = os.replace

    def flag(name, begun, part):
        try:
            os.rename(Path(folder) / name, Path(folder) / f"{name}-done")
        except FileNotFoundError:
            return
        if name == "after":
            rename(begun, part)
        os.kill(int((Path(folder) / "driver.pid").read_text()), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def replace(begun, part):
        while True:  # the run must not be done before the last kill
            flag("before", begun, part)
            flag("after", begun, part)
            if len(list(Path(output).glob("part-*"))) < int((Path(folder) / "most").read_text()):
                return rename(begun, part)
            time.sleep(0.02)

    os.replace = replace


def make():
    from langchain_core.runnables import RunnableLambda

    kill_between()
    return RunnableLambda(answer)


report = run_on_ray(
    make, source, output=output, concurrency=2, batch_size=10, num_cpus=1, address=address
)
print(report)
'''


def expected(number: int) -> tuple[int, str | None, str | None]:
    """What a single process answers, without Ray."""
    if number % 97 == 0:
        return number, None, f"poison {number}"
    return number, f"{number} squared is {number**2}", None


@contextmanager
def cluster() -> Iterator[Any]:
    """A head and one more node, on loopback, in a folder that is removed."""
    import ray
    from ray._private import ray_constants, utils
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    made = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # else no loopback
        patch.setattr(utils, "write_ray_address", lambda *_: None)  # else a file in /tmp/ray
        try:
            made.add_node(num_cpus=2, temp_dir=folder, node_ip_address="127.0.0.1")
            made.add_node(num_cpus=2, node_ip_address="127.0.0.1")
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            assert not ray.is_initialized()


class Trial:
    """A run in a process of its own, and who is killed in it."""

    def __init__(self, made: Any, folder: Path, rows: int) -> None:
        self.cluster, self.folder, self.rows = made, folder, rows
        self.output = folder / "answers"
        self.source = folder / "rows.jsonl"
        self.script = folder / "driver.py"
        self.script.write_text(DRIVER, encoding="utf-8")
        lines = (json.dumps({"number": number}) for number in range(rows))
        self.source.write_text("\n".join(lines), encoding="utf-8")
        self.kills: Counter[str] = Counter()
        self.said: list[str] = []
        self._driver: Any = None

    def run(self, plan: list[tuple[int, str]], patience: float) -> None:
        """Kill as planned, each when so many parts are there, until the run has ended well."""
        end, waiting = time.monotonic() + patience, list(plan)
        try:
            self._allow(waiting)
            self._start()
            while time.monotonic() < end:
                if (code := self._driver.poll()) is not None:
                    self.said.append(self._driver.stdout.read())
                    if code == 0:
                        return
                    assert code == -signal.SIGKILL, self.said[-1]
                    self._start()
                if waiting and self.parts() >= waiting[0][0] and self._kill(waiting[0][1]):
                    waiting.pop(0)
                    self._allow(waiting)
                time.sleep(0.02)
            raise AssertionError(
                f"not done in time; {len(waiting)} kills left, {self.parts()} parts"
            )
        finally:
            if self._driver.poll() is None:
                self._driver.kill()
            self._driver.wait()
            self._driver.stdout.close()

    def parts(self) -> int:
        return len(list(self.output.glob("part-*")))

    def found(self) -> list[tuple[int, str | None, str | None]]:
        """The rows as any reader of Parquet finds them."""
        import pyarrow.parquet as pq

        rows = pq.read_table(self.output).to_pylist()
        return sorted((row["number"], row["output"], row["error"]) for row in rows)

    def lost_and_doubled(self) -> tuple[int, int]:
        numbers = Counter(row[0] for row in self.found())
        return self.rows - len(numbers), sum(numbers.values()) - len(numbers)

    def _allow(self, waiting: list[tuple[int, str]]) -> None:
        """Let no more parts be written than the next kill waits for."""
        begun = self.folder / "most.begun"
        begun.write_text(str(waiting[0][0] + 1 if waiting else self.rows))
        begun.replace(self.folder / "most")

    def _start(self) -> None:
        environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        words = [self.script, self.source, self.folder, self.output, self.cluster.address]
        self._driver = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def _kill(self, kind: str) -> bool:
        killed = getattr(self, f"_{kind}")()
        self.kills[kind] += killed
        return bool(killed)

    def _worker(self) -> bool:
        """Kill a process that answers; False where none stands yet."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "MapWorker" in " ".join(process.cmdline()):
                    process.kill()
                    return True
        return False

    def _raylet(self) -> bool:
        """Kill what runs the second node, with all that it had, and add another node."""
        (node,) = self.cluster.worker_nodes
        node.all_processes["raylet"][0].process.kill()
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1")
        return True

    def _run(self) -> bool:
        """Kill the process that called run_on_ray."""
        self._driver.kill()
        return True

    def _before_rename(self) -> bool:
        return self._between("before")

    def _after_rename(self) -> bool:
        return self._between("after")

    def _between(self, name: str) -> bool:
        """Put up the flag at which the next worker kills the driver and itself."""
        if self._driver.poll() is not None:
            return False
        (self.folder / name).touch()
        while self._driver.poll() is None:
            if (self.folder / f"{name}-done").exists():
                self._driver.wait(30)
            time.sleep(0.02)
        return (self.folder / f"{name}-done").exists()


def plan(kinds: list[str], parts: int, seed: int) -> list[tuple[int, str]]:
    """At how many parts each kill comes, by lot, and in which order."""
    lot = random.Random(seed)
    moments = sorted(lot.sample(range(1, parts), len(kinds)))
    return list(zip(moments, lot.sample(kinds, len(kinds)), strict=True))
