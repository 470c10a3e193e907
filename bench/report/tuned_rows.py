"""How the settings of rows were chosen: tables, remarks, and the score against the budget of tuning."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from bench.report.formats import MISSING, plus_minus, points
from bench.results import Frames, Trial, Tuned
from bench.stats import compare, expected_best
from suites.values import text_of

_COLUMNS = [
    "suite", "scenario", "strategy", "k", "validation", "validation_subsets", "test", "best_validation",
    "best_test",
]  # fmt: skip


NOT_TUNED = "(not tuned)"
"""Beside the name of a row whose settings were not chosen, in tables with tuned rows."""
TUNING_HEADER = ("strategy", "tuned", "trials", "steps", "validation, defaults", "validation, chosen")
TUNING_CAPTION = (
    "Steps: training steps of all trials and tuning seeds. Validation: mean final accuracy in percent on "
    "validation rows of the tuning seeds."
)


def tuned_in(frames: Frames, suite: str, scenario: str) -> list[Tuned]:
    """Return how settings of a suite and scenario were chosen, none without tuning."""
    return [t for t in frames.manifest.tuning.values() if (t.suite, t.scenario) == (suite, scenario)]


def row_of(frames: Frames, suite: str, scenario: str) -> dict[str, str]:
    """Return the displayed name of each selector of a suite and scenario, as records have it."""
    here = frames.cells[(frames.cells["suite"] == suite) & (frames.cells["scenario"] == scenario)]
    pairs = zip(here["key"], here["identity"], strict=True)
    return {frames.outcomes[key].spec["identity"]: name for key, name in pairs}


def chosen_rows(frames: Frames, suite: str, scenario: str) -> dict[str, Tuned]:
    """Return how the settings of each tuned row were chosen, by its displayed name."""
    names = row_of(frames, suite, scenario)
    of = {names.get(t.best.identity): t for t in tuned_in(frames, suite, scenario) if t.best}
    return {name: t for name, t in of.items() if name is not None}


def not_tuned(frames: Frames, suite: str, scenario: str) -> set[str]:
    """Return the rows that were not chosen, by their displayed names; none without tuning."""
    if not tuned_in(frames, suite, scenario):
        return set()
    return {*row_of(frames, suite, scenario).values()} - {*chosen_rows(frames, suite, scenario)}


def remarks_on_tuning(frames: Frames) -> list[str]:
    """Return a line on trials that are not shown, and for each suite and scenario on its tuned rows."""
    n, lines = frames.n_trials_hidden, []
    if n:
        lines.append(f"not shown: {n} settings that were tried and not chosen; tuning.csv has their scores")
    for suite, scenario in _parts(frames):
        if how := how_tuned(frames, suite, scenario):
            others = sorted(not_tuned(frames, suite, scenario))
            lines.append(f"{how}; not tuned: {', '.join(others)}" if others else how)
    return lines


def how_tuned(frames: Frames, suite: str, scenario: str) -> str:
    """Return how the rows of a suite and scenario were tuned, in words; empty without tuning."""
    of: Counter[str] = Counter()
    for t in tuned_in(frames, suite, scenario):
        if t.sampler != "none":
            limit = f" and {t.most_steps:,} steps" if t.most_steps else ""
            seeds = ", ".join(map(str, t.seeds))
            budget = f"{t.most_trials} trials{limit} each, on validation rows of seeds {seeds}"
            of[f"{budget} of {t.view} (protocol {t.protocol}, {t.sampler})"] += 1
    said = "; ".join(f"{m} {'method' if m == 1 else 'methods'} with {how}" for how, m in of.items())
    return f"tuned: {suite} {scenario}: {said}" if said else ""


def _parts(frames: Frames) -> list[tuple[str, str]]:
    """Return the suites and scenarios of frames."""
    pairs = frames.cells[["suite", "scenario"]].drop_duplicates()
    return [(str(suite), str(scenario)) for suite, scenario in pairs.itertuples(index=False)]


def tuning_rows(frames: Frames, suite: str, scenario: str, order: list[str]) -> list[tuple[str, ...]]:
    """Return text for each row of a table: trials, steps and validation scores; none without tuning."""
    found: list[tuple[str, ...]] = []
    chosen = chosen_rows(frames, suite, scenario)
    if not tuned_in(frames, suite, scenario):
        return found
    for name in order:
        t = chosen.get(name)
        if t is None or t.best is None:
            found.append((name, "not tuned", *[MISSING] * 4))
            continue
        first, steps = t.trials[0], sum(trial.steps for trial in t.trials)
        values = ", ".join(t.best.settings) or "nothing to tune"
        found.append((name, values, str(len(t.trials)), f"{steps:,}", _score(first), _score(t.best)))
    return found


RANKING_HEADER = (
    "method", "chosen", "acc, defaults", "acc, tuned", "difference", "rank, defaults", "rank, tuned",
)  # fmt: skip


def tuned_ranking(frames: Frames, suite: str, scenario: str) -> list[list[str]]:
    """Return each tuned method's final score at its defaults and as chosen, with the ranks of both.

    The difference is the mean over common seeds, with the half-width of its 95 % t interval. Rows are in the
    order of the tuned scores.
    """
    here = frames.scores[(frames.scores["scenario"] == scenario) & (frames.scores["suite"] == suite)]
    acc = dict(list(here[here["score"] == "acc"].set_index("seed").groupby("identity")["value"]))
    names = row_of(frames, suite, scenario)
    methods: list[tuple[str, str]] = []
    before: list[pd.Series] = []
    after: list[pd.Series] = []
    for t in tuned_in(frames, suite, scenario):
        if t.best is None:
            continue
        usual, best = (acc.get(names.get(trial.identity, "")) for trial in (t.trials[0], t.best))
        if usual is None or best is None:
            continue
        values = ", ".join(f"{key}={text_of(value)}" for key, value in t.best.settings.items())
        methods.append((t.selector, values if t.chosen else "the defaults"))
        before.append(usual)
        after.append(best)
    first, then = (_ranks([float(of.mean()) for of in scores]) for scores in (before, after))
    rows = []
    for i, (name, chosen) in enumerate(methods):
        paired = compare(after[i], before[i])
        difference = points(paired.mean, sign="+") + plus_minus(paired.half)
        means = [points(float(of[i].mean())) for of in (before, after)]
        difference = MISSING if chosen == "the defaults" else difference
        rows.append([name, chosen, *means, difference, str(first[i]), str(then[i])])
    return sorted(rows, key=lambda row: int(row[-1]))


def _ranks(means: list[float]) -> list[int]:
    return [1 + sum(other > mean for other in means) for mean in means]


def _score(trial: Trial) -> str:
    return points(math.nan if trial.score is None else trial.score)


def budget_data(frames: Frames) -> pd.DataFrame:
    """Return the expected best of k trials, and the best of the first k, for each tuned method.

    ``validation`` and ``test`` are expected over k trials drawn with replacement (Dodge et al. 2019),
    ``validation_subsets`` over all subsets of k trials; ``test`` is NaN unless all trials were run on the
    reported seeds. ``best_validation`` and ``best_test`` are of the best of the first k trials.
    """
    rows: list[tuple[object, ...]] = []
    for suite, scenario in _parts(frames):
        for t in tuned_in(frames, suite, scenario):
            done = [trial for trial in t.trials if trial.score is not None]
            scores = [float(trial.score or 0) for trial in done]
            tests = [frames.trials.get((suite, scenario, trial.identity), math.nan) for trial in done]
            for k in range(1, len(done) + 1):
                best = scores.index(max(scores[:k]))
                expected = [expected_best(scores, k, *of) for of in ((), (None, False), (tests,))]
                rows.append((suite, scenario, t.selector, k, *expected, scores[best], tests[best]))
    return pd.DataFrame(rows, columns=_COLUMNS)
