"""MER, La-MAML and OML against single models: a plain loop, and autograd through an unrolled network."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bench.plan import Request
from lethe.testing import lane_value, logits_of, new_batch, ready
from strategies.core import Batch, Strategy

LANES = range(3)
RATES = [0.1, 0.3, 0.02]


def leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()


def of_lane(strategy: Strategy, lane: int) -> dict[str, Tensor]:
    """Return one lane's parameters as leaves of their own graph."""
    return {k: leaf(p[lane]) for k, p in strategy.model.named_parameters()}


def loss_of(p: dict[str, Tensor], batch: Batch, lane: int, rows: slice = slice(None)) -> Tensor:
    """Return the loss of one lane's rows with plain functions of torch."""
    h = torch.relu(F.linear(batch.x_LBX[lane, rows].flatten(1), p["layers.0.weight"].T, p["layers.0.bias"]))
    return F.cross_entropy(F.linear(h, p["head.weight"].T, p["head.bias"]), batch.y_LB[lane, rows])


def remembered(strategy: Strategy) -> list[Batch]:
    """Return a list to which every batch read from the memory is added."""
    memory, kept = strategy.memory, []
    read = memory.read
    memory.read = lambda slots, like, **how: kept.append(read(slots, like, **how)) or kept[-1]
    return kept


def prepared(name: str, **hyper: Any) -> tuple[Strategy, list[Batch], Batch]:
    """Return a strategy whose lanes learn at three rates, with rows of a first task in its memory."""
    strategy = ready(name, **hyper)
    strategy.optimiser.lr = list(RATES)
    if name == "la-maml":  # its rates start at the lanes' learning rates
        strategy.setup()
    strategy.after_step(new_batch(strategy, 0, 20))
    strategy.task = 1
    return strategy, remembered(strategy), new_batch(strategy, 1, 7)


@pytest.mark.parametrize("place", ["first", "last"])
def test_mer_equals_a_plain_loop_of_steps_and_interpolations(place: str) -> None:
    strategy, old, batch = prepared("mer", batches=3, steps=2, rows=4, beta=0.4, gamma=0.45, place=place)
    start = [of_lane(strategy, lane) for lane in LANES]
    strategy.learn(batch)
    assert len(old) == 3 * 2
    for lane in LANES:
        beta, gamma = lane_value(strategy.beta, lane), lane_value(strategy.gamma, lane)
        p = start[lane]
        for i in range(3):
            before = p
            path = [batch, *old[2 * i : 2 * i + 2]] if place == "first" else [*old[2 * i : 2 * i + 2], batch]
            for rows in path:
                grads = torch.autograd.grad(loss_of(p, rows, lane), list(p.values()))
                p = {k: leaf(p[k] - RATES[lane] * g) for k, g in zip(p, grads, strict=True)}
            p = {k: leaf(before[k] + beta * (p[k] - before[k])) for k in p}
        for k, now in strategy.model.named_parameters():
            expected = start[lane][k] + gamma * (p[k] - start[lane][k])
            torch.testing.assert_close(now[lane], expected.detach(), rtol=1e-4, atol=1e-6)


def test_mer_s_published_recipe_takes_one_row_a_step() -> None:
    cell = Request("toy", ("mer[preset=riemer2019]",)).cells()[0]
    assert (cell.training["batch"], cell.training["optimiser"]) == (1, "sgd")
    assert (cell.hyper["batches"], cell.hyper["steps"], cell.hyper["beta"]) == (10, 25, 0.03)


def unrolled(
    p: dict[str, Tensor], rates: dict[str, Tensor], batch: Batch, old: Batch, lane: int,
    order: str, outer: str, pieces: list[slice], uphill: bool = True,
) -> Tensor:  # fmt: skip
    """Return the loss on new and old rows after the quick steps, as one autograd graph."""
    fast, losses = dict(p), []
    for piece in pieces:
        names = list(rates)
        loss = loss_of(fast, batch, lane, piece)
        grads = torch.autograd.grad(loss, [fast[k] for k in names], create_graph=True)
        if order == "first":
            grads = tuple(g.detach() for g in grads)
        taken = rates if uphill else {k: rate.clamp(min=0) for k, rate in rates.items()}
        fast = fast | {k: fast[k] - taken[k] * g for k, g in zip(names, grads, strict=True)}
        both = loss_of(fast, batch, lane) * batch.y_LB.shape[1] + loss_of(fast, old, lane) * old.y_LB.shape[1]
        losses.append(both / (batch.y_LB.shape[1] + old.y_LB.shape[1]))
    return torch.stack(losses).mean() if outer == "mean" else losses[-1]


THREE = [slice(0, 2), slice(2, 4), slice(4, 7)]
EACH = [slice(i, i + 1) for i in range(7)]


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize(("outer", "uphill"), [("last", False), ("mean", True)])
@pytest.mark.parametrize(("inner", "pieces"), [(3, THREE), (0, EACH)])
def test_the_meta_gradient_equals_autograd_of_the_unrolled_network(
    order: str, outer: str, uphill: bool, inner: int, pieces: list[slice]
) -> None:
    """Tested at the second step, when rates already differ."""
    chosen = {"order": order, "outer": outer, "inner": inner, "uphill": uphill}
    strategy, old, batch = prepared("la-maml", **chosen, batch=5, eta=2.0, clip=0.8)
    names = [k for k, _ in strategy.model.named_parameters()]
    state = [of_lane(strategy, lane) for lane in LANES]
    rates = [{k: torch.full_like(p, RATES[lane]) for k, p in state[lane].items()} for lane in LANES]
    # Some rates have become negative.
    strategy.rates[names.index("head.bias")].fill_(-0.05)
    for lane in LANES:
        rates[lane]["head.bias"].fill_(-0.05)
    for step in range(2):
        strategy.learn(batch)
        for lane in LANES:
            eta, clip = lane_value(strategy.eta, lane), lane_value(strategy.clip, lane)
            a = {k: leaf(r) for k, r in rates[lane].items()}
            loss = unrolled(state[lane], a, batch, old[step], lane, order, outer, pieces, uphill)
            found = torch.autograd.grad(loss, [*state[lane].values(), *a.values()])
            halves = []
            for half in (found[: len(names)], found[len(names) :]):
                norm = torch.cat([g.flatten() for g in half]).norm()
                halves.append([g * min(1.0, clip / float(norm)) for g in half])
            rates[lane] = {k: a[k].detach() - eta * h for k, h in zip(names, halves[1], strict=True)}
            moves = {k: rates[lane][k].clamp(min=0) * g for k, g in zip(names, halves[0], strict=True)}
            state[lane] = {k: leaf(p - moves[k]) for k, p in state[lane].items()}
            ours = [t[lane] for t in (*strategy.model.parameters(), *strategy.rates)]
            theirs = [*state[lane].values(), *rates[lane].values()]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "hyper"), [("mer", {"beta": 0.3, "gamma": 0.3}), ("la-maml", {})])
def test_a_resting_lane_does_not_change(name: str, hyper: dict[str, float]) -> None:
    strategy, _, batch = prepared(name, **hyper)
    strategy.optimiser.weight_decay = [0.1] * 3
    strategy.setup()  # la-maml reads the weight decay from it
    batch.weight_LB = torch.ones(3, 7)
    batch.weight_LB[1] = 0
    strategy.context.active = (True, False, True)
    saved = [*strategy.model_tensors(), *getattr(strategy, "rates", [])]
    before = [t.clone() for t in saved]
    strategy.learn(batch)
    for b, t in zip(before, saved, strict=True):
        assert torch.equal(b[1], t[1])
        assert not torch.equal(b[0], t[0])


@pytest.mark.parametrize("order", ["first", "second"])
def test_oml_adapts_the_head_and_updates_all_parameters_by_the_adapted_loss(order: str) -> None:
    strategy, old, batch = prepared("oml", order=order, inner=3, batch=5, alpha=0.2)
    strategy.model.zero_grad()
    strategy.loss(batch).sum().backward()
    for lane in LANES:
        p = of_lane(strategy, lane)
        alpha = torch.tensor(lane_value(strategy.alpha, lane))
        rates = dict.fromkeys(("head.weight", "head.bias"), alpha)
        loss = unrolled(p, rates, batch, old[0], lane, order, "last", THREE)
        expected = torch.autograd.grad(loss, list(p.values()))
        ours = [p.grad[lane] for p in strategy.model.parameters()]
        torch.testing.assert_close(ours, [*expected], rtol=1e-4, atol=1e-6)
    x = batch.x_LBX[0]
    torch.testing.assert_close(
        logits_of(strategy, 0, x), strategy.model(batch.x_LBX)[0]
    )  # the parameters themselves have not changed


def test_la_maml_s_mean_is_over_the_quick_steps_that_were_taken() -> None:
    """A lane with three real rows of seven takes a step for each; the other four are not in the mean."""
    strategy, old, batch = prepared("la-maml", outer="mean", inner=0, batch=5)
    parameters = dict(strategy.model.named_parameters())
    rates = {k: torch.full_like(p, 0.05) for k, p in parameters.items()}
    weight_LB = torch.ones(3, 7)
    weight_LB[1, 3:] = 0
    padded = replace(batch, weight_LB=weight_LB, ones_LB=None)
    ours = strategy.look_ahead(padded, rates).detach()
    three = batch.split(3)[0]
    p = of_lane(strategy, 1)
    own = {k: torch.full_like(v, 0.05) for k, v in p.items()}
    pieces = [slice(i, i + 1) for i in range(3)]
    expected = unrolled(p, own, three, old[0], 1, "first", "mean", pieces)
    torch.testing.assert_close(ours[1], expected.detach(), rtol=1e-5, atol=1e-6)
