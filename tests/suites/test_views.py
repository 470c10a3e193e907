"""Views of suites for tuning: no test row, and parts of a stream that share no task."""

from dataclasses import replace

import pytest
import torch

import suites
from bench.plan import code_of, one_cell
from bench.train import run_group
from suites.base import Scenario, Training
from suites.errors import UserError
from suites.scenarios import by_permutation
from suites.views import view_of, without_tests

TRAINING = Training(validation=0.2)


def test_the_data_of_a_tuning_view_has_training_rows_only() -> None:
    whole, view = suites.get("digits").load(), suites.get("digits@tuning").load()
    assert len(view.x_N) == len(view.y_N) == view.n_train == whole.n_train < len(whole.x_N)
    assert torch.equal(view.x_N, whole.x_N[: whole.n_train])
    assert view.x_N.untyped_storage().nbytes() == view.x_N.nbytes  # nothing of the test rows lies behind it
    assert view.fingerprint != whole.fingerprint


def test_the_data_of_a_tuning_view_does_not_depend_on_test_rows() -> None:
    whole = suites.get("digits").load()
    y_N = whole.y_N.clone()
    y_N[whole.n_train :] = y_N[whole.n_train :].flip(0)
    a, b = without_tests(whole), without_tests(replace(whole, y_N=y_N, x_N=whole.x_N.clone()))
    assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize("scenario", ["task", "domain", "class", "online"])
def test_a_tuning_view_has_the_training_and_validation_rows_of_its_suite(scenario: Scenario) -> None:
    whole, view = suites.get("digits"), suites.get("digits@tuning")
    streams = [s.stream(s.load(), scenario, 1000, TRAINING) for s in (whole, view)]
    for mine, of_view in zip(*(s.tasks for s in streams), strict=True):
        assert mine.classes == of_view.classes
        assert len(mine.test_rows)
        assert not len(of_view.test_rows)
        for name in ("train_rows", "validation_rows"):
            index = [s.data.index_of(getattr(t, name)) for s, t in zip(streams, (mine, of_view), strict=True)]
            assert torch.equal(*index)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_first_tasks_and_the_rest_share_no_class_for_any_seeds(scenario: Scenario) -> None:
    first, rest = suites.get("digits@first-2"), suites.get("digits@rest-2")
    a = first.stream(first.load(), scenario, 1000, TRAINING)
    b = rest.stream(rest.load(), scenario, 3, TRAINING)
    assert (len(a.tasks), len(b.tasks)) == (2, 3)
    named = [{c for task in s.tasks for c in task.classes} for s in (a, b)]
    assert not named[0] & named[1]
    assert len(named[0] | named[1]) == 10
    assert all(len(task.test_rows) for task in b.tasks)
    assert (a.seed, b.seed) == (1000, 3)
    assert {u for t in b.tasks for u in t.units} == set(range(b.n_units))
    again = rest.stream(rest.load(), scenario, 4, TRAINING)
    assert [t.classes for t in again.tasks] == [t.classes for t in b.tasks]


def test_a_part_of_permuted_images_keeps_their_permutations() -> None:
    suite = replace(suites.get("digits"), split=by_permutation(3), scenarios=("domain",))
    whole, rest = view_of(suite, "one-order"), view_of(suite, "rest-1")
    a = whole.stream(whole.load(), "domain", 1, TRAINING)
    b = rest.stream(rest.load(), "domain", 1, TRAINING)
    assert a.tap_TKD is not None
    assert b.tap_TKD is not None
    assert torch.equal(a.tap_TKD[1:], b.tap_TKD)
    assert torch.equal(a.data.index_of(a.tasks[1].train_rows), b.data.index_of(b.tasks[0].train_rows))


@pytest.mark.slow
def test_a_cell_of_a_tuning_view_has_no_test_score() -> None:
    (record,) = run_group([one_cell("digits@tuning", "er", seed=1000)])
    assert {n for row in record["test"]["total"] for n in row} == {0}
    assert all(n > 0 for n in record["validation"]["total"][5])
    assert record["classes"]["test"] == []


def test_only_cells_of_views_depend_on_the_code_of_views() -> None:
    of = {name: code_of(vars(one_cell(name))).files for name in ("digits", "digits@tuning")}
    assert set(of["digits@tuning"]) - set(of["digits"]) == {"suites/views.py"}


def test_unknown_views_and_parts_are_refused() -> None:
    with pytest.raises(UserError, match="unknown view @tunning"):
        suites.get("digits@tunning")
    with pytest.raises(UserError, match="has 5 tasks"):
        suites.get("digits@rest-5").stream(suites.get("digits@rest-5").load(), "class", 0, TRAINING)
