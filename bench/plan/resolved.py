"""A plan, resolved once: which cells there are, which run in which groups of lanes, and why others do not.

``lethe run --dry-run`` prints a resolved plan, ``lethe run`` carries one out, and ``to_json`` sends it to
another machine. ``bench.plan.resolving`` makes it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import strategies
from bench.plan.cell import CellSpec
from bench.plan.settings import Shared
from bench.schema import Again
from suites.errors import UserError, some

SMALL = 50_000
"""Number of parameters below which a network on a CPU spends its time in Python, not in arithmetic: lanes are
stacked. Measured: 8 lanes of 64-100-100-10 (17,610) ran 2.8 times faster than one by one; 784-400-400-10
(478,410) gained nothing."""
WIDTH_CPU, WIDTH_CUDA = 64, 256

Fingerprint = Callable[[str], str | None]
"""Returns the fingerprint of the data set of a suite, None if it is not available on this machine."""
ParameterCount = Callable[[CellSpec], int | None]
"""Returns the number of parameters of one lane of a cell, None if the data is not available."""


@dataclass(frozen=True)
class LaneGroup:
    """Cells that are trained together."""

    keys: tuple[str, ...]
    tasks_done: int
    """The number of tasks after which they continue from their checkpoints; 0 to start from the beginning."""
    width: int | None
    """The largest number of lanes; None if that needs data that is not available: the group is not
    divided yet."""


@dataclass(frozen=True)
class ResolvedPlan:
    """Every decision about a run that can be made before it."""

    cells: tuple[CellSpec, ...]
    """All cells, each once, in the order they were asked for."""
    groups: tuple[LaneGroup, ...]
    """The cells to run."""
    skipped: Mapping[str, str]
    """Why cells are skipped, by key; their records contain the reason."""
    existing: Mapping[str, str]
    """The status of each cell whose record is not changed, by key."""
    shared: Shared
    """For each suite and scenario, the settings that identities do not name, for the manifest."""
    data: Mapping[str, str]
    """The fingerprint of the data set of each suite, if it is known."""
    device: str
    lanes: int
    """Largest number of lanes of a group; 0 for the fixed rule."""
    stale: Mapping[str, str] = field(default_factory=dict)
    """Why records are stale, by key, for cells to run and for ``existing``."""
    refusal: str = ""
    """What the user must decide before the plan can be run, in one line; empty for nothing."""
    restarted: tuple[str, ...] = ()
    """Cells to run from the beginning, because their checkpoint has other code or data."""
    unresolved: tuple[str, ...] = ()
    """A line for the cells of each scenario and selector whose file must not be imported."""
    waiting: tuple[str, ...] = ()
    """A line for each request whose methods are sized once its data is here; it has no cells yet."""
    remarks: tuple[str, ...] = ()
    """A line for each selector with settings without effect, which were set back to their defaults."""
    again: Again | None = None
    """What --force or --retry-failed runs again; ``since`` is empty unless an earlier command began it."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """When the record of each cell to run was written, for those that have one: a newer record was written by
    another command."""
    selectors: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """For each suite/scenario, the identities that each selector expands to; several of a grid."""
    expected: str = ""
    """How long the cells to run will take, in words; empty if it was not asked for."""

    @cached_property
    def by_key(self) -> dict[str, CellSpec]:
        """All cells by their keys."""
        return {spec.key: spec for spec in self.cells}

    @property
    def to_run(self) -> list[CellSpec]:
        """The cells to run, in the order of ``cells``."""
        keys = {key for group in self.groups for key in group.keys}
        return [spec for spec in self.cells if spec.key in keys]

    @property
    def done(self) -> list[CellSpec]:
        """The cells that are already done."""
        return [spec for spec in self.cells if self.existing.get(spec.key) == "done"]

    def completed(self, fingerprint: Fingerprint, parameter_count: ParameterCount) -> Self:
        """Return the plan with what was left open decided, as far as both questions are answered.

        Raises UserError where a data set is not the one the plan was made with.
        """
        data = dict(self.data)
        for name in dict.fromkeys(spec.suite for spec in self.to_run):
            found = fingerprint(name)
            if found is None:
                continue
            if data.setdefault(name, found) != found:
                raise UserError(f"the data of {name} has fingerprint {found}, but the plan {data[name]}")
        groups: list[LaneGroup] = []
        for group in self.groups:
            width = group.width
            if width is None:
                width = lane_width(self.by_key[group.keys[0]], self.device, self.lanes, parameter_count)
            size = width or len(group.keys)
            for start in range(0, len(group.keys), size):
                groups.append(replace(group, keys=group.keys[start : start + size], width=width))
        return replace(self, groups=tuple(groups), data=data)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the plan in words: a line for each cell, then how many run and in which groups."""
        running = {key for group in self.groups for key in group.keys}
        found = []
        for key, spec in self.by_key.items():
            kept = "stale" if key in self.stale else self.existing.get(key, "skip")
            state = "run" if key in running else kept
            stale = f"{'stale, ' if key in running else ''}{self.stale[key]}" if key in self.stale else None
            found.append(": ".join(filter(None, [f"{state:<9} {spec.title}", self.skipped.get(key), stale])))
        found += self.unresolved
        found += self.waiting
        found += self._grids()
        found.append(f"{len(self.cells)} cells, {len(running)} to run")
        if self.unresolved:
            found.append("unresolved cells need files that the command line does not name: add --trust")
        if self.stale:
            found.append(f"stale: {len(self.stale)} cells, {len(self.stale.keys() & running)} to run again")
        cut = Counter(len(group.keys) for group in self.groups if group.width)
        if cut:
            sizes = ", ".join(f"{n} x {size} lanes" for size, n in sorted(cut.items(), reverse=True))
            found.append(f"groups: {sizes}")
        if resumed := sum(len(group.keys) for group in self.groups if group.tasks_done):
            found.append(f"from a checkpoint: {resumed} cells")
        if self.restarted:
            found.append(self.restarted_in_words())
        uncut = {self.by_key[group.keys[0]].suite for group in self.groups if group.width is None}
        found += [f"groups of {name}: decided once its data is available" for name in sorted(uncut)]
        found += [f"time expected: {self.expected}"] if self.expected else []
        found += self.remarks
        return [*found, self.refusal] if self.refusal else found

    def _grids(self) -> list[str]:
        """Return a line for each grid: its settings, cells and groups of lanes."""
        cells: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key, spec in self.by_key.items():
            cells[f"{spec.suite}/{spec.scenario}", spec.identity].add(key)
        found = []
        for part, of_part in self.selectors.items():
            for selector, identities in of_part.items():
                keys = set().union(*(cells[part, identity] for identity in identities))
                n_groups = sum(not keys.isdisjoint(group.keys) for group in self.groups)
                if len(identities) > 1:
                    groups = f"{n_groups} group{'s' * (n_groups > 1)}" if n_groups else "none to run"
                    words = f"{len(identities)} settings, {len(keys)} cells, {groups}"
                    suite, _, scenario = part.rpartition("/")
                    found.append(f"grid {selector} on {suite} {scenario}: {words}")
        return found

    def restarted_in_words(self) -> str:
        """Return a line on checkpoints that are not used."""
        return (
            f"from the beginning, as their checkpoints have other code or data: {len(self.restarted)} cells"
        )

    def notes(self, folder: Path) -> list[str]:
        """Return a line for each effect of the plan on existing records and checkpoints."""
        again = {key: why for key, why in self.stale.items() if key not in self.existing}
        kept = len(self.stale) - len(again)
        found = [self.restarted_in_words()] if self.restarted else []
        if again:
            why = some(list(dict.fromkeys(again.values())), 2)
            moved = f"their records are moved to {folder / 'superseded'}"
            found.append(f"{len(again)} cells are stale ({why}) and run again; {moved}")
        if kept:
            found.append(f"{kept} cells are stale and left as they are; lethe status {folder} lists them")
        return found

    def to_json(self) -> str:
        """Return the plan as text, for another process or machine; see ``from_json``."""
        return str(_adapter().dump_json(self).decode())

    @classmethod
    def from_json(cls, text: str) -> "ResolvedPlan":
        """Return the plan in ``to_json``; raises UserError for any other text."""
        from pydantic import ValidationError

        try:
            plan: ResolvedPlan = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"not a resolved plan of this version: {where}: {first['msg']}") from None
        named = [key for group in plan.groups for key in group.keys] + [*plan.skipped, *plan.existing]
        if sorted(named) != sorted(plan.by_key):
            raise UserError("not a resolved plan of this version: its keys are not those of its cells")
        return plan


def duration(seconds: float) -> str:
    """Return seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def lane_width(spec: CellSpec, device: str, lanes: int, parameter_count: ParameterCount) -> int | None:
    """Return the largest number of lanes of a group, by a fixed rule, so that groups are reproducible.

    None if the rule needs a parameter count that is not available.
    """
    most = strategies.get(spec.strategy).max_lanes
    size: int | None
    if lanes:
        size = lanes
    elif device.startswith("cuda"):
        size = WIDTH_CUDA
    else:
        # Also for a head alone, so that a model that cannot be built stops the run here.
        count = parameter_count(spec)
        if spec.model_options.get("tune") == "head":
            # One layer is small for any number of classes: ten lanes of 384-150 took 0.65 of ten single runs.
            size = WIDTH_CPU
        else:
            size = None if count is None else WIDTH_CPU if count < SMALL else 1
    return min(size, most) if size and most else size


def _adapter() -> Any:
    from pydantic import TypeAdapter  # not at the top: the GPU check makes its cells without it

    return TypeAdapter(ResolvedPlan)
