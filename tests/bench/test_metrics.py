import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from bench.stats import SCORES, all_scores
from bench.stats.scores import intransigence, min_acc, wc_acc

NAN = float("nan")
# Three tasks. Row 0 is the untrained network; R[1,1] = .9, R[2,2] = .8, R[3,3] = .7.
R = np.array([[0.1, 0.2, 0.3], [0.9, 0.25, 0.2], [0.6, 0.8, 0.5], [0.65, 0.4, 0.7]])
BY_HAND = {
    "acc": (0.65 + 0.4 + 0.7) / 3,
    "aia": (0.9 + (0.6 + 0.8) / 2 + (0.65 + 0.4 + 0.7) / 3) / 3,
    "bwt": ((0.65 - 0.9) + (0.4 - 0.8)) / 2,
    "bwt_all_pairs": ((0.6 - 0.9) + (0.65 - 0.9) + (0.4 - 0.8)) / 3,
    "fwt": ((0.25 - 0.2) + (0.5 - 0.3)) / 2,
    "forgetting": ((0.9 - 0.65) + (0.8 - 0.4)) / 2,
    "forgetting_nonneg": ((0.9 - 0.65) + (0.8 - 0.4)) / 2,
    "learning_acc": (0.9 + 0.8 + 0.7) / 3,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_equal_a_calculation_by_hand(name: str) -> None:
    before = R.copy()
    assert all_scores(R)[name] == pytest.approx(BY_HAND[name])
    assert np.array_equal(R, before)


def test_forgetting_of_an_improved_task_is_negative_and_its_clipped_form_zero() -> None:
    better = all_scores(np.array([[0.0, 0.0], [0.5, 0.0], [0.8, 0.9]]))
    assert [better["forgetting"], better["forgetting_nonneg"]] == pytest.approx([-0.3, 0])


def test_intransigence_equals_a_calculation_by_hand() -> None:
    found = [all_scores(R, reference)["intransigence"] for reference in (None, R + 0.05)]
    assert [intransigence(R, R + 0.05), *found] == pytest.approx([0.05, math.nan, 0.05], nan_ok=True)


def test_incremental_accuracy_over_rows_equals_a_calculation_by_hand() -> None:
    """Tasks of 100, 50 and 10 test rows: the accuracy over all rows of the tasks so far."""
    total = np.tile([100.0, 50.0, 10.0], (4, 1))
    right = [90 / 100, (60 + 40) / 150, (65 + 20 + 7) / 160]
    assert all_scores(R, total=total)["aia_rows"] == pytest.approx(sum(right) / 3)
    assert all_scores(R, total=np.full((4, 3), 7.0))["aia_rows"] == pytest.approx(BY_HAND["aia"])
    assert math.isnan(all_scores(R)["aia_rows"])


def test_chrf_is_the_mean_over_tasks_scaled_to_one() -> None:
    """Records store it on a scale of 100. If a task has no rows, its value and the mean are missing."""
    beside = [[1.0, 2.0, 3.0], [30.0, 2.0, 3.0], [20.0, 40.0, 3.0], [15.0, 30.0, 60.0]]
    found = [all_scores(R, beside=of)["chrf"] for of in (beside, [*beside[:3], [15.0, None, 60.0]], ())]
    assert found == pytest.approx([(0.15 + 0.3 + 0.6) / 3, math.nan, math.nan], nan_ok=True)


def test_worst_case_scores_equal_a_calculation_by_hand() -> None:
    """Task 1 falls to .3 during task 2, and task 2 to .35 during task 3; later rows are used too."""
    curves = [(1, [0.2, 0, 0]), (2, [0.3, 0.5, 0]), (2, [0.7, 0.6, 0]), (3, [0.5, 0.35, 0.1])]
    low = (0.3 + 0.35) / 2
    assert (min_acc(R, curves), wc_acc(R, curves)) == pytest.approx((low, 0.7 / 3 + 2 / 3 * low))
    assert math.isnan(min_acc(R, []))


def test_scores_of_too_few_tasks_or_missing_entries_are_nan_without_warnings() -> None:
    one = all_scores(np.array([[0.1], [0.9]]))
    assert one["acc"] == one["learning_acc"] == one["aia"] == pytest.approx(0.9)
    assert all(math.isnan(one[n]) for n in ("bwt", "bwt_all_pairs", "fwt", "forgetting", "forgetting_nonneg"))
    joint = np.full((4, 3), NAN)
    joint[0], joint[3] = 0.1, 0.8
    scores = all_scores(joint)
    assert scores["acc"] == pytest.approx(0.8)
    assert all(math.isnan(scores[n]) for n in SCORES if n != "acc")


def slow(r: NDArray[np.float64]) -> dict[str, float]:
    """The formulas as loops, with tasks numbered from 1."""
    T = r.shape[1]
    at = {(i, j): float(r[i, j - 1]) for i in range(T + 1) for j in range(1, T + 1)}

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else NAN

    before = range(1, T)
    return {
        "acc": mean([at[T, j] for j in range(1, T + 1)]),
        "aia": mean([mean([at[i, j] for j in range(1, i + 1)]) for i in range(1, T + 1)]),
        "bwt": mean([at[T, j] - at[j, j] for j in before]),
        "bwt_all_pairs": mean([at[i, j] - at[j, j] for i in range(1, T + 1) for j in range(1, i)]),
        "fwt": mean([at[j - 1, j] - at[0, j] for j in range(2, T + 1)]),
        "forgetting": mean([max(at[k, j] for k in before) - at[T, j] for j in before]),
        "forgetting_nonneg": mean([max(at[k, j] for k in range(1, T + 1)) - at[T, j] for j in before]),
        "learning_acc": mean([at[j, j] for j in range(1, T + 1)]),
    }


@settings(max_examples=60, deadline=None)
@given(n_tasks=st.one_of(st.integers(1, 12), st.integers(101, 130)), seed=st.integers(0, 2**32 - 1))
def test_scores_equal_slow_loops_and_stay_in_bounds(n_tasks: int, seed: int) -> None:
    r = np.random.default_rng(seed).random((n_tasks + 1, n_tasks))
    found = all_scores(r)
    for name, value in slow(r).items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=n_tasks == 1)
        assert math.isnan(value) or SCORES[name].low - 1e-12 <= found[name] <= SCORES[name].high + 1e-12


def test_every_score_has_all_its_metadata() -> None:
    for name, score in SCORES.items():
        assert (score.name, bool(score.formula), bool(score.source)) == (name, True, True)
        assert score.low < score.high
    lower = {"forgetting", "forgetting_nonneg", "intransigence"}
    assert {n for n, s in SCORES.items() if not s.higher_is_better} == lower
