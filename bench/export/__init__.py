"""Trained models as folders of their own: made, asked, and trained on."""

from bench.export.build import find, save, served
from bench.export.predictor import Predictor
from bench.export.warm_start import describe_overlap, load_into
from bench.schema import Exported
