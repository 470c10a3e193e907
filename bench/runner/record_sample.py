"""Chooses the cells of a run that are run again.

Of every strategy, suite, model and scenario they are those whose keys hash lowest, so that the sample is
always the same and cannot be chosen.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import strategies
import suites
from bench.plan import CellSpec, code_of, unsuitable
from bench.runner.options import Options
from bench.schema import Command, Fields
from bench.store import RunReader
from suites.errors import UserError, some

_OVERHEAD = 0.3
"""Share of a group's time that does not depend on its number of lanes, for estimates: 8 lanes of a small
network take 2.8 times as long as one."""


class Part(NamedTuple):
    """The combination that cells of a sample represent."""

    strategy: str
    suite: str
    model: str
    scenario: str
    code: str
    """Fingerprint of the code in the records; empty if they name none."""
    commit: str
    """Revision that they name, or their run's manifest for the time they were written; empty for none."""

    @property
    def of_code(self) -> tuple[str, str, str, str]:
        """The combination of which all cells must be equal for its code to be equivalent to another."""
        return self.strategy, self.suite, self.model, self.code

    @property
    def title(self) -> str:
        """The part in words."""
        of = f" (code {self.code[:8] or 'not named'}, commit {self.commit[:8] or 'unknown'})"
        return f"{self.suite} {self.scenario} {self.strategy} {self.model}{of}"


@dataclass(frozen=True)
class Sampled:
    """A cell of the sample."""

    spec: CellSpec
    part: Part
    seconds: float
    """Seconds of training and scoring of its group."""
    lanes: int
    device: str


@dataclass
class Sample:
    """The cells of a run that are run again."""

    run: RunReader
    per_part: int
    cells: list[Sampled]
    n_cells: int
    """Cells of the run that ended with numbers."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Why cells of the sample cannot be run again, by key."""

    @property
    def to_make(self) -> list[Sampled]:
        """The cells that can be run again."""
        return [cell for cell in self.cells if cell.spec.key not in self.not_run]

    @property
    def groups(self) -> list[list[Sampled]]:
        """The cells that can be run again, in the groups that are trained together."""
        found: dict[str, list[Sampled]] = defaultdict(list)
        for cell in self.to_make:
            found[cell.spec.group_key].append(cell)
        return list(found.values())

    def seconds(self, jobs: int) -> float:
        """Return an estimate of the time, from the timings in the records."""
        jobs = min(jobs or os.cpu_count() or 1, len(self.groups) or 1)
        return sum(map(_seconds, self.groups)) / jobs

    def statement(self, jobs: int) -> str:
        """Return a description of the sample with the estimated time."""
        parts = len({cell.part for cell in self.cells})
        return (
            f"sample of {self.run.folder}: {len(self.cells)} of {self.n_cells} cells, at most "
            f"{self.per_part} of each of {parts} combinations of strategy, suite, model, scenario and code, "
            f"those whose key has the lowest SHA-256; about {self.seconds(jobs) / 60:.1f} minutes"
        )


def _seconds(group: Sequence[Sampled]) -> float:
    whole, lanes = group[0].seconds, group[0].lanes
    return whole * (1 if lanes == 1 else _OVERHEAD + (1 - _OVERHEAD) * len(group) / lanes)


def sample_cells(run: RunReader, per_part: int, only: Sequence[str] = ()) -> Sample:
    """Choose the cells of a run that are run again.

    Args:
        run: A folder or a packed run.
        per_part: Cells of each strategy, suite, model, scenario and code at most.
        only: Strategies; all without it.

    Raises:
        UserError: for a run without finished cells, or without one of the strategies.
    """
    commands = run.manifest().commands
    found = run.each(lambda record: _sampled(record, commands))
    cells = [cell for cell in found.values() if cell is not None]
    if not cells:
        raise UserError(f"{run.folder} has no cells that ended with numbers")
    for name in only:
        if name not in {cell.part.strategy for cell in cells}:
            raise UserError(f"{run.folder} has no cells of {name}")
    parts: dict[Part, list[Sampled]] = defaultdict(list)
    for cell in cells:
        if not only or cell.part.strategy in only:
            parts[cell.part].append(cell)
    chosen = [cell for _, of in sorted(parts.items()) for cell in sorted(of, key=_place)[:per_part]]
    return Sample(run, per_part, chosen, len(cells))


def one_cell_sample(run: RunReader, cell: str) -> Sample:
    """Return one cell of a run as a sample.

    Args:
        run: A folder or a packed run.
        cell: Its key, the start of it, or ``identity/seed``.

    Raises:
        UserError: where that is not a cell of the run, several, or one without numbers.
    """
    specs = {key: CellSpec(**spec) for key, spec in run.each(lambda record: record["spec"]).items()}
    found = [key for key, spec in specs.items() if spec.is_called(cell)]
    words = some([f"{key} ({specs[key].title})" for key in found or specs], 6)
    if len(found) != 1:
        why = f"{cell} could be {words}" if found else f"{run.folder} has no cell {cell}; it has {words}"
        raise UserError(f"{why}: name one by its key or as strategy/seed")
    commands = run.manifest().commands
    sampled = run.each(lambda record: _sampled(record, commands) if record["key"] == found[0] else None)
    if (chosen := sampled[found[0]]) is None:
        raise UserError(f"{specs[found[0]].title} did not end with numbers: there is nothing to compare")
    return Sample(run, 1, [chosen], 1)


def _place(cell: Sampled) -> str:
    return hashlib.sha256(cell.spec.key.encode()).hexdigest()


def _sampled(record: Fields, commands: Sequence[Command]) -> Sampled | None:
    timings, named = record.get("timings"), record.get("made_by") or {}
    if not ended(record) or timings is None:
        return None
    known = [f.name for f in fields(CellSpec)]
    spec = CellSpec(**{name: value for name, value in record["spec"].items() if name in known})
    before = [c.git for c in commands if c.at <= record["written"]] or [c.git for c in commands[-1:]]
    commit = named.get("commit", before[-1] if before else "")
    part = Part(spec.strategy, spec.suite, spec.model, spec.scenario, named.get("code", ""), commit)
    seconds = timings["train_seconds"] + timings["evaluation_seconds"]
    return Sampled(spec, part, seconds, timings["lanes"], timings["device"])


def ended(record: Fields) -> bool:
    """Return whether a cell ended with numbers."""
    return record["status"] in ("done", "diverged")


def check_sample(sample: Sample, options: Options, minutes: float | None = None) -> None:
    """Find the cells of a sample that cannot be run again, and store the reasons in ``not_run``.

    Args:
        sample: The sample.
        options: Only its device and jobs are used.
        minutes: How long all may take by the records' own timings, whole strategies from the cheapest on; any
            time without it.
    """
    manifest, reasons = sample.run.manifest(), {}
    for cell in sample.cells:
        asked = cell.spec.strategy, cell.spec.suite, cell.spec.model, cell.spec.scenario
        if asked not in reasons:
            reasons[asked] = _cannot_be_made(cell, manifest.data.get(cell.spec.suite), options.device)
        if (reason := reasons[asked]) is not None:
            sample.not_run[cell.spec.key] = reason
    if minutes is None:
        return
    of_code: dict[tuple[str, str, str], list[Sampled]] = defaultdict(list)
    for cell in sample.to_make:
        of_code[cell.part[:3]].append(cell)
    taken, limit = 0.0, 60 * minutes * (options.jobs or os.cpu_count() or 1)
    for cells in sorted(of_code.values(), key=lambda cells: sum(_seconds([c]) for c in cells)):
        taken += sum(_seconds([cell]) for cell in cells)
        if taken > limit:
            why = f"beyond the {minutes:g} minutes asked for"
            sample.not_run.update((cell.spec.key, why) for cell in cells)


def _cannot_be_made(cell: Sampled, data: str | None, device: str) -> str | None:
    spec = cell.spec
    if cell.device.startswith("cpu") != device.startswith("cpu"):
        return f"it was made on {cell.device}, and equals nothing made on {device}"
    try:
        here = suites.get(spec.suite).load().fingerprint
        strategies.get(spec.strategy)
        reason = unsuitable(spec)
        code_of(spec.as_record())
    except UserError as error:
        return str(error)
    except TypeError as error:  # a hyper-parameter is no more
        return f"{spec.strategy} is not the strategy of the record: {error}"
    if data not in (None, here):
        return f"the data of {spec.suite} has fingerprint {here[:12]}, and the run {str(data)[:12]}"
    return reason
