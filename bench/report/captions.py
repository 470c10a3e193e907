"""Captions of tables: units, spread, marks, bounds and origin; and remarks below them."""

from collections.abc import Collection, Iterable

import pandas as pd

from bench.report.families import bounds
from bench.report.formats import CLOSE, MISSING
from bench.report.grid_texts import grid_remarks
from bench.report.layout import SPREADS, Layout
from bench.report.origin import origin
from bench.report.score_names import heads, units
from bench.report.tuned_rows import remarks_on_tuning
from bench.results import Frames, LikeFinetune, compared_with_finetune
from suites.errors import some

_SHOWN = 6


def caption(
    frames: Frames, numbers: pd.DataFrame, layout: Layout, of_bounds: Collection[str] | None = None
) -> str:
    """Return the spread and, as asked for, marks and origin, of tables.

    Args:
        frames: The runs.
        numbers: Their ``summary``, or the part of it that the tables show.
        layout: How numbers are shown.
        of_bounds: The bounds, where the caller has them.
    """
    scores = "Scores" if frames.split == "test" else f"Scores on {frames.split} rows"
    unit = units(frames, numbers["suite"].unique() if len(numbers) else frames.cells["suite"].unique())
    words = [f"{scores} {unit}: {SPREADS[layout.spread]} over n seeds; {MISSING} where not defined."]
    if len(numbers):
        of_suites = dict.fromkeys(frames.score_of(suite) for suite in numbers["suite"].unique())
        kinds = ([*of_suites] if len(of_suites) == 1 else [None]) if layout.wide else list(of_suites)
        words += filter(None, [heads(numbers["column"].unique(), *kinds)])
    words += _about_budgets(frames, numbers)
    if layout.marks and len(numbers):
        words += _about_marks(numbers, bounds(frames) if of_bounds is None else of_bounds)
    if layout.origin:
        words += origin(frames)
    return " ".join(words)


def _about_budgets(frames: Frames, numbers: pd.DataFrame) -> list[str]:
    """Return a sentence on the budgets that methods were sized to; none for none."""
    parts = numbers[["suite", "scenario"]].drop_duplicates().itertuples(index=False) if len(numbers) else ()
    shared = (frames.manifest.shared.get("/".join(map(str, part)), {}) for part in parts)
    found = [*dict.fromkeys(str(of.get("budget", "none")) for of in shared)]
    if found in ([], ["none"]):
        return []
    if len(found) > 1 or " and " in found[0]:
        return [f"Budgets: {' and '.join(found)}; rows of different budgets are not comparable."]
    return [f"Budget: {found[0]}; each method but bounds has the largest size that fits."]


def about_bounds(names: Iterable[str]) -> str:
    """Return a sentence on the bounds; empty for none."""
    found = sorted(names)
    if not found:
        return ""
    are = "is a bound: it trains" if len(found) == 1 else "are bounds: they train"
    return f"{', '.join(found)} {are} on data of other tasks too; not marked, ranked or compared with."


def _about_marks(numbers: pd.DataFrame, of_bounds: Collection[str]) -> list[str]:
    if not (numbers["mark"] == "best").any():
        return []
    apart = {*of_bounds} & {*numbers["identity"]}
    words = ["Bold: best mean.", *filter(None, [about_bounds(apart)])]
    if (numbers["mark"] == "close").any():
        words.append(
            f"{CLOSE}: not significantly worse than the best (two-sided paired sign-flip test over "
            "common seeds, Holm over the column, 5 %)."
        )
    untested = [*dict.fromkeys(filter(None, numbers["untested"]))]
    if untested:
        words.append(f"Not tested against the best, and not marked: {'; '.join(untested[:3])}.")
    return words


def remarks(frames: Frames, columns: Iterable[str], layout: Layout) -> list[str]:
    """Return the lines below tables on cells that are not done, not shown, not defined, or stale."""
    return [*not_done(frames), *remarks_on_rows(frames, columns, layout)]


def remarks_on_rows(frames: Frames, columns: Iterable[str], layout: Layout) -> list[str]:
    """Return the lines on how rows were chosen, and what they lack."""
    lines = [*grid_remarks(frames), *left_out(frames), *hidden(frames), *remarks_on_tuning(frames)]
    lines += undefined(frames, columns)
    lines += idle_rows(frames) if layout.marks else []
    return [*lines, *(stale(frames) if layout.origin else ())]


def left_out(frames: Frames) -> list[str]:
    """Return a line for each suite, scenario, strategy, run and reason of records that are not reported."""
    groups = frames.left_out.groupby(["suite", "scenario", "identity", "folder", "why"], sort=False)
    return [
        f"left out: {suite} {scenario} {identity}, {_seeds(len(part))} of {folder}: {why}"
        for (suite, scenario, identity, folder, why), part in groups
    ]


def hidden(frames: Frames) -> list[str]:
    """Return a line with the strategies that are not shown by choice."""
    return [f"not shown, by choice: {some([*frames.hidden], _SHOWN)}"] if frames.hidden else []


def undefined(frames: Frames, columns: Iterable[str]) -> list[str]:
    """Return a line for each reason for which scores in some columns are not defined."""
    if not frames.undefined:
        return []
    of: dict[tuple[str, str, str], dict[str, dict[str, int]]] = {}
    cells = frames.cells.to_dict("records")
    for score in columns:
        for cell in cells:
            if (why := frames.undefined.get((cell["key"], score))) is not None:
                rows = of.setdefault((cell["suite"], cell["scenario"], why), {}).setdefault(score, {})
                rows[cell["identity"]] = rows.get(cell["identity"], 0) + 1
    lines = []
    for (suite, scenario, why), by_score in of.items():
        alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
        for score, rows in by_score.items():
            alike.setdefault(tuple(rows.items()), []).append(score)
        lines += [
            f"{', '.join(scores)} not defined: {suite} {scenario} {some([n for n, _ in rows], _SHOWN)}, "
            f"{_seeds(max(n for _, n in rows))}: {why}"
            for rows, scores in alike.items()
        ]
    return lines


def stale(frames: Frames) -> list[str]:
    """Return a line with the rows whose records are stale, by commit."""
    done = frames.cells[frames.cells["status"] == "done"]
    old = done[done["stale"] != ""]
    if old.empty:
        return []
    rows = old.groupby("stale", sort=False)["identity"].unique()
    if len(old) == len(done):
        return [f"stale: no row is of today's code and data: made at {', '.join(sorted(rows.index))}"]
    named = "; ".join(f"{', '.join(sorted(rows[commit]))} at {commit}" for commit in sorted(rows.index))
    return [f"stale: not of today's code or data: {named}"]


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def not_done(frames: Frames) -> list[str]:
    """Return a line for each kind of cell that is not done."""
    cells = frames.every_cell
    bad = cells[cells["status"] != "done"]
    groups = bad.groupby(["status", "suite", "scenario", "identity", "why"])
    return [
        f"{status}: {suite} {scenario} {identity}, {len(part)} seeds: {why}"
        for (status, suite, scenario, identity, why), part in groups
    ]


def idle_rows(frames: Frames) -> list[str]:
    """Return a line for each row whose own term hardly acted, or that equals finetune on every seed.

    Methods without a recorded own term, such as projections, are judged by equality alone.
    """
    rows = ((row, _why(row)) for row in compared_with_finetune(frames, bounds(frames)))
    return [f"like finetune: {row.suite} {row.scenario} {row.identity}: {why}" for row, why in rows if why]


def _why(row: LikeFinetune) -> str:
    """Return why a row is like finetune and what to do; empty if it is not."""
    if row.idle:
        return f"{row.own_term_in_words}{f', {row.equal_in_words}' if row.equal else ''}; {row.advice}"
    if not row.equal:
        return ""
    if row.own_term is not None:
        return f"{row.equal_in_words}, although {row.own_term_in_words}"
    return f"{row.equal_in_words}; {row.advice}"
