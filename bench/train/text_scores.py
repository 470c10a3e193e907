"""Scores of generated text: BLEU, the entries of R, and chrF beside it.

Axes: L lanes, B batch, T tasks, R rows, S tokens.
"""

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from bench.encode import words
from bench.plan import Fields
from bench.train.score_rows import ScoreRows
from strategies.core import LaneStreams, Strategy, eval_mode, pad_rows
from suites.base import Score
from suites.errors import Unavailable

_ROWS_AT_ONCE = 200
"""Rows are padded to full chunks: scores of a lane must not depend on its neighbours' numbers of rows."""
MEASURES = ("value", "chrf")
"""Scores of every task: ``value`` is BLEU, the entry of R."""


class TextScorer:
    """BLEU and chrF on the test and validation rows of all tasks, one row of R at a time.

    Generated texts are compared with one reference by sacrebleu (Post 2018, A call for clarity in reporting
    BLEU scores) with its default settings, which the signature in the record states; chrF is Popović 2015.

    Raises:
        Unavailable: sacrebleu is not installed.
    """

    def __init__(self, streams: LaneStreams, strategy: Strategy, score: Score, tokenizer: Any) -> None:
        if find_spec("sacrebleu") is None:
            raise Unavailable(
                "sacrebleu, which scores generated texts, is not installed: pip install 'lethe-bench[text]'"
            )
        self.streams, self.strategy, self.score, self.tokenizer = streams, strategy, score, tokenizer
        self.rows = {
            "test": [[t.test_rows for t in s.tasks] for s in streams.streams],
            "validation": [[t.validation_rows for t in s.tasks] for s in streams.streams],
        }
        lanes, of = range(streams.lanes), (streams.training, streams.n_tasks)
        self.values: dict[str, list[dict[str, ScoreRows]]] = {
            split: [{m: ScoreRows(*of) for m in MEASURES} for _ in lanes] for split in self.rows
        }
        self.curves: list[list[Fields]] = [[] for _ in lanes]

    @torch.no_grad()
    def generated(self, split: str, tasks: range) -> list[list[str]]:
        """Return the texts that each lane generates for the rows of some tasks, one task after the other."""
        of_lanes = [torch.cat(of[tasks.start : tasks.stop]) for of in self.rows[split]]
        rows_LR, _ = pad_rows(of_lanes, _ROWS_AT_ONCE)
        if rows_LR.shape[1] == 0:
            return [[] for _ in of_lanes]
        model, rows_LR = self.strategy.model, rows_LR.to(self.streams.device)
        with eval_mode(model):
            given = (self.streams.pixels(rows_LB.contiguous()) for rows_LB in rows_LR.split(_ROWS_AT_ONCE, 1))
            parts = [model.generate(x_LBS).cpu() for x_LBS in given]
        generated_LRS = torch.cat(parts, 1)
        pairs = zip(generated_LRS, of_lanes, strict=True)
        return [words(of_RS[: len(rows)], self.tokenizer) for of_RS, rows in pairs]

    def scores(self, split: str, tasks: range | None = None) -> list[dict[str, list[float | None]]]:
        """Return the scores of some tasks, all by default, for each lane; None for a task without rows."""
        found, tasks = [], range(self.streams.n_tasks) if tasks is None else tasks
        for texts, rows in zip(self.generated(split, tasks), self.rows[split], strict=True):
            start, of_tasks = 0, []
            for rows_R in rows[tasks.start : tasks.stop]:
                of_tasks.append(self._compared(texts[start : start + len(rows_R)], rows_R))
                start += len(rows_R)
            found.append({m: [of[m] for of in of_tasks] for m in MEASURES})
        return found

    def _compared(self, texts: list[str], rows_R: Tensor) -> dict[str, float | None]:
        targets = self.streams.data.targets
        return bleu_and_chrf(texts, [targets[row] for row in self.streams.data.index_of(rows_R).tolist()])

    def measure(self, row: int) -> None:
        """Fill one row of R, for the tasks that ``eval`` scores."""
        tasks = self.streams.training.scored_after(row, self.streams.n_tasks)
        if not tasks:
            return
        for split, lanes in self.values.items():
            for values, scores in zip(lanes, self.scores(split, tasks), strict=True):
                for name in MEASURES:
                    values[name].rows[row] = scores[name]

    def curve(self, task: int, step: int, active: tuple[bool, ...] | None) -> None:
        """Append validation scores of the active lanes within a task; tasks and steps are counted from 1."""
        for lane, scores in enumerate(self.scores("validation")):
            if active is None or active[lane]:
                self.curves[lane].append({"task": task, "step": step, **scores})

    def record(self, lane: int) -> Fields:
        """Return the matrices and curves of a lane, the bounds of the score and the rows of every task."""
        rows = {split: [len(r) for r in lanes[lane]] for split, lanes in self.rows.items()}
        found = {
            split: {k: v for name, of in lanes[lane].items() for k, v in of.record(name).items()}
            | {"rows": rows[split]}
            for split, lanes in self.values.items()
        }
        score = asdict(self.score) | {"signature": signature()}
        return {"score": score, **found, "curves": self.curves[lane]}

    def classes(self, lane: int) -> Fields:
        """Return nothing: generated text has no classes."""
        return {}

    def rows_of(self, lane: int, first: int, end: int) -> Fields:
        """Return rows ``first`` to ``end`` (exclusive) of a lane's matrices, for a checkpoint."""
        of_lane = {split: lanes[lane] for split, lanes in self.values.items()}
        return {
            "values": {
                s: {m: rows.written(first, end) for m, rows in of.items()} for s, of in of_lane.items()
            },
            "curves": [point for point in self.curves[lane] if first <= point["task"] < end],
        }

    def load_rows(self, lane: int, first: int, rows: Fields) -> None:
        """Continue from a checkpoint: add rows from ``first`` on."""
        for split, of_measures in rows["values"].items():
            for name, values in of_measures.items():
                self.values[split][lane][name].load(first, values)
        self.curves[lane] += rows["curves"]


def bleu_and_chrf(texts: list[str], targets: list[str]) -> dict[str, float | None]:
    """Return corpus BLEU (``value``) and chrF, both in [0, 100], of texts against one reference each."""
    from sacrebleu.metrics import BLEU, CHRF

    if not texts:
        return {"value": None, "chrf": None}
    # force: no warning for texts that look tokenized.
    bleu = BLEU(force=True).corpus_score(texts, [targets]).score
    # Rounding can give slightly more than 100 if all texts are equal to their references.
    return {"value": min(bleu, 100.0), "chrf": CHRF().corpus_score(texts, [targets]).score}


def signature() -> str:
    """Return sacrebleu's description of how BLEU was computed."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(force=True)
    bleu.corpus_score(["one"], [["one"]])
    return str(bleu.get_signature())
