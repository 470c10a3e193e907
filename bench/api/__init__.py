"""Experiments, reports and exports from Python: ``lethe.run``, ``lethe.load``, ``lethe.report`` ..."""

from bench.api.experiments import compare, export, load, report, run
from bench.api.notebook import Frames

__all__ = ["Frames", "compare", "export", "load", "report", "run"]
