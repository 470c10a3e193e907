"""Schedules cells over lanes, processes and devices, and isolates failures."""

from bench.runner.dispatch import carry_out, carry_out_plan
from bench.runner.options import Options
from bench.runner.planning import resolve_for, sized
from bench.runner.record_sample import Sample, check_sample, one_cell_sample, sample_cells
from bench.runner.run_outcome import Outcome
from bench.runner.verify_records import Verified, compare_sample, make_again

__all__ = [
    "Options", "Outcome", "Sample", "Verified", "carry_out", "carry_out_plan", "check_sample",
    "compare_sample", "make_again", "one_cell_sample", "resolve_for", "sample_cells", "sized",
]  # fmt: skip
