"""A score over revisions, and where it stepped.

Steps are found by PELT (Killick et al. 2012) of ``ruptures`` for changes of the mean. Deviations are measured
in standard errors of the means over seeds, so that noise of the seeds is not a step. Seeds are paired over
revisions, so differences have smaller errors than the means: steps are missed rather than invented.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.results.compared_runs import find_run
from bench.results.frames import load
from bench.stats import SCORES, summarise
from bench.store import git_output
from suites.errors import UserError, unknown
from suites.paths import read_file

PENALTY = 10.0
"""What a step must take off the sum of squared deviations, in squared standard errors.

Without any step, PELT then finds one in at most 4 % of series of up to 100 normal values (a test counts).
"""
SPEED = "step / bare loop"
"""The name of the ratio that ``lethe perf`` measures."""


@dataclass(frozen=True)
class Revision:
    """Where a value is from."""

    label: str
    """Short hash of the commit, or the name of a folder or file."""
    commit: str
    """Full hash; empty if it is not known."""
    at: str
    """When, as ISO 8601."""


@dataclass(frozen=True)
class Value:
    """Mean over seeds at one revision, in points for scores, and its standard error."""

    mean: float
    error: float
    """NaN for one seed."""
    n: int


@dataclass(frozen=True)
class Step:
    """A change of level between two neighbouring revisions."""

    after: Revision
    """The last revision of the old level."""
    at: Revision
    """The first revision of the new level."""
    before: float
    """Mean of the old level."""
    now: float
    """Mean of the new level."""


@dataclass
class Line:
    """One score of one strategy over revisions."""

    suite: str
    scenario: str
    strategy: str
    score: str
    values: dict[Revision, Value] = field(default_factory=dict)
    """In the order of revisions, without those that do not have it."""

    @property
    def worse(self) -> int:
        """1 if a higher value is worse, else -1."""
        return 1 if self.score == SPEED or not SCORES[self.score].higher_is_better else -1

    @cached_property
    def steps(self) -> list[Step]:
        """The steps, in the order of revisions; found once, when all values are there."""
        revisions, values = list(self.values), list(self.values.values())
        means = np.array([value.mean for value in values])
        ends = step_ends(means, _spread(values))
        starts = [0, *ends[:-1]]
        levels = [float(means[start:end].mean()) for start, end in zip(starts, ends, strict=True)]
        return [
            Step(revisions[end - 1], revisions[end], levels[i], levels[i + 1])
            for i, end in enumerate(ends[:-1])
        ]


def step_ends(means: np.ndarray[Any, Any], spread: float) -> list[int]:
    """Return where the levels of a series end, the last at its length; raises UserError without ruptures."""
    try:
        from ruptures import Pelt
    except ModuleNotFoundError:
        raise UserError("steps are found with ruptures; pip install 'lethe-bench[history]'") from None
    if len(means) < 2:
        return [len(means)]
    series = (means / spread).reshape(-1, 1)
    return list(map(int, Pelt(model="l2", min_size=1, jump=1).fit(series).predict(pen=PENALTY)))


def _spread(values: Sequence[Value]) -> float:
    """Return the standard error of the values: of the seeds, or of successive differences for one seed."""
    errors = [value.error for value in values if not math.isnan(value.error)]
    if errors:
        found = math.sqrt(float(np.mean(np.square(errors))))
    else:
        differences = np.abs(np.diff([value.mean for value in values]))
        found = float(np.median(differences)) / (0.6745 * math.sqrt(2)) if len(differences) else 0.0
    return max(found, 1e-6)  # equal records at every revision: whatever differs is a step


def history(
    places: Sequence[str | Path],
    scores: Sequence[str] = ("acc",),
    strategies: Sequence[str] = (),
    scenario: str = "",
) -> list[Line]:
    """Return scores over revisions.

    Args:
        places: Runs and JSON files of ``lethe perf``, which are sorted by time; or one run that git tracks,
            which is read at every commit that changed it.
        scores: Names of scores.
        strategies: Only these identities; all without it.
        scenario: Only this one; all without it.

    Raises:
        UserError: A score is unknown, a place cannot be read, or there is nothing to show.
    """
    for name in scores:
        if name not in SCORES:
            raise unknown("score", name, list(SCORES))
    found: dict[tuple[str, ...], Line] = {}
    for revision, rows in _sources(places, scores):
        for (suite, of_scenario, strategy, score), value in rows.items():
            if (strategies and strategy not in strategies) or (scenario and of_scenario != scenario):
                continue
            key = suite, of_scenario, strategy, score
            found.setdefault(key, Line(*key)).values[revision] = value
    if not found:
        raise UserError("there is nothing to show: no done cell of these strategies and scores")
    return [found[key] for key in sorted(found, key=lambda key: (*key[:2], key[3], key[2]))]


Rows = Mapping[tuple[str, str, str, str], Value]


def _sources(places: Sequence[str | Path], scores: Sequence[str]) -> Iterator[tuple[Revision, Rows]]:
    if len(places) == 1 and Path(places[0]).suffix != ".json":
        tracked = list(_commits(find_run(places[0])))
        if tracked:
            yield from _of_commits(tracked, scores)
            return
    found = [_of_file(Path(p)) if Path(p).suffix == ".json" else _of_run(find_run(p), scores) for p in places]
    yield from sorted(found, key=lambda pair: pair[0].at)


def _of_run(place: Path, scores: Sequence[str]) -> tuple[Revision, Rows]:
    frames = load(place)
    command = frames.manifest.commands[-1]
    return Revision(place.name.removesuffix(".lethe.gz"), command.git, command.at), _rows(
        frames.scores, scores
    )


def _rows(table: Any, scores: Sequence[str]) -> Rows:
    rows = {}
    chosen = table[table["score"].isin(scores)].dropna(subset="value")
    for key, part in chosen.groupby(["suite", "scenario", "identity", "score"]):
        of = summarise(100 * part["value"])
        rows[key] = Value(of.mean, of.sem, of.n)
    return rows


def _of_file(path: Path) -> tuple[Revision, Rows]:
    """Read what ``lethe perf --json`` printed."""
    try:
        held = json.loads(read_file(path))
        rows = {}
        for row in held["measured"]:
            setup, (ratio, low, high) = row["setup"], map(float, row["ratio"])
            name = f"{setup['strategy']}, {setup['lanes']} lanes"
            rows[setup["suite"], setup["scenario"], name, SPEED] = Value(ratio, (high - low) / 3.92, 1)
        return Revision(path.stem, held["git"], held["at"]), rows
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is not what lethe perf --json prints: {type(error).__name__} {error}"
        ) from None


# Revisions of a tracked file.


def _commits(run: Path) -> Iterator[tuple[Path, Revision]]:
    """Yield the commits that changed a packed run, oldest first; nothing if git does not track it."""
    file = run if run.is_file() else run.with_name(f"{run.name}.lethe.gz")
    if not file.is_file():
        return
    log = git_output("log", "--reverse", "--format=%H %cI", "--", file.name, at=file.parent).decode()
    for line in log.splitlines():
        commit, at = line.split()
        yield file, Revision(commit[:8], commit, at)


def _of_commits(
    tracked: Sequence[tuple[Path, Revision]], scores: Sequence[str]
) -> Iterator[tuple[Revision, Rows]]:
    with tempfile.TemporaryDirectory(prefix="lethe-history-") as scratch:
        for file, revision in tracked:
            content = git_output("show", f"{revision.commit}:./{file.name}", at=file.parent)
            if content:  # empty where it was removed
                copy = Path(scratch) / f"{revision.label}.lethe.gz"
                copy.write_bytes(content)
                yield revision, _rows(load(copy).scores, scores)
                copy.unlink()


def commits_between(step: Step) -> list[str]:
    """Return the commits that may have made a step, newest first, a line each; empty if not known."""
    if not (step.after.commit and step.at.commit):
        return []
    log = git_output("log", "--format=%h %s", f"{step.after.commit}..{step.at.commit}", at=Path())
    return log.decode(errors="replace").splitlines()
