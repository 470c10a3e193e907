"""Separate networks, gates, pruning and columns against direct calculations of their definitions."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import strategies
from bench.plan import Request
from bench.train import learn_task, make_lanes, run_group
from bench.train.schedule import schedule_task
from lethe.testing.made_lanes import (
    SEEDS,
    assert_equal,
    begin,
    lanes_on,
    learn_once,
    new_batch,
    perturb,
    ready,
    train_on,
)
from lethe.testing.plain_torch import dense_of, lane_value, loss_among
from lethe.testing.toy_suites import blobs, toy_cell
from strategies.core import Unsuitable, held_memory
from suites.base import Training

ISOLATION = ["independent", "xdg", "hat", "packnet", "progressive", "supsup"]


def mixed_batch(strategy: Any) -> Any:
    """Return a batch that alternates rows of both tasks."""
    streams = strategy.streams
    rows = [torch.stack([s.tasks[t].test_rows[:4] for t in (0, 1)], 1).flatten() for s in streams.streams]
    return streams.batch(torch.stack(rows))


def gated(strategy: Any, lane: int, x_CHW: Tensor, gates: list[Tensor]) -> Tensor:
    """Return one row's logits with the hidden units of an mlp multiplied after the ReLU."""
    h = x_CHW.flatten()
    for i, gate in enumerate(gates):
        h = torch.relu(dense_of(strategy.model, f"layers.{i}", lane, h)) * gate
    return dense_of(strategy.model, "head", lane, h).detach()


def check_answers(strategy: Any, gates: list[list[list[Tensor]]]) -> None:
    """Assert that predictions are those of gates; ``gates[lane][task]`` is a list by layer."""
    batch = mixed_batch(strategy)
    answers = strategy.predict(batch)
    for lane, stream in enumerate(strategy.streams.streams):
        for b in range(8):
            own = list(stream.tasks[b % 2].units)
            expected = gated(strategy, lane, batch.x_LBX[lane, b], gates[lane][b % 2])[own]
            torch.testing.assert_close(answers[lane, b, own], expected, rtol=1e-4, atol=1e-5)
            assert int(answers[lane, b].argmax()) in own


@pytest.mark.parametrize("name", ["independent", "packnet", "progressive", "supsup"])
@pytest.mark.parametrize("optimiser", ["adam", "momentum"])
def test_later_training_does_not_change_earlier_predictions_at_all(name: str, optimiser: str) -> None:
    settings = {"optimiser": optimiser, "lr": 0.02, "weight_decay": 0.01}
    group = make_lanes([toy_cell(name, seed, "task", **settings) for seed in range(3)], "cpu", blobs(8))
    answers: list[Tensor] = []
    for task in range(4):
        learn_task(group, task)
        rows = [torch.stack([s.tasks[t].test_rows for s in group.streams.streams]) for t in range(task + 1)]
        with torch.no_grad():
            *again, new = (group.strategy.predict(group.streams.batch(of_task)) for of_task in rows)
        assert_equal(again, answers)
        answers.append(new)


@pytest.mark.parametrize("name", ISOLATION)
def test_isolation_methods_are_for_task_incremental_streams_only(name: str) -> None:
    assert strategies.get(name).scenarios == ("task",)


@pytest.mark.parametrize("name", ["xdg", "hat", "packnet", "supsup", "progressive"])
def test_layers_that_cannot_be_gated_are_refused(name: str) -> None:
    net: Any = ("resnet18", {"width": 2}, "dense layers and convolutions alone")
    *model, says = ("cnn", {"width": 2, "hidden": 4}, "dense layers") if name == "progressive" else net
    with pytest.raises(Unsuitable, match=says):
        ready(name, "task", *model)


LENGTHS = [Training(epochs=3, batch=7), *(Training(iterations=n, batch=16) for n in (5, 9, 30))]


@pytest.mark.parametrize("training", LENGTHS)
def test_the_number_of_steps_equals_the_schedule_s(training: Training) -> None:
    streams = lanes_on(SEEDS, "task", training)
    for task in range(2):
        schedule: Any = schedule_task(streams, task, strategies.get("finetune")())
        epoch, whole = streams.steps_of_task(task)
        assert whole == schedule.steps
        assert all(e <= w and w % e == 0 for e, w in zip(epoch, whole, strict=True)) or training.iterations


def test_independent_networks_start_differently_and_predict_for_their_own_task() -> None:
    strategy = ready("independent", "task")
    first, second = (copy.deepcopy(n) for n in strategy.networks)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert not torch.equal(a, b), name
        assert a.std() == pytest.approx(b.std(), rel=0.5)
    begin(strategy, 0)
    perturb(strategy)
    strategy.end_task(0)
    first = copy.deepcopy(strategy.model)
    begin(strategy, 1)
    assert_equal(strategy.model.parameters(), second.parameters())
    perturb(strategy, 1)
    batch = mixed_batch(strategy)
    answers, own = strategy.predict(batch), batch.active_LBU
    for task, network in enumerate((first, strategy.model)):
        expected = network(batch.x_LBX)[:, task::2]
        assert torch.equal(answers[:, task::2][own[:, task::2]], expected[own[:, task::2]])


def test_xdg_closes_exactly_its_share_of_every_layer_for_every_task() -> None:
    strategy = ready("xdg", "task", options={"hidden": 20, "layers": 2}, gated=0.4)
    for open_LTF in strategy.open_LTF:
        assert open_LTF.shape == (3, 2, 20)
        assert (~open_LTF).sum(2).tolist() == [[8, 8], [16, 16], [4, 4]]
        assert not torch.equal(open_LTF[:, 0], open_LTF[:, 1])
    assert not torch.equal(strategy.open_LTF[0], strategy.open_LTF[1])


def test_xdg_gates_a_step_by_its_task_and_each_prediction_by_the_row_s_task() -> None:
    strategy = ready("xdg", "task", options={"hidden": 9, "layers": 2}, gated=0.4)
    begin(strategy, 1)
    open_LTF = [of_layer.float() for of_layer in strategy.open_LTF]
    gates = [[[of_layer[lane, t] for of_layer in open_LTF] for t in range(2)] for lane in range(3)]
    check_answers(strategy, gates)
    batch = new_batch(strategy, 1)
    loss_L = strategy.loss(batch)
    loss_L.sum().backward()
    for lane, stream in enumerate(strategy.streams.streams):
        units = list(stream.tasks[1].units)
        rows = [gated(strategy, lane, x, gates[lane][1]) for x in batch.x_LBX[lane]]
        expected = loss_among(units, torch.stack(rows), batch.y_LB[lane])
        torch.testing.assert_close(loss_L[lane].detach(), expected)
        closed = ~strategy.open_LTF[0][lane, 1]
        assert bool((strategy.model.layers[0].weight.grad[lane][:, closed] == 0).all())


def test_xdg_gates_channels_of_convolutions() -> None:
    strategy = ready("xdg", "task", "cnn", {"width": 4, "hidden": 6}, gated=0.5)
    begin(strategy, 0)
    seen: list[Tensor] = []
    strategy.model.conv3.register_forward_hook(lambda m, args, out: seen.append(out))
    batch = mixed_batch(strategy)
    strategy.predict(batch)
    nonzero_LBF = seen[0].unflatten(1, (3, -1)).flatten(3).abs().sum(3).transpose(0, 1) > 0
    for b in range(8):
        assert torch.equal(nonzero_LBF[:, b], strategy.open_LTF[2][:, b % 2])


def test_xdg_is_composed_with_penalties_and_refuses_methods_that_replay() -> None:
    assert strategies.get("xdg+si")().unsuitable("task", Training()) is None
    for other in ("er", "der", "lwf", "agem"):
        reason = strategies.get(f"{other}+xdg")().unsuitable("task", Training())
        assert "only with penalties on parameters" in str(reason)
    records = run_group([toy_cell("ewc+xdg", seed, "task") for seed in range(2)])
    assert [r["status"] for r in records] == ["done", "done"]


def test_ewc_with_xdg_penalises_no_weight_of_a_closed_unit() -> None:
    strategy = ready("ewc+xdg", "task")
    begin(strategy, 0)
    ewc, xdg = strategy.parts
    weight, bias = ewc.fisher_information(0)[:2]
    closed_LF = ~xdg.open_LTF[0][:, 0]
    assert bool((bias[closed_LF] == 0).all())
    assert bool((weight.transpose(1, 2)[closed_LF] == 0).all())
    assert bool((bias[~closed_LF] > 0).any())


def test_hat_s_step_is_the_paper_s() -> None:
    """One step of the second task by hand: gates, loss, factors of both gradients, SGD for both."""
    strategy = ready("hat", "task", options={"hidden": 5, "layers": 2}, s_max=4.0, c=0.3)
    train_on(strategy, 0, 3)
    used = [u.clone() for u in strategy.used]
    begin(strategy, 1)
    epoch, _ = strategy.streams.steps_of_task(1)
    strategy._step = 2
    batch = new_batch(strategy, 1)
    parameters = {k: v.detach().clone() for k, v in strategy.model.named_parameters()}
    embeddings = [e.detach().clone() for e in strategy._now]
    loss_L = learn_once(strategy, 1)
    for lane, stream in enumerate(strategy.streams.streams):
        s_max, c = lane_value(strategy.s_max, lane), lane_value(strategy.c, lane)
        s = 1 / s_max + (s_max - 1 / s_max) * 2 / (epoch[lane] - 1)
        e = [x[lane].clone().requires_grad_() for x in embeddings]
        p = {k: v[lane].clone().requires_grad_() for k, v in parameters.items()}
        a = [torch.sigmoid(s * x) for x in e]
        h = batch.x_LBX[lane].flatten(1)
        for i in range(2):
            h = torch.relu(h @ p[f"layers.{i}.weight"] + p[f"layers.{i}.bias"]) * a[i]
        logits = h @ p["head.weight"] + p["head.bias"]
        earlier = [u[lane] for u in used]
        taken = sum((x * (1 - u)).sum() for x, u in zip(a, earlier, strict=True))
        free = sum((1 - u).sum() for u in earlier)
        new = loss_among(list(stream.tasks[1].units), logits, batch.y_LB[lane])
        loss = new + c * taken / free
        torch.testing.assert_close(loss_L[lane], loss.detach(), rtol=1e-4, atol=1e-5)
        loss.backward()
        below, above = earlier
        factors = {"layers.0.weight": 1 - below, "layers.0.bias": 1 - below, "layers.1.bias": 1 - above}
        factors["layers.1.weight"] = 1 - torch.minimum(below[:, None], above)
        expected = [v - 0.1 * factors.get(k, torch.tensor(1.0)) * v.grad for k, v in p.items()]
        found = [v[lane] for v in strategy.model.parameters()]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for now, x in zip(strategy._now, e, strict=True):
            v = x.detach()
            compensated = x.grad * s_max / s * ((s * v).cosh() + 1) / (v.cosh() + 1)
            moved = (v - 0.1 * compensated).clamp(-6, 6)
            torch.testing.assert_close(now[lane].detach(), moved, rtol=1e-3, atol=1e-4)


def test_hat_predicts_with_the_steepest_gates_of_each_row_s_task() -> None:
    strategy = ready("hat", "task", options={"hidden": 5, "layers": 2}, s_max=4.0)
    train_on(strategy, 0)
    begin(strategy, 1)
    learn_once(strategy, 1)
    gates = [(e * strategy.s_max.view(3, 1, 1)).sigmoid() for e in strategy.embeddings]
    check_answers(strategy, [[[of[lane, t] for of in gates] for t in (0, 1)] for lane in range(3)])


def test_hat_masks_follow_a_convolution_into_the_dense_layer() -> None:
    strategy = ready("hat", "task", "cnn", {"width": 2, "hidden": 6})
    for used in strategy.used:
        used.uniform_(generator=torch.Generator().manual_seed(used.shape[1]))
    free, net = strategy.free(), strategy.model
    for lane in range(3):
        conv3, conv4, dense = (strategy.used[i][lane] for i in (2, 3, 4))
        found = free[net.conv4.weight].expand_as(net.conv4.weight)[lane, :, :, 1, 2]
        torch.testing.assert_close(found, 1 - torch.minimum(conv4[:, None], conv3))
        of_pixel = conv4.repeat_interleave(4)  # four channels of 2 x 2 pixels
        found = free[net.dense.weight][lane]
        torch.testing.assert_close(found, 1 - torch.minimum(of_pixel[:, None], dense))


def packnet(**hyper: Any) -> Any:
    return ready("packnet", "task", options={"hidden": 20, "layers": 2}, **hyper)


def test_packnet_prunes_the_smallest_free_weights_at_its_step_and_freezes_the_rest() -> None:
    strategy = packnet(pruned=0.4, retrain=0.5)  # 0.4, 0.8, 0.2 and 0.5, 1.0, 0.25 of the steps
    begin(strategy, 0)
    _, steps = strategy.streams.steps_of_task(0)
    at = [max(1, round((1 - share) * n)) for share, n in zip((0.5, 1.0, 0.25), steps, strict=True)]
    assert strategy._prune_at_L.tolist() == at
    for step in range(1, max(steps) + 1):
        learn_once(strategy, 0)
        for owner in strategy.owner:
            assert [bool((of_lane > 0).any()) for of_lane in owner] == [step >= first for first in at]
    for p_layer, owner in zip(strategy._layers, strategy.owner, strict=True):
        for lane, share in enumerate((0.4, 0.8, 0.2)):
            free = owner[lane] == 0
            assert int(free.sum()) == round(share * owner[lane].numel())
            assert bool((p_layer.weight[lane][free] == 0).all())
            assert bool((p_layer.weight[lane][~free] != 0).all())
    first = [m.weight.detach().clone() for m in strategy._layers]
    biases = [m.bias.detach().clone() for m in strategy._layers]
    strategy.end_task(0)
    begin(strategy, 1)
    learn_once(strategy, 1)
    for i, (m, owner) in enumerate(zip(strategy._layers, strategy.owner, strict=True)):
        assert_equal((m.weight[owner == 1], m.bias), (first[i][owner == 1], biases[i]))
        for lane in (0, 2):  # lane 1 prunes after its first step
            assert bool((m.weight[lane][owner[lane] == 0] != 0).any())


def test_packnet_prunes_by_magnitude() -> None:
    strategy = packnet(pruned=0.3)
    begin(strategy, 0)
    before = [m.weight.detach().clone() for m in strategy._layers]
    strategy._prune(torch.tensor([True, False, True]))
    for w, m, owner in zip(before, strategy._layers, strategy.owner, strict=True):
        assert torch.equal(m.weight[1], w[1])
        assert bool((owner[1] == 0).all())
        for lane in (0, 2):
            cut = owner[lane] == 0
            assert float(w[lane][cut].abs().max()) <= float(w[lane][~cut].abs().min())
            assert torch.equal(m.weight[lane], w[lane].masked_fill(cut, 0))


def top(size: Tensor, count: int) -> Tensor:
    """Return 1 for the ``count`` largest values of a tensor and 0 for the others, by a full sort."""
    found = torch.zeros(size.numel())
    found[size.flatten().argsort(descending=True)[:count]] = 1
    return found.view_as(size)


def supermasks(scores: list[Tensor], units: list[int], share: float) -> list[Tensor]:
    """Return one lane's masks of the hidden layers and the head, by their definition."""
    masks = [top(s.abs(), round(share * s.numel())) for s in scores]
    head = scores[-1][:, units]
    masks[-1] = torch.zeros_like(scores[-1])
    masks[-1][:, units] = top(head.abs(), round(share * head.numel()))
    return masks


def supsup(**hyper: Any) -> Any:
    return ready("supsup", "task", options={"hidden": 9, "layers": 2}, **hyper)


def test_supsup_s_weights_are_signed_constants_and_its_biases_zero() -> None:
    for strategy in (supsup(), ready("supsup", "task", "cnn", {"width": 4, "hidden": 6})):
        for m in (*strategy._layers, strategy.model.head):
            inputs = m.weight[0].numel() // len(m.bias[0]) if m.bias is not None else m.weight[0, 0].numel()
            torch.testing.assert_close(m.weight.abs(), torch.full_like(m.weight, math.sqrt(2 / inputs)))
            assert float(m.weight.min()) < 0 < float(m.weight.max())
            assert m.bias is None or not m.bias.any()


def test_supsup_s_step_is_the_straight_through_step_of_a_plain_network() -> None:
    """Top k by magnitude, dL/ds = dL/d(masked w) w sign(s), SGD: one lane at a time in plain torch."""
    strategy = supsup(kept=0.4)  # 0.4, 0.8, 0.2
    begin(strategy, 1)
    batch = new_batch(strategy, 1)
    before = [s.detach().clone() for s in strategy._scores]
    weights = [m.weight.detach().clone() for m in strategy._layers]
    loss_L = learn_once(strategy, 1)
    for lane, stream in enumerate(strategy.streams.streams):
        units = list(stream.tasks[1].units)
        scores = [s[lane] for s in before]
        masks = supermasks(scores, units, (0.4, 0.8, 0.2)[lane])
        masked = [(w[lane] * m).requires_grad_() for w, m in zip(weights, masks, strict=True)]
        h = batch.x_LBX[lane].flatten(1)
        for w in masked[:-1]:
            h = torch.relu(h @ w)
        loss = loss_among(units, h @ masked[-1], batch.y_LB[lane])
        loss.backward()
        torch.testing.assert_close(loss_L[lane], loss.detach())
        for i, (s, w) in enumerate(zip(scores, masked, strict=True)):
            expected = s - 0.1 * w.grad * weights[i][lane] * s.sign()
            torch.testing.assert_close(strategy._scores[i][lane].detach(), expected)
            assert not torch.equal(expected, s)


def test_supsup_later_tasks_change_neither_weights_nor_earlier_masks() -> None:
    strategy = supsup()
    start, drawn = copy.deepcopy(strategy.model.state_dict()), [m.clone() for m in strategy._stored(0)]
    train_on(strategy, 0, 5)
    bits = [of_layer[:, 0].clone() for of_layer in strategy.bits]
    assert not all(map(torch.equal, drawn, strategy._stored(0)))
    train_on(strategy, 1, 5)
    strategy.predict(mixed_batch(strategy))
    assert_equal((of_layer[:, 0] for of_layer in strategy.bits), bits)
    assert_equal(strategy.model.state_dict().values(), start.values())


def test_supsup_predicts_each_row_by_its_task_s_mask_also_during_training() -> None:
    strategy = supsup()
    train_on(strategy, 0)
    begin(strategy, 1)
    for _ in range(3):
        learn_once(strategy, 1)
    batch = mixed_batch(strategy)
    answers = strategy.predict(batch)
    for lane, stream in enumerate(strategy.streams.streams):
        for task, masks in enumerate((strategy._stored(0), strategy._masks(1))):
            h = batch.x_LBX[lane, task::2].flatten(1)
            masked = [m.weight[lane] * mask[lane] for m, mask in zip(strategy._layers, masks, strict=True)]
            for w in masked[:-1]:
                h = torch.relu(h @ w)
            own = list(stream.tasks[task].units)
            torch.testing.assert_close(answers[lane, task::2][:, own], (h @ masked[-1])[:, own])


def test_supsup_stores_one_bit_for_each_weight_and_task_and_nothing_else() -> None:
    strategy = supsup()
    sizes = [64 * 9, 9 * 9, 9 * 4]  # 81 and 36 weights, padded to whole bytes
    assert held_memory(strategy) == (0, 2 * sum(math.ceil(n / 8) for n in sizes))
    assert not torch.equal(strategy._stored(0)[0], strategy._stored(1)[0])
    train_on(strategy, 0)
    assert_equal(strategy._masks(0), strategy._stored(0))


@pytest.mark.parametrize("lateral", ["adapter", "linear"])
def test_progressive_columns_read_earlier_columns_as_in_the_paper(lateral: str) -> None:
    strategy = ready("progressive", "task", options={"hidden": 5, "layers": 2}, lateral=lateral)
    begin(strategy, 0)
    perturb(strategy)
    strategy.end_task(0)
    begin(strategy, 1)
    perturb(strategy, 1)
    before = copy.deepcopy(strategy.columns[0].state_dict())
    batch = mixed_batch(strategy)
    answers = strategy.predict(batch)

    first, own, side = strategy.columns[0], strategy.model, strategy.laterals[0]
    for lane, stream in enumerate(strategy.streams.streams):
        x = batch.x_LBX[lane].flatten(1)
        old, new = ([torch.relu(dense_of(net, "layers.0", lane, x))] for net in (first, own))
        for i, name in enumerate(("layers.1", "head")):
            if lateral == "adapter":
                inner = torch.relu(dense_of(side, f"{i}.inner", lane, side[i].alpha[lane] * old[i]))
                across = dense_of(side, f"{i}.outer", lane, inner)
            else:
                across = dense_of(side, str(i), lane, old[i])
            end = torch.relu if name != "head" else torch.clone
            old.append(end(dense_of(first, name, lane, old[i])))
            new.append(end(dense_of(own, name, lane, new[i]) + across))
        for task, expected in enumerate((old[-1], new[-1])):
            units = list(stream.tasks[task].units)
            theirs = expected[task::2][:, units]
            torch.testing.assert_close(answers[lane, task::2][:, units], theirs, rtol=1e-4, atol=1e-5)
    across = copy.deepcopy(side.state_dict())
    learn_once(strategy, 1)
    assert_equal(strategy.columns[0].state_dict().values(), before.values())
    assert any(not torch.equal(across[k], v) for k, v in strategy.laterals[0].state_dict().items())


def test_a_copy_of_a_gated_network_does_not_copy_its_strategy() -> None:
    strategy = ready("xdg", "task")
    begin(strategy, 0)
    twin = copy.deepcopy(strategy.model)
    x = new_batch(strategy).x_LBX
    assert torch.equal(twin(x), strategy.model(x))
    strategy.open_LTF[0].fill_(False)
    assert torch.equal(twin(x), strategy.model(x))


def test_the_recipe_of_separate_networks_has_smaller_ones() -> None:
    cell = Request("digits", ("independent[preset=vandeven2022]",), ("task",)).cells()[0]
    assert cell.model_options["hidden"] == 100
