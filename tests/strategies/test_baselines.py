"""Frozen features and classifiers without gradients, against plain calculations."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from bench.results.outcome import score_matrix
from bench.stats.scores import acc
from bench.train import learn_task, make_lanes, run_group
from lethe.testing import begin, lane_module, lane_value, new_batch, ready, toy_cell
from strategies.core import Strategy


def rows_of(strategy: Strategy, lane: int, tasks: tuple[int, ...] = (0, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Return all training rows of a lane as raw pixels, with their units, in stream order."""
    stream = strategy.streams.streams[lane]
    rows = torch.cat([stream.tasks[t].train_rows for t in tasks]).expand(3, -1)
    batch = strategy.streams.batch(rows)
    return batch.x_LBX[lane].flatten(1).double().numpy(), batch.y_LB[lane].numpy()


def count_all(strategy: Strategy, size: int = 7) -> None:
    """Learn all tasks in batches; lanes with fewer rows rest at the end of a task."""
    for task in range(2):
        begin(strategy, task)
        rows = [s.tasks[task].train_rows for s in strategy.streams.streams]
        steps = range(0, max(map(len, rows)), size)
        padded = [torch.cat([r, r[:1].expand(steps.stop + size - len(r))]) for r in rows]
        for start in steps:
            full = torch.stack([r[start : start + size] for r in padded])
            weight = torch.tensor([[float(start + i < len(r)) for i in range(size)] for r in rows])
            strategy.learn(strategy.streams.batch(full, weight))


@pytest.mark.parametrize("scenario", ["class", "domain"])
def test_ncm_is_the_nearest_centroid(scenario: str) -> None:
    strategy = ready("ncm", scenario, features="input")
    count_all(strategy)
    batch = new_batch(strategy, 1, 20)
    answers = strategy.predict(batch).argmax(2)
    for lane in range(3):
        x, y = rows_of(strategy, lane)
        test = batch.x_LBX[lane].flatten(1).double().numpy()
        np.testing.assert_array_equal(answers[lane].numpy(), NearestCentroid().fit(x, y).predict(test))


@pytest.mark.parametrize("normalise", [False, True])
def test_ncm_scores_are_negative_squared_distances_of_untrained_features(normalise: bool) -> None:
    strategy, scaled = ready("ncm", normalise=normalise), F.normalize if normalise else torch.Tensor.detach
    count_all(strategy)
    batch = new_batch(strategy, 0)
    scores = strategy.predict(batch)
    for lane in range(3):
        net = lane_module(strategy, lane)
        x, y = rows_of(strategy, lane)
        z, mine = (
            scaled(net.features(x.view(1, -1, 1, 8, 8))[0].detach())
            for x in (torch.tensor(x).float(), batch.x_LBX[lane])
        )
        means = scaled(torch.stack([z[torch.tensor(y == u)].mean(0) for u in range(4)]))
        expected = -(mine.unsqueeze(1) - means).square().sum(2)
        torch.testing.assert_close(scores[lane], expected, rtol=1e-4, atol=1e-4)


def test_slda_equals_a_loop_over_rows() -> None:
    """The paper's update, row by row in double precision."""
    strategy = ready("slda", features="input", shrinkage=0.02)
    count_all(strategy)
    batch = new_batch(strategy, 0, 10)
    scores = strategy.predict(batch)
    for lane in range(3):
        x, y = rows_of(strategy, lane)
        mean, count = np.zeros((4, 64)), np.zeros(4)
        sigma = np.zeros((64, 64))
        for t, (row, unit) in enumerate(zip(x, y, strict=True)):
            away = row - mean[unit]
            sigma = (t * sigma + t / (t + 1) * np.outer(away, away)) / (t + 1)
            mean[unit] += away / (count[unit] + 1)
            count[unit] += 1
        e = lane_value(strategy.shrinkage, lane)
        precision = np.linalg.inv((1 - e) * sigma + e * np.eye(64))
        test = batch.x_LBX[lane].flatten(1).double().numpy()
        expected = test @ precision @ mean.T - 0.5 * np.einsum("uf,fg,ug->u", mean, precision, mean)
        np.testing.assert_allclose(scores[lane].numpy(), expected, rtol=1e-3, atol=1e-2)


def test_slda_with_the_within_class_covariance_is_linear_discriminant_analysis() -> None:
    strategy = ready("slda", features="input", shrinkage=0.02, covariance="within")
    count_all(strategy)
    batch = new_batch(strategy, 1, 20)
    answers = strategy.predict(batch).argmax(2)
    for lane in range(3):
        x, y = rows_of(strategy, lane)
        means = np.stack([x[y == u].mean(0) for u in range(4)])
        within = (x - means[y]).T @ (x - means[y]) / len(x)
        ours = (strategy.scatter_LFF[lane] / strategy.count_LU[lane].sum()).numpy()
        np.testing.assert_allclose(ours, within, rtol=1e-3, atol=1e-5)
        e = lane_value(strategy.shrinkage, lane)

        class Given:
            def fit(self, x: np.ndarray) -> None:
                """Return the given covariance; scikit-learn asks for one for each class."""
                self.covariance_ = (1 - e) * within + e * np.eye(64)  # noqa: B023

        lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Given(), priors=[0.25] * 4)
        test = batch.x_LBX[lane].flatten(1).double().numpy()
        np.testing.assert_array_equal(answers[lane].numpy(), lda.fit(x, y).predict(test))


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_counts_do_not_depend_on_task_order_and_predictions_are_of_the_row_s_units(name: str) -> None:
    strategy = ready(name, "task", features="input")
    before = strategy.predict(new_batch(strategy, 0))
    count_all(strategy)
    for task in range(2):
        scores = strategy.predict(new_batch(strategy, task))
        for lane, stream in enumerate(strategy.streams.streams):
            assert set(scores[lane].argmax(1).tolist()) <= set(stream.tasks[task].units)
            assert set(before[lane].argmax(1).tolist()) <= set(stream.tasks[0].units)


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_methods_that_count_see_every_row_once(name: str) -> None:
    cell = toy_cell(name, 0, epochs=5)
    group = make_lanes([cell])
    for task in range(group.streams.n_tasks):
        learn_task(group, task)
    strategy: Any = group.strategy
    rows = sum(len(t.train_rows) for t in group.streams.streams[0].tasks)
    assert int(strategy.count_LU.sum()) == rows
    assert all(torch.equal(v, group.initial[k]) for k, v in group.model.state_dict().items())


@pytest.mark.parametrize("features", ["first", "initial"])
@pytest.mark.parametrize("model", ["mlp", "resnet18"])
def test_frozen_trains_only_the_head(features: str, model: str) -> None:
    options: dict[str, Any] = {"model": model, "features": features, "weight_decay": 0.1}
    if model == "resnet18":
        options |= {"model_options": {"width": 2}, "epochs": 1}
    group = make_lanes([toy_cell("frozen", seed, **options) for seed in (0, 1)])
    states = [copy.deepcopy(group.model.state_dict())]
    for task in range(2):
        learn_task(group, task)
        states.append(copy.deepcopy(group.model.state_dict()))
    first, second = [{k for k in b if not torch.equal(a[k], b[k])} for a, b in itertools.pairwise(states)]
    head = {"head.weight", "head.bias"}
    assert (second, first) == (head, head if features == "initial" else set(states[0]))


def test_frozen_equals_a_linear_classifier_on_fixed_features() -> None:
    """One lane with plain SGD, against a linear layer trained by torch.optim."""
    cell = toy_cell("frozen", 0, features="initial", optimiser="sgd", lr=0.1, epochs=1)
    group = make_lanes([cell])
    net = group.model
    weight, bias = (p[0].detach().clone().requires_grad_() for p in (net.head.weight, net.head.bias))
    plain = torch.optim.SGD([weight, bias], lr=0.1)
    strategy = group.strategy
    strategy.begin_task(0)
    rows = group.streams.streams[0].tasks[0].train_rows
    for part in rows[:40].split(8):
        batch = group.streams.batch(part.unsqueeze(0))
        features = net.features(batch.x_LBX)[0].detach()
        plain.zero_grad()
        F.cross_entropy(features @ weight + bias, batch.y_LB[0]).backward()
        plain.step()
        for p in net.parameters():
            p.grad = None
        strategy.learn(batch)
    torch.testing.assert_close([net.head.weight[0], net.head.bias[0]], [weight, bias])


def test_methods_on_random_features_need_no_boundaries() -> None:
    cell = toy_cell("frozen", 0, "domain", features="initial", boundaries="hidden")
    assert acc(score_matrix(run_group([cell])[0])) > 0.5


@pytest.mark.parametrize("name", ["ncm", "slda", "ranpac"])
def test_counts_are_precise_with_a_model_in_bfloat16(name: str) -> None:
    cells = [toy_cell(name, 0, features="input", precision=p) for p in ("bfloat16", "float32")]
    half, full = (run_group([cell])[0] for cell in cells)
    assert half["test"] == full["test"]
