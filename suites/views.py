"""Views of suites for tuning: without test rows, or with a part of the tasks.

A view is named after its suite: ``digits@tuning`` is ``digits`` without test rows. Its data set has no test
rows, so nothing that learns or chooses on it can read one.

``@tuning``       no test rows
``@end``          no test rows; every seed has the tasks of one order
``@first-3``      as ``@end``, the first three tasks
``@one-order``    with test rows; every seed has the tasks of the same order as ``@end``
``@rest-3``       as ``@one-order``, without the first three tasks

Axes: N images or texts, T tasks, C raw classes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from suites.base import Suite
from suites.errors import UserError
from suites.task_streams import Data, Scenario, Stream, Task
from suites.training import Training

ORDER = 0
"""The seed that the tasks of views of one order are drawn with."""


@dataclass(frozen=True)
class View:
    """Which part of a suite's streams a view has."""

    tests: bool
    """Whether it has test rows."""
    one_order: bool
    """Whether the tasks of every seed are those of the seed ``ORDER``."""
    first: int = 0
    """Number of tasks from the start of the stream, without the others; 0 for all."""
    rest: int = 0
    """Number of tasks left out at the start of the stream."""

    @classmethod
    def read(cls, name: str) -> View:
        """Return the view of a name; raises UserError for an unknown one."""
        kinds = {"tuning": (False, False), "end": (False, True), "one-order": (True, True)}
        if name in kinds:
            return cls(*kinds[name])
        if found := re.fullmatch(r"(first|rest)-([1-9]\d*)", name):
            part, n = found[1], int(found[2])
            return cls(part == "rest", True, **{part: n})
        raise UserError(
            f"unknown view @{name} of a suite; there are @{', @'.join(kinds)}, @first-3 and @rest-3"
        )

    def data(self, data: Data) -> Data:
        """Return the data set of the view."""
        return data if self.tests else without_tests(data)

    def stream(self, suite: Suite, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed."""
        whole = suite.split(data, scenario, ORDER if self.one_order else seed, training)
        first, end = self.rest, self.first or len(whole.tasks)
        n = len(whole.tasks)
        if not first < end <= n or self.first == n:
            raise UserError(f"suite {suite.name} has {n} tasks: tune on the first 1 to {n - 1}")
        return part_of(replace(whole, seed=seed), first, end)


def view_of(suite: Suite, name: str) -> Suite:
    """Return a view of a suite, such as ``tuning``, which cuts its data once."""
    view = View.read(name)
    return replace(
        suite,
        name=f"{suite.name}@{name}",
        load=cache(lambda: view.data(suite.load())),
        split=lambda data, scenario, seed, training: view.stream(suite, data, scenario, seed, training),
    )


def without_tests(data: Data) -> Data:
    """Return a data set without its test rows, which are not even in memory that it refers to."""
    n = data.n_train
    if data.file is not None:
        raise UserError(
            f"{data.name} is larger than memory, and tuning copies its training rows: raise LETHE_IN_MEMORY"
        )
    short = replace(
        data,
        x_N=data.x_N[:n].clone(),
        y_N=data.y_N[:n].clone(),
        texts=data.texts[:n],
        targets=data.targets[:n],
        domain_N=None if data.domain_N is None else data.domain_N[:n].clone(),
        validation_N=None if data.validation_N is None else data.validation_N[:n].clone(),
        for_tuning=True,
    )
    return replace(short, fingerprint=_fingerprint(short))


def _fingerprint(data: Data) -> str:
    """Return a hash of all rows of a data set."""
    digest = hashlib.sha256(f"for tuning/{tuple(data.x_N.shape)}/{data.texts!r}/{data.targets!r}".encode())
    for tensor in (data.x_N, data.y_N, data.domain_N, data.validation_N):
        if tensor is not None:
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def part_of(stream: Stream, first: int, end: int) -> Stream:
    """Return tasks ``first`` to ``end`` (exclusive) of a stream, as a stream with their units alone."""
    if (first, end) == (0, len(stream.tasks)):
        return stream
    n, chosen = len(stream.data.x_N), stream.tasks[first:end]
    units = sorted({unit for task in chosen for unit in task.units})
    new_U = torch.full((stream.n_units + 1,), -1)  # the last place is that of -1, no unit
    new_U[units] = torch.arange(len(units))

    if stream.in_order or any(task.also_units for task in stream.tasks):
        raise UserError("tasks cannot be left out of a stream that is blurry, blended or in_order")

    def shifted(rows: Tensor) -> Tensor:
        return rows - first * n

    def cut(table: Tensor | None) -> Tensor | None:
        return None if table is None else table[first:end]

    tasks = tuple(
        Task(
            classes=task.classes,
            units=tuple(new_U[list(task.units)].tolist()),
            train_rows=shifted(task.train_rows),
            validation_rows=shifted(task.validation_rows),
            test_rows=shifted(task.test_rows),
            wrong_rows=shifted(task.wrong_rows),
            wrong_units=new_U[task.wrong_units],
        )
        for task in chosen
    )
    return replace(
        stream,
        tasks=tasks,
        n_units=len(units),
        unit_TC=new_U[stream.unit_TC[first:end]],
        tap_TKD=cut(stream.tap_TKD),
        weight_TKD=cut(stream.weight_TKD),
    )
