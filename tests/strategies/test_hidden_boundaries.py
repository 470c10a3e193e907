"""With hidden boundaries a method works or is refused with a reason; none silently becomes another method."""

import itertools
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch

import strategies
from bench.checks.in_memory import Checkpoints as Saved
from bench.train import run_group
from lethe.testing.made_lanes import assert_equal, new_batch, perturb, ready
from lethe.testing.plain_torch import lane_module, loss_among
from lethe.testing.toy_suites import blobs, outcome, sentences, toy_cell
from strategies.core import Batch, Strategy, mask, row_losses
from suites.base import Training

SOONER: dict[str, dict[str, Any]] = {
    "continual-backprop": {"rate": 0.05, "maturity": 2},
    "redo": {"every": 5, "tau": 0.5},
}
"""Hyper-parameters with which methods that act rarely do so within the toy's few steps."""
ALIKE = {("sparse-er", "mbpa++"): "both train alike; adapted predictions have the same labels on the toy"}
"""Pairs of methods that the toy cannot distinguish, and the reason."""
SCENARIOS = ("task", "domain", "class", "online")
EVERY = itertools.product(strategies.names(), SCENARIOS)
HIDDEN = Training(boundaries="hidden")
SUITABLE = [
    (n, scenario) for n, scenario in EVERY if strategies.get(n)().unsuitable(scenario, HIDDEN) is None
]


def cell(name: str, seed: int, scenario: str) -> Any:
    given = SOONER.get(name, {}) | ({} if strategies.get(name).tunes else {"epochs": 2})
    if "buffer" in [f.name for f in fields(strategies.get(name))]:
        given["buffer"] = 20  # a memory smaller than the task
    return toy_cell(name, seed, scenario, boundaries="hidden", **given)


@cache
def learned(name: str, scenario: str) -> tuple[str, str]:
    """Return a method's counts and losses on the toy."""
    (record,) = run_group([cell(name, 0, scenario)])
    return str(record["test"]["right"]), str(record["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_method_equals_another_where_boundaries_are_hidden(scenario: str) -> None:
    found: dict[tuple[Any, ...], str] = {}
    for name in [n for n, s in SUITABLE if s == scenario]:
        made = (strategies.get(name).tunes, *learned(name, scenario))
        if made[2] == "[0.0, 0.0]":
            continue  # it only counts, and no gradient method can be equal to it
        other = found.setdefault(made, name)
        assert other == name or (name, other) in ALIKE, f"{name} has the same results as {other}"
    assert len(found) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name for name, _ in SUITABLE}))
def test_a_resumed_run_equals_an_uninterrupted_one(name: str) -> None:
    scenario = next(s for n, s in SUITABLE if n == name)
    cells = [cell(name, seed, scenario) for seed in (0, 1)]
    data = sentences(4) if strategies.get(name).tunes else blobs(4)
    saved = Saved()
    whole = [outcome(r) for r in run_group(cells, checkpoints=saved, data=data)]
    assert [outcome(r) for r in run_group(cells, checkpoints=saved.at(1), data=data)] == whole


def hidden(name: str, **hyper: Any) -> Any:
    """Return a strategy with hidden boundaries after six rows of the first task."""
    strategy = ready(name, **hyper)
    strategy.streams.training = replace(strategy.streams.training, boundaries="hidden")
    strategy.setup()
    strategy.begin_task(0)
    return strategy


def test_agem_projects_as_soon_as_a_row_is_in_memory() -> None:
    strategy = hidden("agem")
    for task in (0, 1):
        batch = new_batch(strategy, task)
        strategy.model.zero_grad()
        strategy.loss(batch).sum().backward()
        before = [p.grad.clone() for p in strategy.model.parameters()]
        strategy.draws.begin(0)
        strategy.adjust_gradients()
        if task == 0:  # the memory is empty
            assert_equal((p.grad for p in strategy.model.parameters()), before)
        else:
            strategy.draws.begin(0)
            slots = strategy.memory.draw_slots("reference", 6)
            old = strategy.streams.batch(strategy.memory.rows_LM.gather(1, slots))
            for lane in range(3):
                net = lane_module(strategy, lane)
                loss = loss_among(list(range(4)), net(old.x_LBX[lane : lane + 1])[0], old.y_LB[lane])
                r = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
                g = torch.cat([g[lane].flatten() for g in before])
                now = torch.cat([p.grad[lane].flatten() for p in strategy.model.parameters()])
                expected = g - min(float(g @ r), 0) / (r @ r) * r
                torch.testing.assert_close(now, expected, rtol=1e-3, atol=1e-5)
        strategy.after_step(batch)
        perturb(strategy, seed=1, scale=0.3)


def new_loss(strategy: Strategy, batch: Batch) -> Any:
    """Return er-ace's loss on new rows: with an empty memory, the other part is 0."""
    return strategy.loss(batch).detach()


def test_er_ace_masks_seen_classes_that_are_absent_from_the_batch() -> None:
    """Caccia 2022's mask, row by row: active are classes of the batch and classes never seen so far."""
    strategy = hidden("er-ace")
    met: list[set[int]] = [set(), set(), set()]
    for task in (0, 1, 0):
        batch = new_batch(strategy, task)
        logits = strategy.model(batch.x_LBX).detach()
        expected = []
        for lane in range(3):
            present = set(batch.y_LB[lane].tolist())
            met[lane] |= present
            compete = [u for u in range(4) if u in present or u not in met[lane]]
            expected.append(loss_among(compete, logits[lane], batch.y_LB[lane]))
        torch.testing.assert_close(new_loss(strategy, batch), torch.stack(expected))
    all_compete = row_losses(mask(logits, batch.active_LBU), batch.y_LB).mean(1)
    assert (new_loss(strategy, batch) < all_compete).all()
