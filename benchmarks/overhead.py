"""Measures what LocalPipeline adds to the model's own `generate`, for 1 and for 64 prompts.

Both are run in turn, so that a busy machine slows both down, and the ratio is the median over all
rounds. Bare means: tokenized and padded beforehand, tokens out. `python benchmarks/overhead.py`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from local_pipelines import LocalPipeline

TOKENS = 32


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(llm: Any, prompts: list[str]) -> Callable[[], object]:
    pipe = llm.pipeline
    inputs = pipe.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    inputs = {name: inputs[name].to(pipe.device) for name in ("input_ids", "attention_mask")}
    return lambda: pipe.model.generate(**inputs, generation_config=pipe.generation_config)


def first_piece(llm: Any, prompt: str, **options: Any) -> Callable[[], object]:
    def work() -> None:
        stream = llm.stream(prompt, **options)
        next(stream)
        stream.close()

    return work


def compared(first: Callable[[], object], second: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of both, and the median of their ratios."""
    first(), second()  # warm up
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    ratio = statistics.median(b / a for a, b in pairs)
    return [statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="once: does it work?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}  # as many tokens for both
    llm = LocalPipeline.from_model_id(
        arguments.model, task="text-generation", pipeline_kwargs=options, batch_size=64
    )
    prompts = [f"What is the number {number} in French?" for number in range(64)]
    never = [f"never {number}" for number in range(3)]
    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = []
    for count in (1, 64):
        some = prompts[:count]
        raw = bare(llm, some)
        rows.append((f"{count} prompts, batch", raw, lambda some=some: llm.batch(some)))
        rows.append((f"{count} prompts, stop", raw, lambda some=some: llm.batch(some, stop=never)))
    rows.append(("1 prompt, stream", bare(llm, prompts[:1]), lambda: list(llm.stream(prompts[0]))))
    rows.append(("first piece / stream", lambda: list(llm.stream(prompts[0])),
                 first_piece(llm, prompts[0])))  # fmt: skip
    print(f"{arguments.model}, {TOKENS} new tokens, median of {arguments.rounds} rounds")
    print(f"{'':22}{'bare (s)':>10}{'here (s)':>10}{'ratio':>8}")
    for name, raw, ours in rows:
        one, two, ratio = compared(raw, ours, arguments.rounds)
        print(f"{name:22}{one:10.4f}{two:10.4f}{ratio:8.3f}")


if __name__ == "__main__":
    main()
