"""The detector, the controller and the budget of adaptive-replay, against plain sequential calculations."""

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bench.plan import CellSpec
from bench.train import LaneState, learn_task, make_lanes
from bench.train.lane_record import make_record
from lethe.testing import begin, lane_value, logits_of, new_batch, perturb, ready, toy_cell
from strategies.core import Unsuitable, held_memory
from strategies.replay.adaptive_replay import PARTS, SCHEDULE
from tests.strategies.test_replay import at_task_1

LANES = range(3)


def run(cells: list[CellSpec]) -> LaneState:
    group = make_lanes(cells)
    for task in range(group.streams.n_tasks):
        learn_task(group, task)
    return group


@pytest.mark.parametrize("control", ["adaptive", "fixed"])
def test_controller_equals_a_sequential_simulation(control: Any) -> None:
    """With random readings at random steps and resting lanes: turns and strengths of one lane in Python."""
    strategy = ready("adaptive-replay", control=control, rate=0.3, lam=1.5, boost=2.0, calm=0.15, alarm=0.2)
    strategy.after_step(new_batch(strategy))
    strategy.task = 1
    chance, steps = random.Random(0), 400
    readings = [[chance.choice([None, chance.uniform(0, 0.5)]) for _ in LANES] for _ in range(steps)]
    active = [[chance.random() < 0.8 for _ in LANES] for _ in range(steps)]
    found: list[list[tuple[bool, float]]] = []
    for reading, on in zip(readings, active, strict=True):
        due = torch.tensor([r is not None for r in reading])
        forgetting = torch.tensor([r or 0.0 for r in reading])
        if control == "adaptive":
            strategy.control_by(forgetting, due)
        review = strategy.reviews_now(torch.tensor(on))
        found.append(list(zip(review.tolist(), strategy.strength_L.tolist(), strict=True)))
    for lane in LANES:
        factor = (1.0, 2.0, 0.5)[lane]  # the factors by which ready() multiplies hyper-parameters
        rate, lam, boost, calm, alarm = (factor * v for v in (0.3, 1.5, 2.0, 0.15, 0.2))
        frequency, strength, due_now, reviews, eligible = 1.0, lam, 0.0, 0, 0
        for step in range(steps):
            value = readings[step][lane]
            if value is not None and control == "adaptive":
                u = min(value / alarm, 1.0)
                frequency, strength = calm + (1 - calm) * u, lam * (1 + boost * u)
            review = False
            if active[step][lane]:
                eligible += 1
                due_now += frequency
                review = due_now >= 1 - 1e-9 and reviews < math.floor(rate * eligible + 1e-6)
                due_now = min(due_now - review, 1.0)
                reviews += review
            ours, ours_strength = found[step][lane]
            assert ours == review, (lane, step)
            assert ours_strength == pytest.approx(strength, rel=1e-5)
        if control == "fixed":
            assert reviews == math.floor(rate * eligible + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("boundaries", ["shown", "hidden"])
def test_fixed_reviews_exactly_at_its_rate_and_adaptive_never_more_often(
    rate: float, boundaries: str
) -> None:
    changes = {"rate": rate, "boundaries": boundaries, "epochs": 6, "calm": 0.3, "alarm": 0.05}
    for control in ("fixed", "adaptive"):
        group = run([toy_cell("adaptive-replay", s, control=control, **changes) for s in range(3)])
        for lane, stream in enumerate(group.streams.streams):
            notes = make_record(group, lane)["notes"]
            lengths = [group.training.steps(len(t.train_rows))[1] for t in stream.tasks]
            # A known first task has no old rows; with hidden tasks, rows are old from the second step on.
            eligible = sum(lengths[1:]) if boundaries == "shown" else sum(lengths) - 1
            assert notes["eligible_steps"] == eligible
            allowed = math.floor(rate * eligible + 1e-6)
            assert notes["reviews"] == allowed if control == "fixed" else notes["reviews"] <= allowed
            # Every row of a review is used, whatever the padding of the new rows.
            assert notes["replayed"] == notes["reviews"] * group.training.batch


def test_watched_rows_are_never_replayed() -> None:
    strategy = ready("adaptive-replay", watch=3, buffer=30)
    seen: set[tuple[int, int]] = set()
    for step in range(12):
        batch = new_batch(strategy, step % 2, 30)
        strategy.after_step(batch)
        seen |= {(lane, int(row)) for lane in LANES for row in batch.rows_LB[lane]}
    for lane in LANES:
        watched = set(strategy.watched.rows_LM[lane, : strategy.watched.filled_L[lane]].tolist())
        reviewed = set(strategy.memory.rows_LM[lane, : strategy.memory.filled_L[lane]].tolist())
        assert min(len(watched), len(reviewed)) > 0
        assert not watched & reviewed
        assert {(lane, row) for row in watched | reviewed} <= seen
        assert strategy.only_watched(torch.tensor(sorted(watched)).expand(3, -1))[lane].all()
    assert held_memory(strategy)[0] == 30


def test_one_row_in_every_n_is_held_out() -> None:
    strategy = ready("adaptive-replay", watch=5)
    share = strategy.only_watched(torch.arange(20_000).expand(3, -1)).float().mean(1)
    torch.testing.assert_close(share, torch.full((3,), 0.2), rtol=0.05, atol=0)


def test_forgetting_is_the_mean_rise_above_each_row_s_lowest_error() -> None:
    strategy = ready("adaptive-replay", watch=2, buffer=200, alarm=0.5, boost=1.0, calm=0.0, lam=1.0)
    strategy.after_step(new_batch(strategy, 0, 30))
    begin(strategy, 1)
    best: dict[tuple[int, int], float] = {}
    for reading in range(3):
        # Lowest errors of the current task's rows are recorded, but these rows are not old yet.
        strategy.after_step(new_batch(strategy, 1, 10 + 5 * reading))
        strategy.measure(new_batch(strategy, 1), torch.tensor([True, True, reading != 1]))
        for lane in LANES:
            rises, errors = [], []
            for slot in range(int(strategy.watched.filled_L[lane])):
                row = strategy.watched.rows_LM[lane, slot : slot + 1]
                one = strategy.streams.batch(row.expand(3, 1))
                p = torch.softmax(logits_of(strategy, lane, one.x_LBX[lane]), 1)[0, one.y_LB[lane, 0]]
                error = 1 - float(p.detach())
                if not (lane == 2 and reading == 1):  # no reading is due in this lane
                    best[lane, slot] = min(best.get((lane, slot), 1.0), error)
                if int(row) < strategy.streams.n_images:
                    errors.append(error)
                    rises.append(error - best.get((lane, slot), 1.0))
            if lane == 2 and reading == 1:
                continue
            forgetting, error = sum(rises) / len(rises), sum(errors) / len(errors)
            u = min(forgetting / lane_value(strategy.alarm, lane), 1)
            strength = lane_value(strategy.lam, lane) * (1 + lane_value(strategy.boost, lane) * u)
            noted = dict(zip(SCHEDULE, strategy.schedule_LKS[lane, :, 0].tolist(), strict=True))
            found = [float(strategy.frequency_L[lane]), float(strategy.strength_L[lane])]
            found += [noted["error"], noted["forgetting"]]
            assert found == pytest.approx([u, strength, error, forgetting], abs=1e-5)
        perturb(strategy, reading, 0.3)
    assert strategy.model.training


def test_the_loss_adds_strength_times_old_only_in_lanes_that_review() -> None:
    strategy, batch = at_task_1("adaptive-replay", control="fixed", rate=0.5, lam=2.0, batch=4)
    old: list[Any] = []
    read = strategy.memory.read
    strategy.memory.read = lambda slots, like, **how: old.append(read(slots, like, **how)) or old[-1]
    loss_L = strategy.loss(batch)
    # Rates are 0.5, 1 and 0.25: at the first step only the second lane may review.
    for lane in LANES:
        expected = F.cross_entropy(logits_of(strategy, lane, batch.x_LBX[lane]), batch.y_LB[lane])
        if lane == 1:
            logits = logits_of(strategy, lane, old[-1].x_LBX[lane])
            expected = expected + 4.0 * F.cross_entropy(logits, old[-1].y_LB[lane])
        torch.testing.assert_close(loss_L[lane], expected, rtol=1e-5, atol=1e-6)
    assert strategy.replayed_L.tolist() == [0, 4, 0]


def test_the_schedule_is_recorded_by_parts_of_a_task() -> None:
    group = run([toy_cell("adaptive-replay", s, every=4, epochs=6) for s in range(2)])
    for lane, stream in enumerate(group.streams.streams):
        notes = make_record(group, lane)["notes"]
        assert set(notes) == {*SCHEDULE, "eligible_steps", "reviews", "replayed"}
        for task, part in enumerate(stream.tasks):
            length = group.training.steps(len(part.train_rows))[1]
            last = {step * PARTS // length: step for step in range(0, length, 4)}
            assert notes["step"][task] == [last.get(i) for i in range(PARTS)]
        taken = [i for i, step in enumerate(notes["step"][1]) if step is not None]
        assert all(notes["error"][0][i] is None for i in range(PARTS))  # the first task has no old rows
        so_far = [notes["reviews_so_far"][1][i] for i in taken]
        assert [*so_far, notes["reviews"]] == sorted([*so_far, notes["reviews"]])


def test_a_memory_of_one_row_is_refused() -> None:
    with pytest.raises(Unsuitable, match="set buffer=2 or more"):
        ready("adaptive-replay", buffer=1)
