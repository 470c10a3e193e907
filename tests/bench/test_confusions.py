"""Confusion counts, reports by class as in scikit-learn, and rows that have no class."""

import itertools
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.metrics import classification_report, roc_auc_score

import bench
from bench.plan import CellSpec, Request
from bench.report import Layout, class_tables, print_classes, write_classes
from bench.report.class_tables import WORST
from bench.results import AVERAGES, by_class, load
from bench.stats import SCORES, all_scores, summarise
from bench.store import Checkpoints, RunFolder
from bench.train import LaneState, learn_task, make_lanes, run_group
from bench.train.accuracy import area_L
from bench.train.lane_record import make_record
from bench.train.loop import score
from lethe.testing.made_records import frames_of, made_up, with_classes, write_run
from lethe.testing.toy_suites import TOY, blobs, outcome, split, toy_cell
from suites import REGISTRY
from suites.base import Data, Scenario, Stream, Training
from tests.conftest import process, ran, refused


def with_outside() -> Data:
    """Return the toy images and forty rows of noise that have no class."""
    data = blobs()
    noise = torch.randint(0, 250, (40, *data.x_N.shape[1:]), generator=torch.Generator().manual_seed(1))
    x_N = torch.cat([data.x_N, noise.to(torch.uint8)])
    return replace(data, x_N=x_N, y_N=torch.cat([data.y_N, torch.full((40,), -1)]), fingerprint="outside")


def split_outside(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
    made = split(data, scenario, seed, training)
    outside = torch.arange(len(data.x_N) - 40 + seed, len(data.x_N))  # the number differs between lanes
    return replace(made, outside_rows=outside)


OUTSIDE = replace(TOY, name="toy-outside", load=with_outside, split=split_outside)
REGISTRY.enter(OUTSIDE.name, OUTSIDE, __name__)


def outside_cell(seed: int, strategy: str = "finetune", scenario: str = "class") -> CellSpec:
    return replace(toy_cell(strategy, seed, scenario), suite="toy-outside")


def answers(group: LaneState, lane: int, rows: torch.Tensor) -> torch.Tensor:
    """Return the logits of one lane for rows, by the model of the run."""
    padded = torch.stack([rows if i == lane else rows[:1].expand(len(rows)) for i in range(len(group.specs))])
    group.model.eval()
    with torch.no_grad():
        scores: torch.Tensor = group.strategy.predict(group.streams.batch(padded))[lane]
    return scores


@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
def test_confusion_counts_equal_a_loop_over_rows(scenario: str) -> None:
    group = make_lanes([toy_cell("finetune", seed, scenario) for seed in (2, 3)])
    score(group, 0)
    learn_task(group, 0)
    score(group, 1)
    for lane, stream in enumerate(group.streams.streams):
        expected = Counter[tuple[int, ...]]()
        for j, task in enumerate(stream.tasks):
            answer = answers(group, lane, task.test_rows).argmax(1).tolist()
            true = stream.unit_TC[j, stream.data.y_N[task.test_rows % len(stream.data.y_N)]].tolist()
            expected.update((1, j + 1, *pair) for pair in zip(true, answer, strict=True))
        record = make_record(group, lane)
        found = record["classes"]["test"]
        assert {tuple(row[:4]): row[4] for row in found if row[0] == 1} == expected
        assert found == sorted(found)
        for split_, i, j in itertools.product(("test", "validation"), (0, 1), (1, 2)):
            part, counts = [r for r in record["classes"][split_] if r[:2] == [i, j]], record[split_]
            assert sum(r[4] for r in part) == counts["total"][i][j - 1]
            assert sum(r[4] for r in part if r[2] == r[3]) == counts["right"][i][j - 1]


def test_units_are_named_after_the_classes_they_stand_for() -> None:
    own, made = (split(blobs(), scenario, 0, Training()) for scenario in ("class", "domain"))
    assert own.unit_names() == ["blob 0", "blob 1", "blob 2", "blob 3"]
    classes = zip(*(t.classes for t in made.tasks), strict=True)
    assert made.unit_names() == [f"blob {a}/blob {b}" for a, b in classes]
    each = replace(made, n_units=8, unit_TC=torch.arange(8).view(2, 4))  # the same classes in two tasks
    assert each.unit_names()[3:5] == ["blob 3 (task 1)", "blob 0 (task 2)"]


def write_classes_of(folder: Path, units: list[str], test: Any, validation: Any = (), seed: int = 0) -> Path:
    """Write a run of one cell with confusion counts."""
    right = {"right": [[1, 2]] * 3, "total": [[4, 4]] * 3}
    classes = {"units": units, "test": test, "validation": list(validation)}
    record = {"status": "done", "test": right, "validation": right, "classes": classes}
    return write_run(folder, [(toy_cell("er", seed), record)])


@pytest.mark.parametrize("n_units", [2, 7])
def test_reports_by_class_equal_scikit_learn_s(n_units: int, tmp_path: Path) -> None:
    draws = np.random.default_rng(n_units)
    units = [f"class {u}" for u in range(n_units + 1)]  # the last class has no rows and no answers
    rows, truths = [], {}
    for i in (0, 1, 2):
        seen = []
        for j in (1, 2):
            true = draws.integers(0, max(1, n_units // 2 * j), 50)
            answer = np.where(draws.random(50) < 0.6, true, draws.integers(0, n_units, 50))
            pairs = list(zip(true.tolist(), answer.tolist(), strict=True))
            rows += [[i, j, *pair, count] for pair, count in sorted(Counter(pairs).items())]
            seen += pairs if j <= i else []
        truths[i] = seen
    write_classes_of(tmp_path, units, rows, rows[:1])
    frame = bench.classes(tmp_path)
    frame = frame[frame["split"] == "test"]
    assert sorted(frame["i"].unique()) == [1, 2]
    for i in (1, 2):
        true, answer = ([units[u] for u in found] for found in zip(*truths[i], strict=True))
        expected = classification_report(true, answer, zero_division=0, output_dict=True)
        part = frame[frame["i"] == i].set_index("class")
        assert set(part.index) == set(expected)
        assert part.loc["accuracy", "f1"] == pytest.approx(expected.pop("accuracy"))
        for name, scores in expected.items():
            found = part.loc[name, ["precision", "recall", "f1", "support"]].tolist()
            assert found == pytest.approx(list(scores.values())), (i, name)
        assert part["unit"].isna().sum() == len(AVERAGES)


def test_class_tables_show_means_over_seeds(tmp_path: Path) -> None:
    for seed, right in enumerate((4, 6)):
        test = [[1, 1, 0, 0, right], [1, 1, 0, 1, 10 - right], [1, 1, 1, 1, 10]]
        write_classes_of(tmp_path, ["a", "b"], test, test[:2], seed)
    frames = load(tmp_path)
    made = class_tables(frames)
    titles = [f"toy, class-incremental, er, {kind} rows, n = 2" for kind in ("test", "validation")]
    assert [t.title for t in made.shown] == titles
    recall, (first, *_) = summarise([0.4, 0.6]), made.shown[0].classes
    assert (*first[:3], first[4]) == ("a", "100.00 ± 0.00", f"50.00 ± {100 * recall.half:.2f}", "10")
    assert [row[0] for row in made.shown[0].averages] == list(AVERAGES)
    assert made.shown[0].averages[0][1:3] == ("–", "–")
    sd, bca = (class_tables(frames, Layout(spread=spread)) for spread in ("sd", "bca"))
    assert sd.shown[0].classes[0][2] == f"50.00 ± {100 * recall.sd:.2f}"
    assert "standard deviation" in sd.caption
    assert bca.shown[0].classes[0][2].startswith("50.00")
    write_classes(made, tmp_path / "report")
    text = (tmp_path / "report" / "classes.md").read_text()
    assert f"| a | 100.00 ± 0.00 | 50.00 ± {100 * recall.half:.2f} |" in text
    data = pd.read_csv(tmp_path / "report" / "classes.csv")
    assert len(data) == 2 * 2 * (2 + 3)
    assert {"suite", "scenario", "strategy", "seed", "split", "i", "class"} <= set(data.columns)


def test_tables_name_units_where_seeds_have_different_classes(tmp_path: Path) -> None:
    for seed, units in enumerate((["a/b", "c/d"], ["d/a", "c/d"])):
        write_classes_of(tmp_path, units, [[1, 1, 0, 0, 3], [1, 1, 1, 1, 3]], seed=seed)
    [table] = class_tables(load(tmp_path)).shown
    assert [row[0] for row in table.classes] == ["unit 0", "c/d"]
    assert set(by_class(load(tmp_path))["class"]) == {"a/b", "c/d", "d/a", *AVERAGES}


@pytest.mark.slow
def test_the_terminal_shows_the_worst_of_many_classes(tmp_path: Path) -> None:
    frames = with_classes(made_up(1, n_tasks=15, seeds=2), tmp_path, [f"intent {i}" for i in range(150)], 10)
    made = class_tables(frames)
    stream = StringIO()
    print_classes(made, Console(file=stream, width=120))
    first = stream.getvalue().split("validation rows")[0]
    assert f"the {WORST} worst of 150 classes by F1" in first
    assert first.count("intent ") == WORST
    assert all(name in first for name in AVERAGES)
    last = by_class(frames).query("i == 15 and split == 'test' and unit.notna()")
    lowest = last.groupby("class")["f1"].mean().nsmallest(WORST)
    assert {row[0] for row in made.shown[0].worst} == set(lowest.index)
    assert len(made.shown[0].classes) == 150


def test_a_run_without_class_counts_is_an_error(tmp_path: Path) -> None:
    (path,) = RunFolder(write_classes_of(tmp_path, ["a"], [[1, 1, 0, 0, 3]])).beside.iterdir()
    path.write_text(path.read_text().replace(',"test"', ',"tests"'))
    frames = load(tmp_path)
    refused("no cell of this run has results by class", class_tables, frames)
    assert "unknown field 'tests'; did you mean test?" in frames.unreadable[0]


@pytest.mark.slow
def test_report_classes_agrees_with_the_accuracy_matrix(tmp_path: Path) -> None:
    ran(tmp_path, Request("toy", ("finetune", "joint"), seeds=(0, 1)))
    done = process("report", str(tmp_path), "--classes")
    assert done.returncode == 0, done.stderr
    assert "toy, class-incremental, finetune, test rows, n = 2" in done.stdout
    data = pd.read_csv(tmp_path / "report" / "classes.csv")
    assert sorted(data[data["strategy"] == "joint"]["i"].unique()) == [2]
    accuracy = data[(data["class"] == "accuracy") & (data["split"] == "test") & (data["i"] == 2)]
    frames = load(tmp_path)
    last = frames.matrix[(frames.matrix["split"] == "test") & (frames.matrix["i"] == 2)].groupby("key")
    right = last["right"].sum() / last["total"].sum()
    assert accuracy.set_index("key")["f1"].to_dict() == pytest.approx(right.to_dict())
    assert (tmp_path / "report" / "classes.md").read_text().count("**toy") == 4


def test_auroc_equals_scikit_learn_s() -> None:
    draws = torch.Generator().manual_seed(0)
    inside = (torch.rand(3, 40, generator=draws) * 8).round() / 8 + 0.05  # with ties
    outside = (torch.rand(3, 30, generator=draws) * 8).round() / 8
    counts, real = torch.rand(3, 40, generator=draws) < 0.7, torch.ones(3, 30).bool()
    real[1, 20:] = False
    outside[0, :5] += 0.05
    found = area_L(inside, counts, outside, real)
    for lane in range(3):
        own, other = inside[lane][counts[lane]], outside[lane][real[lane]]
        truth = [1] * len(own) + [0] * len(other)
        assert float(found[lane]) == pytest.approx(roc_auc_score(truth, torch.cat([own, other])), abs=1e-6)


def test_rows_of_no_class_are_scored_by_auroc_after_every_task() -> None:
    cells = [outside_cell(seed) for seed in (0, 1)]
    group = make_lanes(cells)
    score(group, 0)
    for task in range(2):
        learn_task(group, task)
        score(group, task + 1)
        for lane, stream in enumerate(group.streams.streams):
            own = answers(group, lane, torch.cat([t.test_rows for t in stream.tasks[: task + 1]]))
            other = answers(group, lane, stream.outside_rows)
            sure = torch.cat([own, other]).double().softmax(1).amax(1)
            area = roc_auc_score([1] * len(own) + [0] * len(other), sure)
            assert make_record(group, lane)["outside"][task + 1] == pytest.approx(area, abs=1e-6)
    assert make_record(group, 0)["outside"][0] is None
    records = run_group(cells)
    assert [r["outside"] for r in records] == [make_record(group, lane)["outside"] for lane in range(2)]
    assert "outside" not in run_group([toy_cell("finetune", 0)])[0]
    assert run_group([outside_cell(1)])[0]["outside"] == records[1]["outside"]  # in a group or alone


def test_oos_auroc_is_a_score_of_the_last_task(tmp_path: Path) -> None:
    cell = outside_cell(0, "joint")
    record = run_group([cell])[0]
    assert record["outside"][:2] == [None, None]
    assert 0 <= record["outside"][2] <= 1
    scores = load(write_run(tmp_path, [(cell, record)])).scores.set_index("score")["value"]
    assert scores["oos_auroc"] == record["outside"][2]
    found = [all_scores(np.full((3, 2), 0.5), outside=of)["oos_auroc"] for of in ((), [None, 0.6, 0.7])]
    assert found == pytest.approx([np.nan, 0.7], nan_ok=True)
    assert SCORES["oos_auroc"].higher_is_better
    assert np.isnan(frames_of(made_up(1, seeds=1)).scores.set_index("score")["value"]["oos_auroc"])


def test_scores_of_rows_without_class_continue_from_a_checkpoint(tmp_path: Path) -> None:
    cells, run = [outside_cell(0, "er"), outside_cell(1, "er")], Checkpoints(tmp_path)
    whole = run_group(cells)

    def stop(done: int, tasks: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_group(cells, checkpoints=run, progress=stop)
    assert run.header(cells[0].key) is not None
    assert [outcome(r) for r in run_group(cells, checkpoints=run)] == [outcome(r) for r in whole]
