"""What is asked for: cells, selectors, settings, experiment files."""

from bench.plan.cell import CellSpec, line
from bench.plan.experiment_file import check_seeds, seeds
from bench.plan.request import Request
from bench.plan.settings import Value, text_of

__all__ = ["CellSpec", "Request", "Value", "check_seeds", "line", "seeds", "text_of"]
