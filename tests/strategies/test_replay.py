"""Each replay method's formula, calculated lane by lane."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import stats
from torch import Tensor

from bench.train import run_group
from lethe.testing.made_lanes import (
    SEEDS,
    assert_equal,
    new_batch,
    perturb,
    ready,
    remembered,
    replayed,
    snapshot,
)
from lethe.testing.plain_torch import (
    assert_lanes_are,
    descend,
    features_of,
    lane_module,
    lane_value,
    logits_of,
    loss_among,
)
from lethe.testing.toy_suites import toy_cell
from strategies.core import Batch, Draws, held_memory
from strategies.replay.rar import noise_like, shifted
from suites.base import Training


def test_ways_of_writing_that_need_the_task_are_refused_with_hidden_boundaries() -> None:
    hidden = Training(boundaries="hidden")
    assert "tasks share classes" in str(ready("er", write="ring").unsuitable("domain", hidden))
    assert ready("er", write="ring").unsuitable("class", hidden) is None
    assert "tasks end" in str(ready("er", write="per-class").unsuitable("class", hidden))
    assert ready("er", write="class-balanced").unsuitable("domain", hidden) is None


def test_memory_bytes_include_second_networks_and_anchors() -> None:
    er, cls_er = ready("er", buffer=9), ready("cls-er", buffer=9)
    hal = ready("hal", buffer=9, write="reservoir")
    of_model = 4 * sum(p[0].numel() for p in er.model.parameters())
    for strategy, beside in (
        (er, 0),
        (cls_er, 2 * of_model + 4),
        (hal, 4 * 64 * 4),
    ):  # four anchors of 64 pixels
        assert held_memory(strategy) == (0, beside)
        strategy.memory.write(new_batch(strategy))
        assert held_memory(strategy) == (6, 6 * (64 + 8) + beside)


def at_task_1(name: str, scenario: str = "class", **hyper: Any) -> tuple[Any, Batch]:
    """Return a strategy in its second task, with six rows of the first in memory, and six new rows."""
    strategy = ready(name, scenario, **hyper)
    strategy.begin_task(0)
    strategy.after_step(new_batch(strategy, 0))
    strategy.task = 1
    strategy.begin_task(1)
    return strategy, new_batch(strategy, 1)


def descend_over(strategy: Any, net: Any, lane: int, order: Tensor) -> list[float]:
    """Take a plain step on every six rows of a lane's memory in this order; return the losses."""
    memory, losses = strategy.memory, []
    slots = order[lane, : int(memory.filled_L[lane])].argsort(descending=True)
    for part in memory.rows_LM[lane, slots].split(6):
        batch = strategy.streams.batch(part.expand(3, -1))
        loss = F.cross_entropy(net(batch.x_LBX[lane : lane + 1])[0], batch.y_LB[lane])
        losses.append(float(loss.detach()))
        descend(net, loss)
    return losses


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_mir_replays_the_rows_that_a_step_on_new_rows_would_harm_most(scenario: str) -> None:
    strategy, batch = at_task_1("mir", scenario, batch=2, candidates=5)
    strategy.optimiser.lr = [0.1, 0.5, 2.0]
    slots = Draws(SEEDS, "cpu").uniform("candidates", 500)[:, :6].topk(5, 1).indices
    found = strategy.replayed(batch)
    old = remembered(strategy, slots)
    for lane, stream in enumerate(strategy.streams.streams):
        net = lane_module(strategy, lane)
        units = [list(t.units) if scenario == "task" else list(range(4)) for t in stream.tasks]
        old_x, new_x = old.x_LBX[lane : lane + 1], batch.x_LBX[lane : lane + 1]
        before_B = loss_among(units[0], net(old_x)[0], old.y_LB[lane], "none")
        descend(net, loss_among(units[1], net(new_x)[0], batch.y_LB[lane]), strategy.optimiser.lr[lane])
        rise_B = (loss_among(units[0], net(old_x)[0], old.y_LB[lane], "none") - before_B).detach()
        worst = rise_B.argsort(descending=True)[:2]
        assert found.rows_LB[lane].tolist() == old.rows_LB[lane, worst].tolist()
        torch.testing.assert_close(strategy.interference(batch, old)[lane], rise_B, rtol=1e-3, atol=1e-5)


def test_mir_leaves_out_empty_slots_and_the_current_task() -> None:
    strategy, batch = at_task_1("mir", batch=10, candidates=20)
    strategy.after_step(batch)
    old = strategy.replayed(batch)
    assert old.weight_LB.sum(1).tolist() == [6.0, 6.0, 6.0]
    assert bool((strategy.streams.task_of(old.rows_LB) == 0)[old.weight_LB > 0].all())
    strategy.current = True
    assert strategy.replayed(batch).weight_LB.sum(1).tolist() == [10.0, 10.0, 10.0]
    assert bool((strategy.loss(batch) > 0).all())


def test_er_aml_compares_each_new_row_with_a_positive_and_a_negative() -> None:
    strategy, batch = at_task_1("er-aml")
    strategy.after_step(new_batch(strategy, 1, 12))  # partners from the memory too
    ours = strategy.loss(batch)
    strategy.draws.begin(0)
    found, valid = strategy.partners(batch)
    old = replayed(strategy, 6)
    for lane in range(3):
        y, rows, partners = (of[lane].tolist() for of in (batch.y_LB, batch.rows_LB, found))
        label = strategy.streams.units_of(lane, found[lane]).tolist()
        both = valid[lane].nonzero().flatten().tolist()
        in_memory = strategy.memory.rows_LM[lane, : int(strategy.memory.filled_L[lane])].tolist()
        for b in both:
            assert label[b] == y[b] != label[b + 6]
            assert (label[b + 6] in y, partners[b] != rows[b]) == (True, True)
            assert {partners[b], partners[b + 6]} <= {*rows, *in_memory}
        columns = both + [b + 6 for b in both]
        both_x = batch.x_LBX[lane], strategy.streams.batch(found).x_LBX[lane]
        h, other = (F.normalize(features_of(strategy, lane, x), dim=1) for x in both_x)
        heat = lane_value(strategy.temperature, lane)
        parts = []
        for b in both:
            close = torch.stack([h[b] @ other[k] / heat for k in columns])
            positive = [i for i, k in enumerate(columns) if label[k] == y[b]]
            parts.append(-close.log_softmax(0)[positive].mean())
        rest = F.cross_entropy(logits_of(strategy, lane, old.x_LBX[lane]), old.y_LB[lane])
        torch.testing.assert_close(ours[lane], torch.stack(parts).mean() + rest, rtol=1e-5, atol=1e-5)


def test_er_aml_has_no_loss_on_new_rows_of_a_single_class() -> None:
    strategy, batch = at_task_1("er-aml")
    rows = torch.stack([r[y == y[0]][:1].expand(6) for r, y in zip(batch.rows_LB, batch.y_LB, strict=True)])
    assert strategy.comparison(strategy.streams.batch(rows)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("part", ["head", "dense"])
def test_gss_scores_equal_cosines_of_gradients_by_autograd(part: str) -> None:
    strategy, batch = at_task_1("gss", "task", gradient=part, compare=4)
    perturb(strategy)
    strategy.draws.begin(0)
    ours = strategy.scores(batch)
    old = remembered(strategy, Draws(SEEDS, "cpu").uniform("compare", 500)[:, :6].topk(4, 1).indices)
    for lane, stream in enumerate(strategy.streams.streams):

        def gradient(x: Tensor, y: Tensor, task: int, lane: int = lane, stream: Any = stream) -> Tensor:
            net = lane_module(strategy, lane)
            loss_among(list(stream.tasks[task].units), net(x[None, None])[0], y[None]).backward()
            of = net.head if part == "head" else net
            return torch.cat([p.grad.flatten() for p in of.parameters()])

        others = [gradient(old.x_LBX[lane, n], old.y_LB[lane, n], 0) for n in range(4)]
        for b in range(6):
            own = gradient(batch.x_LBX[lane, b], batch.y_LB[lane, b], 1)
            expected = 1 + max(F.cosine_similarity(own, o, dim=0) for o in others)
            torch.testing.assert_close(ours[lane, b], expected, rtol=1e-4, atol=1e-5)


def test_gss_draws_a_winner_between_each_new_row_and_one_in_memory() -> None:
    """With given scores: the winner is drawn by C_i / (C_i + c), never where c is 1 or more."""
    strategy = ready("gss", buffer=4)
    given = torch.tensor([0.2, 0.9, 1.3, 0.5, 0.1, 0.7]).expand(3, -1).contiguous()
    strategy.scores = lambda batch: given
    memory, same = strategy.memory, Draws(SEEDS, "cpu")
    for task in (0, 1, 1, 1):
        rows, scores = memory.rows_LM[:, :4].clone(), memory.kept["score"][:, :4].clone()
        filled = memory.filled_L.tolist()
        batch = new_batch(strategy, task)
        strategy.after_step(batch)
        key, toss = same.uniform("rivals", 4), same.uniform("contest", 6)
        for lane in range(3):
            if filled[lane] == 0:
                rows[lane], scores[lane] = batch.rows_LB[lane, :4], given[lane, :4]
                continue
            order = (key[lane].log() / scores[lane]).argsort(descending=True).tolist()
            held = scores[lane].tolist()
            for b, (i, c) in enumerate(zip(order, given[lane].tolist(), strict=False)):
                if c < 1 and float(toss[lane, b]) < held[i] / (held[i] + c):
                    rows[lane, i], scores[lane, i] = batch.rows_LB[lane, b], c
        assert_equal((memory.rows_LM[:, :4], memory.kept["score"][:, :4]), (rows, scores))
    assert held_memory(strategy)[1] == 4 * (64 + 8 + 4)


def test_gdumb_learns_from_the_memory_alone_when_a_task_ends() -> None:
    strategy = ready("gdumb", passes=2, buffer=50)
    before = snapshot(strategy)
    rows = torch.stack([s.tasks[0].train_rows[:28] for s in strategy.streams.streams])
    for of_step in rows.split(6, 1):
        batch = strategy.streams.batch(of_step)
        strategy.learn(batch)
        strategy.after_step(batch)
    assert_equal(strategy.model.parameters(), before)
    memory = strategy.memory
    memory.filled_L[1] -= 7  # lanes with fewer rows rest earlier
    lanes = [lane_module(strategy, lane) for lane in range(3)]
    strategy.end_task(0)
    same = Draws(SEEDS, "cpu")
    losses: list[list[float]] = [[], [], []]
    for _ in range(2):
        order = same.uniform("epoch", 50)
        for lane, net in enumerate(lanes):
            losses[lane] += descend_over(strategy, net, lane, order)
    assert_lanes_are(strategy.model, lanes)
    found = strategy.notes()["memory_loss"][:, 0].tolist()
    assert found == pytest.approx([np.mean(of_lane) for of_lane in losses], rel=1e-4)


@pytest.mark.parametrize("distance", ["function", "rows"])
@pytest.mark.parametrize("scenario", ["class", "task"])
def test_fdr_s_penalty_is_the_distance_to_outputs_at_the_end_of_each_task(
    distance: str, scenario: str
) -> None:
    strategy = ready("fdr", scenario, alpha=0.7, distance=distance, buffer=8)
    memory = strategy.memory

    def answers(lane: int, rows: Tensor) -> Tensor:
        batch = strategy.streams.batch(rows.expand(3, -1))
        logits = logits_of(strategy, lane, batch.x_LBX[lane]).detach()
        if scenario == "task":
            for b, task in enumerate((rows // strategy.streams.n_images).tolist()):
                others = [u for u in range(4) if u not in strategy.streams.streams[lane].tasks[task].units]
                logits[b, others] = -torch.inf
        return logits.softmax(1)

    strategy.begin_task(0)
    strategy.end_task(0)
    first = memory.rows_LM[:, :8].clone()
    for lane, stream in enumerate(strategy.streams.streams):
        torch.testing.assert_close(memory.kept["answer"][lane, :8], answers(lane, first[lane]))
        assert torch.isin(first[lane], stream.tasks[0].train_rows).all()
        assert len(first[lane].unique()) == 8
    then = memory.kept["answer"][:, :8].clone()
    perturb(strategy)
    strategy.task = 1
    strategy.draws.begin(1)
    batch = new_batch(strategy, 1)
    ours = strategy.extra_loss(batch, strategy.model(batch.x_LBX))
    same = Draws(SEEDS, "cpu")
    same.begin(1)
    slots = same.below("replay", memory.filled_L, 6)
    for lane in range(3):
        away = (answers(lane, first[lane][slots[lane]]) - then[lane][slots[lane]]).norm(dim=1)
        expected = away.square().mean().sqrt() if distance == "function" else away.mean()
        torch.testing.assert_close(ours[lane], lane_value(strategy.alpha, lane) * expected)
    strategy.end_task(1)
    assert memory.filled_L.tolist() == [8, 8, 8]
    assert_equal((memory.rows_LM[:, :4], memory.kept["answer"][:, :4]), (first[:, :4], then[:, :4]))
    assert bool((memory.rows_LM[:, 4:8] // strategy.streams.n_images == 1).all())


def test_fdr_s_gradient_is_zero_at_the_start_of_a_task() -> None:
    """The root has no derivative at distance 0; it must not become NaN."""
    strategy = ready("fdr", buffer=8)
    strategy.end_task(0)
    strategy.task = 1
    batch = new_batch(strategy, 1)
    strategy.extra_loss(batch, strategy.model(batch.x_LBX)).sum().backward()
    assert all((p.grad == 0).all() for p in strategy.model.parameters())


def test_fdr_stores_all_rows_of_a_task_with_fewer_rows_than_its_share() -> None:
    strategy = ready("fdr", buffer=500)
    strategy.end_task(0)
    memory = strategy.memory
    for lane, stream in enumerate(strategy.streams.streams):
        rows = memory.rows_LM[lane, : int(memory.filled_L[lane])]
        assert sorted(rows.tolist()) == sorted(stream.tasks[0].train_rows.tolist())


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_hal_s_loss_adds_the_change_at_its_anchors(scenario: str) -> None:
    strategy, batch = at_task_1("hal", scenario, anchoring=3.0)
    strategy.optimiser.lr = [0.1, 0.5, 1.0]
    strategy.begin_task(1)
    strategy.anchor_LACHW.uniform_(generator=torch.Generator().manual_seed(0))
    before = snapshot(strategy)
    strategy.draws.begin(0)
    parameters = list(strategy.model.parameters())
    grads = torch.autograd.grad(strategy.loss(batch).sum(), parameters)
    strategy.draws.begin(0)
    strategy.model.zero_grad()
    strategy.learn(batch)
    for lane, stream in enumerate(strategy.streams.streams):
        net, trial = lane_module(strategy, lane), lane_module(strategy, lane)
        for p, q, b, g in zip(net.parameters(), trial.parameters(), before, grads, strict=True):
            p.data = b[lane : lane + 1].clone()
            q.data = (b - strategy.optimiser.lr[lane] * g)[lane : lane + 1]
        anchors = strategy.anchor_LACHW[lane : lane + 1, :2]  # those of the first task
        units = list(stream.tasks[0].units) if scenario == "task" else list(range(4))
        change = (net(anchors)[0][:, units] - trial(anchors)[0][:, units].detach()).square().mean()
        (lane_value(strategy.anchoring, lane) * change).backward()
        for p, b, g, now in zip(net.parameters(), before, grads, strategy.model.parameters(), strict=True):
            expected = b[lane] - strategy.optimiser.lr[lane] * (g[lane] + p.grad[0])
            torch.testing.assert_close(now[lane].detach(), expected, rtol=1e-4, atol=1e-6)


def test_hal_tunes_a_copy_in_one_pass_over_the_memory() -> None:
    strategy, _ = at_task_1("hal", buffer=20)
    memory = strategy.memory
    memory.filled_L[1] = 4
    order = Draws(SEEDS, "cpu").uniform("tuning", 20)
    nets = [lane_module(strategy, lane) for lane in range(3)]
    tuned = strategy.tuned()
    for lane, net in enumerate(nets):
        descend_over(strategy, net, lane, order)
    assert_lanes_are(tuned, nets)


def test_hal_s_anchors_maximise_forgetting_by_gradient_ascent() -> None:
    strategy, _ = at_task_1("hal", anchor_steps=3, gamma=0.2, beta=0.25, anchor_lr=0.3)
    strategy.task = 0
    strategy.begin_task(0)
    mean = torch.zeros(3, 7)
    for size in (4, 6):  # the running mean of features
        batch = new_batch(strategy, 0, size)
        strategy.after_step(batch)
        beta = torch.as_tensor(strategy.beta).unsqueeze(1)
        mean = beta * mean + (1 - beta) * strategy.model.features(batch.x_LBX).mean(1).detach()
    torch.testing.assert_close(strategy._mean_LF, mean)
    start = Draws(SEEDS, "cpu").uniform("anchors", 2 * 64).float().view(3, 2, 1, 8, 8)
    strategy.draws.begin(0)
    tuned = strategy.tuned()
    strategy.draws.begin(0)
    strategy.end_task(0)
    assert bool((strategy.anchor_LACHW[:, 2:] == 0).all())
    for lane, stream in enumerate(strategy.streams.streams):
        net = lane_module(strategy, lane)
        later = lane_module(strategy, lane)
        later.load_state_dict({k: v[lane : lane + 1] for k, v in tuned.state_dict().items()})
        for k, unit in enumerate(stream.tasks[0].units):
            e = start[lane, k].clone().requires_grad_()
            y = torch.tensor([unit])
            for _ in range(3):
                x = e[None, None]
                away = (net.features(x)[0, 0] - mean[lane]).square().sum()
                rise = F.cross_entropy(later(x)[0], y) - F.cross_entropy(net(x)[0], y)
                (uphill,) = torch.autograd.grad(rise - lane_value(strategy.gamma, lane) * away, e)
                e = (e + lane_value(strategy.anchor_lr, lane) * uphill).detach().requires_grad_()
            torch.testing.assert_close(strategy.anchor_LACHW[lane, k], e.detach(), rtol=1e-4, atol=1e-5)


def test_cls_er_is_distilled_from_the_more_confident_of_two_mean_models() -> None:
    strategy, batch = at_task_1("cls-er", lam=0.6)
    for seed, net in enumerate((strategy.plastic, strategy.stable)):
        random = torch.Generator().manual_seed(seed)
        for p in net.parameters():
            p += 0.3 * torch.randn(p.shape, generator=random)
    ours = strategy.loss(batch)
    old = replayed(strategy, 6)
    stable, plastic = strategy.stable(old.x_LBX), strategy.plastic(old.x_LBX)
    chosen = set()
    for lane in range(3):
        new_B, old_B = (logits_of(strategy, lane, of.x_LBX[lane]) for of in (batch, old))
        y = old.y_LB[lane][:, None]
        surer = stable[lane].softmax(1).gather(1, y) > plastic[lane].softmax(1).gather(1, y)
        chosen |= {*surer.flatten().tolist()}
        target = torch.where(surer, stable[lane], plastic[lane])
        labels = torch.cat([batch.y_LB[lane], old.y_LB[lane]])
        expected = F.cross_entropy(torch.cat([new_B, old_B]), labels)
        expected = expected + lane_value(strategy.lam, lane) * F.mse_loss(old_B, target)
        torch.testing.assert_close(ours[lane], expected, rtol=1e-5, atol=1e-6)
    assert chosen == {True, False}
    torch.testing.assert_close(strategy.predict(batch), strategy.stable(batch.x_LBX))


def test_cls_er_s_means_update_at_their_rate_and_rest_with_their_lane() -> None:
    strategy = ready("cls-er", stable_rate=0.5, stable_decay=0.4, plastic_rate=1.0, plastic_decay=0.999)
    for name, rate in (("stable_rate", 0.5), ("plastic_rate", 1.0), ("plastic_decay", 0.999)):
        setattr(strategy, name, torch.full((3,), rate))
    mean, slow = snapshot(strategy), snapshot(strategy)
    same, moved = Draws(SEEDS, "cpu"), [0, 0, 0]
    for step in range(8):
        perturb(strategy, step)
        batch = new_batch(strategy)
        batch.weight_LB = torch.ones(3, 6)
        if step >= 5:
            batch.weight_LB[1] = 0  # lane 1 rests
        strategy.after_step(batch)
        toss = same.uniform("stable", 1)
        for lane in range(3):
            if step >= 5 and lane == 1:
                continue
            keep = min(1 - 1 / (step + 2), lane_value(strategy.stable_decay, lane))
            stable = bool(toss[lane, 0] < 0.5)
            moved[lane] += stable
            for m, s, p in zip(mean, slow, strategy.model.parameters(), strict=True):
                # The plain mean of the network after each step, including its initial state.
                m[lane] += (p.detach()[lane] - m[lane]) / (step + 2)
                if stable:
                    s[lane] = keep * s[lane] + (1 - keep) * p.detach()[lane]
    assert all(0 < n < 8 for n in moved)
    torch.testing.assert_close(snapshot(strategy.plastic), mean)
    torch.testing.assert_close(snapshot(strategy.stable), slow)


@pytest.mark.parametrize("flip", [True, False])
def test_shifted_images_equal_slices(flip: bool) -> None:
    x = torch.arange(1.0, 2 * 5 * 2 * 6 * 8 + 1).view(2, 5, 2, 6, 8)
    draw = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    share = torch.tensor([0.0, 0.34])
    ours = shifted(x, draw, share, flip)
    by = set()
    for lane, most in enumerate(((0, 0), (2, 2))):
        for b in range(5):
            down, across = (int(float(draw[lane, b, i]) * (2 * most[i] + 1)) - most[i] for i in (0, 1))
            by.add((down, across))
            padded = F.pad(x[lane, b], (2, 2, 2, 2))
            expected = padded[:, 2 + down : 8 + down, 2 + across : 10 + across]
            turned = flip and draw[lane, b, 2] < 0.5
            assert torch.equal(ours[lane, b], expected.flip(2) if turned else expected)
    assert len(by) > 3


def test_noise_is_uniform_and_of_deviation_one() -> None:
    draw = Draws(SEEDS, "cpu").uniform("noise", 40)
    noise = noise_like(torch.zeros(3, 40, 1, 16, 16), draw)
    assert stats.kstest(noise.flatten().numpy(), "uniform", args=(-(3**0.5), 2 * 3**0.5)).pvalue > 0.001
    between = torch.corrcoef(noise.view(120, 256)) - torch.eye(120)
    assert float(between.abs().max()) < 0.35  # all images differ
    assert torch.equal(noise[1], noise_like(torch.zeros(1, 40, 1, 16, 16), draw[1:2])[0])


def test_rar_takes_several_steps_with_new_draws() -> None:
    strategy, batch = at_task_1("rar", repeats=3, balance="sum", lam=1.0, noise=0.2)
    strategy.shift, strategy.lam = torch.tensor([0.0, 0.25, 0.5]), torch.ones(3)
    nets = [lane_module(strategy, lane) for lane in range(3)]
    ours = strategy.learn(batch)
    assert strategy.optimiser.steps == [3, 3, 3]
    same, losses = Draws(SEEDS, "cpu"), []
    for _ in range(3):
        old = remembered(strategy, same.below("replay", strategy.memory.filled_L, 6))
        x = torch.cat([batch.x_LBX, old.x_LBX], 1)
        draw = same.uniform("augment both", 48).view(3, 12, 4)
        x = shifted(x, draw[..., :3], strategy.shift, False)
        x = x + torch.tensor([0.2, 0.4, 0.1]).view(3, 1, 1, 1, 1) * noise_like(x, draw[..., 3])
        step = []
        for lane, net in enumerate(nets):
            logits = net(x[lane : lane + 1])[0]
            loss = F.cross_entropy(logits[:6], batch.y_LB[lane]) + F.cross_entropy(logits[6:], old.y_LB[lane])
            descend(net, loss)
            step.append(loss.detach())
        losses.append(torch.stack(step))
    torch.testing.assert_close(ours, torch.stack(losses).mean(0), rtol=1e-5, atol=1e-6)
    assert_lanes_are(strategy.model, nets)


@pytest.mark.parametrize("name", ["der", "der++"])
def test_logits_are_stored_in_float32_under_autocast(name: str) -> None:
    (made,) = run_group([toy_cell(name, 0, precision="bfloat16", epochs=1)])
    assert made["status"] == "done"
