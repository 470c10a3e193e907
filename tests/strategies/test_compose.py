"""Sums of methods: each part's term once, and a reason where the parts cannot be added."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

import strategies
from bench.plan import Request
from lethe.testing import begin, new_batch, perturb, ready
from strategies import split
from strategies.core import Strategy
from suites.base import Training
from tests.conftest import refused


def gradient_of(strategy: Strategy) -> list[Tensor]:
    strategy.model.zero_grad()
    strategy.loss(new_batch(strategy, 1)).sum().backward()
    strategy.adjust_gradients()
    return [p.grad.clone() for p in strategy.model.parameters()]


def after_a_task(name: str, **hyper: Any) -> Strategy:
    """Return a strategy in its second task, after one batch in memory, one ended task and changed weights."""
    strategy = ready(name, **hyper)
    begin(strategy, 0)
    first = new_batch(strategy, 0)
    strategy.loss(first)
    strategy.after_step(first)
    strategy.end_task(0)
    begin(strategy, 1)
    perturb(strategy)
    return strategy


@pytest.mark.parametrize("parts", [("er", "lwf"), ("lwf", "er"), ("ewc", "er"), ("er", "lwf", "ewc")])
def test_the_gradient_of_a_sum_has_each_part_s_term_and_the_new_rows_once(parts: tuple[str, ...]) -> None:
    """grad(a + b) = grad(a) + grad(b) - grad(finetune), because each part has the loss on new rows."""
    hyper: dict[str, dict[str, Any]] = {"er": {"balance": "sum"}, "lwf": {}, "ewc": {"lam": 3.0}}
    own = {f"{p}_{k}": v for p in parts for k, v in hyper[p].items()}
    ours = gradient_of(after_a_task("+".join(parts), **own))
    alone = [gradient_of(after_a_task(p, **hyper[p])) for p in parts]
    plain = gradient_of(after_a_task("finetune"))
    for g, base, *terms in zip(ours, plain, *alone, strict=True):
        torch.testing.assert_close(g, sum(terms, -len(terms) * base) + base, rtol=1e-4, atol=1e-6)


def test_one_part_may_weight_new_rows_differently() -> None:
    whole, er, lwf = (after_a_task(n) for n in ("er+lwf", "er", "lwf"))
    batch = new_batch(whole, 1)
    extra = lwf.extra_loss(batch, lwf.model(batch.x_LBX))
    assert extra is not None
    torch.testing.assert_close(whole.loss(batch), er.loss(batch) + extra)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("er+er-ace", "their losses do not add: balance=concatenated of er"),
        ("joint+er", "joint decides what is trained on"),
        ("ewc+er-ace+er", "their losses do not add"),
    ],
)
def test_sums_that_cannot_be_added_are_refused_with_a_reason(name: str, says: str) -> None:
    assert says in str(strategies.get(name)().unsuitable("class", Training()))


def test_a_sum_has_each_method_only_once() -> None:
    refused("only once", strategies.get, "er+er")


def test_a_sum_is_suitable_where_all_its_parts_are() -> None:
    both = strategies.get("ewc+er-ace")()
    assert "no task-incremental form" in str(both.unsuitable("task", Training()))
    assert "needs to know where tasks begin" in str(both.unsuitable("class", Training(boundaries="hidden")))


def test_a_selector_is_split_at_plus_signs_between_methods() -> None:
    parts = [["er[buffer=200]", "lwf"], ["der++", "ewc[lam=1e9]"], ["ewc", "der++"], ["der++"], ["er+"]]
    assert [split("+".join(of)) for of in parts] == parts


def test_each_part_has_its_own_brackets() -> None:
    cell = Request("toy", ("er[lr=0.02,buffer=7]+lwf[lam=2,hidden=9]",)).cells()[0]
    assert cell.identity == "er[buffer=7,hidden=9,lr=0.02]+lwf[lam=2]"
    assert (cell.hyper["er_buffer"], cell.hyper["lwf_lam"], cell.hyper["er_lam"]) == (7, 2.0, 1.0)
    assert (cell.training["lr"], cell.model_options["hidden"]) == (0.02, 9)
    assert Request("toy", (cell.identity,)).cells()[0] == cell
    assert set(cell.hyper) == set(asdict(strategies.get("er+lwf")()))
