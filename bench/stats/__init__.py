"""What may be said from scores over seeds: intervals, paired tests, ranks across suites, numbers of seeds.

The unit is the seed. Strategies at equal seeds share streams, initial weights and batches, so comparisons are
paired, over the seeds that both have.
"""

from bench.stats.intervals import Summary, bca, describe, summarise

__all__ = ["Summary", "bca", "describe", "summarise"]
