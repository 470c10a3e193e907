import csv
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.report import make_report
from bench.report.parts import parts
from bench.report.tables import markdown
from bench.results import load
from bench.store import write_json
from lethe.testing import frames_of, made_up, record, toy_run
from tests.conftest import refused

TWO_TASKS = [[50, 40], [90, 45], [60, 80]]


def test_frames_have_one_row_for_each_value(tmp_path: Path) -> None:
    cells = {("er", 0): record(TWO_TASKS), ("er", 1): record(TWO_TASKS)}
    frames = load(toy_run(tmp_path, cells | {("cumulative", 1): record([[50, 40], [95, 45], [60, 90]])}))
    scores = frames.scores[frames.scores["strategy"] == "er"].set_index(["seed", "score"])["value"]
    assert (scores[0, "acc"], scores[1, "bwt"]) == (pytest.approx(0.7), pytest.approx(-0.3))
    assert scores[0, "fwt"] == pytest.approx(0.05)
    assert math.isnan(scores[0, "intransigence"])  # there is no cumulative of seed 0
    assert scores[1, "intransigence"] == pytest.approx((0.05 + 0.10) / 2)
    test = frames.matrix.query("split == 'test' and seed == 0")
    assert len(test) == 6
    assert test.query("i == 1 and j == 2")["value"].item() == pytest.approx(0.45)
    assert frames.cells["status"].tolist() == ["done"] * 3


_ERROR = {"kind": "RuntimeError", "message": "no", "traceback": ""}
CASES: dict[str, dict[tuple[str, int], dict[str, Any]]] = {
    "one seed": {("er", 0): record(TWO_TASKS), ("ewc", 0): record(TWO_TASKS)},
    "one task": {("er", s): record([[50], [90]]) for s in range(3)},
    "one strategy": {("er", s): record(TWO_TASKS) for s in range(3)},
    "unequal seeds": {("er", s): record(TWO_TASKS) for s in range(3)} | {("ewc", 1): record(TWO_TASKS)},
    "all failed": {("er", s): record(None, "failed", error=_ERROR) for s in range(2)},
    "some diverged": {
        ("er", 0): record(TWO_TASKS),
        ("er", 1): record([[50, 40], [90, 45], [None, None]], "diverged", reason="no longer finite"),
        ("ewc", 0): record(None, "skipped", reason="needs boundaries"),
    },
    "only joint": {("joint", 0): record([[50, 40], [None, None], [96, 94]])},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_incomplete_runs_have_a_report(case: str, tmp_path: Path) -> None:
    folder = toy_run(tmp_path / "run", CASES[case])
    report = folder / "report"
    make_report(load(folder), report)
    text = (report / "table.md").read_text()
    for (name, _), facts in CASES[case].items():
        assert f"| {name} |" in text
        if facts["status"] != "done":
            assert f"{facts['status']}: toy class {name}" in text
    with (report / "table.csv").open() as stream:
        assert {r["identity"] for r in csv.DictReader(stream)} == {name for name, _ in CASES[case]}
    drawn = list((report / "figures").glob("*.png"))
    assert bool(drawn) == any(f["status"] == "done" for f in CASES[case].values())


@pytest.mark.slow
def test_a_report_is_written_with_the_same_bytes_again(tmp_path: Path) -> None:
    frames = load(toy_run(tmp_path / "run", CASES["unequal seeds"]))
    first, second = (tmp_path / name for name in ("a", "b"))
    for folder in (first, second):
        make_report(frames, folder)
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    tables = {"table.md", "table.tex", "table.csv", "pairs.csv"}
    assert {str(n) for n in names if len(n.parts) == 1} == tables | {"index.html"}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_unknown_scores_and_other_folders_are_refused(tmp_path: Path) -> None:
    folder = toy_run(tmp_path / "run", CASES["one seed"])
    refused("unknown score 'akc'; did you mean acc", markdown, load(folder), ["akc"])
    refused("is not a run's folder", load, tmp_path / "elsewhere")
    (folder / "cells" / "broken.json").write_text("{")
    assert load(folder).unreadable == ["broken.json cannot be read: it is not complete JSON"]
    write_json(folder / "run.json", json.loads((folder / "run.json").read_text()) | {"schema": 99})
    (first, second) = load(folder).unreadable
    assert "not written by this version" in first
    assert "broken.json" in second


def test_a_part_of_a_report_is_pickled_without_the_other_parts(tmp_path: Path) -> None:
    """Other processes draw the parts: each is sent only the test rows of its own cells."""
    frames = frames_of(made_up(2, seeds=2, suites=("toy", "other")))
    whole = frames.matrix
    for suite, _, part in parts(frames):
        assert len(pickle.dumps(part.outcomes)) < len(pickle.dumps(frames.outcomes)) / 2
        assert "matrix" not in vars(part)
        own = whole[(whole["suite"] == suite) & (whole["split"] == "test")]
        pd.testing.assert_frame_equal(part.matrix, own.reset_index(drop=True))
