"""How many steps a task has, for methods that must know beforehand where in a task they are.

Axes: L lanes.
"""

from __future__ import annotations

from strategies.streams import LaneStreams


def steps_of_task(streams: LaneStreams, task: int) -> tuple[list[int], list[int]]:
    """Return each lane's steps of one epoch and of the whole task, as the engine lays them out."""
    training = streams.training
    epoch, whole = [], []
    for stream in streams.streams:
        n = len(stream.tasks[task].train_rows)
        if training.iterations and n >= training.batch:
            per_epoch, steps = n // training.batch, training.iterations
        else:
            per_epoch = -(-n // training.batch)
            steps = per_epoch * (training.iterations or training.epochs)
        epoch.append(min(per_epoch, steps))
        whole.append(steps)
    return epoch, whole
