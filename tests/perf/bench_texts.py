"""Transformers: lanes of LoRA against single runs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench import inputs, models
from bench.models import pretrained
from suites.base import generator
from tests.toy import sentences

LANES, BATCH = 8, 16


def steps(lanes: int) -> Callable[[], object]:
    """Return a function that passes a batch of every lane forward and back through MiniLM with LoRA."""
    tokens_NS = inputs.tokens(sentences().texts, pretrained.tokenizer("minilm"), 64)
    net = models.build("minilm", {"tune": "lora"}, (64,), 4, [generator(s, "model") for s in range(lanes)])
    rows_LB = torch.randint(len(tokens_NS), (lanes, BATCH), generator=torch.Generator().manual_seed(0))
    x_LBS = tokens_NS[rows_LB]

    def step() -> None:
        net.zero_grad(set_to_none=True)
        net(x_LBS).square().mean().backward()

    return step


def test_lanes_of_lora_against_single_runs(compare: Callable[..., float]) -> None:
    together, alone = steps(LANES), steps(1)

    def one_by_one() -> None:
        for _ in range(LANES):
            alone()

    assert compare(f"{LANES} lanes of LoRA on MiniLM", f"{LANES} single lanes", together, one_by_one, "")
