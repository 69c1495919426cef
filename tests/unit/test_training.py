"""The training: it learns, it can be interrupted, it writes a checkpoint that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from course_kit.pocket_model import train as training_module
from course_kit.pocket_model.plan import MINIATURE
from course_kit.pocket_model.train import Training, schedule

TINY = replace(MINIATURE, steps=40, batch=16)


@pytest.fixture(autouse=True, scope="module")
def one_small_tokenizer() -> object:
    """Train the tokenizer once, on fewer texts."""
    from course_kit.pocket_model import tokenizer

    patch = pytest.MonkeyPatch()
    patch.setattr(tokenizer, "_TEXTS", 1500)
    made = tokenizer.train_tokenizer(TINY.seed)
    patch.setattr(tokenizer, "train_tokenizer", lambda seed: made)
    yield made
    patch.undo()


@pytest.mark.slow
def test_the_loss_of_a_miniature_falls(tmp_path: Path) -> None:
    """Forty small steps already bring the loss down by a quarter."""
    losses = list(Training(TINY, tmp_path, "cpu").steps())
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


@pytest.mark.slow
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopping after any step and going on in another process changes nothing."""
    plan = replace(TINY, steps=8)
    whole = list(Training(plan, tmp_path / "whole", "cpu").steps())

    first = Training(plan, tmp_path / "parts", "cpu")
    steps = first.steps()
    losses = [next(steps) for _ in range(3)]
    first.save_state()
    second = Training(plan, tmp_path / "parts", "cpu")
    assert second.resume()
    losses += list(second.steps())
    assert losses == pytest.approx(whole, rel=1e-3)


def test_a_state_of_another_plan_is_not_taken_up(tmp_path: Path) -> None:
    """A changed plan starts anew instead of mixing two trainings."""
    Training(TINY, tmp_path, "cpu").save_state()
    assert not Training(replace(TINY, steps=41), tmp_path, "cpu").resume()
    assert Training(TINY, tmp_path, "cpu").resume()


def test_the_checkpoint_has_half_precision_weights_and_loads(tmp_path: Path) -> None:
    """What the training writes is a checkpoint in the Hugging Face layout."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = Training(TINY, tmp_path, "cpu").save_checkpoint()
    stored = load_file(checkpoint / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.decode(tokenizer("电 é 12")["input_ids"]) == "电 é 12"


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    """The schedule warms up, and ends where nothing is learned any more."""
    shares = [schedule(step, 1000) for step in range(1000)]
    assert shares[0] < 0.1
    assert max(shares) == pytest.approx(1.0, abs=0.05)
    assert shares[-1] < 0.01


def test_the_command_trains_a_miniature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`course_kit train --miniature` shows its progress and says where the result is."""
    monkeypatch.setattr(training_module, "MINIATURE", replace(TINY, steps=2))
    words = ["--miniature", "--folder", str(tmp_path), "--device", "cpu"]
    assert training_module.main(words) == 0
    printed = capsys.readouterr().out
    assert "min left" in printed
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
