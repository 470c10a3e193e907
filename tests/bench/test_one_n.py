"""All seeds of one n share code, data, suite version and settings; contradicting runs are refused."""

import itertools
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.plan import CellSpec, Request, code_of
from bench.report import Layout, make_report, tables
from bench.report.summary import summary
from bench.results import Confusions, Frames, confusions, load
from bench.schema import Equivalence
from bench.store import RunFolder, RunReader, enter_equivalences
from lethe.testing import record, timings, toy_cell, write_run
from tests.conftest import Command, refused

MADE = {
    "lethe": "1", "commit": "0123456789abcdef", "dirty": False, "torch": "2", "numpy": "2", "began": "",
    "ended": "", "command": "lethe run",
}  # fmt: skip
DATA = {"name": "blobs", "fingerprint": "f1"}
Cells = list[tuple[CellSpec, dict[str, Any]]]


def cells(name: str, finals: list[int], first: int = 0, code: str = "", **more: Any) -> Cells:
    """Return two-task cells of consecutive seeds whose records name a code."""
    made_by = {"made_by": MADE | {"code": code, "commit": f"{code}-commit"}} if code else {}
    found = []
    for seed, final in enumerate(finals, first):
        spec = replace(
            toy_cell(name, seed), **{k: v for k, v in more.items() if k in CellSpec.__annotations__}
        )
        beside = {k: v for k, v in more.items() if k not in CellSpec.__annotations__}
        found.append((spec, record([[50, 40], [90, 45], [final, 80]], **made_by, **beside)))
    return found


def means(frames: Frames, column: str = "acc") -> dict[str, tuple[int, float]]:
    rows = summary(frames, [column]).query("column == @column").to_dict("records")
    return {r["identity"]: (r["n"], round(100 * r["mean"], 2)) for r in rows}


def today(name: str) -> str:
    return code_of(toy_cell(name).as_record()).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("late", ["old", "today"])
def test_a_row_has_seeds_of_one_code_the_current_or_else_the_latest(
    late: str, tmp_path: Path, command: Command
) -> None:
    now = today("er") if late == "today" else "new"
    write_run(tmp_path, cells("er", [60, 62], 0, now) if late == "today" else cells("er", [10, 10], 0, "old"))
    write_run(tmp_path, cells("er", [10], 2, "old") if late == "today" else cells("er", [60, 62], 2, "new"))
    frames = load(tmp_path)
    assert means(frames) == {"er": (2, 70.5)}
    assert len(frames.matrix["key"].unique()) == len(frames.cells) == 2
    n = 1 if late == "today" else 2
    shown = f"{now[:8]} at {now[:10]}" if late == "today" else "new at new-commit"
    (line, *_) = tables(frames, ["acc"], Layout(origin=True)).remarks
    assert line.startswith(f"left out: toy class er, {n} seed")
    assert f"of {tmp_path}: code old at old-commit, not {shown}" in line
    write_run(tmp_path, cells("ewc", [50, 51, 54, 50]))
    code, _, err = command(f"power {tmp_path} er ewc")
    assert (code, line in err) == (0, True), err
    assert sorted(frames.left_out["seed"]) == ([2] if late == "today" else [0, 1])


def test_seeds_of_equivalent_code_share_a_row(tmp_path: Path) -> None:
    write_run(tmp_path / "r", cells("er", [60, 62], 0, "old") + cells("er", [64], 2, today("er")))
    entry = Equivalence(
        strategy="er", suite="toy", model="mlp", before="old", now=today("er"), cells=[toy_cell("er").key],
        before_commit="", now_commit="", at="",
    )  # fmt: skip
    assert means(load(tmp_path / "r"))["er"][0] == 1
    enter_equivalences(RunReader(tmp_path / "r"), [entry])
    frames = load(tmp_path / "r")
    assert means(frames)["er"][0] == 3
    assert tables(frames, ["acc"], Layout(origin=True)).remarks == ()


def test_rows_of_old_code_are_marked_stale_with_their_commit(tmp_path: Path, without_figures: None) -> None:
    whole = cells("er", [60, 62], 0, "old") + cells("ewc", [50], 0, today("ewc")) + cells("agem", [40])
    write_run(tmp_path / "r", whole)
    frames = load(tmp_path / "r")
    lines = tables(frames, ["acc"], Layout(origin=True)).remarks
    (line,) = lines
    commit = re.fullmatch(r"stale: not of today's code or data: agem at (\S+); er at old-commit", line)
    assert commit
    assert tables(frames, ["acc"]).remarks == ()  # documents show their records, whatever the current code
    make_report(frames, tmp_path / "out", ["acc"])
    table = pd.read_csv(tmp_path / "out" / "table.csv", keep_default_na=False)
    rows = table[table["column"] == "acc"].set_index("identity")
    assert rows["stale"].to_dict() == {"er": "old-commit", "ewc": "", "agem": commit[1]}
    assert "stale: not of today&#39;s code" in (tmp_path / "out" / "index.html").read_text()


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "version": ({"suite_version": 1}, {"suite_version": 2}, "suite version 2, not 1"),
    "data": ({"data": DATA}, {"data": DATA | {"fingerprint": "f2"}}, "data f1, not f2"),
    "weights": (
        {"data": DATA | {"model": "w1"}},
        {"data": DATA | {"model": "w2"}},
        "pretrained weights w1, not w2",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_of_a_suite_have_the_same_data_version_and_weights(
    kind: str, tmp_path: Path, without_figures: None
) -> None:
    """The current suite version and the latest data and weights are shown, for ewc as for er."""
    first, second, why = KINDS[kind]
    write_run(tmp_path / "r", cells("er", [60, 62], **first) + cells("ewc", [10], **first))
    write_run(tmp_path / "r", cells("er", [30, 32, 34], 2, **second) + cells("ewc", [50], 1, **second))
    frames = load(tmp_path / "r")
    shown = {"er": 2, "ewc": 1} if kind == "version" else {"er": 3, "ewc": 1}
    assert {name: n for name, (n, _) in means(frames).items()} == shown
    lines = tables(frames, ["acc"]).remarks
    assert [why in line for line in lines] == [True, True]
    out = tmp_path / "out"
    make_report(frames, out, ["acc"])
    assert len(pd.read_csv(out / "left_out.csv")) == 7 - sum(shown.values())
    assert pd.read_csv(out / "table.csv")["left_out"].str.contains(why).all()
    assert why in (out / "table.md").read_text().replace("\\", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "results", "diverged"])
def test_runs_that_contradict_each_other_are_refused_in_any_order(
    kind: str, tmp_path: Path, command: Command, without_figures: None
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    first, second, _ = KINDS.get(kind, ({}, {}, ""))
    ewc = cells("ewc", [50, 50]) if kind not in KINDS else []  # equal in both runs
    write_run(a, cells("er", [60, 62], **first) + ewc)
    changed = cells("er", [60, 30], **second)
    if kind == "diverged":
        changed[1][1].update(status="diverged", reason="not finite")
    write_run(b, changed + [(spec, facts | {"timings": timings(lanes=7)}) for spec, facts in ewc])
    said = (
        f"{a} and {b} have different results of 1 cell (toy class er seed 1)"
        if kind not in KINDS
        else f"{b} has toy"
    )
    for folders in itertools.permutations((a, b)):
        refused(said.replace("(", r"\(").replace(")", r"\)"), load, list(folders))
        code, _, err = command(f"report {folders[0]} {folders[1]} --out {tmp_path / 'x'}")
        assert (code, err.count("\n")) == (2, 1)
        assert f"--prefer {a}" in err
        assert f"--label {a}=A,{b}=B" in err
    pages = []
    for folders in itertools.permutations((a, b)):
        preferred = load(*folders, prefer=b)
        assert set(preferred.left_out["folder"]) == {str(a)}
        n, mean = means(preferred)["er"]
        assert (n, mean) == ((1, 70.0) if kind == "diverged" else (2, 62.5))
        beside = load(*folders, labels={str(a): "old", str(b): "new"})
        of_er = {name: found for name, found in means(beside).items() if name.startswith("er")}
        assert of_er == {"er (old)": (2, 70.5), "er (new)": (n, mean)}
        out = tmp_path / folders[0].name / "out"
        make_report(beside, out)
        pages.append([path.read_bytes() for path in sorted(out.glob("*.*"))])
        code, _, err = command(f"report {folders[0]} {folders[1]} --prefer {b} --out {out}2")
        assert code == 0, err
    assert pages[0] == pages[1]


def test_failed_and_skipped_cells_contradict_no_result(tmp_path: Path) -> None:
    failed = {"status": "failed", "error": {"kind": "E", "message": "no", "traceback": ""}}
    write_run(tmp_path / "a", [(toy_cell("er"), failed), *cells("er", [62], 1)])
    write_run(
        tmp_path / "b", [*cells("er", [60]), (toy_cell("er", 1), {"status": "skipped", "reason": "old"})]
    )
    same = [means(load(*folders)) for folders in itertools.permutations((tmp_path / "a", tmp_path / "b"))]
    assert same == [{"er": (2, 70.5)}] * 2
    refused("is not one of the runs", load, tmp_path / "a", prefer=tmp_path / "b")


def test_a_record_with_another_number_of_tasks_is_left_out(tmp_path: Path) -> None:
    odd = (toy_cell("cumulative", 1), record([[50], [90]]))
    write_run(tmp_path / "r", [*cells("er", [60, 62]), *cells("cumulative", [70]), odd])
    frames = load(tmp_path / "r")
    assert means(frames) == {"er": (2, 70.5), "cumulative": (1, 75.0)}
    assert [*frames.left_out["why"]] == ["number of tasks 1, not 2"]
    assert means(frames, "intransigence")["er"][0] == 1


def test_a_record_of_other_data_than_its_run_is_stale(tmp_path: Path) -> None:
    write_run(
        tmp_path / "r", cells("er", [60], 0, today("er"), data=DATA) + cells("ewc", [60], 0, today("ewc"))
    )
    (line,) = tables(load(tmp_path / "r"), ["acc"], Layout(origin=True)).remarks
    assert line == f"stale: not of today's code or data: er at {today('er')[:10]} (data f1)"


def test_rows_of_runs_with_different_settings_name_the_settings(tmp_path: Path) -> None:
    """Otherwise a paired test of er against ewc would silently compare 4 with 9 epochs."""
    kinds = {"a": ("ewc", 4, "ewc[lr=0.5]"), "b": ("er", 9, "")}
    for folder, (name, epochs, odd) in kinds.items():
        asked = Request("toy", tuple(filter(None, (name, odd))), settings={"epochs": str(epochs)})
        run = RunFolder(tmp_path / folder)
        run.open(asked.cells(), asked.shared(), {}, "lethe run", "cpu")
        run.write_group((cell, record([[50, 40], [90, 45], [60, 80]])) for cell in asked.cells())
    frames = load(tmp_path / "a", tmp_path / "b")
    assert set(frames.cells["identity"]) == {"ewc (epochs=4)", "ewc[lr=0.5] (epochs=4)", "er (epochs=9)"}
    assert set(load(tmp_path / "a").cells["identity"]) == {"ewc", "ewc[lr=0.5]"}
    # Another selector of the same cell adds no row.
    asked = Request("toy", ("ewc[epochs=4]",), settings={"epochs": "9"})
    RunFolder(tmp_path / "b").write_group((c, record([[50, 40], [90, 45], [60, 80]])) for c in asked.cells())
    assert len(load(tmp_path / "a", tmp_path / "b").cells) == 3


def test_class_counts_come_from_the_run_that_is_shown(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 5)):
        rows = [[1, 1, 0, 0, count]]
        counts = {"classes": {"units": ["x", "y"], "test": rows, "validation": rows}}
        write_run(tmp_path / name, cells("er", [60 + count], **counts))

    def found(**how: Any) -> dict[str, int]:
        read = confusions(load(tmp_path / "a", tmp_path / "b", **how))
        return {c.cell["identity"]: int(_count(c)) for c in read}

    assert found(prefer=tmp_path / "b") == {"er": 5}
    assert found(labels={str(tmp_path / "b"): "new"}) == {"er": 3, "er (new)": 5}


def _count(found: Confusions) -> Any:
    return found.counts["test"][0, 4]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_options": {"hidden": 8, "layers": 1}}, "cumulative has hidden=8, not 32"),
        ({"training": asdict(toy_cell())["training"] | {"epochs": 9}}, "cumulative has epochs=9, not 4"),
        ({"seed": 7}, "the run has no cumulative with the same suite, scenario and seed"),
        ({"data": DATA | {"model": "w2"}}, "cumulative has weights=w2, not"),
        ({"suite": "other"}, "the run has no cumulative with the same suite, scenario and seed"),
    ],
)
def test_intransigence_needs_a_cumulative_of_the_same_settings(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    own = {"data": DATA | {"model": ""}}
    other = (
        cells("cumulative", [95], 7) if "seed" in changes else cells("cumulative", [95], **(own | changes))
    )
    write_run(tmp_path / "r", cells("er", [60], **own) + other)
    frames = load(tmp_path / "r")
    value = frames.scores.query("score == 'intransigence' and identity == 'er'")["value"]
    assert np.isnan(value).all()
    (line,) = (w for w in tables(frames, ["acc", "intransigence"]).remarks if " er," in w)
    assert line.startswith(f"intransigence not defined: toy class er, 1 seed: {why}")
    assert tables(frames, ["acc"]).remarks == ()
    write_run(tmp_path / "r", cells("cumulative", [95], **own))
    value = load(tmp_path / "r").scores.query("score == 'intransigence' and identity == 'er'")["value"]
    assert np.isfinite(value).all()
