"""Every number in a document comes from a committed record."""

import json
import re
from pathlib import Path

import pytest

import strategies
import suites
from bench.checks.step_costs import dear
from bench.report.documents import _BLOCK, _FIGURE, _LATEX, draw, main, renewed
from bench.report.figures import ACROSS, FIGURES
from bench.store import RunReader

ROOT = Path(__file__).parents[2]
HEADINGS = (
    "Idea",
    "Equation",
    "Source",
    "What it stores",
    "What it needs",
    "Variants",
    "Hyper-parameters and cost",
    "Command",
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_in_documents_equal_the_records(path: Path) -> None:
    assert main(["--check", str(path)]) == 0


def test_a_stale_table_is_reported_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ROOT / "results" / "reference" / "digits"
    path = tmp_path / "d.md"
    path.write_text(f"a\n<!-- lethe:table {run} class acc -->\nold\n<!-- lethe:end -->\nz\n")
    assert main(["--check", str(path)]) == 1
    assert "make docs" in capsys.readouterr().err
    assert main([str(path)]) == main(["--check", str(path)]) == 0
    text = path.read_text()
    assert (text[:2], text[-3:]) == ("a\n", "\nz\n")
    assert "| finetune | 10 |" in text
    assert "old" not in text


def test_paired_comparisons_show_the_difference_and_a_recorded_number(tmp_path: Path) -> None:
    """A strategy compared with itself has a difference of zero, which is not significant."""
    run = ROOT / "results" / "reference" / "adaptive-digits"
    path = tmp_path / "d.md"
    pairs = "adaptive-replay adaptive-replay er finetune finetune er"
    path.write_text(f"<!-- lethe:against {run} class replayed {pairs} -->\n<!-- lethe:end -->\n")
    assert main([str(path)]) == 0
    itself, higher, lower = [r.split(" | ") for r in path.read_text().splitlines() if r.startswith("| ")][2:]
    assert itself[:5] == ["| adaptive-replay", "adaptive-replay", "10", "+0.00 ± 0.00", "not distinguished"]
    assert int(itself[5].replace(",", "")) > 0
    assert itself[5] == itself[6].removesuffix(" |")
    assert higher[4:] == ["higher", "–", "– |"]
    assert higher[3].startswith("+")
    assert lower[3:5] == [higher[3].replace("+", "-"), "lower"]


def test_every_marked_table_and_figure_in_documents_is_known() -> None:
    texts = {path: path.read_text() for path in DOCUMENTS}
    assert len(_BLOCK.findall("".join(texts.values()))) >= 2
    figures = [path.parent / words.split()[-1] for path in texts for words in _FIGURE.findall(texts[path])]
    assert {figure.is_file() for figure in figures} == {True}


def test_the_gallery_shows_every_figure() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text()
    words = _FIGURE.findall(text)
    shown = {name for _, name, *_ in map(str.split, words)}
    assert shown == set(FIGURES | ACROSS)
    sizes = {p.name: p.stat().st_size for p in (ROOT / "docs" / "gallery").iterdir()}
    assert set(sizes) == {w.split()[-1].removeprefix("gallery/") for w in words + _LATEX.findall(text)}
    assert max(sizes.values()) < 160_000


@pytest.mark.pinned
def test_figures_in_the_gallery_equal_the_records(tmp_path: Path) -> None:
    words = next(w for w in _FIGURE.findall((ROOT / "docs" / "gallery.md").read_text()) if " response " in w)
    run, *rest, file = words.split()
    there = ROOT / "docs" / run
    assert draw(f"<!-- lethe:figure {there} {' '.join(rest)} a.svg -->", tmp_path) == [tmp_path / "a.svg"]
    assert (tmp_path / "a.svg").read_bytes() == (ROOT / "docs" / file).read_bytes()


@pytest.mark.parametrize("file", ["table.tex", "table-wide.tex"])
def test_latex_in_the_gallery_equals_the_records(file: str, tmp_path: Path) -> None:
    words = next(
        w for w in _LATEX.findall((ROOT / "docs" / "gallery.md").read_text()) if w.endswith(f"/{file}")
    )
    run, *rest, path = words.split()
    draw(f"<!-- lethe:latex {ROOT / 'docs' / run} {' '.join(rest)} a.tex -->", tmp_path)
    assert (tmp_path / "a.tex").read_text() == (ROOT / "docs" / path).read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_row_of_a_table_is_one_line(path: Path) -> None:
    in_code, before = False, ""
    for line in path.read_text().splitlines():
        in_code ^= line.lstrip().startswith("```")
        if not in_code and line and not line.startswith("<!--"):
            assert line.startswith("|") or not before.startswith("|"), line
        before = line


def test_counts_in_prose_equal_the_registry_and_the_records() -> None:
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/published.md"))
    verdicts = [
        line.split("|")[-2].split(":")[0].strip() for line in page.splitlines() if line.count("|") == 10
    ]
    agree, untold = verdicts.count("agrees"), verdicts.count("cannot tell")
    n = len(verdicts) - 2  # without header and rule
    own = [name for name in suites.names() if str(suites.REGISTRY.defined_in(name)).startswith("suites.")]
    readme, page = " ".join(readme.split()), " ".join(page.split())
    assert f"Lethe has {len(strategies.names())} methods and {len(own)} suites" in readme
    assert f"reproduces {agree} of {n} [published numbers]" in readme
    words = {10: "ten", 12: "twelve"}
    assert f"for {words[untold]} others" in readme
    assert f"{words[agree].title()} of {n} entries agree" in page
    assert f"For {words[untold]} entries five seeds are too few" in page


def test_every_strategy_has_a_section_with_the_same_headings_and_its_numbers() -> None:
    """The numbers come from the run of all strategies."""
    pages = {p: p.read_text() for p in (ROOT / "docs" / "methods").glob("*.md")}
    for name in strategies.names():
        (page,) = [p for p, text in pages.items() if f"\n## {name}\n" in text]
        part = pages[page].split(f"\n## {name}\n")[1].split("\n## ")[0]
        for heading in (*HEADINGS, "Our numbers"):
            assert f"**{heading}" in part, f"{page.name}: {name} lacks {heading}"


def test_the_cost_record_has_every_strategy_and_reasons_for_expensive_ones() -> None:
    """If this fails after a change of ``Strategy.cost`` or for a new strategy: ``make costs``."""
    steps = json.loads((ROOT / "results" / "reference" / "step-costs.json").read_text())["strategies"]
    assert {n: s["implied"] for n, s in steps.items()} == {
        n: strategies.get(n).cost for n in strategies.names() if not strategies.get(n).tunes
    }
    reasons = set(re.findall(r"^- `(\S+)`", (ROOT / "docs" / "costs.md").read_text(), re.MULTILINE))
    needed = {n for n, s in steps.items() if dear(s["ratio"], s["implied"])}
    assert needed
    assert needed <= reasons <= set(steps)


def test_a_step_that_costs_more_than_its_definition_implies_is_expensive() -> None:
    assert [dear(*of) for of in ((0.1, 0.0), (3.1, 2.0), (3.0, 2.0))] == [True, True, False]


RUNS = sorted(p.name.split(".")[0] for p in (ROOT / "results" / "reference").glob("*.lethe.gz"))


@pytest.mark.parametrize("name", RUNS)
def test_reference_records_are_complete_and_named_by_their_specs(name: str) -> None:
    """Every cell of the experiment is done, or skipped with a reason."""
    run = RunReader(ROOT / "results" / "reference" / name)
    records = run.records()
    assert not run.unreadable
    assert {r["key"] for r in records} == set(run.manifest().cells)
    assert {"done"} <= {r["status"] for r in records} <= {"done", "skipped"}


def test_a_grid_is_at_least_five_times_faster_than_single_processes_in_the_record() -> None:
    seconds = json.loads((ROOT / "results" / "reference" / "grid-times.json").read_text())["seconds"]
    for kind in ("wall", "processor"):
        assert seconds["separate processes"][kind] >= 5 * seconds["lanes"][kind]


def test_what_an_engine_costs_is_compared_with_joblib_and_many_cells_are_summed(tmp_path: Path) -> None:
    about = {"command": "make", "at": "2026-01-01", "machine": "Linux", "load": 2.0, "python": "3.11"}
    about |= {"packages": {"torch": "2"}, "cells": 250, "turns": 4, "at_once": 2}
    ways = {"joblib": (100.0, 180.0), "local": (105.0, 190.0), "dask": (110.0, 200.0)}
    of = {way: dict(zip(("wall", "processor"), spent, strict=True)) for way, spent in ways.items()}
    stages = {
        name: {"seconds": 10.0 * n, "processor": 4.0 * n, "peak": 0.5 + n} for n, name in enumerate("ab")
    }
    (tmp_path / "e.json").write_text(json.dumps(about | {"milliseconds": of}))
    (tmp_path / "m.json").write_text(json.dumps(about | {"groups": 9, "scheduler": 0.2, "stages": stages}))
    blocks = "engine-overhead e.json", "many-cells m.json"
    made = renewed("\n".join(f"<!-- lethe:{of} -->\n<!-- lethe:end -->" for of in blocks), tmp_path)
    assert "| --on dask, 2 workers | 110 | 200 | 1.10 | 1.11 |" in made
    assert "1,000 cells each, in 4 turns" in made
    assert "| all | 10 | 4 | 1.50 |" in made


def test_the_times_of_a_grid_are_compared_with_those_of_lanes(tmp_path: Path) -> None:
    seconds = {
        "lanes": {"wall": 20.0, "processor": 36.0}, "one process": {"wall": 150.0, "processor": 149.0},
        "separate processes": {"wall": 310.0, "processor": 600.0},
    }  # fmt: skip
    about = {"command": "make grid-times", "at": "2026-01-01", "grid": "er[lam=1|2]", "seeds": 5, "load": 2.0}
    about |= {"machine": "Linux", "packages": {"torch": "2"}, "python": "3.11", "at_once": 2, "cells": 125}
    record = about | {"sample": 20, "sample_one_process": 20, "seconds": seconds}
    (tmp_path / "t.json").write_text(json.dumps(record))
    page = "<!-- lethe:grid-times t.json -->\n<!-- lethe:end -->"
    made = renewed(page, tmp_path)
    assert "| 125 processes, 2 at a time (from 20 of 125) | 310 | 600 | 15.5 | 16.7 |" in made
    assert "| one process, one by one (from 20 of 125) | 150 | 149 | 7.5 | 4.1 |" in made
