"""Figures: their data against direct calculation, equal bytes, readable labels and colours."""

import io
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

import strategies
from bench.report import make_report, plot
from bench.report.figures import (
    ACROSS,
    FIGURES,
    MOST_NAMED,
    ONE_COLUMN,
    TWO_COLUMNS,
    Looks,
    begin_figures,
    looks_of,
    style,
    write,
)
from bench.report.figures.axes import Quantity, short
from bench.report.figures.boundaries import boundaries_data
from bench.report.figures.data import evenly, intervals
from bench.report.figures.looks import PALETTE, label
from bench.report.figures.matrices import matrices_data
from bench.report.figures.pareto import on_front, pareto_data
from bench.report.figures.response import response_data
from bench.report.figures.schedules import schedules_data
from bench.report.figures.stability import stability_data
from bench.report.figures.stream import stream_data
from bench.report.figures.tasks import tasks_data
from bench.report.layout import chosen_formats, chosen_width, tex_system
from bench.report.parts import by_scenario, parts
from bench.results import Frames, choose
from bench.stats import summarise
from bench.store import RunReader
from lethe.testing import frames_of, made_cell, made_up, not_done, with_classes
from tests.conftest import refused

REFERENCES = {"finetune", "joint", "cumulative"}


def looks_of_names(names: Sequence[str]) -> Looks:
    return Looks.of(names, [n for n in names if n.split("[")[0] in REFERENCES])


def only_part(records: list[dict[str, Any]]) -> Frames:
    [(_, _, part)] = parts(frames_of(records))
    return part


def drawn(name: str, frames: Frames, looks: Looks | None = None) -> tuple[Figure, pd.DataFrame]:
    made = (FIGURES | ACROSS)[name](frames, looks or looks_of(frames))
    assert made is not None
    return made


def texts_of(figure: Figure) -> set[str]:
    return {t.get_text() for t in figure.findobj(Text)}


def with_notes(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the notes of adaptive-replay to er: readings in parts of tasks, and single numbers."""
    for record in records:
        if record["identity"] == "er":
            seed = record["spec"]["seed"]
            readings = [[None] * 4] + [[0.1 * seed + task + part for part in range(4)] for task in range(4)]
            record["notes"] = {"step": readings, "strength": readings, "reviews": 3, "one_row": [1, 2, seed]}
    return records


def with_buffers(seeds: int = 3) -> list[dict[str, Any]]:
    """Return records of er with several buffers, and of ewc with one setting."""
    found = []
    for record in made_up(4, seeds=seeds):
        if record["identity"] != "er":
            found.append(record)
            continue
        for buffer, words in ((20, {"buffer": 20}), (200, {"buffer": 200}), (500, {})):
            cell = made_cell("er", words, record["spec"]["seed"])
            own = {"key": f"{cell.key}-{buffer}", "identity": cell.identity}
            more = json.loads(json.dumps(record)) | own
            more["spec"] |= {"hyper": {"buffer": buffer, "write": "reservoir"}, "identity": cell.identity}
            more["test"]["right"][-1] = [buffer // 4] * 5
            found.append(more)
    return found


def test_intervals_in_figures_equal_those_of_summarise() -> None:
    frame = pd.DataFrame({"a": [*"xxxxyyz"], "value": [0.1, 0.5, 0.2, 0.9, 0.4, np.nan, np.nan]})
    found = intervals(frame, ["a"]).set_index("a")
    assert list(found.index) == ["x", "y"]
    for name, (mean, half, n) in found.iterrows():
        s = summarise(frame[frame["a"] == name]["value"].tolist())
        assert [mean, half, n] == pytest.approx([s.mean, s.half, s.n], nan_ok=True)


def test_stream_tasks_and_matrix_figures_equal_a_calculation_by_hand() -> None:
    records = made_up(3, seeds=4)
    part = only_part(records)
    er = np.array([r["test"]["right"] for r in records if r["identity"] == "er"]) / 200
    stream = stream_data(part).set_index(["identity", "tasks"])
    for i in range(1, 6):
        s = summarise(er[:, i, :i].mean(1).tolist())
        assert stream.loc[("er", i)].tolist() == pytest.approx([s.mean, s.half, 4])
    assert [i for name, i in stream.index if name == "joint"] == [5]
    tasks = tasks_data(part).set_index(["identity", "task", "tasks"])
    matrices = matrices_data(part).set_index(["identity", "i", "j"])
    for i, j in itertools.product(range(6), range(1, 6)):
        found = tasks.loc[("er", j, i), "mean"], matrices.loc[("er", i, j), "mean"]
        assert found == pytest.approx([er[:, i, j - 1].mean()] * 2)
    assert "joint" not in matrices.index.get_level_values(0)  # joint is scored only at the start and the end


def test_bars_and_stability_figures_show_every_seed() -> None:
    part = only_part(made_up(3, seeds=4))
    _, bars = drawn("bars", part)
    scores = part.scores.set_index(["identity", "seed", "score"])["value"]
    assert set(bars["score"]) == {"acc", "forgetting", "bwt", "fwt"}
    for row in bars.itertuples():
        assert row.value == scores[row.identity, row.seed, row.score]
    stability = stability_data(part)
    assert len(stability) == 2 * 4  # joint has no scores task by task
    for row, name in itertools.product(stability.to_dict("records"), ("forgetting", "learning_acc")):
        assert row[name] == scores[row["identity"], row["seed"], name]


def test_the_pareto_front_equals_a_brute_force_search() -> None:
    draws = np.random.default_rng(1)
    cost, gain = draws.integers(0, 6, 30).astype(float), draws.integers(0, 6, 30).astype(float)
    for a, on in enumerate(on_front(cost, gain)):
        as_good = (cost <= cost[a]) & (gain >= gain[a])
        assert on == (not (as_good & ((cost < cost[a]) | (gain > gain[a]))).any())
    part = only_part(made_up(11))
    data = pareto_data(part)
    assert set(data["cost"]) == {"samples_per_second", "memory_bytes", "memory_samples"}
    assert not data[data["identity"].isin(["joint", "cumulative"])]["front"].any()
    speed = part.cells[part.cells["identity"] == "er"]["samples_per_second"].mean()
    er = data[data["identity"] == "er"].set_index("cost")["x"]
    assert (er["samples_per_second"], er["memory_bytes"]) == (pytest.approx(speed), 65 * 200)


def test_the_boundaries_figure_equals_a_calculation_by_hand() -> None:
    records = made_up(1, seeds=2, curves=True)
    data = boundaries_data(only_part(records)).set_index(["boundary", "step"])
    points = [{(c["task"], c["step"]): np.array(c["right"]) / 200 for c in r["curves"]} for r in records]
    for boundary, step, at in ((1, 5, (2, 5)), (3, 50, (4, 50)), (3, 0, (3, 100)), (3, -10, (3, 90))):
        seeds = [p[at][:boundary].mean() for p in points]
        assert data.loc[(boundary, step), "mean"] == pytest.approx(np.mean(seeds))
    assert set(data.index.get_level_values(0)) == {1, 2, 3, 4}


def test_the_response_figure_joins_cells_that_differ_in_one_setting() -> None:
    data = response_data(only_part(with_buffers()))
    assert (set(data["setting"]), set(data["strategy"])) == ({"buffer"}, {"er"})
    assert data[["x", "n"]].to_numpy().tolist() == [[20, 3], [200, 3], [500, 3]]
    assert data["mean"].tolist() == pytest.approx([5 / 200, 50 / 200, 125 / 200])
    assert data["identity"].tolist() == ["er[buffer=20]", "er[buffer=200]", "er"]


CLASSES = ["dog", "cat", "aeroplane", "motor car", "a name too long", "7", "8", "9", "tree frog", "toad"]
MANY = [f"intent {i}" for i in range(150)]


def classes_learned(folder: Path, names: list[str], seeds_alike: bool = True) -> Frames:
    """Return made-up records with confusions: 10 classes in 5 tasks, or 150 in 15."""
    n, records = (5 if len(names) == 10 else 15), made_up(2, n_tasks=5 if len(names) == 10 else 15, seeds=2)
    [(_, _, part)] = parts(with_classes(records, folder, names, len(names) // n, seeds_alike))
    return part


@pytest.mark.parametrize("seeds_alike", [True, False])
def test_the_confusion_figure_equals_a_count_by_hand(tmp_path: Path, seeds_alike: bool) -> None:
    part = classes_learned(tmp_path, CLASSES, seeds_alike)
    figure, data = drawn("confusion", part)
    [name] = data["identity"].unique()
    final = part.scores[part.scores["score"] == "acc"].groupby("identity")["value"].mean()
    assert name == final.drop("joint").idxmax()  # a bound does not count as the best strategy
    cells = part.cells[part.cells["identity"] == name].sort_values("seed")
    run = RunReader(tmp_path)
    files = [run.classes(key) or {} for key in cells["key"]]
    rows = [row for file in files[: 2 if seeds_alike else 1] for row in file["test"]]
    assert set(data["n"]) == {2 if seeds_alike else 1}
    for cell in data.itertuples():
        of_true = [r for r in rows if r[0] == cell.i >= r[1] and CLASSES[r[2]] == cell.true]
        count = sum(r[4] for r in of_true if CLASSES[r[3]] == cell.answer)
        share = pytest.approx(count / sum(r[4] for r in of_true))
        assert (cell._asdict()["count"], cell.share) == (count, share)
    assert data.groupby(["i", "true"], observed=True)["share"].sum().tolist() == pytest.approx([1.0] * 30)
    firsts = data[data["i"] == 5].drop_duplicates("true")
    assert firsts["task"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == [f"after task {i}" for i in range(1, 6)]


@pytest.mark.slow
def test_the_confusion_figure_of_many_classes_shows_task_numbers(tmp_path: Path) -> None:
    part = classes_learned(tmp_path, MANY)
    figure, data = drawn("confusion", part)
    assert sorted(data["i"].unique()) == [1, 5, 8, 11, 15]
    assert not any(text.startswith("intent") for text in texts_of(figure))
    assert "14" in texts_of(figure)
    assert FIGURES["confusion"](only_part(made_up(1)), looks_of(part)) is None  # records without classes


def test_the_schedules_figure_places_notes_along_the_stream() -> None:
    frames = only_part(with_notes(made_up(4, seeds=3)))
    assert len(frames.notes) == 3 * (20 + 20 + 1 + 3)
    data = schedules_data(frames)
    assert set(data["note"]) == {"strength", "one_row"}
    strength = data[data["note"] == "strength"]
    assert strength["at"].tolist() == [1 + (part + 0.5) / 4 for part in range(16)]
    assert strength["mean"].iloc[0] == pytest.approx(0.1)
    assert data[data["note"] == "one_row"]["at"].tolist() == [1, 2, 3]


def test_the_ranks_figure_equals_a_calculation_by_hand() -> None:
    records = made_up(6, suites=("toy", "toyb", "toyab"), seeds=2)
    last = [r for r in records if not (r["spec"]["suite"] == "toyab" and r["identity"] == "ewc")]
    [(_, frames)] = by_scenario(frames_of(last))
    figure, data = drawn("ranks", frames)
    # ewc lacks one suite, and joint is a bound: both are left out.
    names = ["der++", "er", "finetune", "lwf"]
    assert sorted(data["identity"]) == names
    assert any("joint is a bound" in text for text in texts_of(figure))
    rows = [(r["spec"]["suite"], r["identity"], np.mean(r["test"]["right"][-1])) for r in last]
    means = (
        pd.DataFrame(rows).groupby([0, 1])[2].mean().unstack()[names]
    )  # (suite, strategy), means over seeds
    expected = means.rank(axis=1, ascending=False).mean().to_dict()
    assert data.set_index("identity")["rank"].to_dict() == pytest.approx(expected)


def test_a_bound_is_a_line_across_the_memories_and_not_at_zero() -> None:
    """joint and cumulative need all rows, whatever their records say they store."""
    part = only_part(made_up(11))
    figure, data = drawn("pareto", part)
    memory = data[data["cost"] != "samples_per_second"].set_index(["cost", "identity"])["x"]
    for cost, name in itertools.product(("memory_bytes", "memory_samples"), ("joint", "cumulative")):
        assert math.isnan(memory[cost, name])
        assert memory[cost, "finetune"] == 0
    speeds, *memories = figure.axes
    final = 100 * data.set_index(["cost", "identity"])["mean"]["memory_bytes"]
    for axes, lines in ((speeds, 0), *((axes, 2) for axes in memories)):
        across = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
        heights = {round(float(line.get_ydata()[0]), 6) for line in across}
        assert heights == ({round(final[name], 6) for name in ("joint", "cumulative")} if lines else set())
    assert any("cumulative and joint store all rows" in " ".join(text.split()) for text in texts_of(figure))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pareto", "stability", "response", "schedules", "bars", "stream", "tasks"])
@pytest.mark.parametrize("high", [False, True])
def test_an_axis_that_does_not_begin_at_zero_says_so(name: str, high: bool) -> None:
    records = with_notes(with_buffers() if name == "response" else made_up(4, curves=True))
    for record in records if high else ():
        rows = record["test"]["right"]
        record["test"]["right"] = [[None if x is None else 160 + x // 8 for x in row] for row in rows]
        for note in record["notes"]:
            record["notes"][note] = 100.0 + np.array(record["notes"][note], dtype=float)
            record["notes"][note] = record["notes"][note].tolist()
    figure, _ = drawn(name, only_part(records))
    cut = [
        (axes, line.axis_name)
        for axes in figure.axes
        for line in (axes.xaxis, axes.yaxis)
        if line.get_scale() == "linear"
        and not (name in ("bars", "stream", "tasks", "schedules") and line.axis_name == "xy"[name == "bars"])
        and not sorted(line.get_view_interval())[0] <= 0 <= sorted(line.get_view_interval())[1]
    ]
    breaks = [line for axes in figure.axes for line in axes.lines if isinstance(line.get_marker(), list)]
    assert len({id(line.axes) for line in breaks}) == len({id(axes) for axes, _ in cut})
    said = any("broken axes do not begin at zero" in " ".join(text.split()) for text in texts_of(figure))
    assert said == bool(cut)
    if high and name in ("pareto", "stability"):
        assert cut


def test_figures_describe_their_parts_with_the_numbers_of_the_tables() -> None:
    part = only_part(made_up(4))
    figure, data = drawn("stream", part)
    last = data[data["tasks"] == 5].set_index("identity")
    found = {tip.series: tip.texts[-1] for tip in figure.tips.values() if tip.texts}
    for name, text in found.items():
        assert text == f"after 5 tasks: {100 * last['mean'][name]:.2f} ± {100 * last['half'][name]:.2f}"
    assert set(found) == {"finetune", "joint", "er", "ewc"}
    figure, _ = drawn("bars", part)
    texts = {(tip.series, tip.texts[0]) for tip in figure.tips.values()}
    assert {(name, text.replace("after 5 tasks", "acc")) for name, text in found.items()} <= texts


@pytest.mark.slow
def test_figures_are_as_wide_as_asked_for_in_the_formats_asked_for(tmp_path: Path) -> None:
    frames = frames_of(made_up(3, seeds=2, n_tasks=2))
    list(begin_figures(frames, tmp_path, chosen_width("4.5"), chosen_formats(["svg"])))
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".csv"}
    text = (tmp_path / "toy-class-stream.svg").read_text()
    assert f'width="{4.5 * 72:g}pt"' in text
    assert [chosen_width(w) for w in ("column", "text", "5")] == [ONE_COLUMN, TWO_COLUMNS, 5]
    refused("not 'wide'", chosen_width, "wide")
    refused("not '0.1'", chosen_width, "0.1")
    refused("unknown format of figures 'pfd'; did you mean pgf or pdf", chosen_formats, ["pfd"])


@pytest.mark.slow
def test_the_page_of_many_suites_shows_the_figures_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = frames_of(made_up(2, seeds=2, n_tasks=2))
    for most, inches in ((1, ONE_COLUMN), (0, 5)):
        monkeypatch.setattr("bench.report.figures.write_figures.MOST_PARTS", most)
        ((_, figures),) = begin_figures(frames, tmp_path, 5, ["svg"])
        assert {f'width="{72 * inches:g}pt"' in figure.svg for figure in figures} == {True}


@pytest.mark.slow
def test_a_report_of_very_many_suites_writes_svg_alone_unless_formats_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, out = frames_of(made_up(2, seeds=2, n_tasks=2)), io.StringIO()
    console = Console(file=out, width=200)
    make_report(frames, tmp_path / "one", console=console)
    assert {p.suffix for p in (tmp_path / "one" / "figures").iterdir()} == {".pdf", ".svg", ".png", ".csv"}
    monkeypatch.setattr("bench.report.layout.MOST_PARTS", 0)
    make_report(frames, tmp_path / "many", console=console)
    assert {p.suffix for p in (tmp_path / "many" / "figures").iterdir()} == {".svg", ".csv"}
    assert out.getvalue().count("figures of 1 suites and scenarios are SVG files only") == 1
    make_report(frames, tmp_path / "asked", console=console, formats=["png"])
    assert {p.suffix for p in (tmp_path / "asked" / "figures").iterdir()} == {".png", ".csv"}


def test_pgf_needs_tex_and_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    refused("PGF figures need xelatex, lualatex or pdflatex", chosen_formats, ["pdf", "pgf"])
    monkeypatch.setattr("shutil.which", lambda name: "/bin/tex" if name == "pdflatex" else None)
    assert chosen_formats(["pdf", "pgf"]) == ("pdf", "pgf")
    assert tex_system() == "pdflatex"


MEASURES = """#!{python}
# In the place of TeX: every text is as wide as 5 points a letter.
import sys
print("*pgf_backend_query_start\\n*", end="", flush=True)
for line in sys.stdin:
    if "@@end" in line:
        break
    if "\\sbox0" in line:
        print(f"\\n{{5.0 * len(line)}}pt,6.0pt,1.0pt\\n\\n*", end="", flush=True)
"""


def test_pgf_figures_have_their_names_as_tex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TeX is played by a script that measures; names with its special characters are escaped."""
    tex = tmp_path / "xelatex"
    tex.write_text(MEASURES.format(python=sys.executable))
    tex.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    part = only_part(made_up(3, seeds=2))
    shown = choose(part, names={"er": "a_b & 50 % {#}", "joint": "$x^2$"})
    for name in ("stream", "bars"):
        figure, _ = drawn(name, shown)
        write(figure, tmp_path / f"{name}.pgf")
        text = (tmp_path / f"{name}.pgf").read_text()
        assert "\\begin{pgfpicture}" in text
        assert r"a\_b \& 50 \% \{\#\}" in text
        assert r"\$x\textasciicircum{}2\$" in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex (Debian: texlive-pictures, lmodern)")
def test_pgf_figures_are_drawn_by_tex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.figures.pgf.tex_system", lambda: "pdflatex")  # needs no system fonts
    monkeypatch.chdir(tmp_path)
    shown = choose(only_part(made_up(3, seeds=2)), names={"er": "a_b & 50 % {#}"})
    names = ("stream", "bars", "matrix")
    for name in names:
        figure, _ = drawn(name, shown)
        write(figure, Path(f"{name}.pgf"))
    inputs = "".join(rf"\begin{{figure}}\input{{{name}.pgf}}\end{{figure}}" for name in names)
    Path("paper.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{pgf,graphicx,lmodern}}\def\mathdefault#1{{#1}}\begin{{document}}{inputs}\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert Path("paper.pdf").read_bytes().startswith(b"%PDF")


def test_numbers_on_axes_are_short_and_evenly_placed() -> None:
    assert [short(x) for x in (20, 1000, 20_000, 1.5e6, 1e-5, 0.001)] == [
        "20", "1k", "20k", "1.5M", "1e-5", "0.001",
    ]  # fmt: skip
    assert [Quantity(x).log for x in ([0, 10, 1000], [1, 2], [-1, 200, 1])] == [True, False, False]
    assert Quantity([0, 10, 1000]).place([0, 10])[0] < 10
    assert (evenly(range(1, 21), 10)[0], evenly(range(1, 21), 10)[-1]) == (1, 20)
    assert evenly([1, 2], 10) == [1, 2]


def everything(n: int, **more: Any) -> list[dict[str, Any]]:
    return with_notes(made_up(n, curves=True, **more))


@pytest.mark.slow
def test_figures_are_written_with_the_same_bytes_again(tmp_path: Path) -> None:
    """A suite's figures do not depend on other suites in the report."""
    records = everything(4, seeds=2, suites=("toy", "toyb"), n_tasks=3)
    on_page = dict(begin_figures(frames_of(records), tmp_path / "a"))
    list(begin_figures(frames_of([r for r in records if r["spec"]["suite"] == "toy"]), tmp_path / "b"))
    made = [n for n in FIGURES if n not in ("response", "grid", "trials", "confusion")]
    large = [n for n in made if n not in ("matrix", "matrices")]
    shown = {part: [figure.name for figure in figures] for part, figures in on_page.items()}
    assert shown == {"toy-class": large, "toyb-class": large}
    assert len(list((tmp_path / "a").iterdir())) == 4 * (2 * len(made) + 1)
    names = sorted(p.name for p in (tmp_path / "b").iterdir())
    assert len(names) == 4 * len(made)
    for name in names:
        found = (tmp_path / "a" / name).read_bytes()
        assert found == (tmp_path / "b" / name).read_bytes(), name
        assert not re.search(rb"CreationDate|<dc:date>|\D20\d\d-\d\d-\d\d", found) or name.endswith(".png")


def missing_seeds() -> list[dict[str, Any]]:
    return [r for r in everything(4) if r["identity"] != "er" or r["spec"]["seed"] == 1]


def some_failed() -> list[dict[str, Any]]:
    found = everything(3, seeds=2)
    cells = [made_cell("ewc", {}, seed) for seed in range(2)] + [made_cell("er", {}, 7)]
    return found + [not_done(c, s) for c, s in zip(cells, ("failed", "skipped", "failed"), strict=True)]


CASES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "missing seeds": missing_seeds,
    "one seed": lambda: everything(3, seeds=1),
    "one task": lambda: everything(3, n_tasks=1, seeds=2),
    "two tasks": lambda: everything(3, n_tasks=2, seeds=2),
    "one strategy": lambda: everything(1, seeds=2),
    "only joint": lambda: [r for r in everything(2, seeds=2) if r["identity"] == "joint"],
    "some failed": some_failed,
    "thirty tasks": lambda: everything(2, n_tasks=30, seeds=1),
    "all failed": lambda: [not_done(made_cell("er", {}, seed), "failed") for seed in range(2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_incomplete_and_tiny_runs_have_figures(case: str, tmp_path: Path) -> None:
    frames = frames_of(CASES[case]())
    looks = looks_of(frames).at(ONE_COLUMN)
    made = [(name, draw(part, looks)) for _, _, part in parts(frames) for name, draw in FIGURES.items()]
    assert ("stream" in {name for name, found in made if found}) == (case != "all failed")
    for name, (figure, data) in ((name, found) for name, found in made if found):
        write(figure, tmp_path / f"{name}.svg")
        assert len(data)
        assert figure.get_figwidth() <= ONE_COLUMN


def test_a_strategy_with_fewer_seeds_shows_its_n() -> None:
    part = only_part(missing_seeds())
    figure, data = drawn("stream", part)
    assert {"er (n=1)", "finetune"} <= {t.get_text() for t in figure.legends[0].get_texts()}
    assert set(data[data["identity"] == "er"]["n"]) == {1}


def test_names_with_markup_are_shown_as_plain_text(tmp_path: Path) -> None:
    records = made_up(2, seeds=2)
    for record in records:
        record["identity"] = {"finetune": "<script>$a$", "joint": "_a&b_c%"}[record["identity"]]
    part = only_part(records)
    for name in ("stream", "bars", "stability"):
        figure, _ = drawn(name, part)
        write(figure, tmp_path / "a.svg")
        assert "<script>$a$" in texts_of(figure), name
        assert "<script>" not in (tmp_path / "a.svg").read_text()


def boxes(figure: Figure) -> list[tuple[str, Any]]:
    """Return every visible text with its bounding box in pixels."""
    with style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    hidden = {id(t) for a in figure.axes if not a.get_visible() for t in a.findobj(Text)}
    unseen = {id(t) for a in figure.axes for t in _off(a)}
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if id(t) not in hidden | unseen]


def _off(axes: Any) -> list[Text]:
    """Return labels of ticks outside the axes, and of axes whose labels another panel shows."""
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        outside = [t for t in axis.get_major_ticks() if not low - 1e-9 <= t.get_loc() <= high + 1e-9]
        found += [label for tick in outside for label in (tick.label1, tick.label2)]
        found += [] if axes.axison else axis.findobj(Text)
    return found


def assert_labels_fit(figure: Figure, most: float) -> None:
    """Assert that no text leaves the page, and that no two overlap by more than some pixels."""
    found, page = boxes(figure), figure.bbox
    assert len(found) > 5
    for text, box in found:
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, text
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, text
    for (a, first), (b, second) in itertools.combinations(found, 2):
        common = np.minimum(first.max, second.max) - np.maximum(first.min, second.min)
        assert common.min() <= most, (a, b)


@cache
def twenty_or_more(n: int) -> Frames:
    return frames_of(everything(n, n_tasks=4, seeds=2) + made_up(n, n_tasks=2, seeds=1, suites=("toyb",)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "width"), [(20, TWO_COLUMNS), (26, ONE_COLUMN)])
@pytest.mark.parametrize("name", [name for name in (*FIGURES, *ACROSS) if name not in ("grid", "trials")])
def test_labels_neither_overlap_nor_leave_the_page(name: str, width: float, n: int, tmp_path: Path) -> None:
    """With twenty short names, and with more than twenty, some of them long."""
    frames = twenty_or_more(n)
    looks = looks_of(frames).at(width)
    part = next(by_scenario(frames))[1] if name in ACROSS else next(parts(frames))[2]
    if name == "response":
        part = only_part(with_buffers())
    if name == "confusion":
        part = classes_learned(tmp_path, CLASSES if n == 20 else MANY)
    if name in ("response", "confusion"):
        looks = looks_of(part).at(width)
    figure, _ = drawn(name, part, looks)
    assert_labels_fit(figure, 1.5)  # ascenders and descenders may overlap by a pixel


# Machado, Oliveira & Fernandes 2009, severity 1: colour-blind vision as matrices on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(colour: str, eyes: str = "normal") -> Any:
    """Return a colour in CIELAB as seen with this vision."""
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    rgb = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ rgb, 0, 1) / TO_XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_distinct_for_colour_blind_readers(eyes: str) -> None:
    for a, b in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(seen(a, eyes) - seen(b, eyes)) > 20, (a, b)


def test_colours_are_distinct_in_grey() -> None:
    assert min(abs(seen(a)[0] - seen(b)[0]) for a, b in itertools.combinations(PALETTE, 2)) > 6


BUILT_IN = strategies.names()


def pairs_of(looks: Looks, names: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    parts = {
        "colour": looks.colour,
        "marker": looks.marker,
        "dash": {n: str(d) for n, d in looks.dash.items()},
    }
    two = itertools.combinations(parts, 2)
    return {f"{a} {b}": [(parts[a][n], parts[b][n]) for n in names] for a, b in two}


def test_no_two_built_in_strategies_look_alike_as_a_line_or_a_point_or_in_grey() -> None:
    looks = looks_of_names(BUILT_IN)
    assert len(BUILT_IN) >= 62
    assert looks.named == {*BUILT_IN}
    found = pairs_of(looks, BUILT_IN)
    for both in ("colour marker", "colour dash"):
        assert len({*found[both]}) == len(BUILT_IN), both
    coloured = [n for n in BUILT_IN if n not in REFERENCES]
    assert len({*pairs_of(looks, coloured)["marker dash"]}) == len(coloured)


def test_strategies_with_settings_look_like_no_other() -> None:
    names = [
        *BUILT_IN[:20],
        *(f"er[buffer={n}]" for n in range(20)),
        *(f"finetune[lr={n}]" for n in range(20)),
    ]
    found = pairs_of(looks_of_names(names), names)
    assert len({*found["colour marker"]}) == len(names)


def test_a_look_follows_from_the_name_whatever_else_is_shown() -> None:
    names = [*BUILT_IN, "er[buffer=20]", "./mine.py:Mine", "joint[lr=0.1]"]
    whole = looks_of_names(names)
    for name in names:
        assert looks_of_names([name]).line(name) == whole.line(name)
    shown = choose(frames_of(made_up(3)), names={"er": "Replay", "joint": "er"})
    for text, name in (("Replay", "er"), ("er", "joint")):
        assert looks_of(shown).line(text) == whole.line(name)


def test_bounds_and_finetune_are_grey_and_named() -> None:
    frames = frames_of(made_up(11, seeds=1))
    looks = looks_of(frames)
    assert {
        n for n, colour in looks.colour.items() if len({*colour[1::2]}) == len({*colour[2::2]}) == 1
    } == REFERENCES
    figure, _ = drawn("stream", next(parts(frames))[2], looks)
    assert {t.get_text() for t in figure.legends[0].get_texts()} >= REFERENCES


def test_the_best_of_too_many_strategies_and_the_bounds_have_names() -> None:
    frames = frames_of(made_up(MOST_NAMED + 10, seeds=1))
    looks = looks_of(frames)
    assert len(looks.named) == MOST_NAMED
    assert looks.named >= REFERENCES
    final = frames.scores[frames.scores["score"] == "acc"].set_index("identity")["value"]
    best = final.drop([*REFERENCES]).sort_values(ascending=False).index[: MOST_NAMED - 3]
    assert set(best) <= looks.named
    assert len({looks.colour[n] for n in looks.colour if n not in looks.named}) == 1
    _, data = drawn("stream", next(parts(frames))[2], looks)
    assert data["identity"].nunique() == MOST_NAMED + 10


def test_a_strategy_looks_the_same_in_every_part() -> None:
    frames = frames_of(made_up(5, seeds=1, suites=("toy", "toyb"), scenarios=("task", "class")))
    looks = looks_of(frames)
    for _, _, part in parts(frames):
        figure, _ = drawn("stream", part, looks)
        (legend,) = figure.legends
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            assert handle.get_color() == looks.colour[text.get_text()]


def test_plot_returns_the_figure_of_one_suite_and_scenario() -> None:
    frames = frames_of(made_up(4, seeds=2, suites=("toy", "toyb"), scenarios=("class", "task")))
    figure, data = plot(frames, "stream", "toy", "task", width=3.0)
    [part] = [part for suite, scenario, part in parts(frames) if (suite, scenario) == ("toy", "task")]
    pd.testing.assert_frame_equal(data, stream_data(part))
    assert figure.get_figwidth() == 3
    assert len(plot(frames, "ranks", scenario="class")[1]) >= 3
    refused(
        "choose one suite and one scenario for the figure bars; these runs have: toy class",
        plot,
        frames,
        "bars",
        "toy",
    )
    refused("unknown figure 'steam'; did you mean stream", plot, frames, "steam")
    refused("nothing that the figure confusion", plot, frames, "confusion", "toy", "task")


def test_long_names_are_broken_into_lines() -> None:
    name = "er[balance=tasks,buffer=1000,write=per-class]"
    assert label(name, 100) == name
    assert label(name, 20).replace("\n", "") == name
    assert max(map(len, label(name, 20).split("\n"))) <= 24
    assert len(label("./" + "a" * 80 + ".py:Mine", 20)) <= 25
