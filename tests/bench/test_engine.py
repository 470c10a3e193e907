import math
import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

import suites
from bench.plan import one_cell
from bench.results.outcome import score_matrix
from bench.train import learn_task, make_lanes, run_group
from bench.train.lane_record import make_record
from bench.train.loop import score
from bench.train.schedule import batches, schedule_task
from lethe.testing import TOY, Checkpoints, blobs, outcome, toy_cell
from strategies.core.streams import _augment
from suites.base import Training, generator


def test_accuracy_counts_equal_a_loop_over_rows() -> None:
    """The matrix R against one row at a time through the same trained network."""
    group = make_lanes([toy_cell("finetune", 2, "class")])
    score(group, 0)
    for task in range(2):
        learn_task(group, task)
        score(group, task + 1)
    record = make_record(group, 0)
    data = group.streams.data
    stream = suites.get("toy").stream(data, "class", 2, group.training)
    for j, task in enumerate(stream.tasks):
        for split, rows in (("test", task.test_rows), ("validation", task.validation_rows)):
            right = 0
            for row in (rows % len(data.x_N)).tolist():
                logits = group.model.eval()(data.x_N[row].float()[None, None] / 255)
                right += int(logits.argmax()) == int(stream.unit_TC[j, data.y_N[row]])
            assert [record[split][of][2][j] for of in ("right", "total")] == [right, len(rows)]


def test_row_0_is_measured_before_training() -> None:
    cell = toy_cell("finetune", 0, "class")
    assert run_group([cell])[0]["test"]["right"][0] == make_lanes([cell]).scorer.count("test")[0]


def test_joint_is_scored_only_before_and_after_all_training() -> None:
    right = run_group([toy_cell("joint")])[0]["test"]["right"]
    assert [row[0] is None for row in right] == [False, True, False]


def test_cumulative_trains_a_new_network_on_all_rows_so_far() -> None:
    cumulative, joint = (run_group([toy_cell(name)])[0] for name in ("cumulative", "joint"))
    assert score_matrix(cumulative)[-1].mean() > 0.9
    # At the last task both train on all rows, from the same start with the same batches.
    assert cumulative["test"]["right"][-1] == joint["test"]["right"][-1]


def test_a_diverging_lane_does_not_affect_other_lanes() -> None:
    cells = [toy_cell("er", s, optimiser="sgd", lr=1e30 if s == 1 else 0.05) for s in range(3)]
    records = run_group(cells)
    assert (records[1]["status"], records[1]["loss"]) == ("diverged", [None, None])
    assert "no longer finite after task 1" in records[1]["reason"]
    for lane in (0, 2):
        assert outcome(records[lane]) == outcome(run_group([cells[lane]])[0])


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam", "adamw"])
def test_a_lane_that_ends_a_task_early_rests(optimiser: str) -> None:
    """Task sizes differ between seeds; the shorter lane must not change while the longer one trains."""
    cells = [toy_cell("finetune", s, optimiser=optimiser, weight_decay=0.01) for s in range(6)]
    group = make_lanes(cells)
    schedule = schedule_task(group.streams, 0, group.strategy)
    assert schedule is not None
    assert len(set(schedule.steps)) > 1, "the toy suite must make lanes of different length"
    assert [outcome(r) for r in run_group(cells)] == [outcome(run_group([c])[0]) for c in cells]


def test_batch_normalisation_is_lane_invariant_within_rounding() -> None:
    """Normalising over eight rows magnifies rounding: losses agree within 3 % after about sixty steps."""
    small: dict[str, Any] = {"model": "resnet18", "model_options": {"width": 2}, "epochs": 2, "lr": 0.003}
    cells = [toy_cell("er", s, **small) for s in range(3)]
    for one, alone in zip(run_group(cells), (run_group([c])[0] for c in cells), strict=True):
        np.testing.assert_allclose(one["loss"], alone["loss"], rtol=3e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # warnings of torch itself during compilation
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_as_an_uncompiled_one() -> None:
    plain = run_group([toy_cell("finetune", 0, epochs=1)])[0]
    compiled = run_group([toy_cell("finetune", 0, epochs=1, compile=True)])[0]
    np.testing.assert_allclose(compiled["loss"], plain["loss"], rtol=1e-3)


def test_a_model_in_bfloat16_learns() -> None:
    record = run_group([toy_cell("er", 0, precision="bfloat16", epochs=8)])[0]
    assert score_matrix(record)[-1].mean() > 0.6


def test_curves_are_scored_every_score_every_steps() -> None:
    record = run_group([toy_cell("finetune", 0, score_every=4)])[0]
    assert [c["step"] for c in record["curves"] if c["task"] == 1][:3] == [4, 8, 12]
    total = record["validation"]["total"][0]
    assert all(c["total"] == total for c in record["curves"])
    # A score at the last step of a task is the score at its end.
    aligned = run_group([toy_cell("finetune", 0, score_every=1)])[0]
    last = [c for c in aligned["curves"] if c["task"] == 1][-1]
    assert last["right"] == aligned["validation"]["right"][1]


@pytest.mark.parametrize("resumed_after", [0, 2])
def test_checkpoints_contain_each_row_of_the_matrix_once(
    resumed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long stream writes what is new after each task; after a resume all rows, once."""
    cell, saved = one_cell("digits", "finetune", settings={"epochs": 1, "score_every": 5}), Checkpoints()
    rows, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, *of: (rows.append(of[-1]), save(self, *of)))
    (record,) = run_group([cell], checkpoints=saved)
    if resumed_after:
        rows.clear()
        assert outcome(run_group([cell], checkpoints=saved.at(resumed_after))[0]) == outcome(record)
    assert [of["first"] for of in rows] == ([0, 4] if resumed_after else [0, 2, 3, 4])
    assert joined(of["loss"] for of in rows) == record["loss"][:4]
    for split in ("test", "validation"):
        assert joined(of["scores"]["right"][split] for of in rows) == record[split]["right"][:5]
        counts = joined(counts for of in rows for counts in of["scores"]["confused"][split])
        assert counts == [count for count in record["classes"][split] if count[0] < 5]
    assert joined(of["scores"]["curves"] for of in rows) == [c for c in record["curves"] if c["task"] < 5]


def joined(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def test_scoring_within_a_task_does_not_change_training() -> None:
    plain = run_group([toy_cell("er", 0)])[0]
    watched = run_group([toy_cell("er", 0, score_every=3)])[0]
    assert (watched["test"], watched["loss"]) == (plain["test"], plain["loss"])


def test_resetting_the_optimiser_changes_training_from_the_second_task_on() -> None:
    kept = run_group([toy_cell("finetune", 0)])[0]
    reset = run_group([toy_cell("finetune", 0, reset_optimiser=True)])[0]
    assert kept["loss"][0] == reset["loss"][0]
    assert kept["loss"][1] != reset["loss"][1]


def test_with_active_seen_only_units_of_tasks_so_far_can_be_predicted() -> None:
    record = run_group([toy_cell("finetune", 0, active="seen")])[0]
    assert record["test"]["right"][1][1] == 0  # no row is given to units of the second task yet


def test_every_epoch_has_each_row_once() -> None:
    rows = torch.arange(100, 123)
    got, weight = batches(rows, Training(epochs=3, batch=8), 1, generator(0, "b"))
    assert got.shape == (9, 8)
    for seen, counts in zip(got.split(3), weight.split(3), strict=True):
        assert sorted(seen[counts > 0].tolist()) == rows.tolist()
    assert not torch.equal(got[:3], got[3:6])


def test_a_number_of_iterations_repeats_epochs_and_drops_incomplete_batches() -> None:
    rows = torch.arange(23)
    got, weight = batches(rows, Training(iterations=5, batch=8), 2, generator(0, "b"))
    assert got.shape == (10, 8)
    assert bool((weight == 1).all())
    assert all(len(set(got[i : i + 2].flatten().tolist())) == 16 for i in range(0, 10, 2))


def test_augmentation_crops_and_flips_within_its_padding() -> None:
    x = torch.arange(64.0).view(1, 1, 1, 8, 8).expand(2, 3, 1, 8, 8) + 1
    draws = torch.tensor([[0.5, 0.5, 0.9], [0.5, 0.5, 0.1], [0, 0, 0.9]])
    middle, flipped, corner = draws[:, None, None].expand(3, 2, 3, 3)
    assert torch.equal(_augment(x, middle), x)  # the centre crop, not flipped
    assert torch.equal(_augment(x, flipped), x.flip(-1))
    shifted = _augment(x, corner)
    assert torch.equal(shifted[..., 4:, 4:], x[..., :4, :4])
    assert not shifted[..., :4, :].any()


def test_strategies_have_the_same_batches_at_the_same_seed() -> None:
    """Comparisons are paired: in the first task losses differ only by the strategy's own terms."""
    records = [run_group([toy_cell(name, 5)])[0] for name in ("finetune", "ewc", "lwf", "agem")]
    assert len({record["loss"][0] for record in records}) == 1


def test_records_store_machine_dependent_numbers_separately() -> None:
    record = run_group([toy_cell("er", 0)])[0]
    assert min(record["timings"][name] for name in ("steps", "samples_per_second")) > 0
    assert record["timings"]["lanes"] == 1
    assert record["resources"]["parameters"] == 64 * 32 + 32 + 32 * 4 + 4
    assert math.isfinite(record["loss"][0])
    assert TOY.training.epochs == 4
    assert run_group([toy_cell()], data=replace(blobs(), name="mine"))[0]["data"]["name"] == "mine"
