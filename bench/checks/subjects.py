"""A method to check: its cells on generated streams, and its runs, with their comparison.

Axes: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

import strategies
from bench.checks.in_memory import Checkpoints
from bench.checks.made_streams import SMALL, scenario_of
from bench.checks.one_check import Skip
from bench.plan import CellSpec, Fields, Request, one_cell, text_of
from bench.schema import differing_fields
from bench.train import LaneState, Saving, make_lanes, run_group, run_lanes
from strategies.core import Strategy, python_if
from suites.base import Scenario, Training

_ROUNDING = 1e-5
"""Largest relative difference of losses that is attributed to rounding."""
_BY_ROUNDING = ", by rounding"


@dataclass
class Subject:
    """A method to check: its selector, and runs that several checks use."""

    selector: str
    strategy: type[Strategy] = field(init=False)

    def __post_init__(self) -> None:
        """Look up the method; raises UserError if it does not exist."""
        spec = one_cell("digits", self.selector, self.scenario)
        self.strategy = strategies.get(spec.strategy)

    @cached_property
    def scenario(self) -> Scenario:
        """A scenario that the method supports, if possible class-incremental."""
        return scenario_of("+".join(strategies.method_names(self.selector)))

    @property
    def of_texts(self) -> bool:
        """Whether it is written for transformers."""
        return bool(self.strategy.tunes)

    @property
    def settings(self) -> Fields:
        """Settings of all of its cells, unless a check chooses others."""
        return {"tune": self.strategy.tunes, "epochs": 1} if self.of_texts else {}

    def cells(
        self,
        layout: str,
        seeds: Sequence[int],
        scenario: str = "",
        hyper: Fields | None = None,
        **settings: Any,
    ) -> list[CellSpec]:
        """Return its cells on a generated stream; raises Skip if the method refuses them."""
        scenario, settings = scenario or self.scenario, self.settings | settings
        suite = (
            layout if layout.startswith("check-") else f"check-{layout}{'-texts' if self.of_texts else ''}"
        )
        words = {name: text_of(value) for name, value in settings.items()}
        found = Request(suite, (self.selector,), (scenario,), tuple(seeds), words).cells()
        small = {k: v for part in strategies.split(self.selector) for k, v in self._small(part).items()}
        found = [replace(spec, hyper=spec.hyper | small | (hyper or {})) for spec in found]
        one = strategies.get(found[0].strategy)(**found[0].hyper)
        if reason := one.unsuitable(scenario, Training(**found[0].training)):
            raise Skip(reason)
        return found

    def _small(self, part: str) -> Fields:
        """Return the sizes for checks of a part, without settings in the selector."""
        (name,) = strategies.method_names(part)
        own = {k: v for k, v in SMALL.get(name, {}).items() if f"{k}=" not in part}
        one = self.strategy.name == name
        return {k if one else strategies.field_name(name, k): v for k, v in own.items()}

    def hyper_changed(self) -> Fields:
        """Return other values of all hyper-parameters that can differ between lanes."""
        given = self.cells("uneven", (0,))[0].hyper
        return {name: 0.5 * float(given[name] or 1) for name in self.strategy.lane_fields()}

    @cached_property
    def base(self) -> tuple[list[CellSpec], list[Fields], Checkpoints, LaneState]:
        """Three lanes with three rates on the uneven stream: cells, records, checkpoints, final state."""
        cells = self.cells("uneven", (0, 1, 2), score_every=5)
        usual = cells[0].training["lr"]
        rates = zip(cells, (usual, 0.3 * usual, usual), (0.0, 0.01, 0.01), strict=True)
        cells = [replace(c, training=c.training | {"lr": lr, "weight_decay": wd}) for c, lr, wd in rates]
        saved = Checkpoints()
        state = make_lanes(cells)
        try:
            return cells, run_lanes(state, Saving(saved)), saved, state
        except Exception as error:
            if not python_if(error):
                raise
            return cells, run(cells, checkpoints=saved), saved, state

    @cached_property
    def alone(self) -> list[Fields]:
        """The second and the third lane of ``base``, each alone."""
        return [run([spec])[0] for spec in self.base[0][1:]]


def run(cells: Sequence[CellSpec], **options: Any) -> list[Fields]:
    """Run cells as ``lethe run`` does: together, or one by one if Python makes decisions for all lanes."""
    try:
        return run_group(cells, **options)
    except Exception as error:
        if len(cells) == 1 or not python_if(error):
            raise
        return [run_group([spec], **options)[0] for spec in cells]


def compared(ours: Fields, theirs: Fields, of_texts: bool = False) -> str:
    """Return how two records of one cell differ, in words; empty if they are equal.

    Transformers' products round by the number of lanes: there, small differences are ignored.
    """
    names = differing_fields(ours, theirs)
    if not names:
        return ""
    a_T, b_T = (np.array(record["loss"], dtype=float) for record in (ours, theirs))  # NaN where it rests
    far_T = np.nan_to_num(np.abs(a_T - b_T) / np.maximum(np.maximum(np.abs(a_T), np.abs(b_T)), 1e-12))
    right = [np.array(r["test"]["right"], dtype=float) for r in (ours, theirs)] if "test" in ours else []
    rows = float(np.nanmax(np.abs(right[0] - right[1]))) if right else 0.0
    if of_texts and far_T.max(initial=0) <= 1e-2 and rows <= 3:
        return ""
    if not far_T.any():
        return f"{', '.join(names)} differ"
    task, rounded = int((far_T > 0).argmax()), far_T.max() <= _ROUNDING
    return f"loss of task {task + 1} is {a_T[task]:.6g} and {b_T[task]:.6g}{_BY_ROUNDING if rounded else ''}"


def beyond_rounding(ours: Fields, theirs: Fields, of_texts: bool = False) -> str:
    """Return how two records differ by more than rounding, in words; empty if they do not."""
    words = compared(ours, theirs, of_texts)
    return "" if words.endswith(_BY_ROUNDING) else words


def accuracies(record: Fields) -> np.ndarray[Any, Any]:
    """Return the score matrix of a record, (tasks + 1, tasks), NaN where it was not measured."""
    right, total = (np.array(record["test"][name], dtype=float) for name in ("right", "total"))
    shares: np.ndarray[Any, Any] = right / total
    return shares
