"""What decides the result of a training, together with the fact tables and the phrasings."""

from __future__ import annotations

from dataclasses import dataclass

NUMBER = 2
"""The number of the plan that this code follows; a model card without one is of plan 1."""


@dataclass(frozen=True)
class Plan:
    """What decides the result of a training, together with the fact tables.

    Args:
        steps: Number of batches, all phases together.
        phases: The batch with which each phase begins, one for each of `corpus.PHASES`; multiples
            of `corpus.POOL`. Facts come first: a model learns to say that it does not know once
            it knows something.
        restart: Share of the highest learning rate with which each later phase begins.
        batch: Examples a batch.
        width: Size of the hidden states.
        layers: Number of decoder layers.
        heads: Attention heads a layer.
        inner: Width of the feed-forward part.
        matrix_rate: Highest learning rate of Muon.
        other_rate: Highest learning rate of AdamW.
        seed: Decides initial weights and data.
        number: Which data and forms it was trained on; 1 had no ordinary wordings and no tools.
    """

    steps: int = 7680
    phases: tuple[int, ...] = (0, 4352, 6400)
    restart: float = 0.5
    batch: int = 64
    width: int = 256
    layers: int = 4
    heads: int = 4
    inner: int = 768
    matrix_rate: float = 0.02
    other_rate: float = 0.004
    seed: int = 1
    number: int = NUMBER


MINIATURE = Plan(steps=150, phases=(0, 96, 128), batch=32, width=64, layers=2, heads=2, inner=128)
