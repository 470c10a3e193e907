"""Gradients of single examples, also through transformers, against a loop of autograd over rows."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from bench.train import make_lanes, run_group
from lethe.testing import new_batch, perturb, ready, toy_cell
from strategies.core import (
    Batch,
    LaneConv2d,
    LaneLinear,
    LaneModel,
    fold_lanes,
    unfold_lanes,
    uniform_parameter,
)
from strategies.parts import absolute_gradients, per_example as examples, squared_gradients
from tests.strategies.test_text import group

OfRow = Callable[[Batch, int, int], list[tuple[Tensor, Tensor]]]
"""(batch of one row, lane, index of the row) -> [(number to differentiate, its weight)]."""
PLAIN = {"mlp": {"hidden": 7, "layers": 2}, "cnn": {"width": 3, "hidden": 5}, "resnet18": {"width": 2}}
NETWORKS = [
    *itertools.product([*PLAIN, "lora"], ["class", "task"]),
    *((tune, "class") for tune in ("adapter", "prompt", "bitfit", "full")),
]


def moved(name: str, network: str, scenario: str = "class", **changes: Any) -> tuple[Any, Batch]:
    """Return a method on a changed network, and a batch that includes padding."""
    if network in PLAIN:
        strategy = ready(name, scenario, network, PLAIN[network], **changes)
    else:
        strategy = group(name, scenario, network, **changes).strategy
    perturb(strategy, 1)
    model, batch = strategy.model.double(), new_batch(strategy, size=4)
    if network in PLAIN:
        batch.x_LBX = batch.x_LBX.double()
        model(batch.x_LBX)  # running statistics differ from their initial values
    model.eval()
    weight_LB = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1]], dtype=torch.float64)
    batch.weight_LB = weight_LB[: strategy.streams.lanes]
    return strategy, batch


def summed(model: LaneModel, batch: Batch, of_row: OfRow, size: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return the sums with one backward pass for each row and each number of ``of_row``.

    Each row is alone in its batch, and each size is multiplied by the weight of its number.
    """
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for lane, row in batch.weight_LB.nonzero().tolist():
        cut = slice(row, row + 1)
        x_LBX, y_LB, rows_LB = (of_rows[:, cut] for of_rows in (batch.x_LBX, batch.y_LB, batch.rows_LB))
        alone = replace(batch, x_LBX=x_LBX, y_LB=y_LB, rows_LB=rows_LB)
        for value, weight in of_row(alone, lane, row):
            reached = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            for t, g in zip(total, reached, strict=True):
                t += weight * size(g)
    return total


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert any(bool(e.any()) for e in expected)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("network", "scenario"), NETWORKS)
@pytest.mark.parametrize("estimator", ["exact", "sampled", "true"])
def test_the_fisher_equals_a_loop_over_rows(
    estimator: Any, network: str, scenario: str, monkeypatch: Any
) -> None:
    """For all trained parts and numbers of rows at a time; only active units of a row are used."""
    strategy, batch = moved("ewc", network, scenario)
    draw_LB = torch.rand(batch.rows_LB.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def of_row(alone: Batch, lane: int, row: int) -> list[tuple[Tensor, Tensor]]:
        log_p_U = strategy.logits(alone).log_softmax(2)[lane, 0]
        p_U = log_p_U.detach().exp()
        if estimator == "exact":
            assert (p_U > 0).sum() == (2 if scenario == "task" else 4)
            return list(zip(log_p_U, p_U, strict=True))
        unit = int(alone.y_LB[lane, 0])
        if estimator == "sampled":
            unit = next(u for u in range(len(p_U)) if p_U[: u + 1].sum() >= draw_LB[lane, row])
        return [(log_p_U[unit], torch.ones(()))]

    expected = summed(strategy.model, batch, of_row, torch.square)
    for numbers in (1, 2**22):
        monkeypatch.setitem(examples._NUMBERS, "cpu", numbers)
        close(squared_gradients(strategy.model, batch, strategy.logits, estimator, draw_LB), expected)


@pytest.mark.parametrize(("network", "scenario"), NETWORKS)
def test_the_importance_of_mas_equals_a_loop_over_rows(network: str, scenario: str) -> None:
    strategy, batch = moved("mas", network, scenario)

    def of_row(alone: Batch, lane: int, row: int) -> list[tuple[Tensor, Tensor]]:
        logits_U = strategy.model(alone.x_LBX)[lane, 0]
        own = slice(None) if batch.active_LBU is None else batch.active_LBU[lane, row]
        return [(logits_U[own].square().sum(), torch.ones(()))]

    found = absolute_gradients(strategy.model, batch, strategy.square_norm_LB)
    close(found, summed(strategy.model, batch, of_row, torch.abs))


def test_units_of_zero_probability_need_no_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """So an exact Fisher needs one for each unit that is active in some row."""
    strategy, _ = moved("ewc", "lora", active="seen")
    passes = Mock(wraps=torch.autograd.grad)
    monkeypatch.setattr(torch.autograd, "grad", passes)
    for task, estimator in ((0, "exact"), (1, "exact"), (1, "true")):
        strategy.streams.begin_task(task)
        batch = new_batch(strategy, size=4)
        passes.reset_mock()
        squared_gradients(strategy.model, batch, strategy.logits, estimator)
        seen = int(strategy.streams.seen_L1U.any(0).sum())
        assert passes.call_count == (seen if estimator == "exact" else 1)
        assert seen < 4 or task


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_lane_s_fisher_is_the_same_alone_and_in_a_group(tune: str) -> None:
    options = {"tune": tune, "max_tokens": 24, "rank": 3}
    cells = [toy_cell("ewc", s, "class", suite="toy-text", model_options=options) for s in range(3)]
    together, alone = make_lanes(cells), make_lanes(cells[1:2])
    perturb(together.strategy, 1)
    for p, own in zip(together.model.parameters(), alone.model.parameters(), strict=True):
        own.data.copy_(p.data[1:2])
    found = []
    for of in (together, alone):
        of.model.double().eval()
        batch = new_batch(of.strategy, size=5)
        found.append(squared_gradients(of.model, batch, of.strategy.logits, "exact"))
    close(found[1], [f[1:2] for f in found[0]])


def test_rows_use_the_earlier_factors_of_their_own_lane() -> None:
    strategy = group("inc-lora").strategy
    strategy.begin_task(0)
    perturb(strategy, 1)
    strategy.end_task(0)
    strategy.begin_task(1)
    strategy.model.eval()
    batch = new_batch(strategy, size=4)
    batch.weight_LB = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    assert strategy.model.past

    def of_row(alone: Batch, lane: int, row: int) -> list[tuple[Tensor, Tensor]]:
        log_p_U = strategy.logits(alone).log_softmax(2)[lane, 0]
        return [(log_p_U[int(alone.y_LB[lane, 0])], torch.ones(()))]

    found = squared_gradients(strategy.model, batch, strategy.logits, "true")
    expected = summed(strategy.model, batch, of_row, torch.square)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    strategy.model.past.clear()
    without = squared_gradients(strategy.model, batch, strategy.logits, "true")
    assert not all(torch.allclose(f, w, rtol=1e-3) for f, w in zip(found, without, strict=True))


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_rows_of_similar_length_are_batched_together(tune: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That saves padding and changes the sum by rounding only."""
    strategy, _ = moved("ewc", tune)
    model = strategy.model
    batch = new_batch(strategy, size=24)
    for row in range(24):
        batch.x_LBX[:, row, 2 + row * 7 % 22 :] = model.base.padding
    batch.weight_LB = torch.ones(2, 24, dtype=torch.float64)
    batch.weight_LB[1, 20:] = 0
    monkeypatch.setitem(examples._EXAMPLES, "cpu", 8)  # four rows of each lane
    monkeypatch.setitem(examples._NUMBERS, "cpu", 2**30)
    found, padded = [], []
    for as_they_come in (False, True):
        if as_they_come:
            monkeypatch.setattr(examples, "counting_rows", lambda model, batch: torch.arange(24))
        model.counts.update(tokens=0, padded=0)
        found.append(squared_gradients(model, batch, strategy.logits, "true"))
        padded.append(model.counts["padded"])
    close(*found)
    assert padded[0] < padded[1]


def test_rows_of_models_with_lanes_in_their_code_are_processed_one_by_one() -> None:
    """Such as the groups of a convolution; a further parameter is included too."""

    class Scaled(LaneModel):
        def __init__(self) -> None:
            super().__init__()
            random = [torch.Generator().manual_seed(s) for s in range(2)]
            self.convolution = LaneConv2d(random, 1, 2, 3)
            self.scale_LF = uniform_parameter(random, (8,), 1.0)
            self.head = LaneLinear(random, 8, 3)

        def features(self, x_LBX: Tensor) -> Tensor:
            return unfold_lanes(self.convolution(fold_lanes(x_LBX)), 2) * self.scale_LF.unsqueeze(1)

    model = Scaled().double()
    random = torch.Generator().manual_seed(3)
    x_LBX = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64, generator=random)
    y_LB = torch.randint(3, (2, 4), generator=random)
    weight_LB = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.float64)
    batch = Batch(x_LBX, y_LB, torch.zeros_like(y_LB), weight_LB, None)

    def of_row(alone: Batch, lane: int, row: int) -> list[tuple[Tensor, Tensor]]:
        log_p_U = model(alone.x_LBX).log_softmax(2)[lane, 0]
        return [(log_p_U[alone.y_LB[lane, 0]], torch.ones(()))]

    found = squared_gradients(model, batch, lambda b, run: run(b.x_LBX), "true")
    close(found, summed(model, batch, of_row, torch.square))


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_penalties_change_the_training_of_a_transformer(name: str, tune: str) -> None:
    """A whole run finishes, and the penalty changes the loss from the second task on."""
    options = {"tune": tune, "max_tokens": 24, "rank": 3}
    of: Any = {"suite": "toy-text", "epochs": 1, "model_options": options}
    held, free = (run_group([toy_cell(name, 0, "class", lam=lam, **of)])[0] for lam in (1.0, 0.0))
    assert held["status"] == free["status"] == "done"
    assert held["loss"][0] == free["loss"][0]
    assert held["loss"][1] != free["loss"][1]
