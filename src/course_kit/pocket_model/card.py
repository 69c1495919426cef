"""Writes the pocket model's card from what was measured, and puts the checkpoint in the package."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from course_kit.pocket_model import corpus, world
from course_kit.pocket_model.figures import Table
from course_kit.pocket_model.plan import Plan

FIGURES = "figures.json"
CHECKPOINT_FILES = (
    "README.md",
    "chat_template.jinja",
    "config.json",
    FIGURES,
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)

_CARD = Path(__file__).parent / "data" / "card.md"
_MORE = Path(__file__).parent / "data" / "card_more.md"


def write(folder: Path, table: Table, plan: Plan | None = None) -> None:
    """Write `README.md`, and the figures it quotes as data, into a checkpoint folder.

    Args:
        folder: The checkpoint; its configuration and tokenizer are read.
        table: What was measured.
        plan: How it was trained; as the figures there say if not given.
    """
    path = folder / FIGURES
    trained = asdict(plan) if plan else json.loads(path.read_text("utf-8"))["plan"]
    figures = {"plan": trained, "table": asdict(table)}
    path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "README.md").write_text(render(folder), "utf-8")


def render(folder: Path) -> str:
    """Return the text of a checkpoint's model card, from its figures."""
    figures = json.loads((folder / FIGURES).read_text("utf-8"))
    plan, table = plan_of(folder), Table(**figures["table"])
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return _CARD.read_text("utf-8").format(
        world=_world(),
        table=table.as_markdown(),
        engine=table.engine,
        unknown=table.unknown_asked,
        parameters=_count_parameters(folder / "model.safetensors"),
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        seed=plan.seed,
        steps=plan.steps,
        phases=_listed([str(begin) for begin in plan.phases]),
        batch=plan.batch,
        more=_MORE.read_text("utf-8").rstrip() if table.ordinary else "",
    )


def plan_of(folder: Path) -> Plan:
    """Return how a checkpoint was trained; one whose figures give no number is of plan 1."""
    found = json.loads((folder / FIGURES).read_text("utf-8"))["plan"]
    return Plan(**({"number": 1} | found))


def install(checkpoint: Path) -> None:
    """Copy the files of a checkpoint to where the package looks for the embedded model."""
    package = Path(str(files("local_pipelines") / "pocket"))
    for name in CHECKPOINT_FILES:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, package / name)


def _world() -> str:
    topics = corpus.facts_by_topic("en")
    numbers = world.phrasings("en")["numbers"]["languages"]
    return "\n".join(
        (
            f"- the capitals of {len(topics['capitals'])} states,",
            f"- the number words from 0 to 100 in {_listed(list(numbers.values()))},",
            f"- {len(topics['terms'])} terms of computing, language models, physics and the body,"
            " in one or two sentences each,",
            f"- {len(topics['small_talk'])} kinds of small talk.",
        )
    )


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def _count_parameters(weights: Path) -> int:
    from safetensors import safe_open

    total = 0
    with safe_open(weights, "np") as file:  # type: ignore[no-untyped-call]
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            size = 1
            for length in file.get_slice(name).get_shape():
                size *= length
            total += size
    return total
