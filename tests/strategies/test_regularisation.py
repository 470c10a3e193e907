"""Penalties and stored features, against plain calculations of the papers' formulas."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
from bench.plan import Request
from lethe.testing.made_lanes import assert_equal, begin, new_batch, perturb, ready, snapshot, train_on
from lethe.testing.plain_torch import features_of, lane_module, lane_value, logits_of
from strategies.core import Strategy, per_lane
from suites.base import Training


def pull(strategy: Strategy) -> list[Tensor]:
    """Return the gradient of the penalty alone."""
    strategy.model.zero_grad()
    strategy.adjust_gradients()
    return [p.grad.clone() for p in strategy.model.parameters()]


def after(strategy: Strategy, tasks: int) -> list[list[Tensor]]:
    """Go through tasks with random changes instead of steps; return the parameters after each."""
    ends = []
    for task in range(tasks):
        begin(strategy, task)
        perturb(strategy, task)
        strategy.end_task(task)
        ends.append(snapshot(strategy))
    begin(strategy, tasks)
    perturb(strategy, 9)
    return ends


@pytest.mark.parametrize("centre_at", ["last", "each"])
def test_l2_pulls_towards_the_last_task_or_each_earlier_one(centre_at: str) -> None:
    strategy = ready("l2", lam=0.3, centre_at=centre_at)
    ends = after(strategy, 2)
    centres = ends[-1:] if centre_at == "last" else ends
    for p, g, *at in zip(strategy.model.parameters(), pull(strategy), *centres, strict=True):
        lam = per_lane(strategy.lam, p)
        penalty: Any = sum((lam / 2 * (p - c).square()).sum() for c in at)
        torch.testing.assert_close(g, torch.autograd.grad(penalty, p)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ["exact", "batched"])
def test_mas_sums_mean_absolute_gradients_over_tasks(estimator: str) -> None:
    strategy = ready("mas", lam=0.3, estimator=estimator, estimator_batch=8)
    ends = after(strategy, 2)
    omega = [torch.zeros_like(p) for p in strategy.model.parameters()]
    for task, end in enumerate(ends):
        for lane, stream in enumerate(strategy.streams.streams):
            net = lane_module(strategy, lane)
            for p, e in zip(net.parameters(), end, strict=True):
                p.data.copy_(e[lane : lane + 1])
            rows = stream.tasks[task].train_rows
            x = strategy.streams.batch(rows.expand(3, -1)).x_LBX[:1]
            for part in x.split(1 if estimator == "exact" else 8, 1):
                norm = net(part).square().sum()
                for o, g in zip(omega, torch.autograd.grad(norm, list(net.parameters())), strict=True):
                    o[lane] += g[0].abs() / len(rows)
    torch.testing.assert_close(strategy.importance, omega, rtol=1e-4, atol=1e-6)
    for p, g, o, c in zip(strategy.model.parameters(), pull(strategy), omega, ends[-1], strict=True):
        penalty = (per_lane(strategy.lam, p) * o * (p - c).square()).sum()
        torch.testing.assert_close(g, torch.autograd.grad(penalty, p)[0], rtol=1e-4, atol=1e-6)


def test_rwalk_equals_the_paper_s_moving_fisher_and_path_scores() -> None:
    """Lane by lane by the paper's algorithm; lane 2 rests at the last step of each task."""
    strategy = ready("rwalk", lam=0.4, alpha=0.3, stretch=2, xi=0.01)
    parameters, steps = list(strategy.model.parameters()), [5, 5, 4]
    fisher, score, held = ([torch.zeros_like(p) for p in parameters] for _ in range(3))
    centre = snapshot(strategy)
    for task in range(2):
        begin(strategy, task)
        new, gain = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        start = snapshot(strategy)
        for step in range(5):
            batch = new_batch(strategy, task, 4)
            batch.weight_LB = torch.ones(3, 4)
            batch.weight_LB[:, 3] = 0
            resting = [lane for lane in range(3) if step >= steps[lane]]
            batch.weight_LB[resting] = 0
            strategy.model.zero_grad()
            loss_L = strategy.loss(batch)
            alone = torch.autograd.grad(loss_L.sum(), parameters, retain_graph=True)
            loss_L.sum().backward()
            strategy.adjust_gradients()
            for p, g, f, c in zip(parameters, alone, held, centre, strict=True):
                whole = g + 2 * per_lane(strategy.lam, p) * f * (p.detach() - c)
                torch.testing.assert_close(p.grad, whole, rtol=1e-4, atol=1e-5)
            for lane in set(range(3)) - set(resting):
                alpha, xi = lane_value(strategy.alpha, lane), lane_value(strategy.xi, lane)
                for i, p in enumerate(parameters):
                    movement = -0.2 * p.grad[lane]
                    p.data[lane] += movement
                    fisher[i][lane] = alpha * alone[i][lane] ** 2 + (1 - alpha) * fisher[i][lane]
                    gain[i][lane] -= alone[i][lane] * movement
                    if step % 2 == 1 or step + 1 == steps[lane]:
                        way = p.data[lane] - start[i][lane]
                        new[i][lane] += gain[i][lane].clamp(min=0) / (0.5 * fisher[i][lane] * way**2 + xi)
                        gain[i][lane] = 0
                        start[i][lane] = p.data[lane]
            strategy.after_step(batch)
        strategy.end_task(task)
        score = [n if task == 0 else (s + n) / 2 for s, n in zip(score, new, strict=True)]
        for lane in range(3):
            most_f, most_s = (max(float(t[lane].max()) for t in of) for of in (fisher, score))
            for h, f, s in zip(held, fisher, score, strict=True):
                h[lane] = f[lane] / most_f + s[lane] / most_s
        centre = snapshot(strategy)
        torch.testing.assert_close(strategy.importance, held, rtol=1e-3, atol=1e-5)


def test_lfl_penalises_changed_features_and_freezes_the_head() -> None:
    strategy = ready("lfl", "domain", lam=0.3)
    first = new_batch(strategy)
    assert torch.equal(strategy.loss(first), ready("finetune", "domain").loss(first))
    batch = new_batch(strategy, 1)
    kept = [features_of(strategy, lane, batch.x_LBX[lane]).detach() for lane in range(3)]
    train_on(strategy, 0, steps=0)
    head = [p.detach().clone() for p in strategy.model.head.parameters()]
    perturb(strategy)
    strategy.task = 1
    strategy.after_step(batch)
    assert_equal(strategy.model.head.parameters(), head)
    ours = strategy.loss(batch)
    for lane in range(3):
        new = F.cross_entropy(logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane])
        away = (features_of(strategy, lane, batch.x_LBX[lane]) - kept[lane]).square().sum(1).mean() / 2
        torch.testing.assert_close(ours[lane], new + lane_value(strategy.lam, lane) * away)


def test_lfl_with_a_free_head_is_suitable_for_every_scenario() -> None:
    assert "head=free" in str(strategies.get("lfl")().unsuitable("class", Training()))
    free = strategies.get("lfl")(head="free")
    assert all(free.unsuitable(s, Training()) is None for s in ("task", "domain", "class", "online"))
    assert "begin and end" in str(free.unsuitable("class", Training(boundaries="hidden")))


def test_si_s_preset_equals_van_de_ven_s_code() -> None:
    """Omega adds W / (change^2 + 0.1), also if negative; W uses the gradient of loss and penalty."""
    (cell,) = Request("digits", ("si[preset=vandeven2022]",), ("class",), (0,)).cells()
    assert cell.hyper == {"c": 5e3, "xi": 0.1, "path": "total", "negative": True}
