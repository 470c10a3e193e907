"""Experiments and reports from Python: ``lethe.run``, ``lethe.load``, ``lethe.report`` ..."""

from bench.api.experiments import compare, load, report, run
from bench.api.notebook import Frames
from bench.api.tune_function import Tuning, tune

__all__ = ["Frames", "Tuning", "compare", "load", "report", "run", "tune"]
