"""Measures LocalPipeline.batch against the predecessors' cell and against bare `generate`.

One run, the candidates in turn: a GPT-2-sized model (124 million random weights, built here)
answers 64 prompts of mixed length with as many new tokens each. Bare `generate` gets prompts that
are tokenized, sorted and padded beforehand and gives tokens; the best of its batch sizes is the
mark. It and LocalPipeline compute in the format that suits the machine: bfloat16 where the hardware
has it. On a GPU continuous batching is measured too. Ratios are taken round by round, as a busy
machine slows neighbours down alike.

`python benchmarks/batch.py` takes about 15 minutes on two cores; `--quick` takes seconds and tells
nothing but that it works. A table (batch.md) and a plot (batch.png) go to `--output`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# The same model, prompts and predecessors as in the comparison of engines.
from engines import FULL, QUICK, build_model, mixed_prompts, quiet
from local_pipelines import Device, LocalPipeline, measure_in_turn, select_device

ROOT = Path(__file__).parents[1]
BASELINE = "HuggingFacePipeline, batch_size=2"
Work = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    prompts: int
    tokens: int
    rounds: int
    sizes: tuple[int, ...]


SIZES = {False: Size(64, 48, 3, (16, 32, 64)), True: Size(6, 4, 1, (2, 6))}


def predecessors(model: Path, options: dict[str, Any], device: Device) -> Any:
    """The cell that the course's predecessors teach, in float32."""
    from langchain_huggingface import HuggingFacePipeline

    return HuggingFacePipeline.from_model_id(
        str(model), task="text-generation", batch_size=2, device=device.index,
        pipeline_kwargs=options, model_kwargs={"dtype": "float32"},
    )  # fmt: skip


def bare(llm: Any, prompts: list[str], size: int) -> Work:
    """`generate` as fast as it goes: nothing is left to do but to compute."""
    pipe = llm.pipeline
    rows = sorted(prompts, key=lambda prompt: len(pipe.tokenizer(prompt)["input_ids"]))
    batches = [
        pipe.tokenizer(rows[i : i + size], return_tensors="pt", padding=True, padding_side="left")
        for i in range(0, len(rows), size)
    ]
    inputs = [
        {name: batch[name].to(pipe.device) for name in ("input_ids", "attention_mask")}
        for batch in batches
    ]

    def run() -> None:
        for each in inputs:
            pipe.model.generate(**each, generation_config=pipe.generation_config).cpu()

    return run


def batch(llm: Any, prompts: list[str], size: int) -> Work:
    def run() -> None:
        llm.bind(batch_size=size).batch(prompts)
        if llm.last_batch.engine != llm.batching:
            raise RuntimeError(llm.last_batch.reason)

    return run


def candidates(model: Path, prompts: list[str], size: Size, device: Device) -> dict[str, Work]:
    options = {"max_new_tokens": size.tokens, "min_new_tokens": size.tokens, "do_sample": False}
    old = predecessors(model, options, device)
    new = LocalPipeline.from_model_id(
        str(model),
        task="text-generation",
        device=device.index,
        model_kwargs={"dtype": device.dtype},
        pipeline_kwargs=options,
    )
    works: dict[str, Work] = {BASELINE: lambda: old.batch(prompts)}
    old.batch(prompts[:2])
    for rows in size.sizes:
        works[f"generate, {rows} rows"] = bare(new, prompts, rows)
        works[f"LocalPipeline, batch_size={rows}"] = batch(new, prompts, rows)
    if device.index >= 0:
        # min_new_tokens is no matter for it; that model never ends by itself.
        free = LocalPipeline(
            pipeline=new.pipeline,
            pipeline_kwargs={"max_new_tokens": size.tokens, "min_new_tokens": None},
            batching="continuous",
        )
        works["LocalPipeline, continuous"] = batch(free, prompts, size.sizes[-1])
    for name in list(works)[1:]:
        works[name]()  # warm up
    return works


def ratio(results: dict[str, Any], one: str, other: str) -> float:
    """How many times as fast one is as the other, median of the rounds."""
    pairs = zip(results[one].seconds, results[other].seconds, strict=False)  # one may be cut short
    return statistics.median(b / a for a, b in pairs)


def table(results: dict[str, Any], best: str) -> str:
    lines = [
        "| candidate | tokens/s | × the predecessors' cell | × the best generate |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {result.rate:.0f} | {ratio(results, name, BASELINE):.1f} "
        f"| {ratio(results, name, best):.3f} |"
        for name, result in results.items()
    ]
    return "\n".join(lines)


def summary(results: dict[str, Any], best: str) -> str:
    """The two figures that are asked for, of the fastest LocalPipeline."""
    ours = max((n for n in results if n.startswith("Local")), key=lambda n: results[n].rate)
    return (
        f"{ours}: {ratio(results, ours, BASELINE):.1f} × {BASELINE}, "
        f"{ratio(results, ours, best):.3f} × {best}"
    )


def plot(results: dict[str, Any], title: str, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours = {"Hugging": "#999999", "generate": "#dd8452", "LocalPi": "#4c72b0"}
    names = list(results)
    bars = axes.barh(
        names,
        [results[name].rate for name in names],
        color=[next(c for start, c in colours.items() if name.startswith(start)) for name in names],
    )
    axes.bar_label(bars, [f"{ratio(results, name, BASELINE):.1f} ×" for name in names], padding=4)
    axes.set(title=title, xlabel="tokens per second")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, once: does it work?")
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (%(default)s)")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--tokens", type=int, help="how many each answer has")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks")
    arguments = parser.parse_args()
    size = SIZES[arguments.quick]
    size = replace(size, tokens=arguments.tokens or size.tokens)
    rounds = arguments.rounds or size.rounds
    folder = arguments.output
    work = folder / ("quick" if arguments.quick else "gpt2") / "model"
    work.mkdir(parents=True, exist_ok=True)
    quiet()
    device = select_device(arguments.device)
    prompts = mixed_prompts(size.prompts)
    model = build_model(work, QUICK if arguments.quick else FULL)
    measured = measure_in_turn(
        candidates(model, prompts, size, device),
        repeat=rounds,
        warm_up=0,
        count=size.prompts * size.tokens,
        unit="tokens",
    )
    results = {str(result.label): result for result in measured}
    best = max((name for name in results if name.startswith("gen")), key=lambda n: results[n].rate)
    head = (
        f"{size.prompts} prompts of mixed length, {size.tokens} new tokens each, "
        f"{device.hardware or platform.machine()}, {device.dtype}, median of {rounds} rounds"
    )
    text = "\n\n".join([head, table(results, best), summary(results, best)])
    (folder / "batch.md").write_text(text + "\n", encoding="utf-8")
    record = {name: result.seconds for name, result in results.items()}
    (folder / "batch.json").write_text(json.dumps(record, indent=1))
    plot(results, head.partition(",")[0] + f", {device.dtype}", folder / "batch.png")
    print(text)


if __name__ == "__main__":
    main()
