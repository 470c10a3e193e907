"""The batches of all lanes in a task, drawn before its first step.

Axes: L lanes, S steps, B batch, R rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.train.rates import Planned, rates_of_task
from strategies.core import LaneStreams, Strategy
from suites.base import Stream, Training, generator


@dataclass
class Schedule:
    """The batches of one task for all lanes; lanes with fewer steps than others are inactive at the end."""

    task: int
    """Counted from 0."""
    tasks: Sequence[int]
    """The tasks whose rows are learned."""
    rows_SLB: Tensor
    weight_SLB: Tensor | None
    """0 for padding, 1 else; None if no row is padding."""
    steps: list[int]
    """Number of steps of each lane; ``stop`` makes it smaller."""
    per_pass: list[int]
    """Number of steps of each lane in one pass over its rows."""
    rates: list[list[float]] = field(default_factory=list)
    """What the learning rate of each lane is multiplied by at each of its steps; empty if it is constant."""

    def __post_init__(self) -> None:
        """Store the numbers of steps of the shortest and the longest lane."""
        self._all_active, self.n_steps = min(self.steps), max(self.steps)
        weight_SLB = self.weight_SLB
        self._whole_S = [] if weight_SLB is None else (weight_SLB > 0).flatten(1).all(1).tolist()
        self._steps_L = torch.tensor(self.steps, device=self.rows_SLB.device)

    def stop(self, lane: int, steps: int) -> None:
        """End the task of a lane after a number of steps: later ones have no rows of it."""
        if self.weight_SLB is None:
            self.weight_SLB = torch.ones(self.rows_SLB.shape, device=self.rows_SLB.device)
        self.weight_SLB[steps:, lane] = 0
        self.steps[lane] = steps
        self.__post_init__()

    def rates_at(self, step: int) -> list[float] | None:
        """Return what the learning rate of each lane is multiplied by at a step; None if it is constant."""
        return [of[min(step, len(of) - 1)] for of in self.rates] or None

    def rows(self, step: int) -> Tensor:
        """Return the row numbers of one step, int64 (L, B)."""
        return self.rows_SLB[step]

    def weight(self, step: int) -> Tensor | None:
        """Return the weights of the rows of one step, float (L, B); None if all are 1."""
        return None if self.weight_SLB is None or self._whole_S[step] else self.weight_SLB[step]

    @property
    def samples(self) -> int:
        """Number of rows learned by all lanes."""
        return self.samples_of_first(self.n_steps)

    def samples_of_first(self, steps: int) -> int:
        """Return the number of rows learned by all lanes in the first ``steps`` steps."""
        if self.weight_SLB is None:
            return sum(min(n, steps) for n in self.steps) * self.rows_SLB.shape[2]
        return int(self.weight_SLB[:steps].sum())

    def active(self, step: int) -> tuple[bool, ...] | None:
        """Return which lanes are active at a step; None if all are."""
        return None if step < self._all_active else tuple(step < n for n in self.steps)

    def active_L(self, step: int) -> Tensor:
        """Return which lanes are active at a step, on the device, bool (L,)."""
        return self._steps_L > step


def schedule_task(streams: LaneStreams, task: int, strategy: Strategy) -> Schedule | None:
    """Draw the batches of one task, counted from 0; return None if the strategy learns nothing in it."""
    tasks, training = tasks_learned(streams, task, strategy), settings_of(streams.training, task, strategy)
    if not tasks:
        return None
    lanes, per_pass, rates = [], [], []
    for stream in streams.streams:
        rows_R = torch.cat([stream.tasks[t].train_rows for t in tasks])
        # Methods that train on the rows of several tasks at once do not follow the order of a stream.
        ordered = stream.in_order and strategy.trains_on == "task"
        random = None if ordered else generator(stream.seed, f"batches/{task}")
        lanes.append(batches(rows_R, training, len(tasks), random))
        per_pass.append(training.steps(len(rows_R), len(tasks))[0])
        if streams.training.schedule != "constant" or streams.training.warmup:
            planned = [_planned(streams, stream, t, strategy) for t in range(streams.n_tasks)]
            rates.append(rates_of_task(streams.training, planned, task))
    steps = [len(rows_SB) for rows_SB, _ in lanes]
    rows_SLB = torch.stack([_repeat_last(rows_SB, max(steps)) for rows_SB, _ in lanes], 1).to(streams.device)
    weight_SLB = pad_sequence([weight_SB for _, weight_SB in lanes])  # 0 for the repeated ones
    padded = int(weight_SLB.sum()) < weight_SLB.numel()
    weight = weight_SLB.to(streams.device) if padded else None
    return Schedule(task, tasks, rows_SLB, weight, steps, per_pass, rates)


def tasks_learned(streams: LaneStreams, task: int, strategy: Strategy) -> range:
    """Return the tasks whose rows a strategy learns in a task; none if it waits for the last task."""
    if strategy.trains_on == "task":
        return range(task, task + 1)
    waits = strategy.trains_on == "all" and task < streams.n_tasks - 1
    return range(0 if waits else task + 1)


def settings_of(training: Training, task: int, strategy: Strategy) -> Training:
    """Return the training settings of a task: its epochs or iterations."""
    return replace(training, epochs=1, iterations=0) if strategy.one_pass else training.of_task(task)


def _planned(streams: LaneStreams, stream: Stream, task: int, strategy: Strategy) -> Planned:
    """Return the number of steps of a task of one lane."""
    tasks = tasks_learned(streams, task, strategy)
    rows = sum(len(stream.tasks[t].train_rows) for t in tasks)
    settings = settings_of(streams.training, task, strategy)
    return Planned(*settings.steps(rows, len(tasks))) if rows else Planned(1, 0)


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
