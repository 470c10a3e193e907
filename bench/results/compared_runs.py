"""Comparison of two runs, cell by cell and paired by seed: is NEW worse than BASE?

Everything that differs besides the results is named first. Then records are compared exactly: code that did
not change gives equal records on one kind of machine with one set of versions. What is not equal is judged by
paired t intervals; see bench.stats.verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

from bench.results.compared_scores import SIZES, judged_scores
from bench.results.frames import Frames, of_merged
from bench.results.merge import merge
from bench.results.paired_cells import pairs
from bench.results.setup_differences import other_steps, repeats, setup_differences
from bench.schema import ANY, Comparison, Expectation, Lost, Project, Unreadable, read_toml
from bench.stats import SCORES
from bench.store import REFERENCE, packed_runs
from suites.errors import UserError, unknown

COMPARED = ("acc", "aia", "learning_acc", "forgetting")
"""The scores that are compared by default."""
PROJECT = Path("lethe.toml")


def own_project() -> Project:
    """Return the ``lethe.toml`` of the current folder, an empty one if there is none."""
    return read_toml(Project, PROJECT) if PROJECT.is_file() else Project(schema=1)


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
    chosen, known = tuple(scores) or COMPARED, [*SCORES, *SIZES]
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
    rows = [(row, list(found)) for row, found in groupby(done, lambda pair: pair.base.row)]
    setup = list(setup_differences(of_base, of_new, done, rows))
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
            Lost(cell=p.base.title, status=p.new.status, why=p.new.why or "no reason is recorded")
            for p in lost
        ],
        steps=[words for row, found in rows if (words := other_steps(row, found))],
        repeated=[" ".join(row) for row, found in rows if repeats(found)],
        unequal=unequal if expect == "equal" else [],
        unreadable=[*_unread(of_base), *_unread(of_new)],
        scores=judged_scores(rows, of_base, of_new, chosen, project),
    )


def find_run(name: str | Path) -> Path:
    """Return the folder or packed file of a run: a path, or a name under ``results/reference``."""
    path = Path(name)
    places = [path] if path.is_absolute() or len(path.parts) > 1 else [path, REFERENCE / path]
    for place in places:
        if place.exists() or (place.name and place.with_name(f"{place.name}.lethe.gz").is_file()):
            return place
    known = [run.name.removesuffix(".lethe.gz") for run in packed_runs(REFERENCE)]
    named = f", or one of {', '.join(known)} in {REFERENCE}" if known else " or packed file"
    raise UserError(f"{name} is not a run: give its folder{named}")


def _unread(frames: Frames) -> Iterator[str]:
    """Yield what of a run is not compared."""
    yield from frames.unreadable
    for (folder, why), part in frames.left_out.groupby(["folder", "why"], sort=False):
        yield f"{len(part)} records of {folder} are left out: {why}"
