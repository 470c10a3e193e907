"""Methods that maintain plasticity, against plain loops over lanes and units."""

from typing import Any

import pytest
import torch

from bench.train import run_group
from lethe.testing.made_lanes import SEEDS, assert_equal, new_batch, perturb, ready, snapshot
from lethe.testing.plain_torch import features_of, lane_value
from lethe.testing.toy_suites import outcome, toy_cell
from strategies.core import Draws, Unsuitable, hashed_uniform, make_optimiser
from suites.base import generator


def test_l2_init_pulls_towards_the_initial_parameters_from_the_first_step() -> None:
    strategy = ready("l2-init", lam=0.3)
    initial = snapshot(strategy)
    strategy.begin_task(0)
    perturb(strategy)
    strategy.model.zero_grad()
    strategy.adjust_gradients()
    for p, start in zip(strategy.model.parameters(), initial, strict=True):
        lam = strategy.lam.view(-1, *[1] * (p.dim() - 1))
        expected = torch.autograd.grad((lam * (p - start).square()).sum(), p)[0]
        torch.testing.assert_close(p.grad, expected)


@pytest.mark.parametrize("noise", ["normal", "initial"])
def test_shrink_perturb_acts_at_the_start_of_every_task_except_the_first(noise: str) -> None:
    strategy = ready("shrink-perturb", shrink=0.4, perturb=0.2, noise=noise)
    initial = snapshot(strategy)
    strategy.begin_task(0)
    assert_equal(strategy.model.parameters(), initial)
    perturb(strategy)
    before = snapshot(strategy)
    strategy.begin_task(1)
    for lane, seed in enumerate(SEEDS):
        random = generator(seed, "perturb/1")
        for p, b, start in zip(strategy.model.parameters(), before, initial, strict=True):
            if noise == "normal":
                n = torch.randn(b[lane].shape, generator=random)
            else:
                n = start[lane].flatten()[torch.randperm(b[lane].numel(), generator=random)].view_as(b[lane])
            expected = lane_value(strategy.shrink, lane) * b[lane] + lane_value(strategy.perturb, lane) * n
            torch.testing.assert_close(p.detach()[lane], expected)


def with_adam(name: str, **hyper: Any) -> Any:
    """Return a strategy whose optimiser has moments."""
    strategy = ready(name, **hyper)
    strategy.optimiser = make_optimiser("adam", list(strategy.model.parameters()), len(SEEDS), 0.01)
    strategy.setup()
    return strategy


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_continual_backprop_replaces_the_least_useful_mature_unit(variant: str) -> None:
    """Lane by lane and unit by unit; lane 1 rests at every third step."""
    strategy = with_adam("continual-backprop", rate=0.08, maturity=2, decay=0.4, variant=variant)
    draws = Draws(SEEDS, "cpu")
    utility, output, age = (torch.zeros(3, 7) for _ in range(3))
    due, replaced = torch.zeros(3), 0
    for step in range(12):
        batch = new_batch(strategy, step % 2, 4)
        active = (True, step % 3 > 0, True)
        batch.weight_LB = torch.tensor(active).float().unsqueeze(1).expand(3, 4).clone()
        batch.weight_LB[:, 3] = 0
        strategy.context.active = active
        activity = [features_of(strategy, lane, batch.x_LBX[lane, :3]).mean(0).detach() for lane in range(3)]
        strategy.model.zero_grad()
        strategy.learn(batch)
        p = {k: v.detach().clone() for k, v in strategy.model.named_parameters()}
        moments = [[m.clone() for m in ms] for ms in strategy.optimiser.moments]
        new_LI = draws.uniform("incoming 0", 64)
        strategy.after_step(batch)
        for lane in range(3):
            if not active[lane]:
                continue
            decay = lane_value(strategy.decay, lane)
            age[lane] += 1
            out = p["head.weight"][lane].abs().sum(1)
            utility[lane] = decay * utility[lane] + (1 - decay) * activity[lane] * out
            output[lane] = decay * output[lane] + (1 - decay) * activity[lane]
            mature = [u for u in range(7) if age[lane, u] > 2]
            due[lane] += lane_value(strategy.rate, lane) * len(mature)
            if due[lane] < 1 or not mature:
                continue
            due[lane] -= 1
            replaced += 1
            start = [1 - decay ** float(age[lane, u]) if variant == "code" else 1 for u in range(7)]
            unit = min(mature, key=lambda u: float(utility[lane, u]) / start[u])
            if variant == "code":
                mean = output[lane, unit] / start[unit]
                p["head.bias"][lane] += mean * p["head.weight"][lane, unit]
            for of in (p, *(dict(zip(p, ms, strict=True)) for ms in moments)):
                of["layers.0.weight"][lane, :, unit] = 0
                of["layers.0.bias"][lane, unit] = 0
                of["head.weight"][lane, unit] = 0
            p["layers.0.weight"][lane, :, unit] = ((2 * new_LI[lane] - 1) / 8).float()
            utility[lane, unit] = output[lane, unit] = age[lane, unit] = 0
        torch.testing.assert_close(snapshot(strategy), list(p.values()))
        for theirs, own in zip(moments, strategy.optimiser.moments, strict=True):
            assert_equal(theirs, own)
        torch.testing.assert_close(strategy.age[0], age)
    assert replaced > 5
    assert float(strategy.notes()["renewed"].sum()) == replaced


def test_redo_recycles_dormant_units_at_each_lanes_own_count() -> None:
    strategy = with_adam("redo", tau=0.4, every=2)
    for step in range(4):
        active = (True, step > 0, True)  # lane 1 is one step behind
        batch = new_batch(strategy, 0, 4)
        batch.weight_LB = torch.tensor(active).float().unsqueeze(1).expand(3, 4)
        strategy.context.active = active
        strategy.model.zero_grad()
        activity = [features_of(strategy, lane, batch.x_LBX[lane]).mean(0).detach() for lane in range(3)]
        strategy.learn(batch)
        p = {k: v.detach().clone() for k, v in strategy.model.named_parameters()}
        counts = list(strategy.optimiser.steps)
        key_L = Draws(SEEDS, "cpu")
        for _ in range(step):
            key_L.uniform("recycle", 1)
        new_LIH = 2 * hashed_uniform(key_L.uniform("recycle", 1)[:, 0], "layer 0", 64 * 7).view(3, 7, 64) - 1
        strategy.after_step(batch)
        assert counts == [step + 1, step, step + 1]
        for lane in range(3):
            score = activity[lane] / activity[lane].mean()
            dormant = score <= lane_value(strategy.tau, lane)
            if active[lane] and counts[lane] % 2 == 0:
                p["layers.0.weight"][lane][:, dormant] = (new_LIH[lane, dormant].T / 8).float()
                p["layers.0.bias"][lane][dormant] = 0
                p["head.weight"][lane][dormant] = 0
                moments = strategy.optimiser.moments
                assert all(bool((m[0][lane][:, dormant] == 0).all()) for m in moments)
        torch.testing.assert_close(snapshot(strategy), list(p.values()))
    assert bool((strategy.notes()["renewed"] > 0).any())


def test_hashed_draws_are_uniform_and_depend_only_on_the_key() -> None:
    key_L = Draws([1, 2, 3], "cpu").uniform("a", 1)[:, 0]
    draws = hashed_uniform(key_L, "x", 4000)
    assert torch.equal(draws[1:2], hashed_uniform(key_L[1:2], "x", 4000))
    assert len(draws.flatten().unique()) == 12000
    assert abs(float(draws.mean()) - 0.5) < 0.01
    assert abs(float(draws.var()) - 1 / 12) < 0.003
    assert not torch.equal(draws, hashed_uniform(key_L, "y", 4000))


@pytest.mark.parametrize("name", ["continual-backprop", "redo"])
def test_replacing_units_needs_a_chain_of_dense_layers(name: str) -> None:
    with pytest.raises(Unsuitable, match="chain of dense layers"):
        ready(name, model="cnn", options={"width": 2, "hidden": 4})


OFTEN: dict[str, Any] = {
    "continual-backprop": {"rate": 0.01, "maturity": 3},
    "redo": {"tau": 0.3, "every": 7},
}


@pytest.mark.parametrize("name", OFTEN)
@pytest.mark.parametrize("boundaries", ["shown", "hidden"])
def test_replacing_units_is_lane_invariant(name: str, boundaries: str) -> None:
    """With defaults, the short runs of the conformance tests replace no units."""
    cells = [toy_cell(name, seed, boundaries=boundaries, **OFTEN[name]) for seed in range(3)]
    for cell, record in zip(cells, run_group(cells), strict=True):
        assert record["notes"]["renewed"] > 0
        assert outcome(record) == outcome(run_group([cell])[0])
