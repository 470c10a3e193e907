"""The page of a report: one self-contained file, made to be read.

Everything it shows is in it: tables as HTML, figures as SVG, and what its script needs as JSON. Names of
strategies, commands and reasons are put in as text, never as markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report.families import families
from bench.report.figures import FIGURES, Drawn, begin_figures, parts, stem
from bench.report.figures.stream import stream_data
from bench.report.score_names import axis, called, head, heads, told, top, unit_words
from bench.report.summary import DEFAULT, SPEED, higher_is_better
from bench.results import Frames
from bench.stats import FEWEST, SCORES, compare_pairs, describe, holm
from bench.version import VERSION
from suites.base import Score

COMPARED = ("acc", "forgetting", "aia", "learning_acc", "bwt", "fwt")
_MANY = 25
"""Strategies of a table above which only the first score is compared: pairs grow with their square."""
_FOLDER = Path(__file__).parent
_SPEED_TITLES = {
    "samples_per_second": ("samples/s", "rows learned per second in steady state, over all lanes"),
    "seconds_per_seed": ("s/seed", "seconds of training and scoring per seed, shared by the lanes"),
}


def make_page(
    frames: Frames,
    scores: Sequence[str] | None = None,
    date: str = "",
    live: bool = False,
    figures: Iterable[tuple[str, Sequence[Drawn]]] | None = None,
) -> str:
    """Return the page of one or several runs as HTML; the same frames and date give the same text.

    ``live`` is for a page that is served: it asks its server now and then whether there is more to show.
    ``figures`` are those of ``begin_figures``, begun here where that has not been done.
    """
    shown = tuple(scores or DEFAULT)
    begun = begin_figures(frames) if figures is None else figures
    tables = {part[:2]: _table(*part, frames, shown) for part in parts(frames)}
    drawn = dict(begun)
    for (suite, scenario), table in tables.items():
        found = drawn.get(stem(suite, scenario), ())
        table["figures"] = list(_figures(suite, scenario, frames.score_of(suite), found))
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
        version=VERSION,
        css=(_FOLDER / "page.css").read_text(),
        js=(_FOLDER / "page.js").read_text(),
        tables=list(tables.values()),
        unfinished=_unfinished(frames),
        runs=_runs(frames),
        folders=str(frames.folder),
        date=date,
        data={"live": live, "tables": [_for_script(table) for table in tables.values()]},
    )


def _planned(frames: Frames) -> int:
    return max(len(frames.manifest.get("cells", ())), len(frames.cells))


def _table(suite: str, scenario: str, part: Frames, whole: Frames, shown: Sequence[str]) -> dict[str, Any]:
    """Return all that the page says of one suite and scenario, its figures apart."""
    here = whole.cells[(whole.cells["suite"] == suite) & (whole.cells["scenario"] == scenario)]
    compared = part.scores[part.scores["score"].isin(COMPARED)]
    values = {
        str(score): rows.pivot(index="seed", columns="identity", values="value").dropna(axis=1, how="all")
        for score, rows in compared.groupby("score")
    }
    accuracy = values.get("acc", pd.DataFrame())
    score = whole.score_of(suite)
    means, curves, numbers = _matrices(part.matrix), _streams(part), _numbers(part)
    columns = _columns({score for (_, score), row in numbers.items() if row["n"]}, shown, score)
    rows: list[dict[str, Any]] = []
    family = families(whole)
    for identity, cells in here.groupby("identity"):
        name, done = str(identity), int((cells["status"] == "done").sum())
        rows.append(
            {
                "identity": name,
                "family": family[name],
                "n": done,
                "missing": len(cells) - done,
                "cells": {c["key"]: _entry(numbers.get((name, c["key"])), c["key"]) for c in columns},
                "matrix": means.get(name),
                "stream": curves.get(name),
                "seeds": _seeds(cells, accuracy.get(name, pd.Series(dtype=float))),
            }
        )
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
    }


def _seen(row: dict[str, Any]) -> list[float]:
    """Return the entries of a row's R and curve that there are."""
    values = [v for line in row["matrix"] or () for v in line] + [mean for mean, _ in row["stream"] or ()]
    return [v for v in values if v is not None]


def _columns(there: Container[str], shown: Sequence[str], score: Score | None) -> list[dict[str, Any]]:
    """Return the scores that some strategy has, those asked for first, then the speeds."""
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


def _numbers(part: Frames) -> dict[tuple[str, str], dict[Hashable, Any]]:
    """Return mean and spread of every strategy's scores and speeds."""
    speeds = part.cells.melt(["identity"], list(SPEED), "score").astype({"value": float})
    found = describe(pd.concat([part.scores[["identity", "score", "value"]], speeds]), ["identity", "score"])
    return {(row["identity"], row["score"]): row for row in found.reset_index().to_dict("records")}


def _entry(found: dict[Hashable, Any] | None, column: str) -> dict[str, Any]:
    """Return a place of the table, as a number to sort by and as text."""
    mean, half = (math.nan, math.nan) if found is None else (found["mean"], found["half"])
    number, spread = _number(mean), ""
    if number is None:
        text = "–"
    elif column in SPEED:
        text = f"{mean:,.0f}" if mean >= 100 else f"{mean:.2g}"
    else:
        text, spread = f"{100 * mean:.2f}", "" if math.isnan(half) else f"{100 * half:.2f}"
    return {"number": number, "text": text, "spread": spread, "value": "" if number is None else number}


def _seeds(cells: pd.DataFrame, accuracy: pd.Series) -> list[list[Any]]:
    """Return seed, status, final accuracy, seconds and reason of each of a strategy's cells."""
    return [
        [int(str(c.seed)), c.status, _number(accuracy.get(c.seed)), _number(c.seconds_per_seed), c.why]
        for c in cells.sort_values("seed").itertuples()
    ]


def _number(value: Any) -> float | None:
    """Return a number for JSON: more digits than anybody reads, None for NaN."""
    return None if value is None or pd.isna(value) else float(f"{float(value):.7g}")


def _matrices(matrix: pd.DataFrame) -> dict[str, list[list[float | None]]]:
    """Return the mean R of every strategy that has one; an entry that some seeds lack is no entry."""
    of_entries = matrix.groupby(["identity", "i", "j"])["value"]
    means = of_entries.mean().where(of_entries.count() == of_entries.size())
    found = {str(name): rows.unstack("j") for name, rows in means.groupby("identity")}
    return {
        name: [[_number(v) for v in row] for row in mean.to_numpy()]
        for name, mean in found.items()
        if mean.iloc[-1].notna().any()
    }


def _streams(part: Frames) -> dict[str, list[list[float | None]]]:
    """Return mean and half-interval of the score on the tasks so far, by tasks learned, of every strategy
    that was measured after each of them."""
    n_tasks = part.matrix.groupby("identity")["j"].nunique()
    return {
        str(name): [[_number(mean), _number(half)] for mean, half in rows[["mean", "half"]].to_numpy()]
        for name, rows in stream_data(part).groupby("identity")
        if len(rows) >= n_tasks[name]
    }


def _mark_best(rows: list[dict[str, Any]], key: str) -> None:
    numbers = [r["cells"][key]["number"] for r in rows if r["cells"][key]["number"] is not None]
    best = (max if higher_is_better(key) else min)(numbers) if len(set(numbers)) > 1 else None
    for row in rows:
        row["cells"][key]["best"] = best is not None and row["cells"][key]["number"] == best


def _pairs(
    identities: Sequence[str], values: dict[str, pd.DataFrame]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, for each score, the paired comparison of every two strategies, by their places in the table."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for score in COMPARED if len(identities) <= _MANY else COMPARED[:1]:
        table = values.get(score, pd.DataFrame())
        own = [(i, name) for i, name in enumerate(identities) if name in table]
        places = [f"{i},{j}" for (i, _), (j, _) in combinations(own, 2)]
        tests = compare_pairs(table, list(combinations([name for _, name in own], 2))).set_axis(places)
        tests = tests[tests["n"] > 0]
        tests["p_holm"] = holm(tests["p"].where(tests["n"] >= FEWEST).tolist())
        found[score] = {
            str(pair): {
                "n": test["n"],
                "mean": _number(test["mean"]),
                "low": _number(test["mean"] - test["half"]),
                "high": _number(test["mean"] + test["half"]),
                "words": _words(test, len(tests)),
            }
            for pair, test in tests.to_dict("index").items()
        }
    return found


def _words(test: dict[Hashable, Any], family: int) -> str:
    """Return what a paired test, with the fields of Paired, says, or that it cannot say anything."""
    if test["n"] < FEWEST:
        return "With fewer than 6 common seeds no two-sided p can fall below 0.05."
    p, p_holm, p_wilcoxon = (f"{test[name]:.2g}" for name in ("p", "p_holm", "p_wilcoxon"))
    effect = "" if math.isnan(test["d_z"]) else f"; effect d_z = {test['d_z']:.2f}"
    return (
        f"Sign-flip permutation test: p = {p}, {p_holm} after Holm over {family} pairs; "
        f"Wilcoxon p = {p_wilcoxon}{effect}."
    )


def _figures(
    suite: str, scenario: str, score: Score | None, drawn: Sequence[Drawn]
) -> Iterator[dict[str, str]]:
    for figure in drawn:
        about = (FIGURES[figure.name].__doc__ or figure.name).splitlines()[0].removeprefix("Draw ")
        caption = told(about[0].upper() + about[1:].rstrip(".") + ".", score)
        name = re.sub(r"[^\w.-]+", "-", f"{suite}-{scenario}-{figure.name}")
        yield {
            "svg": _inline(figure.svg, name),
            "caption": caption,
            "alternative": f"{caption} {suite}, {scenario}. The data are to be had below.",
            "file": f"{name}.csv",
            "csv": figure.csv,
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
