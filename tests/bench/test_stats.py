"""Each statistic by hand or by brute force; coverage of intervals and error rates of tests."""

import itertools
import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bench.report.power_table import rows
from bench.stats import (
    FEWEST,
    against,
    aggregates as aggregate,
    bca,
    compare,
    complete,
    critical_difference,
    describe,
    every_pair,
    expected_best,
    fewest,
    half_width,
    holm,
    paired,
    power,
    rank,
    summarise,
)
from bench.stats.intervals import iqm
from bench.stats.paired import FLIPS, sign_flips, wilcoxons
from bench.stats.ranking import not_distinguished
from tests.conftest import refused

STUDIES = 2_000


def sign_flip(differences: ArrayLike, **how: int) -> float:
    return sign_flips([np.asarray(differences, dtype=float)], **how)[0]


def wilcoxon(differences: ArrayLike) -> float:
    return wilcoxons([np.asarray(differences, dtype=float)])[0]


def scores(values: dict[tuple[str, str], list[float]], score: str = "acc") -> pd.DataFrame:
    """Return a frame of scores from values by (suite, strategy), seeds from 0; NaN for a missing seed."""
    columns = ["suite", "scenario", "strategy", "identity", "seed", "score", "value"]
    rows = [
        (suite, "class", name, name, seed, score, value)
        for (suite, name), found in values.items()
        for seed, value in enumerate(found)
        if not math.isnan(value)
    ]
    return pd.DataFrame(rows, columns=columns)


def test_a_summary_equals_a_calculation_by_hand() -> None:
    s = summarise([0.1, 0.2, 0.4, 0.8, math.nan])
    assert (s.n, s.mean) == (4, pytest.approx(0.375))
    assert s.sd == pytest.approx(math.sqrt((0.275**2 + 0.175**2 + 0.025**2 + 0.425**2) / 3))
    assert s.sem == pytest.approx(s.sd / 2)
    assert s.half == pytest.approx(3.18245 * s.sem, rel=1e-5)  # t(0.975, 3)
    assert (s.low, s.high) == (s.mean - s.half, s.mean + s.half)
    assert (summarise([0.4]).mean, summarise([]).n) == (0.4, 0)
    assert math.isnan(summarise([0.4]).half)
    assert iqm([0.1, 0.2, 0.4, 0.8]) == pytest.approx((0.2 + 0.4) / 2)  # one value is cut at each end
    assert iqm([1, 2, 6]) == pytest.approx(3)
    assert iqm([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_describe_summarises_every_group() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.integers(0, 9, 60), "b": "x", "value": random.random(60)})
    frame.loc[random.random(60) < 0.2, "value"] = np.nan
    frame = pd.concat([frame, pd.DataFrame({"a": [77], "b": ["x"], "value": [np.nan]})])
    described = describe(frame, ["a", "b"])
    for a, part in frame.groupby("a"):
        s, there = summarise(part["value"].tolist()), part["value"].dropna().to_numpy()
        middles = {"median": np.median(there), "iqm": iqm(there)} if s.n else {}
        expected = {name: middles.get(name, getattr(s, name, math.nan)) for name in described.columns}
        assert described.loc[(a, "x")].to_dict() == pytest.approx(expected, nan_ok=True)
    assert described.loc[(77, "x"), "n"] == 0


@pytest.mark.parametrize("n", [5, 10, 20])
def test_t_intervals_have_their_nominal_coverage(n: int) -> None:
    x = np.random.default_rng(n).normal(0.7, 0.02, (STUDIES, n))
    half = half_width(x.std(axis=1, ddof=1), np.full(STUDIES, n))
    assert 0.93 <= np.mean(np.abs(x.mean(axis=1) - 0.7) <= half) <= 0.97


@pytest.mark.parametrize(("n", "low", "high"), [(5, 0.80, 0.88), (10, 0.87, 0.93), (20, 0.91, 0.96)])
def test_bca_intervals_are_too_narrow_for_few_seeds(n: int, low: float, high: float) -> None:
    """A known property of the bootstrap, and the reason why the t interval is the default."""
    x = np.random.default_rng(n).normal(0.7, 0.02, (STUDIES, n))
    ends = bca(x, resamples=999)
    assert low <= np.mean((ends[0] <= 0.7) & (ends[1] >= 0.7)) <= high


def test_bca_equals_scipy_s_alone_and_in_a_batch() -> None:
    x = np.random.default_rng(1).random((3, 8))
    ends = np.array(bca(x, resamples=500))
    options: Any = {"n_resamples": 500, "axis": -1, "vectorized": True}
    for row in range(3):
        mean, rng = (lambda v, axis: np.round(v.mean(axis=axis), 12)), np.random.default_rng([0, 8])
        found = stats.bootstrap((x[row],), mean, rng=rng, **options)
        assert ends[:, row] == pytest.approx(np.array(found.confidence_interval))
        assert ends[:, row] == pytest.approx(np.array(bca(x[row], resamples=500)))


def test_bca_of_one_value_or_of_equal_values_has_no_width() -> None:
    assert np.isnan(bca([[0.5], [0.6]])).all()
    low, high = bca([[0.5, 0.5, 0.5], [0.1, 0.2, 0.3]], resamples=99)
    assert (low[0], high[0]) == (0.5, 0.5)
    assert low[1] < 0.2 < high[1]


def brute_sign_flip(d: NDArray[np.float64]) -> float:
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=len(d))]
    return float(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9, 12])
def test_the_sign_flip_test_equals_a_sum_over_all_patterns(n: int) -> None:
    random = np.random.default_rng(n)
    for shift in (0.0, 0.5, 2.0):
        d = random.normal(shift, 1, n)
        assert sign_flip(d) == pytest.approx(brute_sign_flip(d), abs=1e-12)
    ties = random.integers(-2, 4, n) / 10  # with zeros, and sums that differ only by rounding
    assert sign_flip(ties) == pytest.approx(brute_sign_flip(ties), abs=1e-12)


def test_sign_flip_tests_of_a_batch_equal_single_tests() -> None:
    draws = np.random.default_rng(2)
    rows = [np.round(draws.normal(0.2, 1, n), 1) for n in (40, 33, 40, 12, 0, 40, 33)]
    one_by_one = [sign_flip(row) for row in rows]
    assert sign_flips(rows) == pytest.approx(one_by_one, abs=0, nan_ok=True)
    # By the definition, with draws of their own.
    d, rng = rows[0], np.random.default_rng(0)
    drawn = [rng.integers(0, 2, (min(10_000, FLIPS - s), 40)) for s in range(0, FLIPS, 10_000)]
    signs = np.concatenate(drawn)
    hits = (np.abs((signs * 2 - 1) @ d) >= abs(d.sum()) - 1e-9).sum()
    assert one_by_one[0] == (1 + hits) / (1 + FLIPS)


def test_the_sign_flip_test_equals_a_calculation_by_hand() -> None:
    assert (sign_flip([1] * 5), sign_flip([1] * 6)) == (
        2 / 32,
        2 / 64,
    )  # the second is the first p below 0.05
    assert (sign_flip([3, -1]), sign_flip([0, 0, 0])) == (1.0, 1.0)  # all four sums have |sum| >= 2
    assert math.isnan(sign_flip([]))


def test_sampled_sign_flips_approximate_all_patterns_and_never_give_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 14)
    exact = sign_flip(d)
    monkeypatch.setattr(paired, "EXACT_UP_TO", 0)
    assert sign_flip(d) == pytest.approx(exact, abs=0.005)
    assert sign_flip(d) == sign_flip(d)
    assert sign_flip(np.ones(40), flips=99) == 1 / 100


@pytest.mark.parametrize("exact", [True, False])
def test_the_p_of_the_sign_flip_test_is_uniform_under_the_null(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(paired, "EXACT_UP_TO", 0)
    d = np.random.default_rng(5).laplace(size=(STUDIES, 9))
    p = np.array([sign_flip(row, flips=399, seed=i) for i, row in enumerate(d)])
    for level in (0.0625, 0.125, 0.25, 0.5, 0.75):  # p is a multiple of 1/256
        error = 4 * math.sqrt(level * (1 - level) / STUDIES)
        assert abs(np.mean(p <= level) - level) < error


def test_wilcoxon_is_right_for_no_difference_and_for_the_clearest_one() -> None:
    d = np.array([0.3, -0.1, 0.5, 0.7, -0.2, 0.9, 1.1])
    assert wilcoxon([0.0, 0.0]) == 1.0
    assert wilcoxon([*d, 0.0]) == wilcoxon(d)
    assert math.isnan(wilcoxon([]))


def test_wilcoxon_of_many_rows_is_that_of_each() -> None:
    """Rows without ties are counted up to 50 pairs; those with ties and longer ones are not."""
    random = np.random.default_rng(0)
    rows = [random.normal(0.1, 1, n) for n in (40, 40, 35, 51, 51, 12, 12)]
    rows += [np.round(random.normal(0.1, 1, n), 1) for n in (40, 40, 60, 12)]
    found = wilcoxons([*rows, np.zeros(3), np.zeros(0)])
    assert found[:-1] == [wilcoxon(d) for d in rows] + [1.0]
    assert math.isnan(found[-1])
    long = [(p, stats.wilcoxon(d[d != 0]).pvalue) for p, d in zip(found, rows, strict=False) if len(d) > 30]
    assert len(long) == 8
    assert all(p == scipy_s for p, scipy_s in long)


@pytest.mark.parametrize(("n", "ties"), [*((n, False) for n in (3, 9, 20)), *((n, True) for n in (3, 9, 13))])
def test_wilcoxon_equals_scipy_s_where_that_is_exact(n: int, ties: bool) -> None:
    """SciPy uses the normal distribution for more than 13 pairs with ties."""
    d = np.random.default_rng(n).normal(0.5, 1.0, n)
    if ties:
        d = np.round(d * 2) / 2
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d[d != 0]).pvalue)


def closed_testing(p: list[float]) -> list[float]:
    """Holm's p by closed testing: the largest Bonferroni p of all sets that contain a hypothesis."""
    sets = [s for r in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), r)]
    return [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


def test_holm_equals_a_calculation_by_hand_and_closed_testing() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([]) == []
    random = np.random.default_rng(2)
    for _ in range(20):
        p = (random.random(6) ** 2).tolist()
        assert holm(p) == pytest.approx(closed_testing(p))


def test_a_comparison_uses_common_seeds_only() -> None:
    a = pd.Series({0: 0.5, 1: 0.7, 2: 0.9, 3: math.nan, 9: 0.1})
    b = pd.Series({2: 0.6, 1: 0.6, 0: 0.3, 3: 0.5, 8: 0.9})
    c = compare(a, b)
    assert (c.n, c.mean, c.sd) == (3, pytest.approx(0.2), pytest.approx(0.1))
    assert c.half == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert (c.d_z, c.p) == (pytest.approx(2.0), 2 / 8)
    assert compare(b, a).mean == pytest.approx(-0.2)


def test_comparisons_without_enough_seeds_have_no_p() -> None:
    a = pd.Series({0: 0.5, 1: 0.7})
    none, one, same = (compare(a, b) for b in (pd.Series({5: 0.1}), pd.Series({0: 0.1}), a - 0.1))
    assert (none.n, one.n, one.p, same.mean) == (0, 1, 1.0, pytest.approx(0.1))
    assert np.isnan([none.p, one.half, same.d_z]).all()  # equal differences have no spread


def test_verdicts_are_against_the_best_strategy() -> None:
    random = np.random.default_rng(0)
    best, far, near = random.normal(0, 0.01, (3, 10))
    table = pd.DataFrame({"best": 0.9 + best, "far": 0.7 + best + far, "near": 0.9 + best + near})
    table["few"] = [0.1] * 5 + [math.nan] * 5
    found = against(table, "best")
    assert found["verdict"].to_dict() == {"far": "worse", "near": "not distinguished", "few": "too few seeds"}
    holms = found["p_holm"].loc[["far", "few"]].tolist()
    assert holms == pytest.approx([2 * 2 / 2**10, math.nan], nan_ok=True)  # a family of two tests
    assert found.loc["few", "n"] == 5
    assert against(table, "best", higher_is_better=False)["verdict"]["far"] == "better"


def test_known_comparisons_are_not_computed_again() -> None:
    """They are turned where the order is the other one; Holm's family is the new one."""
    table = pd.DataFrame(np.random.default_rng(1).normal(0.5, 0.1, (40, 4)), columns=[*"abcd"])
    table.loc[33:, "b"] = math.nan
    expected, known = every_pair(table), every_pair(table[[*"cab"]])
    with patch.object(paired, "compare_pairs", wraps=paired.compare_pairs) as compare_new:
        pd.testing.assert_frame_equal(every_pair(table, known=known), expected, check_exact=True)
    assert compare_new.call_args.args[1] == [("a", "d"), ("b", "d"), ("c", "d")]


def test_a_family_too_large_for_its_seeds_gets_no_verdict() -> None:
    """Six pairs can reach p = 1/32, which is above 0.05 after Holm over two."""
    table = pd.DataFrame({"best": np.ones(6), "a": np.zeros(6), "b": np.zeros(6)})
    assert set(against(table, "best")["verdict"]) == {"too few seeds"}
    assert against(table[["best", "a"]], "best")["verdict"].tolist() == ["worse"]


FOUR_SUITES = {  # ranks by suite: a 1 1 2 1, b 2 3 1 2, c 3 2 3 3
    ("s1", "a"): [0.9, 0.9], ("s1", "b"): [0.8, 0.8], ("s1", "c"): [0.7, 0.7],
    ("s2", "a"): [0.9, 0.7], ("s2", "b"): [0.3, 0.3], ("s2", "c"): [0.4, 0.4],
    ("s3", "a"): [0.5, 0.5], ("s3", "b"): [0.6, 0.6], ("s3", "c"): [0.1, 0.1],
    ("s4", "a"): [0.9, 0.8], ("s4", "b"): [0.7, 0.7], ("s4", "c"): [0.2, 0.3],
}  # fmt: skip


def test_friedman_and_nemenyi_equal_a_calculation_by_hand() -> None:
    ranking: Any = rank(scores(FOUR_SUITES), "acc")
    assert ranking.ranks.to_dict() == {"a": 1.25, "b": 2.0, "c": 2.75}
    n, k = 4, 3
    chi2 = 12 / (n * k * (k + 1)) * sum(r**2 for r in (5, 8, 11)) - 3 * n * (k + 1)
    assert ranking.p == pytest.approx(stats.chi2.sf(chi2, k - 1))
    # q(0.05, 3) = 2.343 in Demsar's table 5a.
    assert ranking.critical_difference == pytest.approx(2.343 * math.sqrt(k * (k + 1) / (6 * n)), rel=1e-3)
    assert ranking.groups == (("a", "b", "c"),)
    lowest_first: Any = rank(scores(FOUR_SUITES, "forgetting"), "forgetting")
    assert lowest_first.ranks.index[0] == "c"


def test_nemenyi_s_p_agrees_with_the_critical_difference() -> None:
    random = np.random.default_rng(0)
    places = itertools.product(range(12), range(5))
    ranking: Any = rank(
        scores({(f"s{s}", f"m{m}"): [0.5 + 0.1 * m + random.normal(0, 0.1)] for s, m in places}), "acc"
    )
    for a, b in itertools.combinations(ranking.ranks.index, 2):
        difference = abs(ranking.ranks[a] - ranking.ranks[b])
        p = stats.studentized_range.sf(difference / math.sqrt(5 * 6 / (6 * 12)) * math.sqrt(2), 5, np.inf)
        assert (p < 0.05) == (difference > ranking.critical_difference)
    assert ranking.p < 0.05
    assert len(ranking.groups) > 1


def test_groups_are_the_longest_runs_without_a_significant_difference() -> None:
    ranks = pd.Series({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0})
    runs = {1.0: (("a", "b"), ("b", "c")), 0.1: (), 9.0: (("a", "b", "c", "d"),)}
    assert {cd: not_distinguished(ranks, cd) for cd in runs} == runs
    assert critical_difference(2, 10) == pytest.approx(1.96 * math.sqrt(6 / 60), rel=1e-3)


def test_strategies_with_missing_suites_are_left_out_and_named() -> None:
    values = dict(FOUR_SUITES) | {("s1", "d"): [0.9, 0.9], ("s2", "a"): [0.9, 0.7, 0.0]}
    values["s4", "b"] = [math.nan, 0.7]
    whole = complete(scores(values), "acc")
    assert whole.strategies == ["a", "b", "c"]
    assert whole.seeds == {("s1", "class"): 2, ("s2", "class"): 2, ("s3", "class"): 2, ("s4", "class"): 1}
    assert whole.means().loc[("s2", "class"), "a"] == pytest.approx(
        0.8
    )  # without the seed that the others lack
    assert whole.left_out == ("d: no value in s2 class, s3 class, s4 class",)
    assert {v.shape for v in whole.values().values()} == {(4, 1)}


def test_a_suite_without_common_seeds_is_left_out_and_too_few_are_not_ranked() -> None:
    values = {("s1", "a"): [0.1, math.nan], ("s1", "b"): [math.nan, 0.2], ("s2", "a"): [1], ("s2", "b"): [1]}
    whole = complete(scores(values), "acc")
    assert whole.left_out == ("s1 class: no seed that all strategies have",)
    assert rank(scores(values), "acc") == (
        "acc: ranks across suites need at least 3 strategies with common seeds in at least 2 suites or "
        "scenarios; this run has 2 in 1"
    )
    assert "this run has 0 in 0" in str(rank(scores(values), "fwt"))
    alike: Any = rank(scores({(s, m): [0.5] for s in ("s1", "s2") for m in "abc"}), "acc")
    assert (alike.p, set(alike.ranks)) == (1.0, {2.0})


def test_aggregates_equal_a_calculation_by_hand() -> None:
    x = np.array([[0.0, 0.2], [0.4, 0.6], [0.9, 0.9], [0.1, 1.0]])
    assert aggregate.aggregate(x, "mean", resamples=9).value == pytest.approx(x.mean())
    assert aggregate.aggregate(x, "iqm", resamples=9).value == pytest.approx((0.2 + 0.4 + 0.6 + 0.9) / 4)
    # Suites are not mixed: without spread within suites, every resample has the same mean.
    apart = aggregate.aggregate(np.array([[0.1] * 5, [0.9] * 5]), "mean", resamples=99)
    assert apart.low == apart.high == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["mean", "iqm"])
def test_the_bootstrap_equals_a_stratified_loop(kind: str) -> None:
    x = np.random.default_rng(0).random((3, 4))
    drawn = np.random.default_rng(7).integers(0, 4, size=(50, 3, 4))
    flats = [np.sort([x[b, drawn[r, b, i]] for i in range(4) for b in range(3)]) for r in range(50)]
    found = [flat.mean() if kind == "mean" else flat[3:9].mean() for flat in flats]
    estimate = aggregate.aggregate(x, kind, resamples=50, seed=7)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])))


def test_probability_of_improvement_equals_all_pairs_and_mann_whitney() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 6, (2, 3, 5)) / 5
    pairs = [(x > y) + 0.5 * (x == y) for block in range(3) for x in a[block] for y in b[block]]
    estimate = aggregate.improvement(a, b, resamples=200)
    assert estimate.value == pytest.approx(np.mean(pairs))
    u = [stats.mannwhitneyu(a[k], b[k]).statistic / 25 for k in range(3)]
    assert estimate.value == pytest.approx(np.mean(u))
    assert estimate.low <= estimate.value <= estimate.high
    assert aggregate.improvement(b, a, resamples=9).value == pytest.approx(1 - estimate.value)


def test_probability_of_improvement_resamples_seeds_as_a_loop_does() -> None:
    random = np.random.default_rng(1)
    a, b = random.random((2, 2, 4))
    drawn = np.random.default_rng(3).integers(0, 4, size=(40, 2, 4))
    pairs = [[(k, i, j) for k in range(2) for i in d[k] for j in d[k]] for d in drawn]
    found = [np.mean([a[k, i] > b[k, j] for k, i, j in of]) for of in pairs]
    estimate = aggregate.improvement(a, b, resamples=40, seed=3)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("difference", "n", "comparisons"),
    [
        (1.5, 6, 1),
        (1.0, 10, 1),
        (1.2, 10, 5),
        (0.7, 16, 1),
        (0.7, 17, 1),
        (0.7, 20, 1),
        (0.9, 18, 9),
        (0.0, 8, 1),
    ],
)
def test_power_equals_how_often_a_report_gives_the_verdict(
    difference: float, n: int, comparisons: int
) -> None:
    """By simulated studies, with the smallest p of a report of that many strategies besides the best."""
    d = np.random.default_rng(100 + n).normal(difference, 1, (1_500, n))
    seen = np.mean([sign_flip(row) * comparisons < 0.05 for row in d])
    assert power.power(difference, 1.0, n, comparisons) == pytest.approx(seen, abs=0.035)
    if comparisons == 1:
        seeds = [f"s{i}" for i in range(n)]
        rows = [pd.DataFrame({"a": row, "b": np.zeros(n)}, index=seeds) for row in d[:60]]
        verdicts = [against(table, "b")["verdict"].item() for table in rows]
        assert [v in ("better", "worse") for v in verdicts] == [sign_flip(row) < 0.05 for row in d[:60]]


def test_seeds_needed_are_never_too_few_for_a_verdict_in_a_report() -> None:
    for strategies in (2, 3, 9, 40):
        few, enough = (
            pd.DataFrame({f"s{k}": np.arange(n) * 0.01 + k for k in range(strategies)})
            for n in (fewest(strategies - 1) - 1, fewest(strategies - 1))
        )
        assert set(against(few, "s0")["verdict"]) == {"too few seeds"}
        assert "better" in set(against(enough, "s0")["verdict"])
        assert power.seeds_needed(50.0, 1.0, strategies - 1) == fewest(strategies - 1)
        assert power.power(50.0, 1.0, fewest(strategies - 1) - 1, strategies - 1) == 0
    assert fewest() == FEWEST == 6


def test_power_equals_a_textbook_s_and_has_the_right_limits() -> None:
    assert power.seeds_needed(0.5, 1.0) == 34  # Cohen 1988: d_z = 0.5, 80 %, two-sided 5 %
    assert [power.power(*of) for of in ((1, 1, 1), (1, 1, 5), (1, 0, 6), (0, 0, 9))] == [0, 0, 1, 0]
    grid = [power.power(d, 1.0, n) for d in (1e-3, 0.1, 1, 10, 100, 1e4) for n in (17, 30, 1000)]
    assert all(0.049 < p <= 1 for p in grid)
    for sd in (0.3, 1.7, 6.0):
        n = power.seeds_needed(1.0, sd)
        assert power.power(1.0, sd, n) >= 0.8
        assert n == FEWEST or power.power(1.0, sd, n - 1) < 0.8
    refused("more than 100,000 seeds", power.seeds_needed, 1e-6, 1.0)


@pytest.mark.slow
def test_seeds_needed_follow_from_the_spread_of_a_run() -> None:
    a, b = [0.50, 0.52, 0.54, 0.56, 0.99], [0.49, 0.52, 0.51, 0.54]
    frame = scores({("s1", "a"): a, ("s1", "b"): b, ("s2", "a"): [0.1], ("s2", "b"): [0.1]})
    (need,) = power.needs(frame, "a", "b", "acc", 1.0)
    sd = np.std([0.01, 0.0, 0.03, 0.02], ddof=1)
    assert (need.suite, need.n, need.mean, need.sd) == ("s1", 4, pytest.approx(0.015), pytest.approx(sd))
    assert need.cautious > need.needed == power.seeds_needed(0.01, sd)
    assert rows([need])[0][:5] == ["s1", "class", "4", "1.50", "1.29"]


@pytest.mark.parametrize(
    ("a", "b", "score", "points", "words"),
    [
        ("a", "c", "acc", 1.0, "unknown strategy of the run 'c'"),
        ("a", "a", "acc", 1.0, "does not differ from itself"),
        ("a", "b", "akc", 1.0, "unknown score 'akc'"),
        ("a", "b", "acc", 0.0, "above 0 points"),
        ("a", "b", "fwt", 1.0, "no two seeds of fwt in common"),
    ],
)
def test_power_refuses_what_it_cannot_answer(a: str, b: str, score: str, points: float, words: str) -> None:
    frame = scores({("s1", "a"): [0.1, 0.2], ("s1", "b"): [0.1, 0.3]})
    refused(words, power.needs, frame, a, b, score, points)


TRIALS, OTHERS = [0.3, 0.9, 0.5, 0.5, 0.1], [0.2, 0.6, 0.4, 0.8, 0.7]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("replace", [True, False])
def test_the_expected_best_of_k_trials_is_that_of_all_draws(k: int, replace: bool) -> None:
    """Equation of Dodge et al. 2019 against every draw of k trials; equal scores are chosen equally often."""
    draws = list(itertools.product(range(5), repeat=k) if replace else itertools.combinations(range(5), k))
    best = [max(TRIALS[i] for i in draw) for draw in draws]
    assert expected_best(TRIALS, k, replace=replace) == pytest.approx(sum(best) / len(best))
    of_chosen = []
    for draw, score in zip(draws, best, strict=True):
        tied = [OTHERS[i] for i in draw if TRIALS[i] == score]
        of_chosen.append(sum(tied) / len(tied))
    assert expected_best(TRIALS, k, OTHERS, replace) == pytest.approx(sum(of_chosen) / len(of_chosen))
