"""Names in a report: of scores on axes, in column heads, captions and alternative texts, and of parts.

Numbers are printed as 100 times the position of a score between its bounds: accuracy in %, BLEU and chrF as
they are. Suites with different scores have no common name and no unit: their score is ``None`` here.
"""

import math
from collections.abc import Iterable

from bench.results import Frames
from bench.stats import SCORES
from suites.base import PROPORTION, Score

_HEADS = {
    "acc": "final {}",
    "aia": "incremental {}",
    "aia_rows": "incremental {} over rows",
    "learning_acc": "learning {}",
    "min_acc": "minimal {}",
    "wc_acc": "worst-case {}",
    "chrf": "final chrF",
}
"""Column heads where a suite declares another score than accuracy; its name is put for ``{}``."""
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)
_LOWEST_TOP = 0.01


_SPEEDS = {
    "samples_per_second": (
        "samples/s",
        "rows learned per second over all lanes, without the first ten steps of each task",
    ),
    "seconds_per_seed": ("s/seed", "seconds of training and scoring per seed, shared by the lanes"),
}


SPEED = (*_SPEEDS,)
"""The columns of tables that are not scores."""


def higher_is_better(column: str) -> bool:
    """Return whether more is better in a column: a score, a task's score or a speed."""
    return SCORES[column].higher_is_better if column in SCORES else column != "seconds_per_seed"


def column_title(column: str, score: Score | None) -> str:
    """Return the head of a column of a table: a score, a task or a speed."""
    return _SPEEDS[column][0] if column in _SPEEDS else head(column, score)


def column_help(column: str, score: Score | None) -> str:
    """Return what a column holds: a score's definition with its formula and source, or a speed's."""
    if column in _SPEEDS:
        return _SPEEDS[column][1]
    found = SCORES[column]
    return f"{in_words(score, found.summary)}: {found.formula} ({found.source})"


def scenario_words(name: str) -> str:
    """Return a scenario as titles have it."""
    return name if name == "online" else f"{name}-incremental"


def part_title(suite: str, scenario: str) -> str:
    """Return the title of a table of one suite and scenario."""
    return f"{suite}, {scenario_words(scenario)}"


def axis(score: Score | None, text: str, share: str = "accuracy") -> str:
    """Return a label: the score's name is put for ``{}``, its unit at the end or for ``{unit}``.

    ``share`` is what accuracy is called here.
    """
    unit = f" ({score.unit})" if score is not None and score.unit else ""
    return (text if "{unit}" in text else text + "{unit}").format(called(score, share), unit=unit)


def score_axis(name: str, score: Score | None) -> str:
    """Return the label of an axis of ``acc``, ``learning_acc`` or another share: its head with the unit."""
    return axis(score, _HEADS[name])


def in_words(score: Score | None, text: str) -> str:
    """Return a text about accuracy as one about another score."""
    for share in ("accuracy", "Accuracy"):
        text = text.replace(share, called(score, share))
    return text


def head(name: str, score: Score | None) -> str:
    """Return the head of the column of a score, its own name where that fits."""
    return name if score == PROPORTION or name not in _HEADS else _HEADS[name].format(called(score, ""))


def heads(names: Iterable[str], *scores: Score | None) -> str:
    """Return a sentence that names the scores behind other column heads; empty for none."""
    pairs = [(head(name, score), name) for score in scores for name in names]
    found = [f"{title} is {name}" for title, name in dict.fromkeys(pairs) if title != name]
    return f"By the scores' names, {', '.join(found)}." if found else ""


def in_column(suite: str, frames: Frames) -> str:
    """Return the head of a suite's column, with its score where suites differ in theirs."""
    return suite if frames.score is not None else f"{suite} ({called(frames.score_of(suite), 'accuracy')})"


def unit_words(score: Score | None) -> str:
    """Return the unit of printed numbers, as captions name it."""
    if score == PROPORTION:
        return "in percent"
    if score is None:
        return "as 100 times where each suite's score lies between its bounds"
    if score.unit:
        return f"as {score.title} in {score.unit.replace('%', 'percent')}"
    return f"as {score.title} from {score.low:g} to {score.high:g}"


def units(frames: Frames, suites: Iterable[str]) -> str:
    """Return the unit of the numbers of suites, suite by suite where they differ."""
    found: dict[str, list[str]] = {}
    for suite in sorted({*suites} & {*frames.declared}):
        found.setdefault(unit_words(frames.score_of(suite)), []).append(suite)
    if len(found) < 2:
        return next(iter(found), unit_words(PROPORTION))
    return ", ".join(f"{words} ({', '.join(suites)})" for words, suites in found.items())


def top(score: Score | None, highest: float) -> float:
    """Return where an axis ends, 1 for the upper bound.

    A proportion has the full axis. For a score that stays far below its upper bound the axis ends at a round
    number above the highest value.
    """
    if (score is not None and score.unit == "%") or not highest > 0:
        return 1.0
    highest = max(highest, _LOWEST_TOP)
    unit = 10.0 ** math.floor(math.log10(highest))
    end = next(step * unit for step in _STEPS if highest <= step * unit * (1 + 1e-9))
    return min(1.0, round(end, 12))


def called(score: Score | None, share: str) -> str:
    """Return the name of a score where an accuracy is called ``share``, with a capital where that has one."""
    if score == PROPORTION:
        return share
    name = "score" if score is None else score.title
    return name.capitalize() if share[:1].isupper() and name.islower() else name
