"""Transformers: lanes of LoRA against single runs, and heads against computing their frozen features."""

import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import bench
import suites
from bench import models
from bench.encode import model_inputs as inputs
from bench.models import pretrained
from lethe.testing import sentences
from suites.base import generator

LANES, BATCH = 8, 16
FIVE = ("finetune", "joint", "er", "ncm", "slda")


def steps(lanes: int) -> Callable[[], object]:
    """Return a function that takes one forward and backward pass of all lanes through MiniLM with LoRA."""
    tokens_NS = inputs.tokens(sentences().texts, pretrained.tokenizer("minilm"), 64)
    seeds = [generator(s, "model") for s in range(lanes)]
    net = models.build(models.reference("minilm"), {"tune": "lora"}, (64,), 4, seeds)
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


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("real_data")
def test_heads_against_the_pass(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole clinc150, 150 classes in ten tasks: training alone, and whole runs with scores and checkpoints.

    Takes minutes. Measured once in processor time of this process; training time is from the records. Five
    methods together should train in less time than the one pass. RanPAC is shown separately: it trains no
    head, and most of its time is scoring.
    """
    suite = suites.get("clinc150")
    data = suite.load()
    options = models.options(models.reference("minilm")) | suite.model_options
    start = time.process_time()
    inputs.features(data.texts, "minilm", options)
    one_pass = time.process_time() - start
    whole, training = {}, {}

    def heads() -> None:
        for name in (*FIVE, "ranpac"):
            start = time.process_time()
            cells = bench.run("clinc150", name, seeds=10).cells
            whole[name] = (time.process_time() - start) / one_pass
            training[name] = cells["train_seconds"].max() / one_pass  # one group of lanes, equal for all

    benchmark.pedantic(heads, rounds=1)
    together = sum(training[name] for name in FIVE)
    shares = {"training": training, "whole": whole, "ratio": together}
    benchmark.extra_info.update({"pass_seconds": one_pass, "target": "at most 1"} | shares)
    with capsys.disabled():
        measured = ", ".join(f"{name} {training[name]:.2f} of {whole[name]:.2f}" for name in whole)
        print(f"\n  ten seeds in passes of {one_pass:.0f} s, training of the whole run: {measured}")
        print(f"  the first five {together:.2f} of {sum(whole[name] for name in FIVE):.2f}")
    assert together > 0
