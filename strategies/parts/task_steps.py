"""How many steps a task has, for methods that must know beforehand where in a task they are.

Axes: L lanes.
"""

from __future__ import annotations

from strategies.core import LaneStreams
from suites.base import Training


def steps_of(rows: int, training: Training) -> int:
    """Return the steps that a task of so many rows takes."""
    if training.iterations and rows >= training.batch:
        return training.iterations
    return (training.iterations or training.epochs) * -(-rows // training.batch)


def steps_of_task(streams: LaneStreams, task: int) -> tuple[list[int], list[int]]:
    """Return each lane's steps of one epoch and of the whole task, as the engine lays them out."""
    training = streams.training
    epoch, whole = [], []
    for stream in streams.streams:
        n = len(stream.tasks[task].train_rows)
        steps = steps_of(n, training)
        # Counted in iterations, a batch that a pass leaves incomplete is not learned.
        cut = training.iterations and n >= training.batch
        per_epoch = n // training.batch if cut else -(-n // training.batch)
        epoch.append(min(per_epoch, steps))
        whole.append(steps)
    return epoch, whole
