from __future__ import annotations

import csv
import json
import math
import pickle
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.plan import Request
from bench.report import make_report, print_tables, tables
from bench.report.parts import parts
from bench.report.summary import summary
from bench.report.tables import markdown
from bench.results import load
from bench.results.frames import tidy
from bench.runner import Options, carry_out
from bench.stats import summarise
from bench.store import RunFolder, write_json
from suites.errors import UserError
from tests.conftest import toy_cell
from tests.made_up import made_up, timings


def record(right: Any, status: str = "done", **more: Any) -> dict[str, Any]:
    """Return a record of 100 test rows a task, with accuracies in percent."""
    if status in ("failed", "skipped"):
        return {"status": status, **more}
    total = [[None if r is None else 100 for r in row] for row in right]
    counts = {"right": right, "total": total}
    resources = {"parameters": 10, "memory_samples": 0, "memory_bytes": 0}
    return {"status": status, "test": counts, "validation": counts, "curves": [], "timings": timings(),
            "resources": resources, **more}  # fmt: skip


def made(folder: Path, records: dict[tuple[str, int], dict[str, Any]], scenario: str = "class") -> Path:
    """Write a run of the toy suite."""
    run = RunFolder(folder)
    specs = {key: toy_cell(key[0], key[1], scenario) for key in records}
    run.open(list(specs.values()), {}, {}, "test", "cpu")
    for key, facts in records.items():
        run.write(specs[key], facts)
    return folder


TWO_TASKS = [[50, 40], [90, 45], [60, 80]]


def test_summary_by_hand() -> None:
    s = summarise([0.5, 0.7, 0.9, math.nan])
    assert s.n == 3
    assert s.mean == pytest.approx(0.7)
    assert s.sd == pytest.approx(0.2)
    # t(0.975, 2) = 4.30265 by any table.
    assert s.half == pytest.approx(4.30265 * 0.2 / math.sqrt(3), rel=1e-5)
    assert summarise([0.4]).mean == 0.4
    assert math.isnan(summarise([0.4]).half)
    assert summarise([]).n == 0


def test_frames_are_tidy(tmp_path: Path) -> None:
    frames = load(made(tmp_path, {("er", 0): record(TWO_TASKS), ("er", 1): record(TWO_TASKS)}))
    scores = frames.scores.set_index(["seed", "score"])["value"]
    assert scores[0, "acc"] == pytest.approx(0.7)
    assert scores[1, "bwt"] == pytest.approx(-0.3)
    assert scores[0, "fwt"] == pytest.approx(0.05)
    test = frames.matrix[(frames.matrix["split"] == "test") & (frames.matrix["seed"] == 0)]
    assert len(test) == 6
    assert test[(test["i"] == 1) & (test["j"] == 2)]["value"].item() == pytest.approx(0.45)
    assert frames.cells["status"].tolist() == ["done", "done"]


def test_intransigence_takes_cumulative_of_the_same_seed(tmp_path: Path) -> None:
    better = [[50, 40], [95, 45], [60, 90]]
    run = made(
        tmp_path,
        {("er", 0): record(TWO_TASKS), ("er", 1): record(TWO_TASKS), ("cumulative", 1): record(better)},
    )
    scores = load(run).scores
    value = scores[(scores["strategy"] == "er") & (scores["score"] == "intransigence")].set_index("seed")[
        "value"
    ]
    assert math.isnan(value[0])
    assert value[1] == pytest.approx((0.05 + 0.10) / 2)


def test_table_in_three_forms(tmp_path: Path) -> None:
    other = [[50, 40], [90, 45], [70, 80]]
    joint = record([[50, 40], [None, None], [96, 94]])
    records = {("er", 0): record(TWO_TASKS), ("er", 1): record(other), ("joint", 0): joint}
    frames = load(made(tmp_path, records))
    half = 12.7062 * np.std([0.70, 0.75], ddof=1) / math.sqrt(2)
    text = markdown(frames, ["acc", "forgetting"])
    assert f"| er | 2 | 72.50 ± {100 * half:.2f} |" in text
    assert "| joint | 1 | 95.00 | – |" in text
    assert text.index("joint") < text.index("| er ")  # highest first
    assert "95 % t interval" in text
    stream = StringIO()
    print_tables(tables(frames, ["acc"]), Console(file=stream))
    assert f"72.50 ± {100 * half:.2f}" in stream.getvalue()
    row = summary(frames, ["acc"]).set_index(["identity", "column"]).loc[("er", "acc")]
    assert row["mean"] == pytest.approx(0.725)
    assert row["low"] == pytest.approx(0.725 - half, rel=1e-5)
    assert row["n"] == 2


CASES: dict[str, dict[tuple[str, int], dict[str, Any]]] = {
    "one seed": {("er", 0): record(TWO_TASKS), ("ewc", 0): record(TWO_TASKS)},
    "one task": {("er", s): record([[50], [90]]) for s in range(3)},
    "one strategy": {("er", s): record(TWO_TASKS) for s in range(3)},
    "unequal seeds": {("er", s): record(TWO_TASKS) for s in range(3)} | {("ewc", 1): record(TWO_TASKS)},
    "all failed": {
        ("er", s): record(None, "failed", error={"kind": "RuntimeError", "message": "no", "traceback": ""})
        for s in range(2)
    },
    "some diverged": {
        ("er", 0): record(TWO_TASKS),
        ("er", 1): record([[50, 40], [90, 45], [None, None]], "diverged", reason="no longer finite"),
        ("ewc", 0): record(None, "skipped", reason="needs boundaries"),
    },
    "only joint": {("joint", 0): record([[50, 40], [None, None], [96, 94]])},
}


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_report(case: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "run", CASES[case])
    report = make_report(load(folder), folder / "report")
    text = (report / "table.md").read_text()
    for (name, _), facts in CASES[case].items():
        assert f"| {name} |" in text
        if facts["status"] != "done":
            assert f"{facts['status']}: toy class {name}" in text
    with (report / "table.csv").open() as stream:
        assert {r["identity"] for r in csv.DictReader(stream)} == {name for name, _ in CASES[case]}
    drawn = sorted(p.name for p in (report / "figures").glob("*.png"))
    assert bool(drawn) == any(f["status"] == "done" for f in CASES[case].values())


def test_a_report_is_the_same_bytes_again(tmp_path: Path) -> None:
    frames = load(made(tmp_path / "run", CASES["unequal seeds"]))
    first, second = (make_report(frames, tmp_path / name) for name in ("a", "b"))
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    tables = {"table.md", "table.tex", "table.csv", "pairs.csv"}
    assert {str(n) for n in names if len(n.parts) == 1} == tables | {"index.html"}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_figures_of_twenty_strategies_and_their_data(tmp_path: Path) -> None:
    request = Request("toy", tuple(f"finetune[lr={i / 1000}]" for i in range(1, 21)), seeds=(0, 1))
    carry_out([request], tmp_path / "run", Options(jobs=1, quiet=True), "test")
    frames = load(tmp_path / "run")
    report = make_report(frames, tmp_path / "report")
    data = pd.read_csv(report / "figures" / "toy-class-stream.csv")
    assert data["identity"].nunique() == 20
    seen = frames.matrix[(frames.matrix["split"] == "test") & (frames.matrix["i"] == 2)]
    for name, part in seen.groupby("identity"):
        drawn = data[(data["identity"] == name) & (data["tasks"] == 2)]["mean"].item()
        assert drawn == pytest.approx(part.groupby("seed")["value"].mean().mean())


def test_names_are_text_in_markdown(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text("from strategies.core import Strategy\nclass A_b(Strategy):\n    '''Odd.'''\n")
    carry_out([Request("toy", (f"{path}:A_b",))], tmp_path / "run", Options(jobs=1, quiet=True), "test")
    assert "A\\_b" in markdown(load(tmp_path / "run"))


def test_unknown_score_and_foreign_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", CASES["one seed"])
    with pytest.raises(UserError, match="unknown score 'akc'; did you mean acc"):
        markdown(load(folder), ["akc"])
    with pytest.raises(UserError, match="is not a run's folder"):
        load(tmp_path / "elsewhere")
    (folder / "cells" / "broken.json").write_text("{")
    assert load(folder).unreadable == ["broken.json cannot be read: it is not whole JSON"]


def test_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", CASES["one seed"])
    write_json(folder / "run.json", json.loads((folder / "run.json").read_text()) | {"schema": 99})
    with pytest.raises(UserError, match="not written by this version"):
        load(folder)


def test_tables_alone_need_neither_matplotlib_nor_torch() -> None:
    code = "import sys, bench.report\nprint({'matplotlib', 'seaborn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_part_of_a_report_is_sent_without_the_other_parts(tmp_path: Path) -> None:
    """Parts are drawn in other processes: each with its own cells' test rows, and no frame of all."""
    frames = tidy(made_up(2, seeds=2, suites=("toy", "other")))
    whole = frames.matrix
    for suite, _, part in parts(frames):
        assert len(pickle.dumps(part.measured)) < len(pickle.dumps(frames.measured)) / 3
        assert "matrix" not in vars(part)
        own = whole[(whole["suite"] == suite) & (whole["split"] == "test")]
        pd.testing.assert_frame_equal(part.matrix, own.reset_index(drop=True))
