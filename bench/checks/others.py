"""Checks of suites and models, for authors: ``lethe check``.

Axes: L lanes, R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import suites
from bench import models
from bench.checks.conformance import export, learns, resumed
from bench.checks.made_streams import DIGITS, SHAPES
from bench.checks.one_check import Fault, Skip
from bench.checks.subjects import Subject, accuracies, run
from bench.plan import Fields, one_cell
from bench.train import make_lanes
from suites.base import Data, Stream, generator
from suites.errors import UserError

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


class ModelSubject(Subject):
    """A model to check, trained by ``finetune`` on the generated streams."""

    def __init__(self, name: str, method: str = "finetune") -> None:
        super().__init__(method)
        self.model = models.reference(name)
        if self.model.generates:
            raise Skip(f"{name} generates texts, which the generated streams do not have")
        self.shape = DIGITS if self.model.reads_texts else self._readable()

    def _readable(self) -> tuple[int, int, int]:
        """Return the first of SHAPES that it reads; raises UserError if it reads none."""
        refused = []
        for shape in SHAPES:
            try:
                models.build(self.model, {}, shape, 4, [generator(0, "model")])
            except UserError as error:
                refused.append(error)
            else:
                return shape
        raise refused[0]

    @property
    def of_texts(self) -> bool:
        """Whether it reads texts; its rounding then depends on the number of lanes, as for convolutions."""
        return self.model.reads_texts

    @property
    def settings(self) -> Fields:
        """The model, and for a transformer settings that train all of it on short texts."""
        texts = {"tune": "full", "max_tokens": 16, "epochs": 1} if self.of_texts else {}
        return {"model": self.model.name, **texts}


def lanes(subject: ModelSubject) -> None:
    """It has one network per lane: parameters have a lane axis, and logits only depend on the lane's rows."""
    state = make_lanes(subject.cells("uneven", (0, 1)))
    for name, t in [*state.model.named_parameters(), *state.model.named_buffers()]:
        if not t.dim() or len(t) != state.lanes:
            raise Fault(f"{name} has shape {tuple(t.shape)} for 2 lanes: stack it, lanes first")
    batch = state.streams.batch(torch.stack([s.tasks[0].train_rows[:3] for s in state.streams.streams]))
    out_LBU: Tensor = state.model(batch.x_LBX)
    if out_LBU.shape != (2, 3, state.streams.n_units):
        raise Fault(f"logits have shape {tuple(out_LBU.shape)}, not (lanes, rows, units)")
    out_LBU[0].sum().backward()
    mixed = [n for n, p in state.model.named_parameters() if p.grad is not None and bool(p.grad[1].any())]
    if mixed:
        raise Fault(
            f"{mixed[0]} of lane 1 changes the answers of lane 0: use layers of strategies.core.lanes"
        )


def within_rounding(subject: ModelSubject) -> None:
    """A lane has the same numbers alone and together with others, except for rounding."""
    losses = [r["loss"] for r in subject.base[1][1:]], [r["loss"] for r in subject.alone]
    a, b = (torch.tensor([[x or 0.0 for x in of] for of in side]) for side in losses)
    if not torch.allclose(a, b, rtol=1e-2, atol=1e-3):
        raise Fault(f"loss alone and beside others: {b.tolist()} and {a.tolist()}: lanes are mixed")


def learned_jointly(subject: ModelSubject) -> None:
    """Two easy tasks are learned together better than by chance, in every scenario."""
    learns(ModelSubject(subject.model.name, "joint"))


MODEL_CHECKS: dict[str, Callable[[Any], None]] = {
    "lanes": lanes, "alone": within_rounding, "resumed": resumed, "export": export, "learns": learned_jointly,
}  # fmt: skip
