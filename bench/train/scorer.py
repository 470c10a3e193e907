"""The scorer of a group of lanes, which fills R: accuracy, or BLEU of generated texts."""

from bench.encode import tokenizer_of
from bench.train.accuracy import AccuracyScorer
from bench.train.text_scores import TextScorer
from strategies.core import LaneStreams, Strategy
from suites.base import Score

Scorer = AccuracyScorer | TextScorer
"""Measures all lanes on the test and validation rows of all tasks, one row of R at a time."""


def make_scorer(streams: LaneStreams, strategy: Strategy, score: Score, model: str) -> Scorer:
    """Return the scorer of a group: for generated texts, or for classes."""
    if streams.generates:
        return TextScorer(streams, strategy, score, tokenizer_of(streams.data, model))
    return AccuracyScorer(streams, strategy)
