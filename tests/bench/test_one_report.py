"""Every form of a report shows the same numbers and the same marks, cell by cell."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.plan import CellSpec
from bench.report import Layout, make_report, print_tables, summary, tables
from bench.report.across_suites import across
from bench.report.documents import renewed
from bench.report.families import bounds
from bench.report.figures import ACROSS, FIGURES, looks_of
from bench.report.latex import latex
from bench.report.layout import DEFAULT
from bench.report.page import make_page
from bench.report.page.section import inline
from bench.report.parts import by_scenario, parts
from bench.report.tables import in_markdown
from bench.results import Frames, choose, load
from bench.stats import paired
from lethe.testing import frames_of, made_cell, made_up, not_done, write_run

Cells = dict[tuple[str, str, str], tuple[str, str]]
"""(table title, strategy, column) -> (text, "best", "close" or "")."""
BOUNDS = {"joint", "cumulative"}
SHOWN = [*DEFAULT, "samples/s", "s/seed"]


def records(seeds: int = 8, **more: Any) -> list[dict[str, Any]]:
    """Return records of two bounds and five other strategies, two of them close to each other."""
    names = {"finetune", "joint", "cumulative", "er", "ewc", "der++"}
    more = {"n_tasks": 3, "suites": ("toy", "toyb"), "scenarios": ("class", "task")} | more
    found = [r for r in made_up(11, seeds=seeds, **more) if r["identity"] in names]
    close = []
    for record in (r for r in found if r["identity"] == "ewc"):
        cell = CellSpec(**(record["spec"] | {"strategy": "mir", "identity": "mir"}))
        turn = -5 if record["spec"]["seed"] % 2 else 3
        *before, last = record["test"]["right"]
        test = record["test"] | {"right": [*before, [min(x + turn, 200) for x in last]]}
        own = {"key": cell.key, "identity": "mir", "spec": record["spec"] | {"strategy": "mir"}, "test": test}
        close.append(record | own)
    return found + close


def unequal_seeds() -> list[dict[str, Any]]:
    kept = [r for r in records() if r["identity"] != "er" or r["spec"]["seed"] < 4]
    return kept + [not_done(made_cell("er", {}, seed, "toy"), "failed") for seed in (4, 5)]


def with_ties() -> list[dict[str, Any]]:
    """Return records in which er and ewc have the same results."""
    found = records(suites=("toy",))
    er = {(r["spec"]["scenario"], r["spec"]["seed"]): r["test"] for r in found if r["identity"] == "er"}
    for record in (r for r in found if r["identity"] == "ewc"):
        record["test"] = er[record["spec"]["scenario"], record["spec"]["seed"]]
    return found


def bleu() -> list[dict[str, Any]]:
    found = []
    for record in records(suites=("toyb",)):
        values = {"value": [[None if x is None else x / 2 for x in row] for row in record["test"]["right"]]}
        score = {"name": "bleu", "low": 0, "high": 100}
        found.append(record | {"score": score, "test": values, "validation": values})
    return found


RUNS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "two suites": records,
    "few seeds": lambda: records(3),
    "one seed": lambda: records(1),
    "unequal seeds": unequal_seeds,
    "ties": with_ties,
    "BLEU": bleu,
    "only bounds": lambda: [r for r in records(2) if r["identity"] in BOUNDS],
    "online": lambda: records(suites=("toy",), scenarios=("online",)),
}


# Readers of the forms. Each parses one form and shares no code with what wrote it.


def in_terminal(text: str) -> Cells:
    def bare(text: str) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", text).strip()

    found: Cells = {}
    title, header = "", []
    for line in text.splitlines():
        if re.match(r"toyb?, ", bare(line)):
            title = bare(line)
        elif bare(line).startswith("┃"):
            header = [cell.strip() for cell in bare(line).strip("┃ ").split("┃")]
        elif bare(line).startswith("│"):
            cells = line.strip("│").split("│")
            plain = [bare(cell) for cell in cells]
            for name, cell, own in zip(header[2:], cells[2:], plain[2:], strict=True):
                mark = "best" if "\x1b[1m" in cell else "close" if own.endswith("†") else ""
                found[title, plain[0], name] = own.removesuffix(" †"), mark
    return found


def of_markdown(text: str) -> Cells:
    found: Cells = {}
    title, header = "", []
    for line in re.sub(r"\\(.)", r"\1", text).splitlines():
        if re.match(r"\*\*toyb?, ", line):
            title, header = line.strip("*"), []
        elif line.startswith("| ") and title:
            cells = line.strip("| ").split(" | ")
            header = header or cells
            for name, cell in zip(header[2:], cells[2:], strict=True):
                if cell.strip("-:") and cells is not header:
                    mark = "best" if cell.startswith("**") else "close" if cell.endswith("†") else ""
                    found[title, cells[0], name] = cell.strip("*").removesuffix(" †"), mark
    return found


def tex_cell(cell: str) -> tuple[str, str]:
    mark = "best" if "\\textbf" in cell else "close" if "dagger" in cell else ""
    text = re.sub(r"\\textbf\{(.*)\}", r"\1", cell.strip()).replace("$^{\\dagger}$", "")
    for written, read in (("$\\pm$", "±"), ("$-$", "-"), ("\\textendash{}", "–"), ("{[}", "["), ("{]}", "]")):
        text = text.replace(written, read)
    return text.replace("\\_", "_").replace("\\textbar{}", "|"), mark


def of_latex(text: str) -> Cells:
    found: Cells = {}
    for table in text.split("\\begin{table")[1:]:
        title = re.findall(r"\\caption\{(.*?)\. ", table)[0]
        for block in table.split("\\begin{tabular}")[1:]:  # columns that do not fit follow below
            lines = [line.strip().removesuffix(" \\\\") for line in block.splitlines() if " & " in line]
            header = [tex_cell(name)[0] for name in lines[0].split(" & ")]
            for line in lines[1:]:
                cells = line.split(" & ")
                for name, cell in zip(header[1:], cells[1:], strict=True):
                    if name != "n":
                        found[title, tex_cell(cells[0])[0], name] = tex_cell(cell)
    return found


def of_page(text: str) -> tuple[Cells, dict[str, Cells], list[dict[str, Any]]]:
    """Return the visible cells, those copied as CSV and as LaTeX, and the data of each section."""
    seen, in_csv, header = {}, {}, {}
    data = [json.loads(found) for found in re.findall(r'<script [^>]*class="data">(.*?)</script>', text)]
    for section in re.split(r"<h2[^>]*>", text.split('id="unfinished"')[0].split('id="run"')[0])[1:]:
        title = unescape(section.split("</h2>")[0])
        for row in re.findall(r"<tr\b.*?</tr>", section, re.DOTALL):
            tags = re.findall(r"<t[hd]\b([^>]*)>(.*?)</t[hd]>", row, re.DOTALL)
            cells = [" ".join(unescape(re.sub("<[^>]*>", "", cell)).split()) for _, cell in tags]
            for (tag, _), own in zip(tags[3:], cells[3:], strict=True):
                given = {k: unescape(v) for k, v in re.findall(r'([\w-]+)="([^"]*)"', tag)}
                if "aria-sort" in given:
                    header[title, given["data-key"]] = own
                elif "data-key" in given:
                    mark = "best" if "best" in given["class"] else "close" if own.endswith("†") else ""
                    place = title, cells[0], header[title, given["data-key"]]
                    seen[place] = own.removesuffix(" †"), mark
                    numbers = [float(given[f"data-{name}"] or "nan") for name in ("value", "sd")]
                    in_csv[place] = (*numbers, int(given["data-n"])), given["data-mark"]
    return seen, {"CSV": in_csv, "LaTeX": of_latex("".join(d["latex"] for d in data))}, data


def of_csv(frame: pd.DataFrame, titles: dict[str, dict[str, str]]) -> Cells:
    """Format the numbers of the CSV file, with its marks."""
    found: Cells = {}
    for row in frame.to_dict("records"):
        title = f"{row['suite']}, {row['scenario']}" + ("" if row["scenario"] == "online" else "-incremental")
        mean, half = row["mean"], row["half"]
        if math.isnan(mean):
            text = "–"
        elif row["column"] in ("samples_per_second", "seconds_per_seed"):
            text = f"{mean:,.0f}" if mean >= 99.5 else f"{mean:#.2g}".rstrip(".")
        else:
            text = f"{100 * mean:.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")
            text += f" (n = {row['n']})" if row["n"] != row["done"] else ""
        mark = {"worse": ""}.get(str(row["mark"]), str(row["mark"]))
        found[title, str(row["identity"]), titles[title][str(row["column"])]] = text, mark
    return found


def forms(frames: Frames, folder: Path) -> dict[str, Cells]:
    """Return the cells of every form that shows marks."""
    layout = Layout(marks=True, origin=True)
    made = tables(frames, None, layout)
    stream = StringIO()
    print_tables(made, Console(file=stream, force_terminal=True, width=400))
    made.numbers.to_csv(folder / "table.csv", index=False)
    numbers = pd.read_csv(folder / "table.csv", dtype={"mark": object}).fillna({"mark": ""})
    columns = [*DEFAULT, "samples_per_second", "seconds_per_seed"]
    titles = {t.title: dict(zip(columns, t.header[2:], strict=True)) for t in made.shown}
    seen, copied, _ = of_page("".join(make_page(frames, figures=[])))
    mean = {place: own for place, own in copied["CSV"].items() if place in seen}
    for row in numbers.to_dict("records"):
        title = f"{row['suite']}, {row['scenario']}" + ("" if row["scenario"] == "online" else "-incremental")
        place = title, row["identity"], titles[title][row["column"]]
        if place in mean or not math.isnan(row["mean"]):
            (value, sd, n), mark = mean[place]
            assert (value, sd) == pytest.approx((row["mean"], row["sd"]), rel=1e-6, nan_ok=True), place
            assert (n, mark) == (row["n"], row["mark"]), place
    return {
        "terminal": in_terminal(stream.getvalue()),
        "Markdown": of_markdown(in_markdown(made)),
        "LaTeX": of_latex(latex(made)),
        "CSV": of_csv(numbers, titles),
        "page": seen,
        "copied from the page": copied["LaTeX"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_every_form_has_the_same_numbers_and_marks(run: str, tmp_path: Path) -> None:
    frames = frames_of(RUNS[run]())
    found = forms(frames, tmp_path)
    expected = found.pop("terminal")
    names = set(frames.cells["identity"])
    assert {name for _, name, _ in expected} == names
    assert len(expected) == len(frames.cells.drop_duplicates(["suite", "scenario", "identity"])) * len(SHOWN)
    for form, cells in found.items():
        # The page has more columns, hidden at first, and leaves out columns without values.
        for place, own in expected.items():
            if form != "page" or place in cells:
                assert cells[place] == own, (form, place)
            else:
                assert own == ("–", ""), place
    marks = {(name, mark) for (_, name, _), (_, mark) in expected.items()}
    assert not {mark for name, mark in marks if name in BOUNDS} - {""}
    if run in ("two suites", "unequal seeds", "BLEU", "online"):
        assert {mark for _, mark in marks} == {"", "best", "close"}


@pytest.mark.usefixtures("without_figures")
def test_a_report_computes_numbers_and_comparisons_once(tmp_path: Path) -> None:
    """The tables, pairs.csv and the page share them; the page alone compares the two bounds."""
    frames = frames_of(records(suites=("toy",), scenarios=("class",)))
    with (
        patch.object(summary, "describe", wraps=summary.describe) as described,
        patch.object(paired, "compare_pairs", wraps=paired.compare_pairs) as compared,
    ):
        make_report(frames, tmp_path)
    described.assert_called_once()
    n_pairs = Counter(len(call.args[1]) for call in compared.call_args_list)
    assert n_pairs.pop(4) >= 6  # each competitor with the best
    # Six scores of five competitors; beside them both bounds in acc, and cumulative alone in the others.
    assert n_pairs == {10: 6, 11: 1, 5: 5}


def order(cells: Iterable[tuple[str, str, str]], title: str) -> list[str]:
    return list(dict.fromkeys(name for own, name, _ in cells if own == title))


def test_every_form_has_the_same_order(tmp_path: Path) -> None:
    found = forms(frames_of(unequal_seeds()), tmp_path)
    for title in {title for title, _, _ in found["terminal"]}:
        assert len({tuple(order(cells, title)) for cells in found.values()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["bca", "sd", "sem"])
def test_the_page_shows_the_same_spread_as_the_tables(spread: Any) -> None:
    frames = frames_of(records(suites=("toy",), scenarios=("class",)))
    layout = Layout(spread, marks=True)
    made = tables(frames, None, layout)
    seen, copied, _ = of_page("".join(make_page(frames, layout=layout, figures=[])))
    for place, own in of_markdown(in_markdown(made)).items():
        assert seen[place] == copied["LaTeX"][place] == own


@pytest.mark.slow
@pytest.mark.parametrize("run", ["two suites", "unequal seeds", "BLEU"])
def test_latex_copied_from_the_page_is_that_of_the_file(run: str) -> None:
    """Both with the same comments; with several suites or scenarios the page copies the table of one."""
    frames = choose(frames_of(RUNS[run]()), without=["er"], names={"ewc": "Elastic & weight"})
    for layout in (Layout(marks=True, origin=True, columns=2), Layout("sd", True, marks=True, origin=True)):
        text = "".join(make_page(frames, ["acc", "bwt"], layout=layout, figures=[]))
        file = latex(tables(frames, ["acc", "bwt"], layout), layout.columns)
        comments = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])["comments"]
        assert "\n".join([comments, *(d["latex"] for d in of_page(text)[2])]) == file
        assert "% not shown, by choice: er" in comments
        assert "Elastic \\& weight" in file


@pytest.mark.slow
def test_the_data_of_the_page_s_script_equal_the_tables() -> None:
    frames = frames_of(records())
    text = "".join(make_page(frames, figures=[]))
    seen, _, data = of_page(text)
    for title, table in zip(dict.fromkeys(t for t, _, _ in seen), data, strict=True):
        names = [row["identity"] for row in table["rows"]]
        assert names == order(seen, title)
        finals = [float(seen[title, name, "acc"][0].split(" ± ")[0]) for name in names]
        for row, final in zip(table["rows"], finals, strict=True):
            assert np.mean([float(acc) for _, _, acc, *_ in row["seeds"]]) == pytest.approx(final, abs=0.011)
            if row["stream"] is not None:
                assert 100 * row["stream"][-1][0] == pytest.approx(final, abs=0.011)
                assert row["stream"][-1][2] == f"{100 * row['stream'][-1][0]:.1f}"
            if row["matrix"] is not None:
                assert np.mean([float(v) for v in row["matrix"][-1]]) == pytest.approx(final, abs=0.6)
        for pair, found in table["pairs"]["acc"].items():
            a, b = map(int, pair.split(","))
            assert float(found["mean"]) == pytest.approx(finals[a] - finals[b], abs=0.011)


@pytest.mark.slow
def test_figures_show_the_numbers_of_the_tables() -> None:
    frames = frames_of(records())
    numbers = tables(frames, None, Layout(marks=True)).numbers
    looks = looks_of(frames)
    for suite, scenario, part in parts(frames):
        own = numbers[(numbers["suite"] == suite) & (numbers["scenario"] == scenario)]
        mean = own.set_index(["column", "identity"])["mean"]

        def data(name: str, part: Frames = part) -> pd.DataFrame:
            return FIGURES[name](part, looks)[1]

        seeds = data("bars").groupby(["score", "identity"])["value"].mean()
        for place, value in seeds.items():
            assert value == pytest.approx(mean[place], abs=1e-12)
        pareto = data("pareto")
        for row in [*data("stream").query("tasks == 3").itertuples(), *pareto.itertuples()]:
            assert row.mean == pytest.approx(mean["acc", row.identity], abs=1e-12)
        assert not set(pareto[pareto["front"]]["identity"]) & BOUNDS
        best = own[(own["column"] == "acc") & (own["mark"] == "best")]["identity"].tolist()
        assert data("matrix")["identity"].unique().tolist() == best


def test_ranks_leave_out_the_bounds_in_figures_and_tables() -> None:
    frames = frames_of(records(suites=("toy", "toyb", "toyab")))
    assert bounds(frames) == BOUNDS
    whole = across(frames, ["acc"])
    assert set(whole.numbers["identity"]) == set(frames.cells["identity"]) - BOUNDS
    assert "cumulative, joint are bounds" in " ".join(whole.lines)
    for scenario, part in by_scenario(frames):
        (_, data), numbers = ACROSS["ranks"](part, looks_of(frames)), across(part, ["acc"]).numbers
        for column in ("identity", "rank"):
            assert data[column].tolist() == numbers[column].tolist(), scenario


def test_documents_show_the_numbers_of_the_tables(tmp_path: Path) -> None:
    cells = [(CellSpec(**r["spec"]), r) for r in records(suites=("toy",))]
    frames, blocks = load(write_run(tmp_path / "run", cells)), ("table run", "method run der++")
    text = renewed("".join(f"<!-- lethe:{b} -->\n<!-- lethe:end -->\n" for b in blocks), tmp_path)
    first, plain = text.split("<!-- lethe:method")[0], in_markdown(tables(frames))
    found, expected = ({k: own for k, (own, _) in of_markdown(t).items()} for t in (first, plain))
    assert found == expected
    cells = next(line for line in text.splitlines() if line.startswith("| class ")).strip("| ").split(" | ")
    own = frames.scores.query("strategy == 'der++' and scenario == 'class'")
    means = own.groupby("score")["value"].mean()
    for name, cell in zip(("acc", "forgetting", "learning_acc"), cells[2:], strict=True):
        assert cell.split(" ± ")[0] == f"{100 * means[name]:.2f}"


def test_figures_of_the_page_have_the_numbers_of_their_texts() -> None:
    """Coordinates are rounded, a learning rate in a legend is not."""
    text = "<text>er[lr=0.000931]</text>"
    svg = f'<?xml version="1.0"?><svg id="a"><path d="M 1.23456 2"/>{text}</svg>'
    assert inline(svg, "f") == f'<svg id="f-a"><path d="M 1.23 2"/>{text}</svg>'
