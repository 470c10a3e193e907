"""The batches of all lanes in a task, drawn before its first step.

Axes: L lanes, S steps, B batch, R rows.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from strategies.core import LaneStreams, Strategy
from suites.base import Training, generator


@dataclass
class Schedule:
    """The batches of one task for all lanes; lanes with fewer steps than others are inactive at the end."""

    task: int
    """Counted from 0."""
    rows_SLB: Tensor
    weight_SLB: Tensor | None
    """0 for padding, 1 else; None if no row is padding."""
    steps: list[int]
    """Number of steps of each lane."""
    samples: int
    """Number of rows learned by all lanes."""

    def __post_init__(self) -> None:
        """Store the numbers of steps of the shortest and the longest lane."""
        self._all_active, self.n_steps = min(self.steps), len(self.rows_SLB)
        self._steps_L = torch.tensor(self.steps, device=self.rows_SLB.device)

    def rows(self, step: int) -> Tensor:
        """Return the row numbers of one step, int64 (L, B)."""
        return self.rows_SLB[step]

    def weight(self, step: int) -> Tensor | None:
        """Return the weights of the rows of one step, float (L, B); None if all are 1."""
        return None if self.weight_SLB is None else self.weight_SLB[step]

    def samples_of_first(self, steps: int) -> int:
        """Return the number of rows learned by all lanes in the first ``steps`` steps."""
        if self.weight_SLB is None:
            return self.rows_SLB[:steps].numel()
        return int(self.weight_SLB[:steps].sum())

    def active(self, step: int) -> tuple[bool, ...] | None:
        """Return which lanes are active at a step; None if all are."""
        return None if step < self._all_active else tuple(step < n for n in self.steps)

    def active_L(self, step: int) -> Tensor:
        """Return which lanes are active at a step, on the device, bool (L,)."""
        return self._steps_L > step


def schedule_task(streams: LaneStreams, task: int, strategy: Strategy) -> Schedule | None:
    """Draw the batches of one task, counted from 0; return None if the strategy learns nothing in it."""
    if strategy.trains_on == "all" and task < streams.n_tasks - 1:
        return None
    training, device = streams.training, streams.device
    if strategy.one_pass:
        training = replace(training, epochs=1, iterations=0)
    first = task if strategy.trains_on == "task" else 0
    lanes = []
    for stream in streams.streams:
        rows_R = torch.cat([t.train_rows for t in stream.tasks[first : task + 1]])
        # Methods that train on the rows of several tasks at once do not follow the order of a stream.
        ordered = stream.in_order and strategy.trains_on == "task"
        random = None if ordered else generator(stream.seed, f"batches/{task}")
        lanes.append(batches(rows_R, training, task + 1 - first, random))
    steps = [len(rows_SB) for rows_SB, _ in lanes]
    rows_SLB = torch.stack([_repeat_last(rows_SB, max(steps)) for rows_SB, _ in lanes], 1)
    weight_SLB = pad_sequence([weight_SB for _, weight_SB in lanes])  # 0 for the repeated ones
    samples = int(weight_SLB.sum())
    padded = samples < weight_SLB.numel()
    return Schedule(task, rows_SLB.to(device), weight_SLB.to(device) if padded else None, steps, samples)


def batches(
    rows_R: Tensor, training: Training, times: int, random: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Return the rows of one lane and their weights, (S, B) each.

    With epochs, the last batch is padded with rows of weight 0. With iterations, passes are repeated and
    incomplete batches are dropped.

    Args:
        rows_R: The training rows.
        training: Training settings.
        times: Number of tasks that the rows are from; iterations are taken for each.
        random: Generator of the order; None for that of ``rows_R``.
    """
    size, n = training.batch, len(rows_R)
    per_pass, steps = training.steps(n, times)
    passes = range(-(-steps // per_pass))

    def order_R() -> Tensor:
        return torch.arange(n) if random is None else torch.randperm(n, generator=random)

    if per_pass * size <= n:
        order = [order_R()[: per_pass * size] for _ in passes]
        rows_SB = rows_R[torch.cat(order)].view(-1, size)[:steps]
        return rows_SB, torch.ones(rows_SB.shape)
    # Padding repeats real rows, so that batch statistics are those of real images.
    fill = torch.arange(per_pass * size) % n
    order = [order_R()[fill] for _ in passes]
    weight_SB = (torch.arange(per_pass * size) < n).float().view(per_pass, size).repeat(len(passes), 1)
    return rows_R[torch.cat(order)].view(-1, size), weight_SB


def _repeat_last(rows_SB: Tensor, steps: int) -> Tensor:
    """Repeat the last batch of a lane with fewer steps; its weights will be 0."""
    return torch.cat([rows_SB, rows_SB[-1:].expand(steps - len(rows_SB), -1)])
