"""The committed weights: how often the embedded model is right, and whether it loads everywhere.

The whole table takes minutes (`python -m course_kit table`); here a sample of it is taken anew, and
the figures that the model card quotes are held against the bar.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_kit.pocket_model import card, engines, figures, forms, table, world
from local_pipelines import model_path

SAMPLE = 12  # questions of each language, topic and form
SLACK = 0.03  # a sample of a hundred questions may be off by so much
POCKET = Path(model_path("pocket"))


@pytest.fixture(scope="module")
def measured() -> figures.Table:
    return table.measure(engines.torch_responder(POCKET), SAMPLE, seed=1)


@pytest.fixture(scope="module")
def reported() -> figures.Table:
    return figures.Table(**json.loads((POCKET / card.FIGURES).read_text("utf-8"))["table"])


@pytest.fixture(params=["measured", "reported"])
def any_table(request: pytest.FixtureRequest) -> tuple[figures.Table, float]:
    slack = SLACK if request.param == "measured" else 0.0
    return request.getfixturevalue(request.param), slack


@pytest.mark.slow
def test_trained_phrasings_are_answered_exactly(any_table: tuple[figures.Table, float]) -> None:
    """At least 99 % in every language and every form."""
    found, slack = any_table
    assert set(found.by_language_and_form) == set(world.LANGUAGES)
    for row in found.by_language_and_form.values():
        assert set(row) == set(forms.FORMS)
        assert min(row.values()) >= 0.99 - slack


@pytest.mark.slow
def test_held_out_phrasings_are_mostly_answered(any_table: tuple[figures.Table, float]) -> None:
    """At least 90 % of the answers to wordings that training has not seen are exact."""
    found, slack = any_table
    assert min(found.held_out.values()) >= 0.90 - slack


@pytest.mark.slow
def test_the_model_says_when_it_does_not_know(any_table: tuple[figures.Table, float]) -> None:
    """95 % of unanswerable questions are refused, 90 % in every language; 2 % of the others."""
    found, slack = any_table
    refused = found.refused_unknown.values()
    assert sum(refused) / len(refused) >= 0.95 - 2 * slack
    # The sample has twelve such questions a language: one more or less is eight per cent.
    assert min(refused) >= (0.75 if slack else 0.90)
    assert max(found.refused_known.values()) <= 0.02 + slack


def test_the_reported_figures_rest_on_many_questions(reported: figures.Table) -> None:
    """The card quotes a large examination, with two hundred unanswerable questions a language."""
    assert reported.asked >= 20_000
    assert reported.unknown_asked == table.UNANSWERABLE


def test_the_model_card_is_what_the_figures_say() -> None:
    """Nobody has edited the card by hand."""
    assert (POCKET / "README.md").read_text("utf-8") == card.render(POCKET)


def test_batched_answers_equal_single_ones() -> None:
    """Padding and company change no answer."""
    answer = engines.torch_responder(POCKET)
    prompts = [question.prompt for question in table.questions("train", 1, seed=3)][:40]
    together = [table.cut(text) for text in answer(prompts)]
    alone = [table.cut(answer([prompt])[0]) for prompt in prompts]
    assert together == alone


def test_the_model_is_small_and_holds_numbers_only() -> None:
    """Twelve megabytes at most, in safetensors, with nothing that could run."""
    names = {path.name for path in POCKET.iterdir() if path.is_file()}
    assert set(card.CHECKPOINT_FILES) <= names
    size = sum((POCKET / name).stat().st_size for name in card.CHECKPOINT_FILES)
    assert size <= 12_000_000
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_the_model_loads_and_writes_without_a_warning() -> None:
    """A fresh process loads and asks it, and stderr stays empty."""
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer;"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1]);"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1]);"
        "inputs = tokenizer('What is the capital of Peru?', return_tensors='pt');"
        "output = model.generate(**inputs, max_new_tokens=20);"
        "print(tokenizer.decode(output[0], skip_special_tokens=True))"
    )
    words = [sys.executable, "-c", code, str(POCKET)]
    environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "What is the capital of Peru? The capital of Peru is Lima."
    assert done.stderr == ""


@pytest.fixture(scope="module")
def int8() -> Iterator[figures.Table]:
    pytest.importorskip("openvino_genai", reason="needs the extra openvino")
    with engines.openvino_responder(POCKET, "int8") as answer:
        yield table.measure(answer, SAMPLE, seed=1)


@pytest.mark.slow
def test_eight_bits_are_enough(int8: figures.Table) -> None:
    """At least 98 % exact after the export to OpenVINO with int8 weights."""
    for row in int8.by_language_and_form.values():
        assert min(row.values()) >= 0.98 - SLACK
