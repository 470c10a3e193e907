"""What fills R: which scorer a group of lanes has.

Accuracy is counted (bench.train.accuracy), generated texts are compared with references
(bench.train.text_scores).
"""

from bench.encode import tokenizer_of
from bench.train.accuracy import AccuracyScorer
from bench.train.text_scores import TextScorer
from strategies.core import LaneStreams, Strategy
from suites.base import Score

Scorer = AccuracyScorer | TextScorer
"""Measures all lanes on every task's test and validation rows, row by row of R."""


def make_scorer(streams: LaneStreams, strategy: Strategy, score: Score, model: str) -> Scorer:
    """Return the scorer of a group: of generated texts, or of right answers."""
    if streams.generates:
        return TextScorer(streams, strategy, score, tokenizer_of(streams.data, model))
    return AccuracyScorer(streams, strategy)
