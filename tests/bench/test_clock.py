"""Throughput, with a fake clock: rows, tokens and seconds of the same steps."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.train.clock import FIRST_STEPS, Clock
from bench.train.schedule import Schedule

Time = SimpleNamespace


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A fake clock; tests advance its ``now``."""
    hands = Time(now=100.0, perf_counter=lambda: hands.now)
    monkeypatch.setattr("bench.train.clock.time", hands)
    return hands


def learn(clock: Clock, hands: Time, steps: int, *, end: float = 0.0, score_at: tuple[int, ...] = ()) -> None:
    """Simulate a task: 5 s a first step, 1 s another; a step has 8 rows and 20 tokens, padded to 25."""
    counts = {"tokens": 0, "padded": 0}
    clock.start()
    for step in range(steps):
        hands.now += 5.0 if step < FIRST_STEPS else 1.0
        counts["tokens"] += 20
        counts["padded"] += 25
        clock.step(step, counts)
        if step in score_at:
            with clock.scoring(within_task=True):
                hands.now += 50.0
    hands.now += end
    clock.stop(8 * steps, 8 * min(steps, FIRST_STEPS), counts)
    assert counts == {"tokens": 0, "padded": 0}


@pytest.mark.parametrize(
    ("tasks", "rows", "took", "steady"),
    [
        ((11, 11), 8 * 2, 2.0, 2),  # one steady step in each task
        ((10, 13), 8 * 3, 3.0, 3),  # ten steps have no steady one: their rows and seconds are left out
        ((9, 10), 8 * 19, 95.0, 0),  # no steady step in any task: rates of all steps
    ],
)
def test_rates_are_measured_over_steady_steps(
    seconds: Time, tasks: Any, rows: int, took: float, steady: int
) -> None:
    """The first steps of each task are not steady."""
    clock = Clock(torch.device("cpu"))
    for steps in tasks:
        learn(clock, seconds, steps)
    found = clock.timings(lanes=2)
    rates = [found[name] for name in ("samples_per_second", "tokens_per_second", "padding_share")]
    assert rates == pytest.approx([rows / took, rows / 8 * 20 / took, 0.2])
    assert (found["steps"], found["steady_steps"]) == (sum(tasks), steady)
    assert found["train_seconds"] == found["seconds_per_seed"] * 2 == pytest.approx(seconds.now - 100)


def test_rates_leave_out_scoring_within_the_first_steps(seconds: Time) -> None:
    clock = Clock(torch.device("cpu"))
    learn(clock, seconds, 14, score_at=(3, 9, 12))
    found = clock.timings(lanes=1)
    assert (found["train_seconds"], found["first_steps_seconds"]) == (54.0, 50.0)
    assert found["samples_per_second"] == pytest.approx(4 * 8 / 4)
    assert found["evaluation_seconds"] == 150.0


def test_rates_include_what_a_method_does_at_the_end_of_a_task(seconds: Time) -> None:
    clock = Clock(torch.device("cpu"))
    learn(clock, seconds, 12, end=6.0)
    assert clock.timings(lanes=1)["samples_per_second"] == pytest.approx(2 * 8 / (2 + 6))


def test_rates_continue_from_a_checkpoint(seconds: Time) -> None:
    whole, first, second = (Clock(torch.device("cpu")) for _ in range(3))
    learn(whole, seconds, 15)
    learn(whole, seconds, 11, end=3.0)
    learn(first, seconds, 15)
    second.load(json.loads(json.dumps(first.state())))
    learn(second, seconds, 11, end=3.0)
    assert second.timings(1) == whole.timings(1)


def test_rows_of_the_first_steps_are_counted_without_padding() -> None:
    rows_SLB = torch.arange(24).view(3, 2, 4)
    weight_SLB = torch.ones(3, 2, 4)
    weight_SLB[1, 0, 3] = weight_SLB[2, 1] = 0
    assert Schedule(0, [0], rows_SLB, None, [3, 3], [3, 3]).samples_of_first(2) == 16
    padded = Schedule(0, [0], rows_SLB, weight_SLB, [3, 2], [3, 2])
    assert [padded.samples_of_first(n) for n in (1, 2, 3, 9)] == [8, 15, 19, 19]
