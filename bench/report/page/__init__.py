"""The page of a report: one self-contained file, made to be read.

Everything it shows is in it: tables as HTML, figures as SVG, and what its script needs as JSON. Names of
strategies, commands and reasons are put in as text, never as markup.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_svg import FigureCanvasSVG

from bench import __version__
from bench.frames import Frames
from bench.metrics import SCORES
from bench.report.families import family
from bench.report.figures import FIGURES, Looks, looks_of, parts, style
from bench.report.named import axis, called, head, heads, told, top, unit_words
from bench.report.summary import DEFAULT, SPEED, higher_is_better
from bench.stats import summarise
from bench.stats.paired import Paired, compare, holm
from suites.base import Score

COMPARED = ("acc", "forgetting", "aia", "learning_acc", "bwt", "fwt")
_MANY = 25
"""Strategies of a table above which only the first score is compared: pairs grow with their square."""
_FOLDER = Path(__file__).parent
_SPEED_TITLES = {
    "samples_per_second": ("samples/s", "rows learned per second in steady state, over all lanes"),
    "seconds_per_seed": ("s/seed", "seconds of training and scoring per seed, shared by the lanes"),
}


def make_page(frames: Frames, scores: Sequence[str] | None = None, date: str = "", live: bool = False) -> str:
    """Return the page of one or several runs as HTML; the same frames and date give the same text.

    ``live`` is for a page that is served: it asks its server now and then whether there is more to show.
    """
    shown = tuple(scores or DEFAULT)
    looks = looks_of(frames)
    tables = [_table(*part, frames, shown, looks) for part in parts(frames)]
    done = int((frames.cells["status"] == "done").sum())
    environment = Environment(
        loader=PackageLoader("bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    suites = ", ".join(sorted(frames.cells["suite"].unique()))
    return environment.get_template("page.html.jinja").render(
        title=f"Lethe: {suites}" if suites else "Lethe",
        summary=f"{done} of {_planned(frames)} cells are done.",
        version=__version__,
        css=(_FOLDER / "page.css").read_text(),
        js=(_FOLDER / "page.js").read_text(),
        tables=tables,
        unfinished=_unfinished(frames),
        runs=_runs(frames),
        folders=str(frames.folder),
        date=date,
        data={"live": live, "tables": [_for_script(table) for table in tables]},
    )


def _planned(frames: Frames) -> int:
    return max(len(frames.manifest.get("cells", ())), len(frames.cells))


def _table(
    suite: str, scenario: str, part: Frames, whole: Frames, shown: Sequence[str], looks: Looks
) -> dict[str, Any]:
    """Return all that the page says of one suite and scenario."""
    here = whole.cells[(whole.cells["suite"] == suite) & (whole.cells["scenario"] == scenario)]
    values = {
        (str(identity), str(score)): rows.set_index("seed")["value"].dropna()
        for (identity, score), rows in part.scores.groupby(["identity", "score"])
    }
    score = whole.score_of(suite)
    columns = _columns(values, shown, score)
    rows = [_row(str(identity), cells, part, values, columns) for identity, cells in here.groupby("identity")]
    first = columns[0]["key"]
    sign = -1 if higher_is_better(first) else 1
    rows.sort(key=lambda r: (r["cells"][first]["number"] is None, sign * (r["cells"][first]["number"] or 0)))
    for column in columns:
        _mark_best(rows, column["key"])
    pairs = {k: v for k, v in _pairs([r["identity"] for r in rows], values).items() if v}
    title = f"{suite}, online" if scenario == "online" else f"{suite}, {scenario}-incremental"
    seeds = sorted({r["n"] for r in rows})
    caption = (
        f"{title}: mean ± half-width of the 95 % t interval, {unit_words(score)}, over "
        f"{seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} seeds; the best mean is bold."
    )
    names = heads([c["key"] for c in columns if c["shown"]], score)
    highest = max((v for row in rows for v in _seen(row)), default=0.0)
    return {
        "title": title,
        "columns": columns,
        "rows": rows,
        "caption": f"{caption} {names}" if names else caption,
        "score": {
            "on": axis(score, "Mean {}{unit} on task j (columns) after i tasks (rows)", share="score"),
            "so_far": axis(score, "{} on the tasks so far", share="Score"),
            "label": f"{called(score, 'Score')} on the tasks so far",
            "unit": f" {score.unit}" if score is not None and score.unit else "",
            "top": top(score, highest),
        },
        "compared": {name: head(name, score) for name in pairs},
        "pairs": pairs,
        "figures": list(_figures(suite, scenario, part, looks)),
    }


def _seen(row: dict[str, Any]) -> list[float]:
    """Return the entries of a row's R and curve that there are."""
    values = [v for line in row["matrix"] or () for v in line] + [mean for mean, _ in row["stream"] or ()]
    return [v for v in values if v is not None]


def _columns(
    values: dict[tuple[str, str], pd.Series], shown: Sequence[str], score: Score | None
) -> list[dict[str, Any]]:
    """Return the scores that some strategy has, those asked for first, then the speeds."""
    there = {score for (_, score), found in values.items() if len(found)}
    names = [*shown, *(name for name in SCORES if name not in shown)]
    columns = [
        {
            "key": name,
            "title": head(name, score),
            "help": f"{told(SCORES[name].summary, score)}: {SCORES[name].formula} ({SCORES[name].source})",
            "shown": name in shown,
        }
        for name in names
        if name in there or name == shown[0]
    ]
    speeds = [{"key": k, "title": t, "help": h, "shown": True} for k, (t, h) in _SPEED_TITLES.items()]
    return [*columns, *speeds]


def _row(
    identity: str,
    cells: pd.DataFrame,
    part: Frames,
    values: dict[tuple[str, str], pd.Series],
    columns: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    done = cells[cells["status"] == "done"]
    found: dict[str, dict[str, Any]] = {}
    for column in columns:
        key = column["key"]
        if key in SPEED:
            s = summarise(done[key].astype(float).tolist())
            text = "–" if math.isnan(s.mean) else f"{s.mean:,.0f}" if s.mean >= 100 else f"{s.mean:.2g}"
            found[key] = {"number": _number(s.mean), "text": text, "spread": ""}
        else:
            s = summarise(values.get((identity, key), pd.Series(dtype=float)).tolist())
            text = "–" if math.isnan(s.mean) else f"{100 * s.mean:.2f}"
            spread = "" if math.isnan(s.half) else f"{100 * s.half:.2f}"
            found[key] = {"number": _number(s.mean), "text": text, "spread": spread}
        found[key]["value"] = "" if found[key]["number"] is None else found[key]["number"]
    own = part.matrix[part.matrix["identity"] == identity]
    accuracy = values.get((identity, "acc"), pd.Series(dtype=float))
    seeds = [
        [int(str(c.seed)), c.status, _number(accuracy.get(c.seed)), _number(c.seconds_per_seed), c.why]
        for c in cells.sort_values("seed").itertuples()
    ]
    return {
        "identity": identity,
        "family": family(str(cells["strategy"].iloc[0])),
        "n": len(done),
        "missing": len(cells) - len(done),
        "cells": found,
        "matrix": _matrix(own),
        "stream": _stream(own),
        "seeds": seeds,
    }


def _number(value: Any) -> float | None:
    """Return a number for JSON: more digits than anybody reads, None for NaN."""
    return None if value is None or pd.isna(value) else float(f"{float(value):.7g}")


def _matrix(own: pd.DataFrame) -> list[list[float | None]] | None:
    """Return the mean R, None where there is none; an entry that some seeds lack is no entry."""
    if own.empty:
        return None
    mean = own.groupby(["i", "j"])["value"].agg(lambda v: v.mean(skipna=False)).unstack("j")
    if mean.iloc[-1].isna().all():
        return None
    return [[_number(v) for v in row] for row in mean.to_numpy()]


def _stream(own: pd.DataFrame) -> list[list[float | None]] | None:
    """Return mean and half-interval of the score on the tasks so far, by tasks learned."""
    seen = own[(own["j"] <= own["i"]) & own["value"].notna()]
    if seen.empty or seen["i"].nunique() < own["j"].nunique():
        return None
    by_seed = seen.groupby(["i", "seed"])["value"].mean()
    found = [summarise(by_seed[i].tolist()) for i in sorted(seen["i"].unique())]
    return [[_number(s.mean), _number(s.half)] for s in found]


def _mark_best(rows: list[dict[str, Any]], key: str) -> None:
    numbers = [r["cells"][key]["number"] for r in rows if r["cells"][key]["number"] is not None]
    best = (max if higher_is_better(key) else min)(numbers) if len(set(numbers)) > 1 else None
    for row in rows:
        row["cells"][key]["best"] = best is not None and row["cells"][key]["number"] == best


def _pairs(
    identities: Sequence[str], values: dict[tuple[str, str], pd.Series]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, for each score, the paired comparison of every two strategies, by their places in the table."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for score in COMPARED if len(identities) <= _MANY else COMPARED[:1]:
        own = {
            i: values[name, score] for i, name in enumerate(identities) if len(values.get((name, score), ()))
        }
        tests = {f"{i},{j}": compare(own[i], own[j]) for i in own for j in own if i < j}
        tests = {places: test for places, test in tests.items() if test.n}
        adjusted = holm([math.nan if t.too_few else t.p for t in tests.values()])
        found[score] = {
            places: {
                "n": test.n,
                "mean": _number(test.mean),
                "low": _number(test.mean - test.half),
                "high": _number(test.mean + test.half),
                "words": _words(test, p_holm, len(tests)),
            }
            for (places, test), p_holm in zip(tests.items(), adjusted, strict=True)
        }
    return found


def _words(test: Paired, p_holm: float, family: int) -> str:
    """Return what a paired test says, or that it cannot say anything."""
    if test.too_few:
        return "With fewer than 6 common seeds no two-sided p can fall below 0.05."
    effect = "" if math.isnan(test.d_z) else f"; effect d_z = {test.d_z:.2f}"
    return (
        f"Sign-flip permutation test: p = {test.p:.2g}, {p_holm:.2g} after Holm over {family} pairs; "
        f"Wilcoxon p = {test.p_wilcoxon:.2g}{effect}."
    )


def _figures(suite: str, scenario: str, part: Frames, looks: Looks) -> Iterator[dict[str, str]]:
    for name, figure in FIGURES.items():
        # Each strategy's matrix stands in its detail, and all of them would be half of the page.
        made = None if name in ("matrix", "matrices") else figure(part, looks)
        if made is None:
            continue
        drawing, data = made
        buffer = io.StringIO()
        # Letters as letters: a third of the size of letters as outlines, and they can be searched.
        with style(), mpl.rc_context({"svg.fonttype": "none"}):
            FigureCanvasSVG(drawing).print_svg(buffer, metadata={"Date": None})
        about = (figure.__doc__ or name).splitlines()[0].removeprefix("Draw ").rstrip(".")
        caption = told(about[0].upper() + about[1:] + ".", part.score)
        stem = re.sub(r"[^\w.-]+", "-", f"{suite}-{scenario}-{name}")
        yield {
            "svg": _inline(buffer.getvalue(), stem),
            "caption": caption,
            "alternative": f"{caption} {suite}, {scenario}. The data are to be had below.",
            "file": f"{stem}.csv",
            "csv": data.to_csv(index=False, float_format="%.6g"),
        }


def _inline(svg: str, stem: str) -> str:
    """Return an SVG without its prologue, its identifiers made the page's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{stem}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{stem}-", svg)
    # Hundredths of a point are not seen.
    return re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", svg)


def _unfinished(frames: Frames) -> list[dict[str, str]]:
    """Return the cells that are failed, diverged, skipped or missing, each with its reason."""
    found = [
        {
            "cell": f"{c.suite} {c.scenario} {c.identity} seed {c.seed}",
            "status": str(c.status),
            "why": str(c.why),
        }
        for c in frames.cells[frames.cells["status"] != "done"].itertuples()
    ]
    there = set(frames.cells["key"])
    planned = frames.manifest.get("cells", {})
    return found + [
        {"cell": words, "status": "missing", "why": "not run yet"}
        for key, words in planned.items()
        if key not in there
    ]


def _runs(frames: Frames) -> list[dict[str, Any]]:
    commands = []
    for command in frames.manifest.get("commands", ()):
        packages = ", ".join(f"{k} {v}" for k, v in command.get("packages", {}).items())
        revision = command.get("git", "")[:12] + (
            " and changes not committed" if command.get("dirty") else ""
        )
        facts = [
            command.get("at", ""),
            command.get("device", ""),
            command.get("machine", ""),
            f"revision {revision}" if revision else "",
            f"Python {command.get('python', '')}",
            packages,
        ]
        commands.append({"command": command.get("command", ""), "facts": "; ".join(filter(None, facts))})
    return [{"folder": str(frames.folder), "commands": commands}]


def _for_script(table: dict[str, Any]) -> dict[str, Any]:
    """Return what the script needs of a table: not what stands in the HTML already."""
    rows = [{k: r[k] for k in ("identity", "matrix", "stream", "seeds")} for r in table["rows"]]
    return {
        "caption": table["caption"],
        "score": table["score"],
        "titles": {c["key"]: c["title"] for c in table["columns"]},
        "lower": [c["key"] for c in table["columns"] if not higher_is_better(c["key"])],
        "rows": rows,
        "pairs": table["pairs"],
        "figures": [f["csv"] for f in table["figures"]],
    }
