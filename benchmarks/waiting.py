"""Measures what OMP_WAIT_POLICY=passive costs on an idle machine, and saves on a busy one.

Two processes run the embedded model in turn, with two of torch's threads each: one with the
variable, one without it. Everything is measured alone and again beside one busy core.
`python benchmarks/waiting.py`
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TOKENS = 32
BATCHES = (1, 16)
WORKER = f"""
import sys, time
from local_pipelines import LocalPipeline
options = {{"max_new_tokens": {TOKENS}, "min_new_tokens": {TOKENS}}}
llm = LocalPipeline.from_model_id(
    "pocket", task="text-generation", device=-1, pipeline_kwargs=options, batch_size=64
)
for line in sys.stdin:
    prompts = [f"What is the number {{number}} in French?" for number in range(int(line))]
    start = time.perf_counter()
    llm.batch(prompts)
    print(time.perf_counter() - start, flush=True)
"""


def start_worker(policy: dict[str, str]) -> subprocess.Popen[str]:
    unset = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    environ = {name: value for name, value in os.environ.items() if name not in unset}
    environ |= {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", **policy}
    words = [sys.executable, "-c", WORKER]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=environ, stdin=pipe, stdout=pipe, text=True)


def seconds(worker: subprocess.Popen[str], prompts: int) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{prompts}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    words = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(usual: subprocess.Popen[str], passive: subprocess.Popen[str], rounds: int) -> None:
    for prompts in BATCHES:
        pairs = [(seconds(usual, prompts), seconds(passive, prompts)) for _ in range(rounds + 1)]
        del pairs[0]  # to warm up
        ratio = statistics.median(b / a for a, b in pairs)
        one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{prompts:>9}{one:13.4f}{two:13.4f}{ratio:20.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="once: does it work?")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    usual, passive = start_worker({}), start_worker({"OMP_WAIT_POLICY": "passive"})
    try:
        print(f"pocket, {TOKENS} new tokens, 2 threads, medians of {rounds} rounds")
        print(f"{'prompts':>9}{'usual (s)':>13}{'passive (s)':>13}{'passive / usual':>20}")
        for count in (0, 1):
            print(f"beside {count} busy cores")
            with busy_cores(count):
                measure(usual, passive, rounds)
    finally:
        for worker in (usual, passive):
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main()
