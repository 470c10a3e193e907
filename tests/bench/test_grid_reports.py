"""Grids in reports: one row, chosen on validation rows, with a response curve; never chosen on test rows."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import lethe
from bench.api import Frames as Shown
from bench.plan import CellSpec, identity
from bench.report import Layout, print_tables, tables
from bench.report.figures import FIGURES, ONE_COLUMN, TWO_COLUMNS, looks_of
from bench.report.formats import points
from bench.report.grid_texts import grid_settings
from bench.report.latex import latex
from bench.report.page import make_page
from bench.report.parts import parts
from bench.report.tables import in_markdown
from bench.report.write_report import make_report
from bench.results import Frames, as_shown, choose, folded, load
from lethe.testing import made_cell, record, write_run
from tests.bench.test_figures import assert_labels_fit
from tests.bench.test_one_report import Cells, in_terminal, of_latex, of_markdown, of_page
from tests.conftest import Command, refused

SEEDS = range(6)
Measured = dict[tuple[tuple[str, Any], ...], tuple[int, int]]
"""For each setting, the rows predicted correctly after the last task: on validation rows and on test rows."""
LAMS: Measured = {(("lam", lam),): found for lam, found in {1: (50, 90), 10: (70, 60), 100: (40, 94)}.items()}


def counts(last: int, seed: int, total: int = 100) -> dict[str, Any]:
    rows = [[0, 0], [80, 10], [last - seed, last + seed]]
    return {"right": rows, "total": [[total, total]] * 3}


def measured(validation: int, test: int, seed: int) -> dict[str, Any]:
    held = counts(validation, seed) if validation else {"right": [[0, 0]] * 3, "total": [[0, 0]] * 3}
    return record(counts(test, seed)["right"], validation=held)


def cells_of(name: str, found: Measured) -> list[tuple[CellSpec, dict[str, Any]]]:
    return [
        (made_cell(name, dict(options), seed), measured(*scores, seed))
        for options, scores in found.items()
        for seed in SEEDS
    ]


def run_of(folder: Path, grids: dict[str, Measured], rest: Any = (), drop: Any = ()) -> Frames:
    """Write a run with grids, by selector, and other cells; without some cells; return it as it is read."""
    cells, selectors = [*rest], {}
    for selector, found in grids.items():
        name = selector.partition("[")[0]
        cells += cells_of(name, found)
        selectors[selector] = [identity(name, dict(options)) for options in found]
    kept = {cell.key: (cell, made) for cell, made in cells if (cell.identity, cell.seed) not in drop}
    return load(write_run(folder, list(kept.values()), selectors={"toy/class": selectors}))


GRID = "ewc[lam=1|10|100]"
IDENTITIES = ("ewc[lam=1]", "ewc[lam=10]", "ewc[lam=100]")


def test_a_grid_is_one_row_with_the_setting_of_the_best_validation_score(tmp_path: Path) -> None:
    frames = run_of(tmp_path, {GRID: LAMS}, cells_of("er", {(): (60, 70)}))
    shown = folded(frames)
    assert set(shown.cells["identity"]) == set(shown.scores["identity"]) == {GRID, "er"}
    [grid] = shown.grids
    assert (grid.name, grid.axes, grid.chosen, grid.why) == (GRID, ("lam",), "lam=10", "")
    made = tables(shown, ["acc"], Layout(marks=True))
    assert [row[0].text for row in made.shown[0].rows] == ["er", f"{GRID}: lam=10 by validation"]
    assert [row[2].mean for row in made.shown[0].rows] == ["70.00", "60.00"]  # not 94, the best on test rows
    assert made.remarks == (
        f"toy class: {GRID} is a grid of 3 settings; lam=10 has the highest mean acc on validation rows over "
        "6 seeds; all settings: grid.csv and the figure grid",
    )
    settings = grid.settings.set_index("identity")
    assert settings["chosen"].tolist() == [False, True, False]
    assert settings["validation"].tolist() == pytest.approx([0.5, 0.7, 0.4])
    assert settings["test"].tolist() == pytest.approx([0.9, 0.6, 0.94])
    assert (settings["n"] == 6).all()
    numbers = made.numbers[made.numbers["column"] == "acc"].set_index("identity")
    assert numbers["chosen"].to_dict() == {GRID: "lam=10", "er": ""}
    assert set(frames.cells["identity"]) == {"er", *IDENTITIES}  # all are read


def test_test_rows_choose_nothing(tmp_path: Path) -> None:
    for n, scores in enumerate([(11, 12, 13), (13, 11, 12), (50, 40, 30)]):
        found = {s: (v, test) for (s, (v, _)), test in zip(LAMS.items(), scores, strict=True)}
        assert folded(run_of(tmp_path / str(n), {GRID: found})).grids[0].chosen == "lam=10"


@pytest.mark.slow
def test_every_form_of_a_report_shows_the_same_row(tmp_path: Path) -> None:
    frames = folded(run_of(tmp_path / "run", {GRID: LAMS}, cells_of("er", {(): (60, 70)})))
    made, stream = tables(frames, None, Layout(marks=True)), StringIO()
    print_tables(made, Console(file=stream, force_terminal=True, width=400))
    seen, copied, _ = of_page("".join(make_page(frames, layout=Layout(columns=2), figures=[])))
    page = "".join(make_page(frames, figures=[]))
    assert re.findall(r'<details class="settings">\s*<summary>(.*?)</summary>', page) == [
        f"All settings of {GRID}"
    ]
    assert (
        len(re.findall(r'class="compare">\s*<summary>Compare two', page))
        == page.count('class="compare"')
        == 1
    )
    found = in_terminal(stream.getvalue()), of_markdown(in_markdown(made)), of_latex(latex(made, 2))
    first, *others = (without_choice(cells) for cells in (*found, seen, copied["LaTeX"]))
    assert {name for _, name, _ in first} == {GRID, "er"}
    assert len({place for place in first if place[1] == GRID}) == 8
    for cells in others:
        assert {place: cells[place] for place in first if place in cells} == first
    csv = made.numbers[made.numbers["identity"] == GRID].set_index("column")
    assert (
        points(csv["mean"]["acc"]) == first["toy, class-incremental", GRID, "acc"][0].split(" ")[0] == "60.00"
    )


def without_choice(cells: Cells) -> Cells:
    """Return cells by the name of their row alone; every form must say what was chosen beside it."""
    shown = {name for _, name, _ in cells if name != "er"}
    assert {re.sub(r"\s+", " ", name) for name in shown} == {f"{GRID}: lam=10 by validation"}
    return {(a, name.partition(": ")[0], c): text for (a, name, c), text in cells.items()}


@pytest.mark.slow
def test_without_validation_rows_no_setting_is_chosen_and_all_are_shown_apart(tmp_path: Path) -> None:
    none = {setting: (0, test) for setting, (_, test) in LAMS.items()}
    other = [(cell, measured(0, 70, cell.seed)) for cell, _ in cells_of("er", {(): (0, 70)})]
    why = "of which none is chosen, as its runs have no validation rows: test rows choose nothing"
    for n, rest in enumerate((other, [])):  # the second run has nothing but the grid
        frames = folded(run_of(tmp_path / str(n), {GRID: none}, rest))
        assert set(frames.cells["identity"]) == {"er" for _ in rest}
        made = tables(frames, ["acc"], Layout(marks=True))
        assert made.shown[-1].title == f"toy, class-incremental: {GRID}"
        assert [[e.text for e in row] for row in made.shown[-1].rows] == [
            [lam, "6", "–", f"{test}.00 ± 0.00", "no score on validation rows"]
            for lam, test in (("1", 90), ("10", 60), ("100", 94))
        ]  # fmt: skip
        assert made.remarks[0].startswith(f"toy class: {GRID} is a grid of 3 settings, {why}")
        page = "".join(make_page(frames))
        assert why in page
        assert f"{18 + len(rest)} of {18 + len(rest)} cells are done" in page
        make_report(frames, tmp_path / f"report{n}")
        assert (tmp_path / f"report{n}" / "figures" / "toy-class-grid.csv").is_file()
        assert why in (tmp_path / f"report{n}" / "table.md").read_text()
        assert len(pd.read_csv(tmp_path / f"report{n}" / "grid.csv")) == 3


def test_a_setting_without_a_score_of_every_seed_cannot_be_chosen(tmp_path: Path) -> None:
    frames = folded(run_of(tmp_path / "a", {GRID: LAMS}, drop={("ewc[lam=10]", 3)}))
    [grid] = frames.grids
    assert grid.chosen == "lam=1"
    assert grid.settings["why"].tolist() == ["", "1 of 6 seeds without a record", ""]
    assert "1 could not be chosen (1 of 6 seeds without a record)" in tables(frames).remarks[0]
    gone = {("ewc[lam=10]", seed) for seed in SEEDS}
    [grid] = folded(run_of(tmp_path / "b", {GRID: LAMS}, drop=gone)).grids
    assert grid.settings["why"].tolist() == ["", "no record", ""]
    assert (grid.settings["n"].tolist(), grid.settings["lam"].isna().tolist()) == (
        [6, 0, 6],
        [False, True, False],
    )
    one_each = {(i, s) for k, i in enumerate(IDENTITIES) for s in SEEDS if s != k}
    [grid] = folded(run_of(tmp_path / "c", {GRID: LAMS}, drop=one_each)).grids
    assert (grid.chosen, grid.why) == ("", "none has a score for every seed (2 of 3 seeds without a record)")


def lams(*values: int) -> Measured:
    return {(("lam", value),): (50 + value, 50) for value in values}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"ewc[lam=1|2]": lams(1, 2), "ewc[lam=3|4]": lams(3, 4)}, ["ewc[lam=1|2] and ewc[lam=3|4]"]),
        ({"ewc[lam=1|2]": lams(1, 2), "ewc[lam=1|2|3]": lams(1, 2, 3)}, ["ewc[lam=1|2|3]"]),
        ({"ewc[lam=1|2|3]": lams(1, 2, 3), "ewc[lam=2|1]": lams(2, 1)}, ["ewc[lam=1|2|3]"]),
        ({"ewc[lam=1|2]": lams(1, 2), "mas[lam=1|2]": lams(1, 2)}, ["ewc[lam=1|2]", "mas[lam=1|2]"]),
        (
            {"ewc[half=true,lam=1|2]": {(("half", True), *k): v for k, v in lams(1, 2).items()},
             "ewc[half=false,lam=1|2]": {(("half", False), *k): v for k, v in lams(1, 2).items()}},
            ["ewc[half=true,lam=1|2]", "ewc[half=false,lam=1|2]"],
        ),
    ],
)  # fmt: skip
def test_grids_that_are_one_method_are_one_row(
    asked: dict[str, Measured], names: list[str], tmp_path: Path
) -> None:
    frames = folded(run_of(tmp_path, asked))
    assert [grid.name for grid in frames.grids] == names
    assert sorted(frames.cells["identity"].unique()) == sorted(names)
    assert folded(frames) is frames


def test_a_grid_can_be_named_renamed_and_left_out(tmp_path: Path) -> None:
    frames = folded(run_of(tmp_path, {GRID: LAMS}, cells_of("er", {(): (60, 70)})))
    named = choose(frames, only=[GRID], names={GRID: "EWC"})
    assert [row[0].text for row in tables(named).shown[0].rows] == ["EWC: lam=10 by validation"]
    assert grid_settings(named.grids)["grid"].unique().tolist() == ["EWC"]
    without = choose(frames, without=[GRID])
    assert (without.grids, set(without.cells["identity"]), len(without.manifest.cells)) == ((), {"er"}, 6)
    refused("unknown strategy of the run 'ewc", choose, frames, only=["ewc[lam=10]"])


def drawn(frames: Frames) -> Any:
    [(_, _, part)] = parts(folded(frames))
    made = FIGURES["grid"](part, looks_of(part))
    assert made is not None
    return made


@pytest.mark.slow
def test_a_curve_for_one_setting_maps_for_two_and_words_on_an_axis(tmp_path: Path) -> None:
    figure, data = drawn(run_of(tmp_path / "curve", {GRID: LAMS}))
    [axes] = [a for a in figure.axes if a.get_visible()]
    lines = {
        line.get_linestyle(): list(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 3
    }
    assert lines["--"] == pytest.approx([50, 70, 40])
    assert lines["-"] == pytest.approx([90, 60, 94])
    assert (axes.get_xlabel(), axes.get_xscale()) == ("lam", "log")
    assert data["lam"].tolist() == [1, 10, 100]
    pairs = {(("buffer", b), ("lam", lam)): (b + lam, b) for b in (20, 50) for lam in (1, 10)}
    figure, data = drawn(run_of(tmp_path / "map", {"er[buffer=20|50,lam=1|10]": pairs}))
    titles = [a.get_title().splitlines()[-1] for a in figure.axes if a.get_title()]
    assert titles == ["validation rows", "test rows"]
    assert [t.get_text() for t in figure.axes[0].texts] == ["21.0", "30.0", "51.0", "60.0"]
    words = {(("write", word),): (n, n) for word, n in (("ring", 40), ("reservoir", 50))}
    figure, _ = drawn(run_of(tmp_path / "words", {"er[write=ring|reservoir]": words}))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["ring", "reservoir"]
    three = {
        (("a", a), ("b", b), ("c", c)): (40 + a + b + c, 40) for a in (1, 2) for b in (1, 2) for c in (1, 2)
    }
    figure, _ = drawn(run_of(tmp_path / "three", {"er[a=1|2,b=1|2,c=1|2]": three}))
    assert [a.get_xlabel() for a in figure.axes if a.get_visible()] == ["a", "b", "c"]
    plain = load(write_run(tmp_path / "plain", cells_of("er", {(): (60, 70)})))
    [(_, _, part)] = parts(folded(plain))
    assert FIGURES["grid"](part, looks_of(part)) is None


@pytest.mark.slow
@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
def test_labels_of_curves_and_maps_neither_overlap_nor_leave_the_page(width: float, tmp_path: Path) -> None:
    wide = {
        (("buffer", b), ("lam", lam)): (b + n, b)
        for b in (20, 40, 60)
        for n, lam in enumerate((1, 3, 10, 30))
    }
    named = {"er[buffer=20..60:3,lam=1|3|10|30]": wide, "ewc[lam=1|10|100]": LAMS, "mas[lam=1|10|100]": LAMS}
    [(_, _, part)] = parts(folded(run_of(tmp_path, named)))
    made = FIGURES["grid"](part, looks_of(part).at(width))
    assert made is not None
    assert_labels_fit(made[0], 1)


def test_a_real_run_reports_its_grid(command: Command, tmp_path: Path) -> None:
    line = "run toy -s ewc[lam=1|2] -s er --seeds 2 --set lr=0.01|0.02 --set epochs=1 --jobs 1"
    code, out, _ = command(f"{line} --out {tmp_path}/run")
    assert code == 0
    assert "er[lr=0.01|0.02] is a grid of 2 settings" in out
    assert "ewc[lam=1|2,lr=0.01|0.02] is a grid of 4 settings" in out
    frames = lethe.load(tmp_path / "run")
    assert isinstance(frames, Shown)
    assert len(frames.table()) == 2
    assert len(frames.settings_of_grids) == 6
    assert frames.cells["identity"].nunique() == 6
    best = frames.on("validation").scores.query("score == 'acc'").groupby("identity")["value"].mean()
    chosen = frames.settings_of_grids.query("chosen")["identity"].tolist()
    for name in chosen:
        assert best[name] == max(v for i, v in best.items() if i.startswith(name.partition("[")[0]))


def test_a_grid_of_a_users_method_is_named_as_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from lethe import LaneFloat, NotNegative, Strategy\n\n\nclass Mine(Strategy):\n"
        '    name = "mine"\n    lam: NotNegative = LaneFloat(1.0)\n    """Nothing."""\n'
    )
    monkeypatch.chdir(tmp_path)
    frames = lethe.run("toy", "./mine.py:Mine[lam=1|2]", seeds=1, settings={"epochs": 1}, out="r")
    assert frames.failed.empty
    shown = as_shown(load("r"))
    assert set(shown.cells["identity"]) == {"mine[lam=1|2]"}
    assert shown.grids[0].settings["identity"].tolist() == ["mine", "mine[lam=2]"]
