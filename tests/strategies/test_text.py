"""Methods for transformers and their features, each against a calculation of one lane in plain torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bench.engine import Group
from bench.models import pretrained
from strategies.base import Strategy, Unsuitable
from strategies.streams import Batch
from tests.conftest import toy_cell
from tests.methods import new_batch, ready


def group(name: str, scenario: str = "class", tune: str = "lora", **changes: Any) -> Group:
    """Return two lanes of a method on texts, small enough to learn in a moment."""
    options = {"tune": tune, "max_tokens": 24, "rank": 3, **changes.pop("model_options", {})}
    cells = [
        toy_cell(name, s, scenario, suite="toy-text", epochs=1, model_options=options, **changes)
        for s in range(2)
    ]
    return Group(cells, "cpu", None)


def both_tasks(strategy: Strategy, size: int = 4) -> Batch:
    """Return rows of both tasks, half and half."""
    rows = [torch.cat([t.test_rows[: size // 2] for t in s.tasks]) for s in strategy.streams.streams]
    return strategy.streams.batch(torch.stack(rows))


def backbone(x_BS: Tensor, added: dict[str, Tensor] | None = None) -> Tensor:
    """Return the features by the transformer alone, with something added to its weights."""
    base = pretrained.backbone("tiny-bert", "mean")
    for name, more in (added or {}).items():
        base.transformer.get_parameter(f"{name}.weight").add_(more)
    out: Tensor = base(x_BS)
    return out


@pytest.mark.parametrize("ridge", [0.0, 2.5])
def test_ranpac_is_ridge_regression_on_random_features(ridge: float) -> None:
    """One lane: all rows of both tasks at once; lambda by the error on every fifth row of the second."""
    strategy: Any = ready("ranpac", width=20, ridge=ridge)
    strategy.ridge[:] = ridge
    for task in (0, 1):
        strategy.begin_task(task)
        for at in range(0, 30, 6):
            rows = torch.stack([s.tasks[task].train_rows[at : at + 6] for s in strategy.streams.streams])
            strategy.learn(strategy.streams.batch(rows))
    batch = new_batch(strategy, 1)
    scores_LBU = strategy.predict(batch).detach()
    for lane, stream in enumerate(strategy.streams.streams):
        rows = torch.cat([t.train_rows[:30] for t in stream.tasks])
        seen = strategy.streams.batch(rows.expand(3, -1))
        p = {k: v[lane].detach() for k, v in strategy.model.named_parameters()}

        def h(x: Tensor, p: dict[str, Tensor] = p, lane: int = lane) -> np.ndarray[Any, Any]:
            f = F.linear(x.flatten(1), p["layers.0.weight"].T, p["layers.0.bias"]).relu()
            return (f @ strategy.projection_LFM[lane]).relu().double().numpy()

        h_NM, y_NU = h(seen.x_LBX[lane]), np.eye(4)[seen.y_LB[lane]]
        best = ridge
        if not ridge:
            held = np.arange(1, 31) % 5 == 0
            fit = [s[30:][~held] for s in (h_NM, y_NU)]
            errors = {}
            for candidate in (10.0**k for k in range(-8, 9)):
                w = np.linalg.solve(fit[0].T @ fit[0] + candidate * np.eye(20), fit[0].T @ fit[1])
                errors[candidate] = np.square(y_NU[30:][held] - h_NM[30:][held] @ w).sum()
            best = min(errors, key=lambda r: errors[r])
            assert float(strategy.notes()["ridge"][lane]) == pytest.approx(best)
        w_MU = np.linalg.solve(h_NM.T @ h_NM + best * np.eye(20), h_NM.T @ y_NU)
        np.testing.assert_allclose(scores_LBU[lane], h(batch.x_LBX[lane]) @ w_MU, rtol=1e-2, atol=1e-3)


def test_inc_lora_is_merging_into_the_weights() -> None:
    """Features of the second task are those of W + (alpha / r) (B_1 A_1 + B_2 A_2)."""
    of = group("inc-lora")
    strategy: Any = of.strategy
    sets = []
    for task in (0, 1):
        of.learn(task)
        sets.append({name: p.detach().clone() for name, p in strategy.model.trained.items()})
    assert any(bool((sets[0][n] != 0).all()) for n in sets[0] if n.endswith("up"))
    batch = both_tasks(strategy)
    for lane in range(2):
        added = {
            name.removesuffix("/down").replace("/", "."): 16
            / 3
            * sum((s[name][lane] @ s[name.removesuffix("down") + "up"][lane]).T for s in sets)
            for name in sets[0]
            if name.endswith("/down")
        }
        ours_BF = strategy.model.features(batch.x_LBX)[lane]
        torch.testing.assert_close(ours_BF, backbone(batch.x_LBX[lane], added), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(ours_BF, backbone(batch.x_LBX[lane]), rtol=1e-3, atol=1e-3)


def test_new_lora_factors_change_nothing_at_first() -> None:
    """At the start of a task the network is what it was at the end of the one before."""
    of = group("inc-lora")
    of.learn(0)
    batch = both_tasks(of.strategy)
    before = of.strategy.model(batch.x_LBX)
    of.strategy.begin_task(1)
    torch.testing.assert_close(of.strategy.model(batch.x_LBX), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("penalty", ["absolute", "squared"])
def test_o_lora_adds_the_overlap_of_directions(penalty: str) -> None:
    of = group("o-lora", penalty=penalty, lam=0.3)
    strategy: Any = of.strategy
    batch = both_tasks(strategy)
    raw = strategy.model(batch.x_LBX)
    assert strategy.extra_loss(batch, raw) is None
    of.learn(0)
    first = {name: p.detach().clone() for name, p in strategy.model.trained.items()}
    strategy.begin_task(1)
    added_L = strategy.extra_loss(batch, raw).detach()
    for lane in range(2):
        total = 0.0
        for name, p in strategy.model.trained.items():
            if name.endswith("/down"):
                overlap = first[name][lane].T @ p[lane].detach()
                total = total + (overlap.abs() if penalty == "absolute" else overlap**2).sum()
        assert float(added_L[lane]) == pytest.approx(0.3 * float(total), rel=1e-4)


def test_a_lora_per_task_forgets_nothing() -> None:
    """Answers to the first task's rows stay as they were; those of the second come by its own factors."""
    of = group("lora-per-task", "task")
    strategy = of.strategy
    of.learn(0)
    batch = both_tasks(strategy)
    before = strategy.predict(batch)
    of.learn(1)
    after = strategy.predict(batch)
    first, second = batch.split(2)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[:, 2:], strategy.logits(second), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after[:, :2], strategy.logits(first), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["lora-per-task", "inc-lora", "o-lora"])
def test_lora_methods_say_what_they_need(name: str) -> None:
    with pytest.raises(Unsuitable, match=f"{name} needs a transformer, as minilm is, with tune=lora"):
        ready(name, "task")
    with pytest.raises(Unsuitable, match="tune=lora"):
        group(name, "task", "adapter")
