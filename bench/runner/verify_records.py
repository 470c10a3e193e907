"""Runs a sample of a run's cells again and compares each record bit for bit.

Where all of a strategy's sample is equal, the code of its records and today's are equivalent, and its records
are not stale; see bench.store.equivalences.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan import LaneGroup, ResolvedPlan, code_of
from bench.runner.dispatch import carry_out_plan
from bench.runner.options import Options
from bench.runner.record_sample import Sample, Sampled, ended
from bench.schema import Equivalence, differing_fields
from bench.store import RunReader, enter_equivalences, now, where
from suites.errors import EnvironmentFault

_COUNTS = ("units", "test", "validation")


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
    there = reader.each(lambda r: (r.get("made_by") or {}).get("code") if ended(r) else None)
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
    refuted = {compared.cell.part.of_code for compared in differing}
    codes = {key: (record.get("made_by") or {}).get("code", "") for key, record in after.items()}
    entries, path = _equivalences(equal, refuted | {cell.part.of_code for cell, _ in not_run}, codes), None
    if enter:
        path = enter_equivalences(sample.run, entries, refuted)
    return Verified(equal, differing, not_run, entries, path)


def _equivalences(
    equal: Sequence[Sampled], wrong: Collection[tuple[str, str, str, str]], codes: Mapping[str, str]
) -> list[Equivalence]:
    """Return an entry for each strategy, suite, model and code if all its cells in the sample are equal.

    ``codes`` is by key the code that made a cell again: where it was edited meanwhile, there is no entry.
    """
    found: dict[tuple[str, str, str, str], list[Sampled]] = defaultdict(list)
    for cell in equal:
        if cell.part.of_code not in wrong:
            found[cell.part.of_code].append(cell)
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
