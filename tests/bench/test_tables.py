"""Tables in every layout and form, from complete and incomplete runs."""

import itertools
import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from matplotlib import cbook
from matplotlib.ft2font import FT2Font
from rich.console import Console

from bench.plan import CellSpec
from bench.report import Layout, Spread, make_report, needed_seeds, print_tables, tables
from bench.report.across_suites import across
from bench.report.families import family, is_bound
from bench.report.formats import speed
from bench.report.latex import escaped, latex
from bench.report.parts import parts, stem
from bench.report.row_order import by_final
from bench.report.summary import summary
from bench.report.tables import Tables, in_markdown, markdown
from bench.results import Frames, choose, load, ranges, read_names
from bench.schema import checked_json
from bench.stats import SCORES, bca
from bench.stats.power import seeds_needed
from bench.store import RunReader
from lethe.testing import record, toy_run, write_run
from suites.errors import UserError
from tests.bench.test_report import CASES
from tests.conftest import Command, Refuses, refused
from tests.many_cells import measure

ALL = Layout(marks=True, origin=True)
LAYOUTS = {
    "plain": Layout(), "all": ALL, "families": Layout(by_family=True, marks=True, origin=True),
    "per task": Layout(per_task=True, marks=True), "bca": Layout(spread="bca", marks=True),
    "wide": Layout(wide=True, marks=True, spread="sd"),
}  # fmt: skip


def seeds(name: str, finals: list[int]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return two-task cells whose acc is 0.4 + final / 200."""
    return {(name, seed): record([[50, 40], [90, 45], [final, 80]]) for seed, final in enumerate(finals)}


def three(folder: Path, n: int = 8) -> Frames:
    """Return a run where er is best, agem close to it and ewc far behind; joint is a bound."""
    noise = [0, 2, -2, 4, -4, 1, -1, 3][:n]
    cells = seeds("er", [70 + e for e in noise]) | seeds("ewc", [40 + 2 * e for e in noise])
    cells |= seeds("agem", [69 + e + (5 if s % 2 else -4) for s, e in enumerate(noise)])
    return load(toy_run(folder, cells | seeds("joint", [95] * n)))


def other_suite(folder: Path, suite: str, names: tuple[str, ...], n: int = 3, **changes: Any) -> Path:
    """Write a run of an unregistered suite; each strategy is worse than the one before it."""
    cells = []
    for (place, name), seed in itertools.product(enumerate(names), range(n)):
        spec = CellSpec(suite, 1, "class", name, {"a": 1} | changes, "mlp", {}, {"epochs": 1}, seed, name)
        cells.append((spec, record([[50, 40], [90, 45], [80 - 10 * place + seed, 80]])))
    return write_run(folder, cells, f"lethe run {suite}")


def printed(made_: Tables) -> str:
    stream = StringIO()
    print_tables(made_, Console(file=stream))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3, "0.30"),
        (0.884, "0.88"),
        (4.0, "4.0"),
        (9.96, "10"),
        (29.4, "29"),
        (99.7, "100"),
        (90813.2, "90,813"),
    ],
)
def test_speeds_have_two_significant_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert speed(value) == text


def test_marks_follow_from_the_paired_comparisons(tmp_path: Path) -> None:
    frames = three(tmp_path)
    made_ = tables(frames, ["acc", "forgetting"], ALL)
    marks, pairs = made_.numbers.set_index(["identity", "column"])["mark"], made_.pairs
    expected = {"er": "best", "agem": "close", "ewc": "worse", "joint": ""}  # a bound is not compared
    assert {name: marks[name, "acc"] for name in expected} == expected
    ewc = pairs.set_index(["identity", "column"]).loc[("ewc", "acc")]
    assert (ewc["rival"], ewc["p_holm"]) == ("er", pytest.approx(2 * 2 / 2**8))
    assert marks["er", "forgetting"] == "best"  # the lowest
    assert set(pairs["identity"]) == {"agem", "ewc"}
    text = in_markdown(made_)
    assert re.search(r"\| er \| 8 \| \*\*75\.19 ± \d\.\d\d\*\* \|", text)
    assert "| joint | 8 | 87.50 ± 0.00 |" in text
    assert text.index("| joint") < text.index("| er ")  # highest first
    assert "Bold: best mean. joint is a bound: it trains on data of other tasks too; not marked" in text
    assert "†: not significantly worse than the best" in text


def test_with_too_few_seeds_nothing_is_marked_close_and_the_caption_says_so(tmp_path: Path) -> None:
    made_ = tables(three(tmp_path, 5), ["acc"], ALL)
    assert "**75.00 ±" in in_markdown(made_)
    assert "†" not in in_markdown(made_)
    few = "n = 5 cannot show any difference after Holm over 2 comparisons: 7 seeds can"
    assert f"Not tested against the best, and not marked: {few}." in made_.caption
    assert made_.significance == (f"toy class, acc: best er; {few}",)


def test_all_strategies_with_the_highest_mean_are_marked_best(tmp_path: Path) -> None:
    text = markdown(load(toy_run(tmp_path, seeds("er", [70, 80]) | seeds("ewc", [80, 70]))), ["acc"], ALL)
    assert text.count("**77.50") == 2


def test_tables_of_documents_have_no_marks(tmp_path: Path) -> None:
    text = markdown(three(tmp_path), ["acc"])
    assert text.endswith(
        "\nScores in percent: mean ± half-width of the 95 % t interval over n seeds; – where not defined.\n"
    )
    assert "†" not in text
    assert text.count("**") == 2  # around the title


@pytest.mark.parametrize("spread", get_args(Spread))
def test_every_spread_is_named_and_right(spread: Spread, tmp_path: Path) -> None:
    frames = three(tmp_path)
    values = np.array([0.4 + (70 + e) / 200 for e in (0, 2, -2, 4, -4, 1, -1, 3)])
    sd = values.std(ddof=1)
    low, high = bca(values)
    expected, named = {
        "ci": (f"± {100 * 2.364624 * sd / np.sqrt(8):.2f}", "half-width of the 95 % t interval"),
        "bca": (rf"\[{100 * low:.2f}, {100 * high:.2f}\]", "95 % BCa bootstrap interval"),
        "sd": (f"± {100 * sd:.2f}", "± standard deviation"),
        "sem": (f"± {100 * sd / np.sqrt(8):.2f}", "± standard error of the mean"),
    }[spread]
    text = markdown(frames, ["acc"], Layout(spread=spread))
    assert f"| er | 8 | 75.19 {expected} |" in text
    assert named in text.splitlines()[-1]


def test_the_per_task_layout_shows_the_last_row_of_the_matrix(tmp_path: Path) -> None:
    frames = load(toy_run(tmp_path, seeds("er", [60, 70])))
    text = markdown(frames, None, Layout(per_task=True))
    assert "| strategy | n | task 1 | task 2 | acc |" in text
    assert re.search(r"\| er \| 2 \| 65\.00 ± \S+ \| 80\.00 ± 0\.00 \| 72\.50 ± \S+ \|", text)


def test_the_per_task_layout_shows_each_suite_s_number_of_tasks(tmp_path: Path) -> None:
    one = other_suite(tmp_path / "one", "pairs", ("er",))
    spec = CellSpec("single", 1, "class", "er", {}, "mlp", {}, {}, 0, "er")
    two = write_run(tmp_path / "two", [(spec, record([[50], [90]]))])
    text = markdown(load(one, two), None, Layout(per_task=True))
    for header in ("| strategy | n | task 1 | task 2 | acc |", "| strategy | n | task 1 | acc |"):
        assert header in text


def test_the_wide_layout_has_suites_as_columns_and_shows_differing_n(tmp_path: Path) -> None:
    runs = other_suite(tmp_path / "b", "beta", ("er", "ewc")), other_suite(tmp_path / "a", "a_b", ("er",), 2)
    shown = tables(load(*runs), ["acc", "bwt"], Layout(wide=True)).shown
    assert [t.title for t in shown] == ["acc, class-incremental", "bwt, class-incremental"]
    assert shown[0].header == ("strategy", "n", "a_b", "beta")
    er, ewc = shown[0].rows
    assert [e.text for e in er[:2]] == ["er", "2–3"]
    assert [re.fullmatch(r"(.*) ± .*(\(.*)", e.text).groups() for e in er[2:]] == [
        ("80.25", "(n = 2)"), ("80.50", "(n = 3)"),
    ]  # fmt: skip
    assert [e.text for e in ewc[:3]] == ["ewc", "3", "–"]
    assert "| a\\_b |" in markdown(load(*runs), ["acc"], Layout(wide=True))


def test_rows_are_grouped_by_family_in_every_form(tmp_path: Path) -> None:
    made_ = tables(three(tmp_path), ["acc"], LAYOUTS["families"])
    names = [row[0].text for row in made_.shown[0].rows]
    assert names == ["baseline", "joint", "regularisation", "ewc", "replay", "er", "gradient", "agem"]
    assert "| *replay* |  |  |" in in_markdown(made_)
    assert "\\textit{replay}" in latex(made_)
    assert "replay" in printed(made_)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("er+lwf", ("composed", False)),
        ("nobody-knows", ("other", False)),
        ("./gone.py:X", ("replay", True)),
        ("./gone.py:Y", ("other", False)),
        ("er", ("changed since", False)),
        ("joint", ("baseline", True)),
        ("cumulative", ("baseline", True)),
    ],
)
def test_family_and_bound_come_from_the_manifest_or_the_built_in(name: str, expected: Any) -> None:
    described = {"./gone.py:X": {"family": "replay", "trains_on": "all"}, "er": {"family": "changed since"}}
    assert (family(name, described), is_bound(name, described)) == expected


def test_invalid_layouts_are_refused() -> None:
    with pytest.raises(UserError, match="unknown spread 'std'; did you mean sd"):
        Layout(spread="std")  # type: ignore[arg-type]
    refused("per task or wide", Layout, per_task=True, wide=True)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [*CASES, "seven unequal seeds", "nothing"])
def test_incomplete_runs_have_tables_in_every_layout_and_form(case: str, layout: str, tmp_path: Path) -> None:
    unequal = seeds("er", list(range(60, 70))) | seeds("ewc", list(range(50, 57)))
    unequal[("er", 3)] = record(None, "failed", error={"kind": "E", "message": "no", "traceback": ""})
    cases = CASES | {"seven unequal seeds": unequal, "nothing": {}}
    frames = load(toy_run(tmp_path, cases[case]))
    made_ = tables(frames, None, LAYOUTS[layout])
    for text in (in_markdown(made_), latex(made_), printed(made_)):
        assert "nan" not in text.lower().replace("finance", "")
        assert all(name in text for name, _ in cases[case])
    across(frames, ["acc"])


def test_comparisons_use_common_seeds_only(tmp_path: Path) -> None:
    """The seed that only er has would reverse the comparison."""
    finals = [60, 62, 64, 66, 68, 70, 72]
    cells = seeds("er", [*finals, 0]) | seeds("ewc", [f - 5 for f in finals])
    (row,) = tables(load(toy_run(tmp_path, cells)), ["acc"], ALL).pairs.to_dict("records")
    assert (row["rival"], row["n"]) == ("ewc", 7)
    assert row["mean"] == pytest.approx(0.025)
    assert (row["p"], row["verdict"]) == (2 / 2**7, "better")


def test_the_caption_names_command_version_seeds_and_hardware(tmp_path: Path) -> None:
    cells = seeds("er", [60, 70, 80]) | {("ewc", 7): record([[50, 40], [90, 45], [60, 80]])}
    folder = toy_run(tmp_path, cells)
    manifest = RunReader(folder).manifest().model_dump(by_alias=True)
    command = {
        "command": "lethe run toy -s er", "at": "2026-01-01T00:00:00Z", "python": "3.11.7",
        "packages": {"lethe-bench": "9.8", "torch": "7.6"}, "git": "0123456789abcdef", "dirty": False,
        "device": "cuda", "machine": "Linux x86_64, 4 cores",
    }  # fmt: skip
    (folder / "run.json").write_bytes(checked_json(manifest | {"commands": [command] * 2}))
    caption = tables(load(folder), ["acc"], ALL).caption
    assert caption.endswith(
        "Command: lethe run toy -s er. Made with lethe-bench 9.8 at 0123456789, torch 7.6. Seeds 0–2, 7 "
        "(from 1 to 3 a row, see n). Hardware: cuda (Linux x86_64, 4 cores)."
    )
    assert ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"


def test_a_cell_in_two_runs_is_used_once_and_the_done_record_preferred(tmp_path: Path) -> None:
    failed = record(None, "failed", error={"kind": "E", "message": "no", "traceback": ""})
    whole = seeds("er", [60, 70, 80])
    first = toy_run(tmp_path / "a", whole | {("er", 2): failed, ("ewc", 0): failed})
    del whole["er", 0]
    second = toy_run(tmp_path / "b", whole | {("cumulative", 2): record([[50, 40], [95, 45], [80, 90]])})
    for folders in ((first, second), (second, first), (first, second, first)):
        frames = load(*folders)
        assert len(frames.cells) == 5
        row = summary(frames, ["acc"]).set_index(["identity", "column"]).loc[("er", "acc")]
        assert (row["n"], row["mean"]) == (3, pytest.approx(0.75))
        # The cumulative of one run is the reference for the other run.
        of_er = frames.scores.query("score == 'intransigence' and strategy == 'er'").set_index("seed")
        assert of_er["value"][2] == pytest.approx((0.05 + 0.10) / 2)


def test_rows_with_one_name_and_different_settings_name_the_settings(tmp_path: Path) -> None:
    first = other_suite(tmp_path / "a", "s", ("er", "ewc"), lam=0.5)
    second = other_suite(tmp_path / "b", "s", ("er",), lam=2.0)
    frames = load(first, second)
    assert sorted(frames.cells["identity"].unique()) == ["er (lam=0.5)", "er (lam=2)", "ewc"]
    assert "er (lam=2)" in markdown(frames)
    assert set(load(first).cells["identity"]) == {"er", "ewc"}


def test_runs_over_different_data_are_refused(tmp_path: Path) -> None:
    first, second = (other_suite(tmp_path / n, "s", ("er",)) for n in "ab")
    manifest = RunReader(second).manifest().model_dump(by_alias=True)
    (second / "run.json").write_bytes(checked_json(manifest | {"data": {"s": "another"}}))
    refused("has s with other data", load, first, second)


@pytest.mark.slow
def test_a_report_ranks_strategies_across_suites(tmp_path: Path, without_figures: None) -> None:
    names = ("er", "ewc", "agem", "joint")
    frames = load(*(other_suite(tmp_path / s, s, names, n) for s, n in (("s1", 3), ("s2", 4), ("s3", 3))))
    report = tmp_path / "report"
    make_report(frames, report, ["acc", "forgetting"])
    numbers = pd.read_csv(report / "across.csv")
    acc = numbers[numbers["score"] == "acc"].set_index("identity")
    assert acc["rank"].to_dict() == {"er": 1, "ewc": 2, "agem": 3}  # joint is a bound
    assert set(acc["blocks"]) == set(acc["seeds"]) == {3}
    assert acc.loc["er", "better_than_first"] == 0.5
    assert acc.loc["ewc", "better_than_first"] == 0
    text = (report / "table.md").read_text()
    assert "3 blocks (suite and scenario), 3 to 4 common seeds each." in text
    assert "Friedman: p = 0.05." in text
    assert across(load(tmp_path / "s1"), ["acc"]).lines == ()
    two = load(*(other_suite(tmp_path / s, s, ("er",)) for s in ("t1", "t2")))
    assert "this run has 1 in 2." in " ".join(across(two, ["acc"]).lines)


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_lethe_report_reads_two_runs(tmp_path: Path, command: Command, refuses: Refuses) -> None:
    runs = [str(other_suite(tmp_path / s, s, ("er", "ewc"))) for s in ("s1", "s2")]
    refuses("needs --out", "report", *runs)
    both = tmp_path / "both"
    code, out, err = command(f"report --scores acc --wide --spread sem --by-family --out {both}", *runs)
    assert code == 0, err
    assert "standard error of the mean" in out
    assert "| strategy | n | s1 | s2 |" in (both / "table.md").read_text()
    assert "\\toprule" in (both / "table.tex").read_text()
    assert {"mean", "half", "sem", "median", "iqm", "mark"} <= set(pd.read_csv(both / "table.csv").columns)
    pairs = pd.read_csv(both / "pairs.csv")
    assert [*pairs["family"]] == ["best", "best", "all", "all"]
    assert {*pairs["verdict"]} == {"too few seeds"}
    refuses("unknown spread 'se'", "report --spread se", runs[0])


@pytest.mark.slow
def test_lethe_power_prints_spread_and_seeds_needed(
    tmp_path: Path, command: Command, refuses: Refuses
) -> None:
    folder = toy_run(tmp_path, seeds("er", [60, 62, 70]) | seeds("ewc", [50, 56, 58]))
    code, out, err = command(f"power {folder} er ewc --difference 0.5")
    assert code == 0, err
    sd = float(np.std([0.05, 0.03, 0.06], ddof=1))
    assert re.search(rf"│ +4\.67 │ +{100 * sd:.2f} │ +1 │ +{seeds_needed(0.005, sd)} │", out)
    assert "a true difference of 0.5 points in acc between er and ewc" in " ".join(out.split())
    assert "toy class: n = 3 cannot show any difference: 6 seeds can" in " ".join(out.split())
    (need,) = json.loads(command(f"power {folder} er ewc --json --comparisons 12")[1])
    assert (need["n"], need["comparisons"], need["sd"]) == (3, 12, pytest.approx(sd))
    assert need["needed"] == seeds_needed(0.01, sd, 12)
    refuses("unknown strategy of the run 'ewx'; did you mean ewc", f"power {folder} er ewx")


def test_power_corrects_for_the_strategies_of_the_run_without_bounds(tmp_path: Path) -> None:
    cells = {"er": [60, 62], "ewc": [50, 56], "lwf": [55, 51], "joint": [90, 91]}
    frames = load(toy_run(tmp_path, {k: v for name, of in cells.items() for k, v in seeds(name, of).items()}))
    for a, b, comparisons in (("er", "ewc", 2), ("er", "joint", 3)):
        (need,) = needed_seeds(frames, a, b, "acc", 1.0)
        assert need.comparisons == comparisons


def test_the_terminal_says_which_differences_are_significant(tmp_path: Path) -> None:
    values = {"er": range(80, 90), "ewc": range(79, 89), "lwf": [80, 81, 82, 83, 84, 85, 86, 87, 88, 79]}
    cells = {key: one for name, of in values.items() for key, one in seeds(name, [*of]).items()}
    made_ = tables(load(toy_run(tmp_path, cells)), ["acc"], ALL)
    (line,) = made_.significance
    assert line == "toy class, acc: best er; significantly worse: ewc; not distinguished: lwf"
    console = Console(record=True, width=200, file=StringIO())
    print_tables(made_, console)
    assert line in console.export_text()


ODD = [
    "<script>alert(1)</script>", "a&b_c%", "[er]", "*x", "a--b---c", "$x^2$ ~ #1 {y} \\z", 'it\'s `so` | "q"',
]  # fmt: skip


def odd_names(folder: Path) -> Frames:
    return load(other_suite(folder, "a_b & c", tuple(ODD), n=7))


def test_a_report_of_chosen_strategies_under_other_names_in_another_order(tmp_path: Path) -> None:
    """Marks are over the strategies that are shown; figures and CSV have their names, too."""
    frames = three(tmp_path / "run")
    file = tmp_path / "names.toml"
    file.write_text('"ewc" = "EWC"\n"agem" = "A-GEM"\nother = "unused"\n')
    shown = choose(frames, without=["er"], names=read_names(file))
    made_ = tables(shown, ["acc"], ALL)
    texts = [[entry.text for entry in row[:3]] for row in made_.shown[0].rows]
    assert [row[0] for row in texts] == ["EWC", "A-GEM", "joint"]
    assert texts[1][2] == {r[0].text: r[2].text for r in tables(frames, ["acc"]).shown[0].rows}["agem"]
    assert [row[2].mark for row in made_.shown[0].rows] == ["worse", "best", ""]  # er was best before
    assert "not shown, by choice: er" in made_.remarks
    assert set(made_.pairs["identity"]) | set(made_.pairs["rival"]) == {"EWC", "A-GEM"}
    assert set(shown.matrix["identity"]) == {"EWC", "A-GEM", "joint"} == set(shown.settings["identity"])
    assert len(shown.manifest.cells) == len(shown.cells) == 24
    assert [t for _, _, part in parts(choose(frames, only=["er"])) for t in by_final(part, ["er"])] == ["er"]


def test_choices_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    frames = three(tmp_path / "run")
    refused("unknown strategy of the run 'agen'; did you mean agem", choose, frames, only=["agen"])
    refused("no strategy of the run is left", choose, frames, only=["er"], without=["er"])
    refused("two strategies would be shown as 'er'", choose, frames, names={"ewc": "er"})
    for text in ("er = 1", "[er]\na = 'b'", "er = ' '", "er ="):
        (tmp_path / "names.toml").write_text(text)
        refused("names.toml", read_names, tmp_path / "names.toml")
    refused("is not a file", read_names, tmp_path)


def test_names_are_escaped_in_latex() -> None:
    expected = {
        "a&b_c%": r"a\&b\_c\%", "der++[lam=-1]": "der++{[}lam=-1{]}", "--out ---": "-{}-out -{}-{}-",
        "<script>": r"\textless{}script\textgreater{}", "a\nb  c": "a b c",
        "\\{}~^$#": r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\$\#",
    }  # fmt: skip
    assert {name: escaped(name) for name in expected} == expected


def test_latex_typesets_numbers_in_math_mode(tmp_path: Path) -> None:
    shown = tables(load(toy_run(tmp_path, seeds("er", [60, 70]))), ["acc", "bwt"], Layout(marks=True))
    text = latex(shown, columns=2)
    assert re.search(r"er & 2 & 72\.50 \$\\pm\$ \d+\.\d\d & \$-\$25\.00 \$\\pm\$ ", text)
    assert "\\toprule" in text
    assert "\\begin{tabular}{@{}lrrrrr@{}}" in text
    assert "\\caption{toy, class-incremental. Scores in percent: mean $\\pm$ half-width" in text


def points_wide(tabular: str) -> float:
    """Return how wide a LaTeX table is in points, by the letters of Computer Modern at 8 points."""
    font = FT2Font(str(cbook._get_data_path("fonts/ttf/cmb10.ttf")))
    font.set_size(8, 72)
    columns: list[float] = []
    for line in tabular.splitlines():
        if line.endswith("\\\\") and "multicolumn" not in line:
            for place, cell in enumerate(line.removesuffix("\\\\").split(" & ")):
                text = re.sub(r"\\textbf|\\pm|\^\{\\dagger\}|\\textendash|\\enspace|[{}$\\]", "", cell)
                font.set_text(text.strip())
                wide = font.get_width_height()[0] / 64 + 8 * ("pm" in cell) + 4 * ("dagger" in cell)
                columns += [0.0] * (place + 1 - len(columns))
                columns[place] = max(columns[place], wide)
    return sum(columns) + 6 * (len(columns) - 1)


@pytest.mark.parametrize(("columns", "points"), [(1, 234), (2, 487)])
def test_latex_fits_the_columns_of_a_paper_and_shows_every_number_once(
    columns: int, points: float, tmp_path: Path
) -> None:
    """3.25 inches for one column; what does not fit beside the rest follows below, long names are broken."""
    long = "adaptive-replay[control=fixed,lam=10,rate=0.25]"
    cells = seeds("er", [60, 70, 80]) | seeds("ewc", [50, 50, 60])
    frames = choose(load(toy_run(tmp_path, cells)), names={"ewc": long})
    for layout in (Layout(marks=True, origin=True, by_family=True), Layout(marks=True, origin=True)):
        shown = tables(frames, [*SCORES], layout)
        text = latex(shown, columns)
        assert text.count("\\begin{table*}" if columns == 2 else "\\begin{table}") == 1
        blocks = text.split("\\begin{tabular}")[1:]
        assert 2 <= len(blocks) <= 14
        wide = [points_wide(block.split("\\toprule")[1]) for block in blocks]
        assert all(points / 3 < w <= points for w in wide[:-1])
        lines = (block.split("\\toprule\n")[1].split(" \\\\")[0] for block in blocks)
        heads = [cell for line in lines for cell in line.split(" & ")[1:]]
        assert heads == [escaped(name) for name in shown.shown[0].header[1:]]
        comments, table = text.split("\n\n", 1)
        assert all(line.startswith("% ") for line in comments.splitlines())
        assert "Command: " in comments
        assert "Command" not in table


def test_names_are_escaped_in_markdown(tmp_path: Path) -> None:
    text = markdown(odd_names(tmp_path), ["acc"])
    assert "| \\<script\\>alert(1)\\</script\\> |" in text
    assert "| a\\&b\\_c% |" in text
    assert "**a\\_b \\& c, class-incremental**" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {6}


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("latexmk") and shutil.which("pdflatex")), reason="needs latexmk and pdflatex"
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_latex_compiles_and_prints_names_unchanged(layout: str, tmp_path: Path) -> None:
    made_ = tables(odd_names(tmp_path / "run"), ["acc", "bwt"], LAYOUTS[layout])
    document = (
        "\\documentclass[twocolumn]{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}\n"
        f"{latex(made_)}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document)
    words = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text(errors="replace")
    if shutil.which("pdftotext"):
        words = ["pdftotext", "-layout", "t.pdf", "-"]
        text = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stdout
        assert all(name in text.replace("’", "'") for name in ODD[:5])


@pytest.mark.slow
def test_the_stages_of_many_cells_run(tmp_path: Path, without_figures: None) -> None:
    """``python -m tests.many_cells`` measures the same stages with 100,000 cells."""
    measured = ["write", "list", "pack", "load", "tables", "across", "report"]
    assert list(measure(tmp_path / "many", 3, 4, 7)) == measured
    assert len(list((tmp_path / "many" / "cells").iterdir())) == 1
    frames = load(tmp_path / "many")
    assert (frames.cells["status"] == "done").sum() == len(frames.cells) == 84
    made_ = tables(frames, None, ALL)
    assert (len(made_.shown), made_.shown[0].rows[0][0].text) == (3, "method-0")
    assert len(across(frames, ["acc"]).numbers) == 4


def test_files_of_a_report_are_not_hidden_distinct_and_short_enough() -> None:
    assert stem("split-mnist", "class") == "split-mnist-class"
    names = ["./file.py:S", "/a/file.py:S", "./.py:S", f"./{'é' * 300}.py:S", f"{'a' * 300}", "..", "a/b:c"]
    found = [stem(name, "class") for name in names]
    assert len({*found}) == len(names)
    for name in found:
        assert not name.startswith(".")
        assert "/" not in name
        assert len(name.encode()) < 150
