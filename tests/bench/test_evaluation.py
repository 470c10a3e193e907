"""The setting ``eval``: which tasks are scored after which task, and what follows for scores and reports."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lethe
from bench.plan import one_cell
from bench.report.figures.matrices import matrices_data
from bench.report.figures.stream import stream_data
from bench.report.formats import MISSING
from bench.report.layout import Layout
from bench.report.page.section import _matrices, section
from bench.report.pairs import every_comparison
from bench.report.parts import parts
from bench.report.summary import summary
from bench.report.tables import markdown
from bench.results.outcome import score_matrix
from bench.results.per_class import so_far
from bench.schema import CellRecord, Unreadable
from bench.stats.scores import min_acc
from bench.train import run_group
from lethe.testing import Checkpoints, frames_of, of_cell, outcome, write_run
from suites.errors import UserError
from suites.training import Training
from tests.bench.test_pairs import cell as text_cell
from tests.conftest import Command

CHOICES = ("last", "diagonal", "every=2")
DEFINED = {
    "last": {"acc"},
    "diagonal": {"acc", "bwt", "learning_acc"},
    "every=2": {"acc"},
}
"""Scores of R that do not need entries that a choice leaves out, by their formulas in docs/metrics.md."""
SMALL = {"epochs": 1, "rows_per_class": 12}


def scored(choice: str, n_tasks: int) -> set[tuple[int, int]]:
    """Return the entries (i, j) of R that a choice measures, j from 1, written out one by one."""
    found = set()
    for i in range(n_tasks + 1):
        for j in range(1, n_tasks + 1):
            whole = {"all": True, "every=2": i in (0, 2, 4)}.get(choice, False)
            if whole or i == n_tasks or (choice == "diagonal" and i == j):
                found.add((i, j))
    return found


@cache
def records(choice: str, strategy: str = "er") -> tuple[Any, ...]:
    cells = [one_cell("digits", strategy, seed=s, settings=SMALL | {"eval": choice}) for s in (0, 1)]
    return tuple(of_cell(c, r) for c, r in zip(cells, run_group(cells), strict=True))


@pytest.mark.parametrize("choice", ["all", *CHOICES])
def test_the_tasks_scored_after_each_task(choice: str) -> None:
    for n_tasks in (1, 5):
        rows = [Training(eval=choice).scored_after(i, n_tasks) for i in range(n_tasks + 1)]
        assert {(i, t + 1) for i, tasks in enumerate(rows) for t in tasks} == scored(choice, n_tasks)


@pytest.mark.parametrize("strategy", ["er", "ncm", "joint"])
@pytest.mark.parametrize("choice", CHOICES)
def test_measured_entries_equal_those_of_all(choice: str, strategy: str) -> None:
    """Scores, confusion counts, losses and notes; nothing else is in the record."""
    places = scored(choice, 5)
    for full, part in zip(records("all", strategy), records(choice, strategy), strict=True):
        for split in ("test", "validation"):
            R, found = score_matrix(full, split), score_matrix(part, split)
            there = np.array([[(i, j) in places for j in range(1, 6)] for i in range(6)]) & ~np.isnan(R)
            assert np.array_equal(~np.isnan(found), there)
            assert np.array_equal(found[there], R[there])
            counts = [row for row in full["classes"][split] if (row[0], row[1]) in places]
            assert part["classes"][split] == counts
        assert (part["loss"], part["notes"]) == (full["loss"], full["notes"])
        CellRecord.read(json.dumps({k: v for k, v in part.items() if k != "classes"}))


@pytest.mark.parametrize("choice", CHOICES)
def test_scores_without_their_entries_are_undefined_with_the_reason(choice: str) -> None:
    full, part = (frames_of(list(records(c))) for c in ("all", choice))
    scores = [f.scores.set_index(["seed", "score"])["value"].dropna() for f in (full, part)]
    # Rows of equal size are averaged as tasks are.
    of_matrix = [name for name in scores[0][0].index if name != "aia_rows"]
    assert set(scores[1][0].index) == DEFINED[choice] == set(of_matrix) & set(scores[1][0].index)
    for at, value in scores[1].items():
        assert value == scores[0][at]
    assert not {k: v for k, v in full.undefined.items() if k[1] != "intransigence"}
    missing = {name for _, name in scores[0].index} - DEFINED[choice]
    for key in part.cells["key"]:
        reasons = {name: why for (k, name), why in part.undefined.items() if k == key}
        assert set(reasons) == missing | {"intransigence"}
        assert {reasons[n] for n in missing} == {f"needs entries of R that eval={choice} does not measure"}


def test_the_lowest_score_is_not_that_of_the_measured_entries() -> None:
    """min() of Python returns 0.5 or NaN, whichever comes first; a missing entry makes it undefined."""
    R = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.8]])
    assert min_acc(R, [(1, [0.8, 0.1]), (2, [0.4, 0.2])]) == 0.4
    for point in (float("nan"), 0.4):
        R[2, 0] = 0.5 if np.isnan(point) else np.nan
        assert np.isnan(min_acc(R, [(2, [point, 0.2])]))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_resumed_stream_has_the_same_rows(choice: str) -> None:
    cells = [one_cell("digits", "er", seed=s, settings=SMALL | {"eval": choice}) for s in (0, 1)]
    saved = Checkpoints()
    whole = run_group(cells, checkpoints=saved)
    for after in (1, 4):
        again = run_group(cells, checkpoints=saved.at(after))
        assert [outcome(r) for r in again] == [outcome(r) for r in whole]


def test_keys_and_identities() -> None:
    usual, last = one_cell("digits", "er"), one_cell("digits", "er[eval=last]")
    assert one_cell("digits", "er", settings={"eval": "all"}).key == usual.key
    assert "eval" not in usual.training
    assert (last.identity, last.training["eval"]) == ("er[eval=last]", "last")
    assert last.key == one_cell("digits", "er", settings={"eval": "last"}).key != usual.key
    assert one_cell("digits", "er[eval=every=3]").training["eval"] == "every=3"


@pytest.mark.parametrize("choice", ["first", "every", "every=0", "every=-1", "every=02", "every=x", "last=2"])
def test_other_values_are_refused(choice: str) -> None:
    with pytest.raises(UserError, match=f"cannot read eval={choice}; write all, last, diagonal, or every=10"):
        one_cell("digits", "er", settings={"eval": choice})
    with pytest.raises(UserError, match="write eval=all"):
        one_cell("digits", "er", settings={"eval": "every=1"})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"measured": [[], [1], [2], [3], [4], [1, 2, 3, 4]]}, "right and measured differ in shape"),
        ({"measured": [[], [1], [2], [3], [6], [1, 2, 3, 4, 5]]}, r"measured\[4\] must be ascending numbers"),
        ({"measured": [[], [1], [2], [3], [4], [1, 2, 4, 3, 5]]}, r"measured\[5\] must be ascending numbers"),
        ({"measured": None}, r"right\[0\] has 0 columns"),
        ({"total": [[], [], [], [], [], [12] * 5]}, "right and total differ in shape"),
    ],
)
def test_records_with_other_entries_than_they_name_are_refused(change: dict[str, Any], why: str) -> None:
    made = {k: v for k, v in records("diagonal")[0].items() if k != "classes"}
    with pytest.raises(Unreadable, match=why):
        CellRecord.read(json.dumps(made | {"test": made["test"] | change}))


def test_class_tables_need_every_task_so_far() -> None:
    """After two tasks, only the second of which was measured, nothing is averaged."""
    counts = np.array([[1, 1, 0, 0, 5], [2, 2, 1, 1, 5], [3, 1, 0, 0, 5], [3, 2, 1, 0, 5], [3, 3, 2, 2, 5]])
    assert so_far(counts)[:, :2].tolist() == [[1, 1], [3, 1], [3, 2], [3, 3]]


@pytest.mark.slow
def test_generated_texts_of_the_scored_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sacrebleu")
    small = {"epochs": 1, "rows_per_class": 6}
    full, part = (run_group([text_cell(**small, **more)])[0] for more in ({}, {"eval": "diagonal"}))
    assert part["test"]["measured"] == [[], [1], [1, 2]]
    R, found = score_matrix(full), score_matrix(part)
    there = ~np.isnan(found)
    assert np.array_equal(found[there], R[there])
    assert part["test"]["chrf"][2] == full["test"]["chrf"][2]
    made = of_cell(text_cell(**small, eval="diagonal"), part)
    scores = frames_of([made]).scores.set_index("score")["value"]
    assert scores["chrf"] == pytest.approx(np.mean(part["test"]["chrf"][2]) / 100)


def test_reports_say_what_is_not_defined(tmp_path: Path) -> None:
    """Of cells with all entries and of cells with some; the stream figure has only whole rows."""
    cells, made = [], []
    for choice in ("all", *CHOICES):
        selector = "er" if choice == "all" else f"er[eval={choice}]"
        for seed, measured in enumerate(records(choice)):
            cells.append(one_cell("digits", selector, seed=seed, settings=SMALL))
            made.append({k: v for k, v in measured.items() if k not in ("key", "spec", "identity")})
    run = write_run(tmp_path / "run", list(zip(cells, made, strict=True)))
    frames = lethe.load(run)
    text = markdown(frames).replace("\\", "")
    assert (
        "forgetting, fwt, aia not defined: digits class er[eval=diagonal], 2 seeds: needs entries of R that "
        "eval=diagonal does not measure" in text
    )
    assert "forgetting, bwt, fwt, aia, learning_acc not defined: digits class er[eval=last], 2 seeds" in text
    ((_, _, part),) = parts(frames)
    numbers, compared = summary(frames), every_comparison(frames, ["acc"])
    page = section(("digits", "class"), part, frames, numbers, ("acc", "bwt"), Layout(), compared)
    assert "bwt not defined: digits class er[eval=every=2], 2 seeds" in page["caption"]
    assert next(row["matrix"][1] for row in page["rows"] if "diag" in row["identity"])[1:] == [MISSING] * 4
    of = {name: part["tasks"].tolist() for name, part in stream_data(part).groupby("identity")}
    assert of == {
        "er": [1, 2, 3, 4, 5],
        "er[eval=every=2]": [2, 4, 5],
        "er[eval=diagonal]": [1, 5],
        "er[eval=last]": [5],
    }
    assert set(matrices_data(part)["identity"]) == {"er"}
    shown = _matrices(part.matrix)["er[eval=diagonal]"]
    assert shown.shape == (6, 5)
    assert shown.loc[1].notna().tolist() == [True, False, False, False, False]
    assert shown.loc[0].isna().all()


def test_compare_knows_that_only_the_setting_differs(tmp_path: Path) -> None:
    runs = []
    for choice in ("all", "last"):
        cells = [one_cell("digits", "er", seed=s, settings=SMALL) for s in (0, 1)]
        if choice == "last":
            cells = [one_cell("digits", "er", seed=s, settings=SMALL | {"eval": choice}) for s in (0, 1)]
        made = [
            {k: v for k, v in r.items() if k not in ("key", "spec", "identity")} | {"identity": "er"}
            for r in records(choice)
        ]
        runs.append(write_run(tmp_path / choice, list(zip(cells, made, strict=True))))
    found = lethe.compare(*runs)
    assert ("plan", "eval") in {(d.what, d.name) for d in found.setup}
    assert not [d for d in found.setup if d.what in ("streams", "records")]
    assert not [s for s in found.scores if s.score == "acc" and s.difference]


@pytest.mark.slow
def test_the_option_is_the_setting(command: Command, tmp_path: Path) -> None:
    """On the command line, in an experiment file and in Python the same cells are planned."""
    words = "run digits -s er --scenario class --seeds 1 --dry-run --json"
    table = "suite = 'digits'\nstrategies = ['er']\nscenarios = ['class']\nseeds = 1\nset.eval = 'last'"
    (tmp_path / "e.toml").write_text(f"[[run]]\n{table}\n")
    lines = f"{words} --eval last", f"{words} --set eval=last", f"run {tmp_path}/e.toml --dry-run --json"
    planned = [json.loads(command(line)[1])["cells"] for line in (*lines, words)]
    assert planned[0] == planned[1] == planned[2] != planned[3]
