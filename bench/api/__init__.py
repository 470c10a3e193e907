"""Experiments, reports and exports from Python: ``lethe.run``, ``lethe.load``, ``lethe.report`` ..."""

from bench.api.experiments import compare, export, load, report, run
from bench.api.notebook import Frames
from bench.api.tune_function import Tuning, tune

__all__ = ["Frames", "Tuning", "compare", "export", "load", "report", "run", "tune"]
