"""Statistics of scores over seeds: intervals, paired tests, ranks across suites, numbers of seeds.

The unit of analysis is the seed. Strategies with the same seed share streams, initial weights and batches, so
comparisons are paired over the seeds that both strategies have.
"""

from bench.stats.aggregates import Estimate, aggregate, improvement
from bench.stats.intervals import bca, describe, group_intervals, half_width, summarise
from bench.stats.paired import ALPHA, FEWEST, against, compare, every_pair, fewest, holm, too_few
from bench.stats.power import POWER, Need, needs
from bench.stats.ranking import Ranking, cliques, complete, critical_difference, rank
from bench.stats.scores import SCORES, Matrix, all_scores
from bench.stats.tuning_budget import expected_best
from bench.stats.verdicts import Judged, judge

__all__ = [
    "ALPHA", "FEWEST", "POWER", "SCORES", "Estimate", "Judged", "Matrix", "Need", "Ranking", "against",
    "aggregate", "all_scores", "bca", "cliques", "compare", "complete", "critical_difference", "describe",
    "every_pair", "expected_best", "fewest", "group_intervals", "half_width", "holm", "improvement",
    "judge", "needs", "rank", "summarise", "too_few",
]  # fmt: skip
