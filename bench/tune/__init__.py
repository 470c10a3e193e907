"""Chooses settings by validation rows of seeds that are not reported, several trials at a time as lanes."""

from bench.tune.method import Choosing
from bench.tune.study import Study

__all__ = ["Choosing", "Study"]
