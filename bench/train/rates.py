"""Learning rates that change: a factor for every step of every lane.

Steps are those that were planned, so that a rate depends neither on when a task is stopped nor on when a
stopped run is continued.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from suites.base import Training
from suites.values import whole_numbers


@dataclass(frozen=True)
class Planned:
    """The planned steps of one task of one lane."""

    per_pass: int
    steps: int


def rates_of_task(training: Training, planned: Sequence[Planned], task: int) -> list[float]:
    """Return what the rate of one lane is multiplied by at each step of a task.

    Args:
        training: The training settings.
        planned: The steps of every task of the lane.
        task: The task, from 0.
    """
    span = list(planned) if training.over == "stream" else [planned[task]]
    before = span[:task] if training.over == "stream" else []
    first, whole = sum(p.steps for p in before), sum(p.steps for p in span)
    now = planned[task]
    if training.iterations:
        position = [float(first + step) for step in range(now.steps)]
    else:
        epochs = sum(p.steps / p.per_pass for p in before)
        position = [epochs + step / now.per_pass for step in range(now.steps)]
    return [factor(training, first + step, whole, at) for step, at in enumerate(position)]


def factor(training: Training, step: int, whole: int, position: float) -> float:
    """Return what the rate is multiplied by at one step.

    Args:
        training: The training settings.
        step: The step, from 0.
        whole: The number of all steps.
        position: Epochs so far, or steps if ``iterations`` is set.
    """
    if step < training.warmup:
        return (step + 1) / training.warmup
    if training.schedule == "multi-step":
        passed = sum(position >= at for at in whole_numbers("milestones", training.milestones))
        return training.decay**passed
    done = (step - training.warmup) / max(1, whole - training.warmup)
    if training.schedule == "linear":
        return 1 + (training.final - 1) * done
    if training.schedule == "cosine":
        return training.final + (1 - training.final) * (1 + math.cos(math.pi * done)) / 2
    return 1.0
