"""Trained models as folders of their own, and what answers with them."""

from bench.export.warm_start import take_up, told

__all__ = ["take_up", "told"]
