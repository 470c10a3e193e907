"""Sends the records of a run to TensorBoard, MLflow, Weights & Biases or trackio while it runs."""

from bench.report.trackers.feed import check_trackers, tracking
from bench.report.trackers.sinks import TRACKERS

__all__ = ["TRACKERS", "check_trackers", "tracking"]
