"""With hidden boundaries a method works, or is refused with a reason: none silently becomes another."""

import itertools
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch

import strategies
from bench.train import run_group
from strategies.core import Batch, Strategy, mask, row_losses
from suites.base import Training
from tests.conformance.test_strategies import Kept
from tests.conftest import outcome, toy_cell
from tests.methods import assert_equal, move, new_batch, ready
from tests.plain import lane_module, loss_among
from tests.toy import blobs, sentences

SOONER: dict[str, dict[str, Any]] = {
    "continual-backprop": {"rate": 0.05, "maturity": 2},
    "redo": {"every": 5, "tau": 0.5},
}
"""Methods that act seldom, made to act within the toy's few steps."""
ALIKE = {("sparse-er", "mbpa++"): "both train alike; answers are adapted, on the toy to the same labels"}
"""Pairs that the toy cannot distinguish, and why that is right."""
SCENARIOS = ("task", "domain", "class", "online")
EVERY = itertools.product(strategies.names(), SCENARIOS)
HIDDEN = Training(boundaries="hidden")
ABLE = [(n, scenario) for n, scenario in EVERY if strategies.get(n)().unsuitable(scenario, HIDDEN) is None]


def cell(name: str, seed: int, scenario: str) -> Any:
    given = SOONER.get(name, {}) | ({} if strategies.get(name).tunes else {"epochs": 2})
    if "buffer" in [f.name for f in fields(strategies.get(name))]:
        given["buffer"] = 20  # a memory that has to choose
    return toy_cell(name, seed, scenario, boundaries="hidden", **given)


@cache
def learned(name: str, scenario: str) -> tuple[str, str]:
    """Return what a method made of the toy."""
    (record,) = run_group([cell(name, 0, scenario)])
    return str(record["test"]["right"]), str(record["loss"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_method_is_another_one_where_boundaries_are_hidden(scenario: str) -> None:
    found: dict[tuple[Any, ...], str] = {}
    for name in [n for n, s in ABLE if s == scenario]:
        made = (strategies.get(name).tunes, *learned(name, scenario))
        if made[2] == "[0.0, 0.0]":
            continue  # only counts, and has every row of the toy right: no gradient method can be it
        other = found.setdefault(made, name)
        assert other == name or (name, other) in ALIKE, f"{name} is {other} under another name"
    assert len(found) > 5


@pytest.mark.parametrize("name", sorted({name for name, _ in ABLE}))
def test_resume_equals_going_straight_through(name: str) -> None:
    scenario = next(s for n, s in ABLE if n == name)
    cells = [cell(name, seed, scenario) for seed in (0, 1)]
    data = sentences(4) if strategies.get(name).tunes else blobs(4)
    kept, again = Kept(), Kept()
    straight = [outcome(r) for r in run_group(cells, checkpoints=kept, data=data)]
    again.current = kept.after[1]
    assert [outcome(r) for r in run_group(cells, checkpoints=again, data=data)] == straight


def hidden(name: str, **hyper: Any) -> Any:
    """Return a strategy that was never told of a task, and saw six rows of the first."""
    strategy = ready(name, **hyper)
    strategy.streams.training = replace(strategy.streams.training, boundaries="hidden")
    strategy.setup()
    strategy.begin_task(0)
    return strategy


def test_agem_projects_from_the_first_remembered_row_on() -> None:
    strategy = hidden("agem")
    for task in (0, 1):
        batch = new_batch(strategy, task)
        strategy.model.zero_grad()
        strategy.loss(batch).sum().backward()
        before = [p.grad.clone() for p in strategy.model.parameters()]
        strategy.draws.begin(0)
        strategy.adjust_gradients()
        if task == 0:  # nothing is remembered yet
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
        move(strategy, seed=1, scale=0.3)


def new_loss(strategy: Strategy, batch: Batch) -> Any:
    """Return er-ace's loss of new rows: the memory is empty, so its own part is 0."""
    return strategy.loss(batch).detach()


def test_er_ace_spares_classes_met_before_and_absent_from_the_batch() -> None:
    """Caccia 2022's mask, row by row: a batch's classes compete, and those never met so far."""
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
