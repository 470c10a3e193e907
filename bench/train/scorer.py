"""What fills R: the interface, and which scorer a group of lanes has.

Accuracy is counted (bench.train.accuracy), generated texts are compared with references
(bench.train.text_scores).
"""

from typing import Any, Protocol

from torch import Tensor

from bench.encode import tokenizer_of
from bench.train.accuracy import AccuracyScorer
from bench.train.text_scores import TextScorer
from strategies.core import LaneStreams, Strategy
from suites.base import Score


class Scorer(Protocol):
    """Measures all lanes on every task's test and validation rows."""

    def measure(self, row: int) -> None:
        """Fill one row of R."""

    def curve(self, task: int, step: int, active: tuple[bool, ...] | None) -> None:
        """Append the active lanes' validation scores inside a task; tasks and steps are counted from 1."""

    def record(self, lane: int) -> dict[str, Any]:
        """Return one lane's matrices and curves as its record holds them."""

    def classes(self, lane: int) -> dict[str, Any]:
        """Return one lane's confusions and the names of its units; empty where there are no classes."""

    def tensors(self, lane: int) -> dict[str, Tensor]:
        """Return what is too large for the JSON of a checkpoint."""

    def load(self, lane: int, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Continue from what ``record`` and ``tensors`` returned."""


def make_scorer(streams: LaneStreams, strategy: Strategy, score: Score, model: str) -> Scorer:
    """Return the scorer of a group: of generated texts, or of right answers."""
    if streams.generates:
        return TextScorer(streams, strategy, score, tokenizer_of(streams.data, model))
    return AccuracyScorer(streams, strategy)
