"""The training: it learns, it can be interrupted, it writes a checkpoint that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from course_kit.pocket_model import train as training_module
from course_kit.pocket_model.plan import MINIATURE, Plan
from course_kit.pocket_model.train import Training, mean_weights, schedule

TINY = replace(MINIATURE, steps=60, phases=(0, 32, 48), batch=16)


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
    """Sixty small steps already bring the loss down by a quarter."""
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


@pytest.mark.slow
def test_the_checkpoint_is_the_mean_of_the_last_two_phases(tmp_path: Path) -> None:
    """The ends of phases are kept, also over an interruption, and their mean is what is saved."""
    from safetensors.torch import load_file

    plan = replace(TINY, steps=6, phases=(0, 2, 4))
    training = Training(plan, tmp_path, "cpu")
    steps = training.steps()
    for _ in range(5):
        next(steps)
    training.save_state()
    again = Training(plan, tmp_path, "cpu")
    assert again.resume()
    list(again.steps())
    mean = mean_weights(again.ends)["model.norm.weight"]
    saved = load_file(again.save_checkpoint() / "model.safetensors")["model.norm.weight"]
    assert len(again.ends) == 2
    assert not again.ends[0]["model.norm.weight"].equal(again.ends[1]["model.norm.weight"])
    assert saved.equal(mean.to(saved.dtype))


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    """Each phase ends where nothing is learned any more; the later ones begin lower."""
    plan = Plan(steps=1500, phases=(0, 1000, 1200), restart=0.5)
    shares = [schedule(step, plan) for step in range(plan.steps)]
    assert shares[0] < 0.1
    assert max(shares) == pytest.approx(1.0, abs=0.05)
    assert shares[999] < 0.01
    assert shares[1000] == shares[1200] == pytest.approx(0.5)
    assert shares[1199] < 0.01
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
