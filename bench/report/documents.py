"""``python -m bench.report.documents FILE.md ...``: tables and figures of documents, made from records.

A document holds blocks, whose text is replaced:

    <!-- lethe:KIND WORDS -->
    ...
    <!-- lethe:end -->

By kind, with the words that follow it:

    table RUN [SCENARIO] [SCORE,SCORE]   the table
    method RUN STRATEGY                  the strategy's scores in every scenario
    verify TABLE RUN                     the published table beside the run's numbers
    against RUN SCENARIO NOTE A B [A B ...]
                                         the differences in acc of strategies A and B, seed by seed, beside
                                         the mean of what both noted under NOTE
    tuned RUN SCENARIO                   each tuned method's defaults beside what was chosen, and both ranks
    costs RECORD.json                    what the strategies' steps cost
    launches RECORD.json                 how many kernels the strategies' steps submit to a GPU
    grid-times RECORD.json               how long a grid takes as lanes and as single runs
    long-stream RECORD.json              what a stream of many tasks takes
    engine-overhead RECORD.json          how long a short cell takes on Dask, on one machine and by joblib
    many-cells RECORD.json               what a plan of many cells takes beside their training
    large-data RECORD.json               speed and memory of rows from a mapped file
    options STRATEGY RECORD.json         its hyper-parameters, and the cost of a step from the record
    peers RECORD.json                    how long a run takes in other libraries
    planted RECORD.json                  the planted faults that lethe compare finds
    slowness RECORD.json                 how often lethe perf finds a step that became slower
    bisections RECORD.json               how often lethe bisect finds the right commit
    unchanged RECORD.json                how often lethe compare raises an alarm if nothing changed
    faults RECORD.json                   the injected faults, and what they lost or changed

and files that are written beside it, the second with marks:

    <!-- lethe:figure RUN NAME [SCENARIO] [SUITE] [STRATEGY ...] FILE.svg -->
    <!-- lethe:latex RUN COLUMNS [SCENARIO] [SCORE,SCORE] FILE.tex -->

Paths are from the folder of the document. ``--check`` changes nothing and fails where a table differs.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from bench.report import costs
from bench.report.fault_tables import (
    false_alarms,
    injected_faults,
    planted_bisections,
    planted_faults,
    planted_slowness,
)
from bench.report.figures import ACROSS, FIGURES, looks_of, write
from bench.report.formats import MISSING, plus_minus, points
from bench.report.latex import latex
from bench.report.layout import SPREADS, Layout
from bench.report.method_pages import hyper_parameters, peers
from bench.report.origin import origin
from bench.report.parts import by_scenario, parts
from bench.report.published_numbers import published_in_markdown
from bench.report.score_names import head, part_title
from bench.report.tables import markdown, tables
from bench.report.text_tables import markdown_rows
from bench.report.tuned_rows import RANKING_HEADER, how_tuned, tuned_ranking
from bench.results import Frames, as_shown, load, published
from bench.stats import compare, summarise
from suites.base import SCENARIOS

_FIGURE = re.compile(r"<!-- lethe:figure (?P<words>[^>]*) -->")
_LATEX = re.compile(r"<!-- lethe:latex (?P<words>[^>]*) -->")


def renewed(text: str, folder: Path) -> str:
    """Return a document with its tables made again."""
    read = cache(lambda run: as_shown(load(folder / run)))

    def block(match: re.Match[str]) -> str:
        kind, words = match["kind"], match["words"].split()
        if kind in _BLOCKS:
            body = _BLOCKS[kind](read, *words)
        else:
            *names, file = words
            body = _FROM_RECORDS[kind](json.loads((folder / file).read_text(encoding="utf-8")), *names)
        return f"{match['start']}\n{body}\n{match['end']}"

    return _BLOCK.sub(block, text)


Read = Callable[[str], Frames]


def _table(read: Read, run: str, *options: str) -> str:
    scenario, scores = _scenario_and_scores(options)
    return markdown(_only(read(run), scenario), scores)


def _scenario_and_scores(options: Sequence[str]) -> tuple[str | None, list[str] | None]:
    scenario = next((o for o in options if o in SCENARIOS), None)
    return scenario, next((o.split(",") for o in options if o not in SCENARIOS), None)


def _method(read: Read, run: str, identity: str) -> str:
    """Return one strategy's scores, a row per scenario that it can do."""
    frames = read(run)
    scores = frames.scores[frames.scores["identity"] == identity]
    rows = []
    for scenario in (s for s in SCENARIOS if s in set(scores["scenario"])):
        values = scores[scores["scenario"] == scenario].groupby("score")["value"]
        found = [summarise(values.get_group(name).tolist()) for name in _METHOD_SCORES]
        rows.append([scenario, str(found[0].n), *(points(s.mean) + plus_minus(s.half) for s in found)])
    header = ["scenario", "n", *(head(name, frames.score) for name in _METHOD_SCORES)]
    suite = ", ".join(sorted(scores["suite"].unique()))
    command = frames.manifest.commands[-1].command
    return f"{markdown_rows(header, rows)}\n\n{suite}, {command}; {SPREADS['ci']}."


def _verify(read: Read, name: str, run: str) -> str:
    table, frames = published.read(name), read(run)
    verdicts = published.compare(table, frames, max(1, frames.cells["seed"].nunique()))
    return published_in_markdown(table, verdicts)


def _against(read: Read, run: str, scenario: str, note: str, *identities: str) -> str:
    """Return pairs of strategies with their difference over common seeds, and one note of each."""
    frames = _only(read(run), scenario)
    acc = frames.scores[frames.scores["score"] == "acc"].set_index("seed").groupby("identity")["value"]
    noted = frames.notes[frames.notes["note"] == note].groupby("identity")["value"].mean()
    rows = []
    for a, b in zip(identities[::2], identities[1::2], strict=True):
        found = compare(acc.get_group(a), acc.get_group(b))
        sure = abs(found.mean) > found.half
        verdict = ("higher" if found.mean > 0 else "lower") if sure else "not distinguished"
        notes = [f"{noted[i]:,.0f}" if i in noted else MISSING for i in (a, b)]
        difference = points(found.mean, sign="+") + plus_minus(found.half)
        rows.append([a, b, str(found.n), difference, verdict, *notes])
    difference = f"difference in {head('acc', frames.score)}"
    header = ["strategy", "against", "n", difference, "verdict", note, f"{note}, against"]
    suite = ", ".join(sorted(frames.cells["suite"].unique()))
    return (
        f"{markdown_rows(header, rows)}\n\n{part_title(suite, scenario)}; mean difference seed by seed, in "
        "points, ± half-width of its 95 % t interval."
    )


def _tuned(read: Read, run: str, scenario: str) -> str:
    """Return the defaults of each tuned method beside what was chosen, with ranks, and how it was chosen."""
    frames = _only(read(run), scenario)
    suite = ", ".join(sorted(frames.cells["suite"].unique()))
    table = markdown_rows(RANKING_HEADER, tuned_ranking(frames, suite, scenario))
    title = f"{part_title(suite, scenario)}; {head('acc', frames.score)} in percent over the reported seeds;"
    return f"{table}\n\n{title} {how_tuned(frames, suite, scenario)}."


_METHOD_SCORES = ("acc", "forgetting", "learning_acc")
_BLOCKS: dict[str, Callable[..., str]] = {
    "table": _table, "method": _method, "verify": _verify, "against": _against, "tuned": _tuned,
}  # fmt: skip
_FROM_RECORDS: dict[str, Callable[..., str]] = {
    "costs": costs.step_costs,
    "grid-times": costs.grid_times,
    "engine-overhead": costs.engine_overhead,
    "many-cells": costs.many_cells,
    "long-stream": costs.long_stream,
    "large-data": costs.large_data,
    "launches": costs.launches,
    "options": hyper_parameters,
    "peers": peers,
    "planted": planted_faults,
    "slowness": planted_slowness,
    "bisections": planted_bisections,
    "unchanged": false_alarms,
    "faults": injected_faults,
}
_BLOCK = re.compile(
    rf"(?P<start><!-- lethe:(?P<kind>{'|'.join([*_BLOCKS, *_FROM_RECORDS])}) (?P<words>[^>]*) -->\n)"
    r"(?P<body>.*?)(?P<end><!-- lethe:end -->)",
    re.DOTALL,
)


def draw(text: str, folder: Path) -> list[Path]:
    """Write the figures and LaTeX files a document names; return their files."""
    written = []
    for match in _LATEX.finditer(text):
        run, columns, *options, file = match["words"].split()
        scenario, scores = _scenario_and_scores(options)
        frames = _only(as_shown(load(folder / run)), scenario)
        # Without a remark on stale records: it would change with the code.
        shown = replace(tables(frames, scores, Layout(marks=True)), origin=tuple(origin(frames)))
        (folder / file).write_text(latex(shown, int(columns)), encoding="utf-8")
        written.append(folder / file)
    for match in _FIGURE.finditer(text):
        run, name, *options, file = match["words"].split()
        frames = as_shown(load(folder / run))
        looks = looks_of(frames)
        chosen = frames.only(_chosen(frames.cells, options))
        found = by_scenario(chosen) if name in ACROSS else ((s, part) for _, s, part in parts(chosen))
        for _, part in found:
            made = (ACROSS | FIGURES)[name](part, looks)
            if made is not None:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                write(made[0], folder / file)
                written.append(folder / file)
    return written


def _chosen(cells: pd.DataFrame, options: Sequence[str]) -> pd.DataFrame:
    """Return the cells of the scenarios, suites and strategies named, of all where none is."""
    for column in ("scenario", "suite", "identity"):
        wanted = [o for o in options if o in set(cells[column])]
        cells = cells[cells[column].isin(wanted)] if wanted else cells
    return cells


def _only(frames: Frames, scenario: str | None) -> Frames:
    return frames if scenario is None else frames.only(frames.cells[frames.cells["scenario"] == scenario])


def main(words: list[str]) -> int:
    """Renew documents; with ``--check`` return 1 where one is not as its records say."""
    stale = []
    for path in (Path(w) for w in words if w != "--check"):
        before = path.read_text(encoding="utf-8")
        after = renewed(before, path.parent)
        if "--check" in words:
            stale += [path] if after != before else []
            continue
        path.write_text(after, encoding="utf-8")
        for figure in draw(after, path.parent):
            print(figure)
    for path in stale:
        print(f"{path} is not what its records say: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
