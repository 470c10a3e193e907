"""A report uses the name of the suite's score."""

from pathlib import Path

import pytest
from matplotlib.text import Text

from bench.report import make_report
from bench.report.figures import FIGURES, looks_of
from bench.report.parts import parts
from bench.report.score_names import axis, head, heads, top, unit_words
from bench.report.tables import markdown
from bench.results import Frames, load
from lethe.testing import record, toy_run
from suites.base import BLEU, PROPORTION, Score
from tests.bench.test_report import TWO_TASKS

VALUES = {"value": TWO_TASKS}
WRITES = {"score": {"name": "bleu", "low": 0, "high": 100}, "test": VALUES, "validation": VALUES}


def folder(path: Path, **more: object) -> Path:
    one = record(TWO_TASKS) | more
    return toy_run(path, {(name, seed): one for name in ("er", "finetune") for seed in range(3)})


def words(frames: Frames) -> list[str]:
    """Return all text in the figures."""
    looks = looks_of(frames)
    drawn = [draw(part, looks) for _, _, part in parts(frames) for draw in FIGURES.values()]
    return [t.get_text() for found in drawn if found for t in found[0].findobj(Text)]


@pytest.mark.slow
def test_a_report_of_bleu_says_bleu_and_not_accuracy_in_percent(tmp_path: Path) -> None:
    frames = load(folder(tmp_path, **WRITES))
    make_report(frames, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    text, table = "\n".join(words(frames)), markdown(frames)
    assert "final\nBLEU" in text
    for said, of in (("BLEU", table), ("BLEU on the tasks so far", page), ("final BLEU", page)):
        assert said in of
    for not_said, of in (("accuracy", (text + table).lower()), ("%)", text), ("in percent", table)):
        assert not_said not in of


def test_a_report_of_accuracy_says_accuracy_in_percent(tmp_path: Path) -> None:
    frames = load(folder(tmp_path))
    text = "\n".join(words(frames))
    assert "final\naccuracy (%)" in text
    assert "BLEU" not in text
    assert "Scores in percent" in markdown(frames)


def test_labels_of_axes_and_columns_name_the_score() -> None:
    names = ("accuracy (%)", "BLEU", "reward (% of -1 to 1)", "score")
    for score, name in zip((PROPORTION, BLEU, Score("reward", -1, 1), None), names, strict=True):
        assert axis(score, "final {}") == f"final {name}"
    assert [head("acc", score) for score in (PROPORTION, BLEU, None)] == ["acc", "final BLEU", "final score"]
    assert head("forgetting", BLEU) == "forgetting"
    assert heads(["acc", "forgetting"], BLEU) == "By the scores' names, final BLEU is acc."
    assert heads(["acc"], PROPORTION) == ""
    assert unit_words(BLEU) == "as BLEU from 0 to 100"


@pytest.mark.parametrize(
    ("score", "highest", "end"),
    [(PROPORTION, 0.2, 1.0), (BLEU, 0.42, 0.5), (BLEU, 0.031, 0.04), (BLEU, 0.0, 1.0), (BLEU, 0.99, 1.0)],
)
def test_axes_end_at_or_above_the_highest_value(score: Score, highest: float, end: float) -> None:
    assert top(score, highest) == end


def test_suites_with_different_scores_have_no_common_name(tmp_path: Path) -> None:
    mixed = load(folder(tmp_path / "a"))
    assert mixed.score == PROPORTION
    mixed.declared["other"] = BLEU
    mixed.cells.loc[mixed.cells.index[0], "suite"] = "other"
    assert mixed.score is None
    assert mixed.score_of("other") == BLEU
