"""Trained models in folders of their own: export, prediction, and further training."""

from bench.export.build import export, find, save, served
from bench.export.predictor import Predictor
from bench.export.warm_start import describe_overlap, load_into
from bench.schema import Exported

__all__ = ["Exported", "Predictor", "describe_overlap", "export", "find", "load_into", "save", "served"]
