"""How much a method's own term acted: its record, and that measuring it changes nothing."""

from typing import Any

import pytest
import torch

from bench.train import loop, run_group
from lethe.testing import Checkpoints, begin, new_batch, outcome, ready, toy_cell, train_on
from strategies.core import OwnTerm, gradients, is_measured


def norms(parts: Any) -> torch.Tensor:
    """Return each lane's Euclidean norm over all tensors."""
    return torch.cat([t.flatten(1) for t in parts], 1).norm(dim=1)


@pytest.mark.parametrize("name", ["lwf", "lwf[balance=tasks]", "ewc", "si", "l2-init", "ewc+lwf", "ewc+er"])
def test_the_ratio_is_that_of_a_step_with_the_term_to_one_without(name: str) -> None:
    """Computed another way: two whole steps, one with strength 0."""
    name, _, options = name.partition("[")
    found, of_steps = None, []
    for strength in (1.0, 0.0):
        chosen = {"balance": "tasks"} if options else {}
        strategy = ready(name, **chosen)
        train_on(strategy, 0, steps=3)
        for part in getattr(strategy, "parts", [strategy]):
            for lam in {"lam", "c"} & set(part.lane_fields()):
                getattr(part, lam).mul_(strength if part.name == "lwf" else 300 * strength)
        begin(strategy, 1)
        with torch.no_grad():
            for p in strategy.model.parameters():
                p.mul_(1.1)  # away from the parameters after the first task, or a penalty is 0
        if options and not strength:
            strategy.extra_loss = lambda batch, raw_LBU: None
        strategy.model.zero_grad()
        own = OwnTerm(3, torch.device("cpu"))
        strategy.context.own_term = own if strength else None
        strategy.learn(new_batch(strategy, 1))
        of_steps.append([g.clone() for g in gradients(strategy.model)])
        found = found or own.read()
    term = [a - b for a, b in zip(*of_steps, strict=True)]
    expected = norms(term) / norms(of_steps[1])
    assert (expected > 1e-3).all()
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-3, atol=1e-6)


def test_measured_steps_are_powers_of_four() -> None:
    assert [n + 1 for n in range(5000) if is_measured(n)] == [4, 16, 64, 256, 1024, 4096]


@pytest.mark.parametrize(
    "name", ["lwf", "ewc", "si", "l2-init", "ewc+lwf", "finetune", "agem", "er", "hat", "scr"]
)
def test_measuring_changes_no_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step, no step, alone, with others, and continued from a checkpoint."""
    saved, scenario = Checkpoints(), "task" if name == "hat" else "class"
    cells = [toy_cell(name, seed, scenario, epochs=1) for seed in range(2)]
    records = run_group(cells, checkpoints=saved)
    assert ("own_term" in records[0]) == (name not in ("finetune", "agem", "er", "hat", "scr"))
    for again in (run_group(cells[1:])[0], run_group(cells, checkpoints=saved.at(1))[1]):
        assert (outcome(again), again.get("own_term")) == (outcome(records[1]), records[1].get("own_term"))
    for every in (True, False):
        monkeypatch.setattr(loop, "is_measured", lambda number, every=every: every)
        again = run_group(cells)
        assert [outcome(r) for r in again] == [outcome(r) for r in records]
        assert ("own_term" in again[0]) == ("own_term" in records[0] and every)


def test_resting_lanes_add_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of the toy suite end a task at different steps; every step is measured."""
    monkeypatch.setattr(loop, "is_measured", lambda number: True)
    cells = [toy_cell("ewc", seed, epochs=1) for seed in range(3)]
    alone = [run_group([cell])[0]["own_term"] for cell in cells]
    assert [r["own_term"] for r in run_group(cells)] == alone
    assert all(shares[0] == 0 < shares[1] for shares in alone)
