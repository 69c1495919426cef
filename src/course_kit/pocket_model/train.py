"""Trains the pocket model from scratch: one seeded command, resumable, on CPU or GPU.

The weights of matrices are trained with Muon (Jordan et al. 2024), which learns rare facts in fewer
steps than Adam does; embeddings and norms with AdamW (Loshchilov and Hutter 2019). Only the
answers' tokens count in the loss.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_kit.pocket_model import card, corpus, tokenizer
from course_kit.pocket_model.engines import torch_responder
from course_kit.pocket_model.plan import MINIATURE, Plan
from course_kit.pocket_model.table import whole

if TYPE_CHECKING:
    import torch

DEFAULT_FOLDER = Path("build/pocket")

# A CPU prepares its kernels anew for each shape of tensor, and keeps them: few shapes, few kernels.
_ROUND_LENGTH = 16
_ROUND_TARGETS = 256
_IGNORED = -100


class Training:
    """A training that can stop after any step and go on in another process.

    Args:
        plan: What to train.
        folder: Where the checkpoint and the state of the training are kept.
        device: A torch device name, such as "cpu" or "cuda".
    """

    def __init__(self, plan: Plan, folder: Path, device: str) -> None:
        import torch

        self.plan, self.folder, self.device = plan, folder, device
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(plan.seed)
        self.tokenizer = tokenizer.train_tokenizer(plan.seed)
        self.model = build_model(plan, self.tokenizer).to(device)
        self.optimizers = _optimizers(self.model, plan)
        self.step = 0
        self.ends: list[dict[str, torch.Tensor]] = []  # the weights at the last two phases' ends
        self.half = _autocast_dtype(device)

    @property
    def _state_file(self) -> Path:
        return self.folder / "training_state.pt"

    def resume(self) -> bool:
        """Load the state that `save_state` left; False where there is none for this plan."""
        import torch

        if not self._state_file.is_file():
            return False
        state = torch.load(self._state_file, map_location=self.device, weights_only=True)
        if state["plan"] != asdict(self.plan):
            return False
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.ends = state["step"], state["ends"]
        return True

    def save_state(self) -> None:
        """Write everything needed to go on, atomically."""
        import torch

        partial = self._state_file.with_suffix(".partial")
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "ends": self.ends,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, partial)
        partial.replace(self._state_file)

    def steps(self) -> Iterator[float]:
        """Train to the end of the plan, yielding the loss of each step."""
        plan = self.plan
        source = corpus.batches(plan.seed, self.step, plan.batch, plan.phases, self._count_tokens)
        for examples in itertools.islice(source, self.plan.steps - self.step):
            self._set_rates()
            loss = self._loss(*_encode(examples, self.tokenizer, self.device))
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            self.step += 1
            if self.step in (*self.plan.phases, self.plan.steps):
                weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
                self.ends = [*self.ends, weights][-2:]
            yield float(loss.detach())

    def _count_tokens(self, example: corpus.Example) -> int:
        texts = [part.text for part in example]
        return sum(map(len, self.tokenizer(texts, add_special_tokens=False)["input_ids"]))

    def save_checkpoint(self) -> Path:
        """Write the model and its tokenizer as a checkpoint in the Hugging Face layout.

        After the last step the model is given the mean of the weights at the ends of the last two
        phases: the last phase makes it firmer with new wordings and costs it some facts, the mean
        keeps both (Wortsman et al. 2022, "Model soups").
        """
        if self.step >= self.plan.steps and self.ends:
            self.model.load_state_dict(mean_weights(self.ends))
        checkpoint = self.folder / "checkpoint"
        save_checkpoint(self.model, self.tokenizer, checkpoint)
        return checkpoint

    def _set_rates(self) -> None:
        share = schedule(self.step, self.plan)
        rates = (self.plan.matrix_rate, self.plan.other_rate)
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share

    def _loss(self, ids: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.autocast(
            torch.device(self.device).type, self.half, enabled=self.half is not None
        ):
            hidden = self.model.model(ids[:, :-1]).last_hidden_state
            places = learned[:, 1:].flatten().nonzero().squeeze(1)
            count = len(places)
            places = torch.nn.functional.pad(places, (0, -count % _ROUND_TARGETS))
            logits = self.model.lm_head(hidden.flatten(0, 1)[places])
        targets = ids[:, 1:].flatten()[places]
        targets[count:] = _IGNORED
        return torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=_IGNORED)


def mean_weights(several: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of several sets of weights of one model, tensor by tensor."""
    import torch

    return {name: torch.stack([one[name] for one in several]).mean(0) for name in several[0]}


def schedule(step: int, plan: Plan) -> float:
    """Return the share of the highest learning rate: each phase falls to zero, the first rises."""
    begins = [begin for begin in plan.phases if begin < plan.steps]
    phase = bisect.bisect_right(begins, step) - 1
    begin, end = begins[phase], [*begins, plan.steps][phase + 1]
    if phase:
        return plan.restart * (end - step) / (end - begin)
    warm_up = max(1, min(200, end // 20))
    if step < warm_up:
        return (step + 1) / warm_up
    left = (end - step) / (end - warm_up)
    return 0.5 * (left + 0.5 * (1 - math.cos(math.pi * left)))


def build_model(plan: Plan, tokens: Any) -> Any:
    """Return an untrained Llama-type decoder that fits the tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=plan.width,
        intermediate_size=plan.inner,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=tokenizer.CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        attn_implementation="eager",  # with short rows an eighth faster on a CPU; it is not saved
    )
    return LlamaForCausalLM(config)


def save_checkpoint(model: Any, tokens: Any, folder: Path) -> None:
    """Write half-precision weights, tokenizer and generation settings.

    The configuration still says float32: a CPU computes in that type fastest everywhere, and the
    loader widens the stored numbers without losing anything.
    """
    import copy

    import torch
    from transformers import GenerationConfig

    stored = copy.deepcopy(model).to("cpu", torch.float16)
    stored.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[tokens.eos_token_id, tokens.convert_tokens_to_ids("<|end|>")],
        pad_token_id=tokens.pad_token_id,
    )
    stored.save_pretrained(folder)
    tokenizer.save_tokenizer(tokens, folder)
    _declare_float32(folder / "config.json")


def _declare_float32(path: Path) -> None:
    import json

    config = json.loads(path.read_text("utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _optimizers(model: Any, plan: Plan) -> list[Any]:
    import torch

    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        is_matrix = weight.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if is_matrix else others).append(weight)
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _autocast_dtype(device: str) -> Any:
    import torch

    from local_pipelines.workbench.devices import select_device

    if device != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if select_device("cpu").dtype == "bfloat16" else None


def _encode(
    examples: list[corpus.Example], tokens: Any, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    texts = [part.text for example in examples for part in example]
    encoded = iter(tokens(texts, add_special_tokens=False)["input_ids"])
    rows, marks = [], []
    for example in examples:
        row: list[int] = []
        mark: list[bool] = []
        for part in example:
            ids = next(encoded)
            row += ids
            mark += [part.learned] * len(ids)
        rows.append(torch.tensor(row))
        marks.append(torch.tensor(mark))
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(rows, batch_first=True, padding_value=tokens.pad_token_id)
    learned = pad(marks, batch_first=True)
    fill = (0, (1 - ids.shape[1]) % _ROUND_LENGTH)
    ids = torch.nn.functional.pad(ids, fill, value=tokens.pad_token_id)
    return ids.to(device), torch.nn.functional.pad(learned, fill).to(device)


def _report(training: Training, losses: list[float], started: float, first: int) -> None:
    done = training.step - first
    seconds = time.monotonic() - started
    left = seconds / done * (training.plan.steps - training.step)
    recent = sum(losses) / len(losses)
    print(
        f"step {training.step:>6}/{training.plan.steps}  loss {recent:.4f}  "
        f"{done / seconds:.2f} steps/s  {left / 60:.1f} min left",
        flush=True,
    )


def train(training: Training, report_every: float = 20.0, save_every: float = 120.0) -> None:
    """Train to the end, with a line of progress and a saved state now and then.

    Args:
        training: What to train; goes on from its present step.
        report_every: Seconds between two lines.
        save_every: Seconds between two saved states.
    """
    started = reported = saved = time.monotonic()
    first, losses = training.step, []
    for loss in training.steps():
        losses.append(loss)
        now = time.monotonic()
        if now - reported >= report_every or training.step == training.plan.steps:
            _report(training, losses, started, first)
            reported, losses = now, []
        if now - saved >= save_every:
            training.save_state()
            saved = now
    training.save_state()


def main(argv: list[str] | None = None) -> int:
    """Train the pocket model, examine it and write its card; goes on after an interruption."""
    parser = argparse.ArgumentParser(prog="course_kit train", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--device", default=None, help="a torch device; default: the best here")
    parser.add_argument("--sample", type=int, default=50, help="questions of each kind")
    parser.add_argument("--miniature", action="store_true", help="a minute's trial, not a model")
    parser.add_argument("--install", action="store_true", help="put the result into the package")
    options = parser.parse_args(argv)
    plan = Plan(steps=options.steps, batch=options.batch, seed=options.seed)
    training = Training(
        MINIATURE if options.miniature else plan, options.folder, options.device or _best_device()
    )
    print("goes on from a saved state" if training.resume() else "starts from random weights")
    try:
        train(training)
    except KeyboardInterrupt:
        training.save_state()
        print(f"stopped at step {training.step}; the same command goes on from here")
        return 130
    checkpoint = training.save_checkpoint()
    print(f"checkpoint: {checkpoint}", flush=True)
    if not options.miniature:
        respond = torch_responder(checkpoint, training.device)
        table = whole(respond, options.sample, f"torch, {training.device}")
        print(table.as_markdown())
        card.write(checkpoint, table, training.plan)
    if options.install:
        card.install(checkpoint)
    return 0


def _best_device() -> str:
    from local_pipelines.workbench.devices import select_device

    return select_device().name


if __name__ == "__main__":
    raise SystemExit(main())
