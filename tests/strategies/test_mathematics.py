"""Each method's own term, against a plain single-model calculation of the paper's formula."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lethe.testing.made_lanes import SEEDS, assert_equal, begin, new_batch, perturb, ready, replayed, snapshot
from lethe.testing.plain_torch import lane_module, lane_value, logits_of, loss_among
from strategies.core import Draws, dot_L, mask
from strategies.parts import squared_gradients
from tests.strategies.test_replay import at_task_1


def test_batched_fisher_is_the_square_of_the_mean_gradient_times_the_rows() -> None:
    strategy = ready("finetune")
    batch = new_batch(strategy)
    found = squared_gradients(strategy.model, batch, strategy.logits, "batched")
    for lane in range(3):
        net = lane_module(strategy, lane)
        F.cross_entropy(net(batch.x_LBX[lane : lane + 1])[0], batch.y_LB[lane]).backward()
        for ours, p in zip(found, net.parameters(), strict=True):
            torch.testing.assert_close(ours[lane], 6 * p.grad[0].square())


@pytest.mark.parametrize("half", [True, False])
def test_ewc_gradient_equals_autograd_of_one_penalty_per_task(half: bool) -> None:
    """Two running sums over tasks give the gradient of the sum of all penalties."""
    strategy = ready("ewc", lam=30.0, half=half)
    of_tasks = []
    for task in range(2):
        begin(strategy, task)
        perturb(strategy, task)
        of_tasks.append([[f.clone() for f in strategy.fisher_information(task)], snapshot(strategy)])
        strategy.end_task(task)
    strategy.begin_task(2)
    perturb(strategy, 9)
    parameters, penalty = list(strategy.model.parameters()), torch.zeros(3)
    for of_task in of_tasks:
        for p, f, a in zip(parameters, *of_task, strict=True):
            penalty = penalty + (f * (p - a) ** 2).flatten(1).sum(1)
    factor = 0.5 if half else 1.0
    expected = torch.autograd.grad((factor * strategy.lam * penalty).sum(), parameters)
    strategy.model.zero_grad()
    strategy.adjust_gradients()
    torch.testing.assert_close([p.grad for p in parameters], list(expected), rtol=1e-4, atol=1e-6)


def test_ewc_fisher_is_the_mean_over_a_tasks_rows() -> None:
    strategy = ready("ewc")
    found = strategy.fisher_information(0)
    for lane, stream in enumerate(strategy.streams.streams):
        rows = stream.tasks[0].train_rows
        batch = strategy.streams.batch(rows.expand(3, -1))
        total = squared_gradients(strategy.model, batch, strategy.logits, "exact")
        means = [t[lane] / len(rows) for t in total]
        torch.testing.assert_close([f[lane] for f in found], means, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("estimator", ["exact", "sampled", "true", "batched"])
def test_ewc_pads_lanes_with_labelled_rows(estimator: str) -> None:
    """Padding has no weight, but its label is read all the same."""
    strategy = ready("ewc", fisher=estimator, fisher_batch=8)
    together = strategy.fisher_information(0)
    assert len({len(s.tasks[0].train_rows) for s in strategy.streams.streams}) > 1
    assert all(bool(f.isfinite().all()) and float(f.flatten(1).sum(1).min()) > 0 for f in together)


def test_online_ewc_keeps_one_decaying_penalty_centred_at_the_latest_parameters() -> None:
    strategy = ready("ewc", variant="online", gamma=0.5)
    first = [f.clone() for f in strategy.fisher_information(0)]
    strategy.end_task(0)
    perturb(strategy)
    second = [f.clone() for f in strategy.fisher_information(1)]
    strategy.end_task(1)
    for lane, gamma in enumerate((0.5, 1.0, 0.25)):
        for f, a, b in zip(strategy.importance, first, second, strict=True):
            torch.testing.assert_close(f[lane], gamma * a[lane] + b[lane])
    torch.testing.assert_close(strategy.centre, snapshot(strategy), rtol=0, atol=0)


@pytest.mark.parametrize("path", ["task", "total"])
@pytest.mark.parametrize("negative", [True, False])
def test_si_equals_the_path_integral(path: str, negative: bool) -> None:
    """Two tasks of three steps by hand: w = sum -g dp, Omega = sum w / (D^2 + xi)."""
    strategy = ready("si", c=0.4, xi=0.05, path=path, negative=negative)
    parameters, centre = list(strategy.model.parameters()), snapshot(strategy)
    omega = [torch.zeros_like(p) for p in parameters]
    c, xi = strategy.c, strategy.xi
    for task in range(2):
        begin(strategy, task)
        start, w = snapshot(strategy), [torch.zeros_like(p) for p in parameters]
        for step in range(3):
            batch = new_batch(strategy, task, 4 + step)
            strategy.model.zero_grad()
            loss = strategy.loss(batch)
            alone = torch.autograd.grad(loss.sum(), parameters, retain_graph=True)
            loss.sum().backward()
            strategy.adjust_gradients()
            total = [p.grad.clone() for p in parameters]
            for t, g, p, o, a in zip(total, alone, parameters, omega, centre, strict=True):
                pull = 2 * c.view(-1, *[1] * (p.dim() - 1)) * o * (p.detach() - a)
                torch.testing.assert_close(t, g + pull, rtol=1e-4, atol=1e-6)
            before = snapshot(strategy)
            for p, t in zip(parameters, total, strict=True):
                p.data -= 0.3 * t
            strategy.after_step(batch)
            along = alone if path == "task" else total
            for w_, g, p, b in zip(w, along, parameters, before, strict=True):
                w_ -= g * (p.detach() - b)
        strategy.end_task(task)
        for o, w_, p, s in zip(omega, w, parameters, start, strict=True):
            gain = w_ / ((p.detach() - s) ** 2 + xi.view(-1, *[1] * (p.dim() - 1)))
            o += gain if negative else gain.clamp(min=0)
        centre = snapshot(strategy)
        torch.testing.assert_close(strategy.importance, omega, rtol=1e-4, atol=1e-7)


def test_agem_projects_each_lane_onto_its_own_half_space() -> None:
    strategy, batch = at_task_1("agem", batch=5)
    # In lane 1 memory and new rows agree: no projection there.
    strategy.memory.rows_LM[1, :6] = batch.rows_LB[1]
    strategy.loss(batch).sum().backward()
    plain_g = [p.grad.clone() for p in strategy.model.parameters()]
    old = replayed(strategy, 5, "reference")
    reference = []
    for lane in range(3):
        net = lane_module(strategy, lane)
        F.cross_entropy(net(old.x_LBX[lane : lane + 1])[0], old.y_LB[lane]).backward()
        reference.append([p.grad[0] for p in net.parameters()])
    r = [torch.stack(parts) for parts in zip(*reference, strict=True)]
    inner = dot_L(plain_g, r)
    assert inner[1] > 0 > inner[0]
    strategy.adjust_gradients()
    now = [p.grad for p in strategy.model.parameters()]
    assert bool((dot_L(now, r) >= -1e-5).all())
    for lane, factor in enumerate((inner / dot_L(r, r)).clamp(max=0)):
        for n, g, ref in zip(now, plain_g, r, strict=True):
            torch.testing.assert_close(n[lane], g[lane] - factor * ref[lane], rtol=1e-4, atol=1e-6)


def test_agem_does_not_project_in_the_first_task() -> None:
    strategy = ready("agem")
    strategy.loss(new_batch(strategy)).sum().backward()
    before = [p.grad.clone() for p in strategy.model.parameters()]
    strategy.adjust_gradients()
    assert_equal(before, (p.grad for p in strategy.model.parameters()))


def test_agem_computes_its_reference_gradient_in_the_precision_of_the_loss() -> None:
    """In bfloat16 the reference gradient is computed in bfloat16 too: with the same rows, r equals g."""
    strategy = ready("agem")
    strategy.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    batch = new_batch(strategy)
    strategy.after_step(batch)
    strategy.task = 1
    with strategy.autocast():
        strategy.loss(batch).sum().backward()
    before = [p.grad.clone() for p in strategy.model.parameters()]
    for p in strategy.model.parameters():
        p.grad.neg_()  # opposite to the memory's gradient: the projection is zero
    strategy.memory.draw_slots = lambda name, n: torch.arange(n).repeat(3, 1)
    strategy.adjust_gradients()
    for p, b in zip(strategy.model.parameters(), before, strict=True):
        assert float(p.grad.abs().max()) < 1e-5 * float(b.abs().max()) + 1e-12


@pytest.mark.parametrize("where", ["domain active", "class active", "class seen", "task active"])
@pytest.mark.parametrize(("balance", "squared"), [("sum", False), ("sum", True), ("tasks", False)])
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("earlier", [1, 2])
def test_lwf_s_loss_is_the_paper_s_distillation(
    where: str, balance: str, squared: bool, seen: bool, earlier: int
) -> None:
    """Earlier tasks' heads are added (Li & Hoiem 2017), or averaged (van de Ven 2022, balance=tasks).

    With ``active=seen`` the teacher has only the units of the first task.
    """
    scenario, distil = where.split()
    chosen = {"temperature": 2.0, "balance": balance, "lam": 0.7, "distil": distil, "heat_squared": squared}
    strategy = ready("lwf", scenario, **chosen)
    strategy.begin_task(0)
    strategy.end_task(0)
    teacher = {
        lane: logits_of(strategy, lane, new_batch(strategy, 1).x_LBX[lane]).detach() for lane in range(3)
    }
    perturb(strategy)
    if seen:
        strategy.streams.training = replace(strategy.streams.training, active="seen")
        strategy.streams.begin_task(1)
    begin(strategy, 1)
    if scenario == "task":  # the toy has only two tasks: simulate a third, with rows of the second task
        strategy.task = earlier
    batch, n = new_batch(strategy, 1), strategy.task
    ours = strategy.loss(batch)
    for lane, stream in enumerate(strategy.streams.streams):
        logits = logits_of(strategy, lane, batch.x_LBX[lane])
        own = list(stream.tasks[1].units) if scenario == "task" else list(range(stream.n_units))
        new = loss_among(own, logits, batch.y_LB[lane])
        heads = [list(range(stream.n_units))]
        if scenario == "task" or distil == "seen":
            heads = [sorted(stream.tasks[t].units) for t in range(n)]
        heat = lane_value(strategy.temperature, lane)
        if seen and scenario == "class":
            teacher[lane][:, stream.tasks[1].units] = -torch.inf
        old = 0
        for units in heads:
            target = torch.softmax(teacher[lane][:, units] / heat, 1)
            old -= (target * torch.log_softmax(logits[:, units] / heat, 1)).sum(1).mean()
        old = old * heat**2 if squared else old
        lam = lane_value(strategy.lam, lane)
        expected = new + lam * old if balance == "sum" else (new + n * old / len(heads)) / (n + 1)
        torch.testing.assert_close(ours[lane], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("balance", ["concatenated", "sum", "tasks"])
def test_er_weights_new_and_old_rows_by_its_balance(balance: str) -> None:
    strategy, batch = at_task_1("er", balance=balance, lam=0.6, batch=4)
    strategy.task = 2
    ours = strategy.loss(batch)
    old = replayed(strategy, 4)
    for lane in range(3):
        new_B = F.cross_entropy(
            logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane], reduction="none"
        )
        old_B = F.cross_entropy(logits_of(strategy, lane, old.x_LBX[lane]), old.y_LB[lane], reduction="none")
        expected = {
            "concatenated": (new_B.sum() + old_B.sum()) / 10,
            "sum": new_B.mean() + lane_value(strategy.lam, lane) * old_B.mean(),
            "tasks": new_B.mean() / 3 + old_B.mean() * 2 / 3,
        }[balance]
        torch.testing.assert_close(ours[lane], expected, rtol=1e-5, atol=1e-6)


def test_er_in_task_incremental_streams_trains_old_rows_on_their_own_head() -> None:
    strategy, batch = at_task_1("er", "task", balance="sum", batch=4)
    ours = strategy.loss(batch)
    old = replayed(strategy, 4)
    for lane, stream in enumerate(strategy.streams.streams):
        first, second = (list(t.units) for t in stream.tasks)
        new = loss_among(second, logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane])
        rest = loss_among(first, logits_of(strategy, lane, old.x_LBX[lane]), old.y_LB[lane])
        expected = new + lane_value(strategy.lam, lane) * rest
        torch.testing.assert_close(ours[lane], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["der", "der++"])
def test_der_matches_the_logits_from_when_a_row_was_stored(name: str) -> None:
    strategy = ready(name)
    first = new_batch(strategy, 0)
    strategy.loss(first)
    given = {lane: logits_of(strategy, lane, first.x_LBX[lane]).detach() for lane in range(3)}
    strategy.after_step(first)
    perturb(strategy)
    strategy.draws.begin(1)
    batch = new_batch(strategy, 1)
    ours = strategy.loss(batch)
    memory, draws = strategy.memory, Draws(SEEDS, "cpu")
    draws.begin(1)
    dark, labelled = draws.below("logits", memory.filled_L, 6), draws.below("labels", memory.filled_L, 6)
    for lane in range(3):
        expected = F.cross_entropy(logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane])
        x = first.x_LBX[lane, dark[lane]]  # slot i has the i-th row of the first batch
        distance = F.mse_loss(logits_of(strategy, lane, x), given[lane][dark[lane]])
        expected = expected + lane_value(strategy.alpha, lane) * distance
        if name == "der++":
            x, y = first.x_LBX[lane, labelled[lane]], first.y_LB[lane, labelled[lane]]
            expected = expected + lane_value(strategy.beta, lane) * F.cross_entropy(
                logits_of(strategy, lane, x), y
            )
        torch.testing.assert_close(ours[lane], expected, rtol=1e-5, atol=1e-6)


def test_er_ace_s_loss_of_new_rows_is_among_their_own_classes_only() -> None:
    strategy, batch = at_task_1("er-ace")
    ours = strategy.loss(batch)
    old = replayed(strategy, 6)
    for lane in range(3):
        present = sorted(set(batch.y_LB[lane].tolist()))
        new = loss_among(present, logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane])
        rest = F.cross_entropy(logits_of(strategy, lane, old.x_LBX[lane]), old.y_LB[lane])
        torch.testing.assert_close(ours[lane], new + rest, rtol=1e-5, atol=1e-6)


def test_inactive_units_get_no_gradient_and_zero_probability() -> None:
    strategy = ready("finetune", "task")
    batch = new_batch(strategy, 1)
    logits = strategy.logits(batch)
    strategy.cross_entropy(logits, batch).sum().backward()
    for lane, stream in enumerate(strategy.streams.streams):
        others = list(stream.tasks[0].units)
        assert bool((strategy.model.head.weight.grad[lane][:, others] == 0).all())
        assert bool((logits[lane].softmax(1)[:, others] == 0).all())
    assert bool(mask(torch.zeros(1, 1, 2), torch.tensor([[[True, False]]])).isfinite().all())
