"""The page of a report: one self-contained file.

Everything it shows is in it: tables as HTML, figures as SVG, and what its script needs as JSON. Names of
strategies, commands and reasons are put in as text, never as markup.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps

from bench.report.captions import remarks
from bench.report.figures import Drawn, begin_figures
from bench.report.formats import CLOSE
from bench.report.latex import comments
from bench.report.layout import Layout, all_scores, chosen_scores
from bench.report.origin import origin, revision
from bench.report.page.comparisons import COMPARED
from bench.report.page.history_section import history_section
from bench.report.page.section import figures_of, section
from bench.report.pairs import every_comparison, scores_of_pairs
from bench.report.parts import part_names, parts
from bench.report.score_names import part_title
from bench.report.summary import every_number
from bench.results import Frames, Line
from suites.version import VERSION

_FOLDER = Path(__file__).parent


def make_page(
    frames: Frames,
    scores: Sequence[str] | None = None,
    date: str = "",
    live: bool = False,
    layout: Layout | None = None,
    figures: Iterable[tuple[str, Sequence[Drawn]]] | None = None,
    history: Sequence[Line] = (),
    numbers: pd.DataFrame | None = None,
    compared: pd.DataFrame | None = None,
) -> Iterator[str]:
    """Yield the page of one or several runs as HTML; the same frames and date give the same text.

    The section of a suite and scenario is made when it is reached, and not stored.

    Args:
        frames: The runs.
        scores: The scores whose columns are visible at first.
        date: When the page was made.
        live: Whether the page is served: it asks its server now and then whether it has changed.
        layout: Only its spread and, for LaTeX, its families and columns are used; marks are always shown.
        figures: Those of ``begin_figures``, drawn here where they are not given.
        history: Scores over revisions, for a section of their own.
        numbers: The ``summary`` with all scores and marks, computed here where it is not given.
        compared: Those of ``every_comparison``, computed here where they are not given.
    """
    shown, layout = chosen_scores(scores), layout or Layout()
    layout = Layout(layout.spread, layout.by_family, marks=True, columns=layout.columns)
    begun = iter(begin_figures(frames) if figures is None else figures)
    if numbers is None:
        numbers, _ = every_number(frames, all_scores(shown), layout)
    if compared is None:
        n_strategies = frames.scores["identity"].nunique()
        compared = every_comparison(frames, scores_of_pairs(n_strategies, COMPARED))
    notes = comments(remarks(frames, shown, Layout(origin=True)), origin(frames))

    def tables() -> Iterator[dict[str, Any]]:
        for suite, scenario, part in parts(frames):
            whole = replace(frames.only(_in(suite, scenario, frames.cells)), grids=part.grids)
            own, pairs = (_in(suite, scenario, of) for of in (numbers, compared))
            table = section((suite, scenario), part, whole, own, shown, layout, pairs)
            _, drawn = next(begun, ("", ()))
            table["figures"] = list(figures_of(suite, scenario, frames.score_of(suite), drawn))
            table["data"] = htmlsafe_json_dumps(_for_script(table), sort_keys=True)
            yield table

    done = int((frames.every_cell["status"] == "done").sum())
    how: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("bench.report", "page"), autoescape=True, **how)
    suites = ", ".join(sorted(frames.every_cell["suite"].unique()))
    return environment.get_template("page.html.jinja").generate(
        title=f"Lethe: {suites}" if suites else "Lethe",
        summary=f"{done} of {_planned(frames)} cells are done.",
        version=VERSION,
        css=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        js=(_FOLDER / "page.js").read_text(encoding="utf-8"),
        titles=[part_title(suite, scenario) for suite, scenario in part_names(frames)],
        tables=tables(),
        close=CLOSE,
        history=history_section(history) if history else None,
        unfinished=_unfinished(frames),
        runs=_runs(frames),
        folders=" ".join(map(str, frames.folders or (frames.folder,))),
        date=date,
        data=htmlsafe_json_dumps({"live": live, "comments": notes}),
    )


def _in(suite: str, scenario: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a suite and scenario; a frame without rows may have no columns."""
    return rows[(rows["suite"] == suite) & (rows["scenario"] == scenario)] if len(rows) else rows


def _planned(frames: Frames) -> int:
    return max(len(frames.manifest.cells), len(frames.every_cell))


def _unfinished(frames: Frames) -> list[dict[str, str]]:
    """Return the cells that are failed, diverged, skipped or missing, each with its reason."""
    found = []
    cells = frames.every_cell
    for c in cells[cells["status"] != "done"].itertuples():
        words = f"{c.suite} {c.scenario} {c.identity} seed {c.seed}"
        found.append({"cell": words, "status": str(c.status), "why": str(c.why)})
    there = set(cells["key"])
    missing = [words for key, words in frames.manifest.cells.items() if key not in there]
    return found + [{"cell": words, "status": "missing", "why": "not run yet"} for words in missing]


def _runs(frames: Frames) -> list[dict[str, Any]]:
    commands = []
    for command in frames.manifest.commands:
        packages = ", ".join(f"{k} {v}" for k, v in command.packages.items())
        made_by = revision(command)
        origin = [command.at, command.device, command.machine, f"revision {made_by}" if made_by else ""]
        origin += [f"Python {command.python}", packages]
        commands.append({"command": command.command, "origin": "; ".join(filter(None, origin))})
    return [{"folder": str(frames.folder), "commands": commands}]


def _for_script(table: dict[str, Any]) -> dict[str, Any]:
    rows = [{k: r[k] for k in ("identity", "matrix", "stream", "seeds")} for r in table["rows"]]
    return {
        "latex": table["latex"],
        "score": table["score"],
        "titles": {c["key"]: c["title"] for c in table["columns"]},
        "rows": rows,
        "pairs": table["pairs"],
        "figures": [{k: f[k] for k in ("csv", "tips")} for f in table["figures"]],
    }
