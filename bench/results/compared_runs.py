"""Comparison of two runs, cell by cell and paired by seed: is NEW worse than BASE?

Everything that differs besides the results is named first. Then records are compared exactly: code that did
not change gives equal records on one kind of machine with one set of versions. What is not equal is judged by
paired t intervals; see bench.stats.verdicts.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bench.plan import text_of
from bench.results.frames import Frames, of_merged
from bench.results.merge import merge, setting
from bench.results.outcome import RESOURCES, TIMINGS, Outcome
from bench.schema import (
    ANY,
    ComparedScore,
    Comparison,
    Expectation,
    Lost,
    Project,
    SetupDifference,
    Unreadable,
    read_toml,
)
from bench.stats import SCORES, Judged, judge
from bench.store import REFERENCE, packed_runs
from suites.errors import UserError, some, unknown

COMPARED = ("acc", "aia", "learning_acc", "forgetting")
"""The scores that are compared by default."""
POINTS, PER_CENT = 1.0, 5.0
"""The default margins of scores, and of sizes and times."""
PROJECT = Path("lethe.toml")
_SIZES = {
    "seconds_per_seed": False, "train_seconds": False, "evaluation_seconds": False,
    "samples_per_second": True, "peak_bytes": False, "parameters": False, "memory_samples": False,
    "memory_bytes": False,
}  # fmt: skip
"""Sizes and times that can be compared, and whether higher is better."""
_SHOWN = 3
_FEWEST_REPEATED = 3
"""Seeds that must repeat each other before it is reported."""


def own_project() -> Project:
    """Return the ``lethe.toml`` of the current folder, an empty one if there is none."""
    return read_toml(Project, PROJECT) if PROJECT.is_file() else Project(schema=1)


@dataclass(frozen=True)
class Pair:
    """One cell of both runs."""

    base: Outcome
    new: Outcome

    @property
    def row(self) -> tuple[str, str, str]:
        """Suite, scenario and strategy."""
        return self.base.spec["suite"], self.base.spec["scenario"], self.base.identity

    @property
    def equal(self) -> bool:
        """Whether the records are equal bit for bit, without timings and provenance."""
        return self.base.origin.content == self.new.origin.content


def compare_runs(
    base: str | Path,
    new: str | Path,
    scores: Sequence[str] = (),
    margins: Mapping[str, Mapping[str, float]] | None = None,
    expect: Expectation = "not-worse",
    seeds: Sequence[int] = (),
) -> Comparison:
    """Compare two runs.

    Args:
        base: Folder or packed file of a run, or the name of one under ``results/reference``.
        new: The run that is judged.
        scores: Names of scores, sizes and times; ``COMPARED`` without it.
        margins: As in ``Project``; those of ``lethe.toml`` in the current folder without it.
        expect: What raises an alarm.
        seeds: The seeds that are compared; all that both runs have without it.

    Raises:
        UserError: A run cannot be read, a score is unknown, no cell is done in both runs, or, with ``equal``,
            the setups differ so that equal records cannot be expected.
    """
    of_base, of_new = (hashed_frames(find_run(name)) for name in (base, new))
    names = str(base), str(new)
    return compare_frames(of_base, of_new, names, scores, margins, expect, seeds)


def hashed_frames(folder: Path) -> Frames:
    """Return a run whose outcomes contain the hash of their content."""
    return of_merged(merge([folder], compared=True))


def compare_frames(
    of_base: Frames,
    of_new: Frames,
    names: tuple[str, str],
    scores: Sequence[str] = (),
    margins: Mapping[str, Mapping[str, float]] | None = None,
    expect: Expectation = "not-worse",
    seeds: Sequence[int] = (),
) -> Comparison:
    """Compare two runs that are loaded by ``hashed_frames``, under these names; see ``compare_runs``."""
    if margins is None:
        project = own_project()
    else:
        try:
            project = Project.read({"schema": 1, "margins": margins})[0]
        except Unreadable as error:
            raise UserError(str(error)) from None
    chosen, known = tuple(scores) or COMPARED, [*SCORES, *_SIZES]
    for name in (*chosen, *(name for of in project.margins.values() for name in of)):
        if name not in known and (name != ANY or name in chosen):
            raise unknown("score", name, known)
    if expect not in get_args(Expectation):
        raise unknown("expectation", expect, list(get_args(Expectation)))
    matched, only_base, only_new = pairs(of_base, of_new)
    matched = [pair for pair in matched if not seeds or pair.base.spec["seed"] in seeds]
    done = [pair for pair in matched if pair.base.status == pair.new.status == "done"]
    lost = [pair for pair in matched if pair.base.status == "done" != pair.new.status]
    if not done and not lost:
        raise UserError(
            f"{names[0]} and {names[1]} have no done cell of the same suite, scenario, strategy and seed"
        )
    rows = [(row, list(found)) for row, found in groupby(done, lambda pair: pair.row)]
    setup = list(_setup(of_base, of_new, done, rows))
    reasons = [d for d in setup if d.what in ("plan", "data", "versions", "device")]
    if expect == "equal" and reasons:
        first = f"{reasons[0].name} is {reasons[0].base} in BASE and {reasons[0].new} in NEW"
        raise UserError(f"equal records cannot be expected: {first}; use --expect same")
    unequal = [" ".join(row) for row, found in rows if not all(pair.equal for pair in found)]
    return Comparison(
        schema=Comparison.VERSION,
        base=names[0],
        new=names[1],
        expect=expect,
        cells=len(done),
        equal_cells=sum(pair.equal for pair in done),
        only_base=only_base,
        only_new=only_new,
        setup=setup,
        lost=[
            Lost(cell=_title(p), status=p.new.status, why=p.new.why or "no reason is recorded") for p in lost
        ],
        steps=[words for row, found in rows if (words := _other_steps(row, found))],
        repeated=[" ".join(row) for row, found in rows if _repeats(found)],
        unequal=unequal if expect == "equal" else [],
        unreadable=[*_unread(of_base), *_unread(of_new)],
        scores=_judged(rows, of_base, of_new, chosen, project),
    )


def find_run(name: str | Path) -> Path:
    """Return the folder or packed file of a run: a path, or a name under ``results/reference``."""
    path = Path(name)
    places = [path] if path.is_absolute() or len(path.parts) > 1 else [path, REFERENCE / path]
    for place in places:
        if place.exists() or (place.name and place.with_name(f"{place.name}.lethe.gz").is_file()):
            return place
    known = [run.name.removesuffix(".lethe.gz") for run in packed_runs(REFERENCE)]
    raise (
        UserError(f"{name} is not a run: give its folder, or one of {', '.join(known)} in {REFERENCE}")
        if (known)
        else UserError(f"{name} is not a run: give its folder or packed file")
    )


def pairs(base: Frames, new: Frames) -> tuple[list[Pair], int, int]:
    """Return the cells of both runs, sorted by row and seed, and how many only one of them has.

    Cells of equal keys are pairs; of the others, those with the same suite, scenario, strategy and seed if
    there is one in each run: their settings differ, which is reported.
    """
    found = [Pair(cell, new.outcomes[key]) for key, cell in base.outcomes.items() if key in new.outcomes]
    left = {n: _unique(f, {p.base.key for p in found}) for n, f in (("base", base), ("new", new))}
    found += [Pair(cell, left["new"][at]) for at, cell in left["base"].items() if at in left["new"]]
    found.sort(key=lambda pair: (pair.row, pair.base.spec["seed"]))
    return found, len(base.outcomes) - len(found), len(new.outcomes) - len(found)


def _unique(frames: Frames, taken: set[str]) -> dict[tuple[Any, ...], Outcome]:
    """Return cells by suite, scenario, strategy and seed, without those of which there are several."""
    places: dict[tuple[Any, ...], list[Outcome]] = {}
    for key, cell in frames.outcomes.items():
        if key not in taken:
            spec = cell.spec
            at = spec["suite"], spec["scenario"], spec["identity"], spec["seed"]
            places.setdefault(at, []).append(cell)
    return {at: cells[0] for at, cells in places.items() if len(cells) == 1}


def _title(pair: Pair) -> str:
    return f"{' '.join(pair.row)} seed {pair.base.spec['seed']}"


def _unread(frames: Frames) -> Iterator[str]:
    """Yield what of a run is not compared."""
    yield from frames.unreadable
    for (folder, why), part in frames.left_out.groupby(["folder", "why"], sort=False):
        yield f"{len(part)} records of {folder} are left out: {why}"


# What differs besides the results.


Rows = Sequence[tuple[tuple[str, str, str], list[Pair]]]


def _setup(base: Frames, new: Frames, done: Sequence[Pair], rows: Rows) -> Iterator[SetupDifference]:
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for pair in done:
        for difference in _differences(pair, base, new):
            found.setdefault(difference, {})[" ".join(pair.row)] = None
    for row, of_row in rows:
        was, now = _seeds(base, of_row[0].base), _seeds(new, of_row[0].new)
        if was != now:
            found.setdefault(("seeds", "seeds", was, now), {})[" ".join(row)] = None
    for (what, name, was, now), where in found.items():
        places = "all" if len(where) == len(rows) > 1 else some(list(where), _SHOWN)
        yield SetupDifference(what=what, name=name, base=was, new=now, where=places)
    environments = [_environment(frames) for frames in (base, new)]
    for what, name in dict.fromkeys([*environments[0], *environments[1]]):
        was, now = (", ".join(sorted(of.get((what, name), {"?"}))) for of in environments)
        if was != now:
            yield SetupDifference(what=what, name=name, base=was, new=now, where="all")


def _differences(pair: Pair, base: Frames, new: Frames) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, name and both values of everything that differs between two records of a cell."""
    settings = setting(pair.base), setting(pair.new)
    for name in dict.fromkeys([*settings[0], *settings[1]]):
        was, now = (text_of(of[name]) if name in of else "none" for of in settings)
        if was != now:
            yield "plan", name, was, now
    origins = pair.base.origin, pair.new.origin
    if origins[0].code != origins[1].code:
        files = [frames.manifest.code.get(o.code, {}) for frames, o in zip((base, new), origins, strict=True)]
        differing = [n for n in sorted({**files[0], **files[1]}) if files[0].get(n) != files[1].get(n)]
        name = some(differing, _SHOWN) if differing else "source files"
        was, now = (o.commit or o.code[:10] or "not recorded" for o in origins)
        yield "code", name, was, now
    for what, name, of in (("data", "data", "data"), ("data", "weights", "weights")):
        if (was := getattr(origins[0], of)) != (now := getattr(origins[1], of)):
            yield what, name, was[:10] or "none", now[:10] or "none"
    for name in ("torch", "numpy"):
        if (was := getattr(origins[0], name)) != (now := getattr(origins[1], name)):
            yield "versions", name, was or "not recorded", now or "not recorded"
    for what, name in (("device", "device"), ("lanes", "lanes")):
        was, now = (str(_number(of, name)) for of in (pair.base, pair.new))
        if was != now:
            yield what, name, was, now
    if not _same_rows(pair):
        yield "streams", "rows of tasks", "its own", "others at the same seed"
    if not pair.equal and settings[0] == settings[1] and origins[0][1:-1] == origins[1][1:-1]:
        yield "records", "equal code, data and versions", "one result", "another result"


def _same_rows(pair: Pair) -> bool:
    """Return whether the tasks of both cells have the same numbers of rows, where both were measured."""
    both = ((pair.base.measured[split].total, pair.new.measured[split].total) for split in pair.base.measured)
    return all(
        was.shape == now.shape and not (was - now)[np.isfinite(was) & np.isfinite(now)].any()
        for was, now in both
    )


def _number(cell: Outcome, name: str) -> Any:
    """Return a number of the record by its name in TIMINGS or RESOURCES."""
    return cell.numbers[[*TIMINGS, *RESOURCES].index(name)]


def _seeds(frames: Frames, like: Outcome) -> str:
    """Return the done seeds of a row of a run, as ``0-4,7``."""
    cells = frames.cells
    of_row = (cells["suite"] == like.spec["suite"]) & (cells["scenario"] == like.spec["scenario"])
    found = sorted(cells[of_row & (cells["identity"] == like.identity) & (cells["status"] == "done")]["seed"])
    runs = [[seed for _, seed in part] for _, part in groupby(enumerate(found), lambda at: at[1] - at[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _environment(frames: Frames) -> dict[tuple[str, str], set[str]]:
    """Return the packages, Python and machines of the commands of a run."""
    found: dict[tuple[str, str], set[str]] = {}
    for command in frames.manifest.commands:
        for name, version in command.packages.items():
            if name not in ("torch", "numpy"):  # records name these
                found.setdefault(("versions", name), set()).add(version)
        found.setdefault(("versions", "Python"), set()).add(command.python)
        found.setdefault(("device", "machine"), set()).add(command.machine)
    return found


def _repeats(found: Sequence[Pair]) -> bool:
    """Return whether all seeds of NEW have the same rows of tasks, or the same scores, and BASE's do not."""
    of: tuple[Callable[[Outcome], bytes], ...] = (
        lambda cell: b"".join(m.total_E.tobytes() for m in cell.measured.values()),
        lambda cell: cell.measured["test"].value_E.tobytes(),
    )
    distinct = [[len({mark(getattr(p, n)) for p in found}) for n in ("base", "new")] for mark in of]
    return len(found) >= _FEWEST_REPEATED and any(new == 1 < base for base, new in distinct)


def _other_steps(row: tuple[str, str, str], found: Sequence[Pair]) -> str:
    """Return the numbers of steps if settings and streams are equal and the numbers are not, else nothing.

    A group of lanes takes as many steps as its longest lane, so groups must have the same cells.
    """
    for pair in found:
        groups = {_number(cell, "lanes") for cell in (pair.base, pair.new)}
        if groups != {len(found)} or setting(pair.base) != setting(pair.new) or not _same_rows(pair):
            return ""
    was, now = (_number(cell, "steps") for cell in (found[0].base, found[0].new))
    return "" if was == now else f"{' '.join(row)} took {now:,} training steps, not {was:,}"


# Verdicts.


def _judged(
    rows: Rows, base: Frames, new: Frames, names: Sequence[str], project: Project
) -> list[ComparedScore]:
    """Return the verdicts on all scores of all rows, which are one family for Holm's correction."""
    values = {n: _values(frames, names) for n, frames in (("base", base), ("new", new))}
    asked = []
    for row, found in rows:
        for name in names:
            own = [(p, values["base"](p.base, name), values["new"](p.new, name)) for p in found]
            defined = [(p, was, now) for p, was, now in own if not math.isnan(was - now)]
            if name in _SIZES:
                defined = [(p, was, now) for p, was, now in defined if was or not now]
            if defined:
                margin = project.margin(row[0], name, POINTS if name in SCORES else PER_CENT)
                asked.append((row, name, defined, margin))
    changes = [[_change(name, was, now) for _, was, now in defined] for _, name, defined, _ in asked]
    found_verdicts = judge(changes, [margin for *_, margin in asked])
    return [
        _compared(row, name, defined, margin, judged)
        for (row, name, defined, margin), judged in zip(asked, found_verdicts, strict=True)
    ]


def _values(frames: Frames, names: Sequence[str]) -> Callable[[Outcome, str], float]:
    """Return a function that looks up a score, size or time of a cell; NaN if it is not defined."""
    chosen = frames.scores[frames.scores["score"].isin(names)]
    table: Mapping[tuple[str, str], float] = dict(
        zip(zip(chosen["key"], chosen["score"], strict=True), chosen["value"], strict=True)
    )

    def value(cell: Outcome, name: str) -> float:
        if name in SCORES:
            return 100 * table.get((cell.key, name), math.nan)
        number = _number(cell, name)
        return math.nan if number is None else float(number)

    return value


def _higher(name: str) -> bool:
    return SCORES[name].higher_is_better if name in SCORES else _SIZES[name]


def _change(name: str, was: float, now: float) -> float:
    """Return the improvement from BASE to NEW: in points, or in percent of BASE for sizes and times."""
    scale = 1.0 if name in SCORES or was == 0 else 100 / was  # a size of zero is compared with zero only
    change = (now - was) * scale
    return change if _higher(name) else -change


def _compared(
    row: tuple[str, str, str],
    name: str,
    defined: Sequence[tuple[Pair, float, float]],
    margin: float,
    judged: Judged,
) -> ComparedScore:
    n, equal = len(defined), sum(pair.equal for pair, *_ in defined)
    unit: Literal["points", "%"] = "points" if name in SCORES else "%"
    low, high = (judged.low, judged.high) if _higher(name) else (-judged.high, -judged.low)
    verdict = "same" if equal == n and name in SCORES else judged.verdict
    return ComparedScore(
        suite=row[0],
        scenario=row[1],
        strategy=row[2],
        score=name,
        unit=unit,
        higher_is_better=_higher(name),
        n=n,
        base=sum(was for _, was, _ in defined) / n,
        new=sum(now for *_, now in defined) / n,
        difference=(judged.mean if _higher(name) else -judged.mean) + 0.0,
        low=None if math.isnan(low) else low + 0.0,
        high=None if math.isnan(high) else high + 0.0,
        p_holm=None if math.isnan(judged.p_holm) else judged.p_holm,
        margin=margin,
        verdict=verdict,
        equal_records=equal,
        seeds_needed=judged.seeds_needed if verdict == "unclear" else None,
        why=_why(judged, verdict, margin, unit, equal == n and name in SCORES),
    )


def _why(judged: Judged, verdict: str, margin: float, unit: str, equal: bool) -> str:
    n = f"{judged.n} seed{'s' * (judged.n > 1)}"
    if equal:
        return f"equal bit for bit in {n}"
    if judged.nothing and judged.n > 1:
        return f"no difference in any of {n}"
    if verdict == "same":
        return f"the interval is within {margin:g} {unit}"
    if verdict != "unclear":
        return f"by {abs(judged.mean):.2f} {unit} in {n}, p = {judged.p_holm:.2g} after Holm's correction"
    if judged.n == 1:
        return "one seed has no interval; run more seeds"
    if judged.seeds_needed is None:
        return f"more than 10,000 seeds for a margin of {margin:g} {unit}"
    return f"{judged.seeds_needed:,} seeds would decide it"
