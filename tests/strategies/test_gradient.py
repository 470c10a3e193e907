"""GEM, OGD and GPM against direct calculations; A-GEM is tested in test_mathematics."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lethe.testing.made_lanes import begin, new_batch, perturb, ready, snapshot
from lethe.testing.plain_torch import lane_module, logits_of, loss_among
from strategies.core import Batch, Momentum, Strategy, Unsuitable
from strategies.gradient.gem import multipliers, project
from strategies.gradient.gpm import inputs_of
from strategies.parts import inputs_during

SLSQP: Any = {"method": "SLSQP", "options": {"ftol": 1e-14, "maxiter": 500}}


def gradient_LP(strategy: Strategy) -> Tensor:
    return torch.cat([p.grad.flatten(1) for p in strategy.model.parameters()], 1).clone()


def random_problem(seed: int, tasks: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    g = random.normal(size=size)
    return g, random.normal(size=(tasks, size)) - 0.5 * g


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_gem_finds_the_nearest_gradient_that_violates_no_constraint(tasks: int, seed: int) -> None:
    g, past = random_problem(seed, tasks)
    kept = {"type": "ineq", "fun": lambda z: past @ z, "jac": lambda z: past}
    found = minimize(
        lambda z: ((z - g) ** 2).sum() / 2, 0 * g, jac=lambda z: z - g, constraints=kept, **SLSQP
    )
    lanes = torch.from_numpy(g)[None], torch.from_numpy(past)[None], torch.zeros(1, dtype=torch.float64)
    ours = project(*lanes, True)[0].numpy()
    assert (past @ g < 0).any()
    assert (past @ ours >= -1e-9).all()
    np.testing.assert_allclose(ours, found.x, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gem_s_memory_strength_bounds_the_multipliers_or_is_added(seed: int) -> None:
    g, past = random_problem(seed, 3)
    gram, inner = past @ past.T, past @ g

    def dual(least: float) -> np.ndarray:
        given: Any = {"jac": lambda v: gram @ v + inner, "bounds": [(least, None)] * 3} | SLSQP
        return minimize(lambda v: v @ gram @ v / 2 + inner @ v, np.full(3, least + 1), **given).x

    np.testing.assert_allclose(multipliers(gram, inner, 0.5, bound=True), dual(0.5), atol=1e-5)
    np.testing.assert_allclose(multipliers(gram, inner, 0.5, bound=False), dual(0.0) + 0.5, atol=1e-5)


def test_gem_does_not_change_a_gradient_without_violations_or_a_diverged_lane() -> None:
    assert (multipliers(np.eye(2), np.array([0.1, 0.0]), 0.5, bound=True) == 0).all()
    assert (multipliers(np.eye(2), np.array([np.nan, -1.0]), 0.5, bound=True) == 0).all()
    # Two equal gradients, and one that is zero.
    past = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    v = multipliers(past @ past.T, past @ np.array([-2.0, 1.0]), 0.0, bound=True)
    np.testing.assert_allclose(np.array([-2.0, 1.0]) + v @ past, [0.0, 1.0], atol=1e-9)


def test_gem_projects_each_lane_against_every_earlier_tasks_memory() -> None:
    strategy = ready("gem", "task", buffer=8, gamma=0.0)
    for task in (0, 1):
        begin(strategy, task)
        strategy.after_step(new_batch(strategy, task))
    batch = new_batch(strategy, 1)
    strategy.loss(batch).sum().backward()
    # Lane 1's gradient raises the loss on old rows, so that its constraint is violated in any case.
    memory = strategy.remembered(0)
    old = []
    for lane, stream in enumerate(strategy.streams.streams):
        net, units = lane_module(strategy, lane), list(stream.tasks[0].units)
        loss_among(units, net(memory.x_LBX[lane : lane + 1])[0], memory.y_LB[lane]).backward()
        old.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    parameters = list(strategy.model.parameters())
    for p, part in zip(parameters, old[1].split([p[0].numel() for p in parameters]), strict=True):
        p.grad[1] -= 3 * part.view_as(p[1])
    before = gradient_LP(strategy)
    strategy.adjust_gradients()
    after = gradient_LP(strategy)
    for lane, r in enumerate(old):
        expected = before[lane] - (before[lane] @ r / (r @ r)).clamp(max=0) * r
        torch.testing.assert_close(after[lane], expected, rtol=1e-4, atol=1e-6)
    assert before[1] @ old[1] < 0


def test_gem_stores_the_last_rows_of_each_task() -> None:
    strategy = ready("gem", buffer=8)
    rows = torch.stack([s.tasks[0].train_rows[:15] for s in strategy.streams.streams])
    weight = torch.ones(3, 6)
    weight[1, 4:] = 0
    weight[2] = 0
    strategy.after_step(strategy.streams.batch(rows[:, :6]))
    strategy.after_step(strategy.streams.batch(rows[:, 6:12], weight))
    strategy.after_step(strategy.streams.batch(rows[:, 12:15]))
    expected = rows.gather(1, torch.tensor([[11, 12, 13, 14], [9, 12, 13, 14], [5, 12, 13, 14]]))
    memory = strategy.remembered(0)
    assert torch.equal(memory.rows_LB.sort().values, expected.sort().values)
    assert bool((memory.weight_LB == 1).all())


def test_gem_s_memory_counts_slots_in_use_and_needs_one_for_each_task() -> None:
    strategy = ready("gem", buffer=20)
    batch = new_batch(strategy)
    strategy.after_step(batch)
    memory: Batch = strategy.remembered(0)
    assert memory.weight_LB.sum(1).tolist() == [6, 6, 6]
    assert torch.equal(memory.rows_LB[:, 6:], batch.rows_LB[:, :1].expand(-1, 4))
    with pytest.raises(Unsuitable, match="less than one row for each"):
        ready("gem", buffer=1)


def logit_gradient(strategy: Strategy, lane: int, x_CHW: Tensor, units: Tensor) -> Tensor:
    """Return the gradient of the mean of some logits of one row of a lane, by plain autograd."""
    parameters = list(strategy.model.parameters())
    logit = logits_of(strategy, lane, x_CHW[None])[0, units].mean()
    found = torch.autograd.grad(logit, parameters, materialize_grads=True)
    return torch.cat([g[lane].flatten() for g in found])


@pytest.mark.parametrize("logits_of", ["gtl", "ave", "all"])
@pytest.mark.parametrize("scenario", ["class", "task"])
def test_ogd_does_not_change_the_stored_logits_to_first_order(logits_of: str, scenario: str) -> None:
    strategy = ready("ogd", scenario, directions=8, logits_of=logits_of)
    begin(strategy, 0)
    sampled = sample(strategy, 8)
    strategy.end_task(0)
    stored = []
    for lane, stream in enumerate(strategy.streams.streams):
        own = torch.tensor(stream.tasks[0].units if scenario == "task" else range(stream.n_units))
        found = []
        for i in range({"all": -(-8 // len(own))}.get(logits_of, 8)):
            y = sampled.y_LB[lane, i : i + 1]
            wanted = {"gtl": [y], "ave": [own], "all": list(own[:, None])}[logits_of]
            found += [logit_gradient(strategy, lane, sampled.x_LBX[lane, i], units) for units in wanted]
        stored.append(torch.stack(found[:8]).double())
    begin(strategy, 1)
    strategy.loss(new_batch(strategy, 1)).sum().backward()
    before = gradient_LP(strategy).double()
    strategy.adjust_gradients()
    after = gradient_LP(strategy).double()
    for lane in range(3):
        scale = stored[lane].norm(dim=1) * before[lane].norm()
        assert float((stored[lane] @ after[lane] / scale).abs().max()) < 1e-5
        # The projection removes no more than it must.
        solution = torch.linalg.lstsq(stored[lane].T, before[lane]).solution
        expected = before[lane] - stored[lane].T @ solution
        torch.testing.assert_close(after[lane], expected, rtol=1e-3, atol=1e-5)


def sample(strategy: Any, n: int) -> Batch:
    """Return the rows that the strategy will draw at the end of the task, without advancing its draws."""
    from strategies.parts.row_sample import sample_rows

    rows, real = sample_rows(strategy.streams, strategy.draws, strategy.name, strategy.task, n)
    assert bool((real == 1).all())
    strategy.draws.begin(strategy.task)
    return strategy.streams.batch(rows)


def test_ogd_s_directions_are_orthonormal_and_a_repeated_one_is_zero() -> None:
    strategy = ready("ogd", directions=60)
    strategy.end_task(0)
    basis = strategy.basis_LDP.double()
    for lane, stream in enumerate(strategy.streams.streams):
        gram = basis[lane] @ basis[lane].T
        rank = int((gram.diagonal() > 0.5).sum())
        assert 0 < rank <= min(60, len(stream.tasks[0].train_rows))
        torch.testing.assert_close(gram, gram.diagonal().round().diag(), rtol=0, atol=1e-5)
        assert bool((basis[lane, len(stream.tasks[0].train_rows) :] == 0).all())  # all rows of the lane


NETWORKS = {"mlp": {"hidden": 7, "layers": 2}, "cnn": {"width": 3, "hidden": 5}}


@pytest.mark.parametrize("model", NETWORKS)
def test_gpm_does_not_change_any_layer_s_outputs_for_earlier_inputs(model: str) -> None:
    strategy = ready("gpm", "class", model, NETWORKS[model], threshold=1.0, rows=3)
    strategy.threshold.fill_(1.0)
    begin(strategy, 0)
    old = sample(strategy, 3)
    layers = strategy._layers
    strategy.end_task(0)
    inputs = inputs_during(strategy.model, old.x_LBX, layers)
    answers = [layer(x).detach() for layer, x in zip(layers, inputs, strict=True)]
    begin(strategy, 1)
    strategy.loss(new_batch(strategy, 1)).sum().backward()
    strategy.adjust_gradients()
    before = snapshot(strategy)
    strategy.optimiser.step()
    now = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    torch.testing.assert_close(
        [*now, strategy.model(old.x_LBX)], [*answers, answers[-1]], rtol=1e-4, atol=1e-5
    )
    assert not all(map(torch.equal, before, strategy.model.parameters()))


def test_gpm_stores_the_singular_vectors_of_the_paper() -> None:
    """Two tasks by numpy's SVD, layer by layer and lane by lane: eq. 5, 8 and 9."""
    strategy = ready("gpm", "class", threshold=0.8, growth=0.05, rows=10)
    expected: list[list[np.ndarray]] = [[np.zeros((0, 0))] * len(strategy._layers) for _ in range(3)]
    for task in range(2):
        begin(strategy, task)
        rows = sample(strategy, 10)
        perturb(strategy, task)
        inputs = inputs_during(strategy.model, rows.x_LBX, strategy._layers)
        for i, (layer, x) in enumerate(zip(strategy._layers, inputs, strict=True)):
            for lane, factor in enumerate((1.0, 2.0, 0.5)):  # ``ready`` makes floats differ between lanes
                share = min(1.0, factor * (0.8 + 0.05 * task))
                r = inputs_of(layer, x.detach(), 3)[lane].flatten(0, 1).T.double().numpy()
                basis = expected[lane][i] if task else np.zeros((len(r), 0))
                left = r - basis @ (basis.T @ r)
                u, s, _ = np.linalg.svd(left, full_matrices=False)
                total, k = (r**2).sum(), 0
                held = total - (left**2).sum()
                while held < share * total - 1e-9 * total and k < len(s):
                    held += s[k] ** 2
                    k += 1
                expected[lane][i] = np.hstack([basis, u[:, :k]])
        strategy.end_task(task)
        for lane in range(3):
            for found, basis in zip(strategy.projectors, expected[lane], strict=True):
                np.testing.assert_allclose(found[lane].numpy(), basis @ basis.T, atol=2e-4)


def test_gpm_does_not_project_separate_heads_and_refuses_batch_normalisation() -> None:
    assert ready("gpm", "task").model.head not in ready("gpm", "task")._layers
    with pytest.raises(Unsuitable, match="dense layers and convolutions alone"):
        ready("gpm", "class", "resnet18", {"width": 2})


def second_task_with_momentum(name: str, **hyper: Any) -> tuple[Any, Batch]:
    """Return a strategy after three steps in each of two tasks, and rows of the first task."""
    strategy = ready(name, "class", **hyper)
    strategy.optimiser = Momentum(list(strategy.model.parameters()), [0.05] * 3, [0.0] * 3)
    for task in (0, 1):
        begin(strategy, task)
        if task:
            strategy.before = [p.detach().clone() for p in strategy.model.parameters()]
        for _ in range(3):
            for p in strategy.model.parameters():
                p.grad = None
            strategy.learn(new_batch(strategy, task))
        if not task:
            old = sample(strategy, 5)
            carried = [m.clone() for m in strategy.optimiser.moments[0]]
            strategy.end_task(0)
            assert any(
                not torch.equal(m, c) for m, c in zip(strategy.optimiser.moments[0], carried, strict=True)
            )
    return strategy, old


def test_ogd_carries_no_momentum_along_its_stored_directions() -> None:
    """After three steps of the second task, with momentum left by the first one."""
    strategy, _ = second_task_with_momentum("ogd", directions=5)
    moved = [p.detach() - b for p, b in zip(strategy.model.parameters(), strategy.before, strict=True)]
    for lane in range(3):
        way = torch.cat([m[lane].flatten() for m in moved]).double()
        along = strategy.basis_LDP[lane, :5].double() @ way
        assert float(along.abs().max()) < 1e-5 * float(way.norm())
        assert float(way.norm()) > 1e-3


def test_gpm_carries_no_momentum_along_its_stored_directions() -> None:
    """Every layer's outputs for the first task's inputs are unchanged after three steps of the second."""
    strategy, old = second_task_with_momentum("gpm", threshold=1.0, rows=5)
    now = [p.detach().clone() for p in strategy.model.parameters()]

    def write(values: list[Tensor]) -> None:
        for p, value in zip(strategy.model.parameters(), values, strict=True):
            p.data.copy_(value)

    write(strategy.before)
    inputs = inputs_during(strategy.model, old.x_LBX, strategy._layers)
    answers = [layer(x).detach()[:2] for layer, x in zip(strategy._layers, inputs, strict=True)]
    write(now)
    for layer, x, answer in zip(strategy._layers, inputs, answers, strict=True):
        # Lanes 0 and 1 store all directions (thresholds of 1 and more), lane 2 half of them.
        torch.testing.assert_close(layer(x).detach()[:2], answer, rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(a, b) for a, b in zip(now, strategy.before, strict=True))
