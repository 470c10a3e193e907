"""Runs a sample of a run's cells again and compares each record bit for bit.

The sample is that of ``sample_cells``: of every strategy, suite, model and scenario the cells whose keys
hash lowest, so that it is always the same and cannot be chosen. Where all of a strategy's sample is
equal, the code of its records and today's are equivalent, and its records are not stale; see
bench.store.equivalences.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import strategies
import suites
from bench.plan import CellSpec, LaneGroup, ResolvedPlan, code_of, unsuitable
from bench.runner.dispatch import carry_out_plan
from bench.runner.options import Options
from bench.schema import Command, Equivalence, Fields, differing_fields
from bench.store import RunReader, enter_equivalences, now, where
from suites.errors import EnvironmentFault, UserError, some

_OVERHEAD = 0.3
"""Share of a group's time that does not depend on its number of lanes, for estimates: 8 lanes of a small
network take 2.8 times as long as one."""

_COUNTS = ("units", "test", "validation")


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
    if not _ended(record) or timings is None:
        return None
    known = [f.name for f in fields(CellSpec)]
    spec = CellSpec(**{name: value for name, value in record["spec"].items() if name in known})
    before = [c.git for c in commands if c.at <= record["written"]] or [c.git for c in commands[-1:]]
    commit = named.get("commit", before[-1] if before else "")
    part = Part(spec.strategy, spec.suite, spec.model, spec.scenario, named.get("code", ""), commit)
    seconds = timings["train_seconds"] + timings["evaluation_seconds"]
    return Sampled(spec, part, seconds, timings["lanes"], timings["device"])


def _ended(record: Fields) -> bool:
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


@dataclass(frozen=True)
class Compared:
    """The comparison of a cell of the sample with its record."""

    cell: Sampled
    differing: tuple[str, ...]
    """The fields that differ; empty if the records are equal."""
    first: str
    """The first difference: where, and both values."""

    def line(self) -> str:
        """Return it in words."""
        spec, lanes = self.cell.spec, self.cell.lanes
        # Lanes of convolutions and attention round by how many there are.
        beside = f"; it ran as one of {lanes} lanes, see --sample" if lanes > 1 else ""
        return f"differs: {spec.title} ({spec.key}) in {', '.join(self.differing)}; {self.first}{beside}"


@dataclass(frozen=True)
class Verified:
    """The outcome of a sample."""

    equal: list[Sampled]
    differing: list[Compared]
    not_run: list[tuple[Sampled, str]]
    """With the reason."""
    equivalent: list[Equivalence]
    """New entries of the list of the run."""
    path: Path | None
    """The file of the list; None if it did not change."""

    def lines(self) -> list[str]:
        """Return the outcome in words, differences first."""
        found = [compared.line() for compared in self.differing]
        found += [f"not made again: {cell.spec.title}: {why}" for cell, why in self.not_run]
        parts = {cell.part for cell in self.equal}
        wrong = {c.cell.part for c in self.differing} | {cell.part for cell, _ in self.not_run}
        found.append(
            f"{len(self.equal)} cells equal bit for bit, {len(self.differing)} differ, "
            f"{len(self.not_run)} not made again; equal throughout: {len(parts - wrong)} of "
            f"{len(parts | wrong)} combinations"
        )
        if self.path:
            names = ", ".join(sorted({e.strategy for e in self.equivalent})) or "none"
            found.append(f"{self.path} is updated; equivalent now: {names}")
        return found


def make_again(sample: Sample, folder: Path, options: Options, command: str) -> None:
    """Run the cells of a sample again in a separate folder; finished cells of the current code stay.

    Raises:
        UserError: where the folder is of another run, or cannot be written.
        EnvironmentFault: where cells could not be finished.
    """
    specs = [cell.spec for cell in sample.to_make]
    reader = RunReader(folder)
    there = reader.each(lambda r: (r.get("made_by") or {}).get("code") if _ended(r) else None)
    existing = {
        spec.key: "done" for spec in specs if there.get(spec.key) == code_of(spec.as_record()).fingerprint
    }
    groups = []
    for group in sample.groups:
        missing = [cell.spec for cell in group if cell.spec.key not in existing]
        missing.sort(key=lambda spec: (spec.identity, spec.seed))
        groups += [LaneGroup(tuple(spec.key for spec in missing), 0, None)] if missing else []
    plan = ResolvedPlan(
        cells=tuple(specs),
        groups=tuple(groups),
        skipped={},
        existing=existing,
        shared=sample.run.manifest().shared,
        data={},
        device=options.device,
        lanes=options.lanes,
        replaced=reader.written(),
    )
    if specs and (unfinished := carry_out_plan(plan, folder, options, command).unfinished):
        raise EnvironmentFault(f"not made again: {unfinished[0]}; the same command continues")


def compare_sample(sample: Sample, folder: Path, *, enter: bool = True) -> Verified:
    """Compare a sample with its new records; with ``enter``, add equivalent code to the list of the run."""
    made = RunReader(folder)
    keys = {cell.spec.key for cell in sample.to_make}
    before, after = (run.each(lambda record: record, keys) for run in (sample.run, made))
    equal, differing = [], []
    for cell in sample.to_make:
        key = cell.spec.key
        old, new = dict(before[key]), dict(after.get(key, {}))
        classes = sample.run.classes(key), made.classes(key)
        if all(classes):  # older versions did not count them
            old["classes"], new["classes"] = ({k: c[k] for k in _COUNTS} for c in classes if c)
        names = differing_fields(old, new) if new else ["status"]
        if names:
            first = _first(old.get(names[0]), new.get(names[0]), names[0])
            differing.append(Compared(cell, tuple(names), first))
        else:
            equal.append(cell)
    not_run = [(c, sample.not_run[c.spec.key]) for c in sample.cells if c.spec.key in sample.not_run]
    refuted = {_code(compared.cell) for compared in differing}
    codes = {key: (record.get("made_by") or {}).get("code", "") for key, record in after.items()}
    entries, path = _equivalences(equal, refuted | {_code(cell) for cell, _ in not_run}, codes), None
    if enter:
        path = enter_equivalences(sample.run, entries, refuted)
    return Verified(equal, differing, not_run, entries, path)


def _code(cell: Sampled) -> tuple[str, str, str, str]:
    return cell.part.strategy, cell.part.suite, cell.part.model, cell.part.code


def _equivalences(
    equal: Sequence[Sampled], wrong: Collection[tuple[str, str, str, str]], codes: Mapping[str, str]
) -> list[Equivalence]:
    """Return an entry for each strategy, suite, model and code if all its cells in the sample are equal.

    ``codes`` is by key the code that made a cell again: where it was edited meanwhile, there is no entry.
    """
    found: dict[tuple[str, str, str, str], list[Sampled]] = defaultdict(list)
    for cell in equal:
        if _code(cell) not in wrong:
            found[_code(cell)].append(cell)
    here, at, entries = where("cpu"), now(), []
    commit = here["git"] + ("-dirty" if here["dirty"] else "")
    for of, cells in found.items():
        today, *others = {codes[cell.spec.key] for cell in cells}
        if today != of[-1] and not others:  # of the records' own code nothing has to be said
            names = dict(zip(("strategy", "suite", "model", "before"), of, strict=True))
            keys = sorted(cell.spec.key for cell in cells)
            commits = {"before_commit": cells[-1].part.commit, "now_commit": commit}
            entries.append(Equivalence(**names, now=today, cells=keys, **commits, at=at))
    return entries


def _first(a: Any, b: Any, place: str) -> str:
    """Return the first difference of two values of a record, with its place."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in [*a, *(n for n in b if n not in a)]:
            if a.get(name) != b.get(name):
                return _first(a.get(name), b.get(name), f"{place}.{name}")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            if x != y:
                return _first(x, y, f"{place}[{number}]")
    return f"{place} was {_short(a)} and is {_short(b)}"


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 40 else f"{words[:37]}..."
