"""Measures every engine against the cell that this course's predecessors teach.

One run, the engines in turn: a GPT-2-sized model (124 million random weights, built here) answers
one prompt, and 64 prompts of mixed length, with 48 new tokens each. All figures are medians, and
ratios are taken round by round, as a busy machine slows neighbours down alike. Beside them: what
the LangChain layer adds to raw OpenVINO GenAI, the share of the memory's speed that one prompt
reaches, and the seconds from a fresh process to the embedded model's first answer. No prompt comes
twice: raw OpenVINO GenAI keeps what it has read (its prefix caching), so a prompt asked again would
measure that it does not read, and not what the layer adds.

`python benchmarks/engines.py` takes about 15 minutes on two cores; `--quick` takes seconds and
tells nothing but that it works. A table (engines.md) and a plot (engines.png) go to `--output`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines import GenAIPipeline, LocalPipeline, export_openvino, measure_in_turn

ROOT = Path(__file__).parents[1]
QUESTION = "What is the capital of France?"
BASELINE = "HuggingFacePipeline, batch_size=2, torch fp32"
INT8 = "GenAIPipeline int8"
RAW_INT8 = "openvino_genai int8"
LAYER = {"GenAIPipeline fp32": "openvino_genai fp32", INT8: RAW_INT8}
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
Run = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    layers: int
    width: int
    words: int
    tokens: int
    prompts: int
    rounds_one: int
    rounds_many: int
    starts: int
    stream_bytes: int


FULL = Size(12, 768, 50257, 48, 64, 9, 3, 5, 1 << 30)
QUICK = Size(2, 64, 1000, 4, 6, 1, 1, 1, 1 << 24)


def quiet() -> None:
    """Keep transformers' remarks on the predecessors' cell out of the table."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


# --- the model ---------------------------------------------------------------------------------


def build_model(folder: Path, size: Size) -> Path:
    """A model of GPT-2's shape with random weights, and a tokenizer for it."""
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size.words, n_layer=size.layers, n_embd=size.width, n_head=size.width // 64,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    partial = folder.with_name(f"{folder.name}.partial")  # whoever is stopped leaves no half model
    build_tokenizer(size.words).save_pretrained(partial)
    GPT2LMHeadModel(config).save_pretrained(partial)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir(), key=lambda file: file.suffix == ".safetensors"):
        file.replace(folder / file.name)
    partial.rmdir()
    return folder


def build_tokenizer(words: int) -> Any:
    """A byte-level tokenizer whose words are pairs of bytes: every token has a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = "<|endoftext|>"
    pairs = [(a, b) for a in letters for b in letters][: words - len(letters) - 1]
    vocabulary = [end, *letters, *(a + b for a, b in pairs)]
    model = models.BPE({word: number for number, word in enumerate(vocabulary)}, pairs)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end, padding_side="left"
    )


def mixed_prompts(count: int) -> list[str]:
    chosen = random.Random(0)
    words = ("the", "model", "reads", "a", "prompt", "and", "writes", "until", "it", "ends")
    return [" ".join(chosen.choices(words, k=chosen.randint(3, 40))) for _ in range(count)]


# --- the engines -------------------------------------------------------------------------------


def load_engines(model: Path, folder: Path, size: Size) -> dict[str, Run]:
    """All candidates, the predecessors' cell first."""
    exports = {
        form: export_openvino(model, folder / f"ir-{form}", weight_format=form, progress=False)
        for form in ("fp32", "int8")
    }
    options = {"max_new_tokens": size.tokens, "min_new_tokens": size.tokens, "do_sample": False}
    engines = {
        BASELINE: predecessors(model, options),
        "LocalPipeline, torch fp32": local(model, options),
        "LocalPipeline, torch bf16": local(model, options, model_kwargs={"dtype": "bfloat16"}),
        "LocalPipeline, optimum-intel fp32": local(
            exports["fp32"], options, backend="openvino", model_kwargs={"ov_config": EXACT}
        ),
    }
    for form, export in exports.items():
        engines[f"GenAIPipeline {form}"] = genai(export, size, None)
        engines[f"openvino_genai {form}"] = raw(export, size, EXACT if form == "fp32" else {})
    own = {"EXECUTION_MODE_HINT": "PERFORMANCE"}
    engines["GenAIPipeline fp32, OpenVINO's own precision"] = genai(exports["fp32"], size, own)
    return engines


def predecessors(model: Path, options: dict[str, Any]) -> Run:
    from langchain_huggingface import HuggingFacePipeline

    llm = HuggingFacePipeline.from_model_id(
        str(model), task="text-generation", batch_size=2, pipeline_kwargs=options
    )
    return lambda prompts: llm.bind(skip_prompt=True).batch(prompts)


def local(model: Path, options: dict[str, Any], **loading: Any) -> Run:
    llm = LocalPipeline.from_model_id(
        str(model), task="text-generation", batch_size=16, pipeline_kwargs=options, **loading
    )
    return llm.batch


def genai(export: Path, size: Size, config: Mapping[str, str] | None) -> Run:
    return GenAIPipeline.from_model_dir(
        export,
        max_new_tokens=size.tokens,
        pipeline_kwargs={"min_new_tokens": size.tokens, "max_new_tokens": size.tokens},
        ov_config=config,
    ).batch


def raw(export: Path, size: Size, config: Mapping[str, str]) -> Run:
    """OpenVINO GenAI as its own documentation calls it."""
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(str(export), "CPU", **config)

    def run(prompts: list[str]) -> list[str]:
        result = pipe.generate(
            prompts,
            max_new_tokens=size.tokens,
            min_new_tokens=size.tokens,
            do_sample=False,
            apply_chat_template=False,
        )
        return list(result.texts)

    return run


# --- what is measured --------------------------------------------------------------------------


def numbered(run: Run, prompts: list[str]) -> Callable[[], list[str]]:
    """Ask the prompts with a new number of four digits before them each time."""
    rounds = itertools.count()
    return lambda: run(
        [f"{number:04d} {prompt}" for number in [next(rounds)] for prompt in prompts]
    )


def measured(engines: dict[str, Run], prompts: list[str], tokens: int, rounds: int) -> Any:
    for run in engines.values():
        run(prompts[:2])  # warm up
    return measure_in_turn(
        {name: numbered(run, prompts) for name, run in engines.items()},
        repeat=rounds,
        warm_up=0,
        count=len(prompts) * tokens,
        unit="tokens",
    )


def layer_overhead(results: Any) -> dict[str, float]:
    """Seconds through LangChain over seconds of raw OpenVINO GenAI, median of the rounds."""
    by_name = {result.label: result for result in results}
    return {
        ours: statistics.median(
            a / b for a, b in zip(by_name[ours].seconds, by_name[theirs].seconds, strict=True)
        )
        for ours, theirs in LAYER.items()
    }


def reading_speed(size: int) -> float:
    """Bytes a second that all cores together read from memory, the best of several sweeps."""
    import torch

    numbers = torch.ones(size // 4)
    sweeps = []
    for _ in range(7):
        start = time.perf_counter()
        numbers.sum()
        sweeps.append(time.perf_counter() - start)
    return size / min(sweeps)


def first_answers(export: Path, starts: int) -> dict[str, list[float]]:
    """Seconds from the start of a process to the embedded model's first answer, in turn."""
    from local_pipelines import model_path

    hf = f"from_model_id({model_path('pocket')!r}, task='text-generation')"
    programs = {
        "HuggingFacePipeline": f"from langchain_huggingface import HuggingFacePipeline as P\n"
        f"llm = P.{hf}",
        "LocalPipeline": f"from local_pipelines import LocalPipeline as P\nllm = P.{hf}",
        "GenAIPipeline": "from local_pipelines import GenAIPipeline as P\n"
        f"llm = P.from_model_dir({str(export)!r})",
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(starts):
        for name, program in programs.items():
            start = time.perf_counter()
            code = f"{program}\nllm.invoke({QUESTION!r})"
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    return seconds


# --- what is written ---------------------------------------------------------------------------


def table(one: Any, many: Any, prompts: int) -> str:
    same = same_texts(many)
    lines = [
        f"| engine | 1 prompt, tokens/s | ratio | {prompts} prompts, tokens/s | ratio"
        " | torch's words |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {a.label} | {a.rate:.0f} | {a.ratio:.1f} × | {b.rate:.0f} | {b.ratio:.1f} × "
        f"| {same[str(a.label)]} of {prompts} |"
        for a, b in zip(one, many, strict=True)
    ]
    return "\n".join(lines)


def same_texts(many: Any) -> dict[str, int]:
    """How many answers are, word for word, those of torch in fp32."""
    texts = {str(result.label): result.result for result in many}
    expected = texts["LocalPipeline, torch fp32"]
    return {
        name: sum(a == b for a, b in zip(answers, expected, strict=True))
        for name, answers in texts.items()
    }


def plot(one: Any, many: Any, prompts: int, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for panel, results, title in zip(
        axes, (one, many), ("1 prompt", f"{prompts} prompts"), strict=True
    ):
        names = [str(result.label) for result in results]
        bars = panel.barh(names, [result.rate for result in results], color="#4c72b0")
        bars[0].set_color("#999999")
        panel.bar_label(bars, [f"{result.ratio:.1f} ×" for result in results], padding=4)
        panel.set(title=title, xlabel="tokens per second")
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.savefig(file, dpi=120)


def summary(one: Any, many: Any, size: Size, export: Path, starts: dict[str, list[float]]) -> str:
    """The figures beside the table."""
    lines = []
    for name, results in (("1 prompt", one), (f"{size.prompts} prompts", many)):
        for engine, ratio in layer_overhead(results).items():
            lines.append(f"- {engine} through LangChain, {name}: {ratio:.3f} × the raw engine")
    speed = reading_speed(size.stream_bytes)
    weights = (export / "openvino_model.bin").stat().st_size
    rate = next(result.rate for result in one if result.label == INT8)
    lines.append(
        f"- Share of the memory's speed, 1 prompt, int8: tokens/s × bytes of weights / bytes read"
        f" a second = {rate:.0f} × {weights / 1e6:.0f} MB / {speed / 1e9:.1f} GB/s"
        f" = {rate * weights / speed:.0%}"
    )
    for name, seconds in starts.items():
        ratio = statistics.median(
            a / b for a, b in zip(seconds, starts["HuggingFacePipeline"], strict=True)
        )
        lines.append(
            f"- Fresh process to the first answer of pocket, {name}: "
            f"{statistics.median(seconds):.2f} s ({ratio:.2f} × the first)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, once: does it work?")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    folder = arguments.output
    work = folder / ("quick" if arguments.quick else "gpt2")
    work.mkdir(parents=True, exist_ok=True)
    quiet()
    engines = load_engines(build_model(work / "model", size), work, size)
    prompts = mixed_prompts(size.prompts)
    one = measured(engines, prompts[:1], size.tokens, size.rounds_one)
    many = measured(engines, prompts, size.tokens, size.rounds_many)
    pocket = export_openvino("pocket", folder / "pocket-fp32", progress=False)
    starts = first_answers(pocket, size.starts)
    text = "\n\n".join(
        [
            f"GPT-2's shape, {size.layers} layers of {size.width}, {size.tokens} new tokens,"
            f" {platform.machine()}, medians of {size.rounds_one} and {size.rounds_many} rounds",
            table(one, many, size.prompts),
            summary(one, many, size, work / "ir-int8", starts),
        ]
    )
    (folder / "engines.md").write_text(text + "\n", encoding="utf-8")
    record = {str(r.label): [r.seconds, m.seconds] for r, m in zip(one, many, strict=True)}
    (folder / "engines.json").write_text(json.dumps(record | {"first answer": starts}, indent=1))
    plot(one, many, size.prompts, folder / "engines.png")
    print(text)


if __name__ == "__main__":
    main()
