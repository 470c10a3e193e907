"""Trained models as folders of their own: made, asked, and trained on."""

from bench.export.build import find, save, served
from bench.export.predictor import Predictor
from bench.export.warm_start import take_up, told

__all__ = ["Predictor", "find", "save", "served", "take_up", "told"]
