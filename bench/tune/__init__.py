"""Chooses settings by validation rows of seeds that are not reported, several trials at a time as lanes."""

from bench.tune.protocol import Protocol
from bench.tune.samplers import SAMPLERS
from bench.tune.study import FOLDER, REPORTS, Choosing, Study

__all__ = ["FOLDER", "REPORTS", "SAMPLERS", "Choosing", "Protocol", "Study"]
