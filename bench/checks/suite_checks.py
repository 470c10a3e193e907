"""Checks of suites, for authors: ``lethe check``."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

import suites
from bench.checks.one_check import Fault, Skip
from bench.checks.subjects import accuracies, run
from bench.plan import one_cell
from suites.base import Data, Stream

_SEEDS = (0, 1, 2)


class SuiteSubject:
    """A suite to check, its data loaded once."""

    def __init__(self, name: str) -> None:
        self.name, self.suite = name, suites.get(name)

    @cached_property
    def data(self) -> Data:
        """Its data set; raises UserError if it cannot be learned from."""
        return self.suite.load()

    def streams(self) -> list[Stream]:
        """Return its streams of all scenarios and three seeds; raises UserError for an invalid one."""
        found = []
        for scenario in self.suite.scenarios:
            training = self.suite.training_for(scenario, {})
            found += [self.suite.stream(self.data, scenario, seed, training) for seed in _SEEDS]
        return found


def data(subject: SuiteSubject) -> None:
    """Its data can be learned from, and loading it again gives the same data."""
    first, again = subject.data.fingerprint, subject.suite.load().fingerprint
    if first != again:
        raise Fault(
            f"loaded twice its fingerprint is {first[:12]} and {again[:12]}: seed every draw in load()"
        )


def streams(subject: SuiteSubject) -> None:
    """Its streams can be learned, training and test rows differ, and a seed always gives the same stream."""
    again = iter(subject.streams())
    for stream in subject.streams():
        where = f"{stream.scenario}-incremental, seed {stream.seed}"
        twin = next(again)
        for t, (task, other) in enumerate(zip(stream.tasks, twin.tasks, strict=True), 1):
            parts = {"training": task.train_rows, "validation": task.validation_rows, "test": task.test_rows}
            twins = (other.train_rows, other.validation_rows, other.test_rows)
            if any(not torch.equal(a, b) for a, b in zip(parts.values(), twins, strict=True)):
                raise Fault(f"{where}: made twice, task {t} has other rows: draw with generator(seed, name)")
            sets = {name: set(rows.tolist()) for name, rows in parts.items()}
            for a, b in (("training", "test"), ("training", "validation"), ("validation", "test")):
                if common := sets[a] & sets[b]:
                    raise Fault(f"{where}, task {t}: {len(common)} rows are for {a} and for {b}: split them")


def learned(subject: SuiteSubject) -> None:
    """Joint training is better than chance in its first scenario."""
    if subject.suite.generates:
        raise Skip("texts are generated: there is no chance level to compare with")
    scenario = subject.suite.scenarios[0]
    settings = {"rows_per_class": 60}
    record = run([one_cell(subject.name, "joint", scenario, 0, settings)], data=subject.data)[0]
    tasks = subject.suite.stream(subject.data, scenario, 0, subject.suite.training_for(scenario, {})).tasks
    n = len(tasks[0].units) if scenario in ("task", "domain") else len({u for t in tasks for u in t.units})
    right = float(accuracies(record)[-1].mean())
    if not right > 1.2 / n:
        raise Fault(
            f"{scenario}-incremental, joint training on 60 rows per class: {right:.0%} right, chance is "
            f"{1 / n:.0%}: do labels belong to their rows, do scale and model fit, are epochs enough?"
        )


SUITE_CHECKS: dict[str, Callable[[Any], None]] = {f.__name__: f for f in (data, streams, learned)}
