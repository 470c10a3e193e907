"""Requests, cells, selectors, settings, experiment files, and resolved plans."""

from bench.plan.budget import Budget
from bench.plan.cell import CellSpec
from bench.plan.checked import Checked
from bench.plan.code import code_of, codes_of
from bench.plan.described import described
from bench.plan.expected_time import Timing, expected_time, unknown_work
from bench.plan.experiment_file import Experiment, read_experiment
from bench.plan.model import exported_reference
from bench.plan.request import Request, one_cell
from bench.plan.resolved import LaneGroup, ResolvedPlan
from bench.plan.resolving import Checkpoint, Present, resolve, unsuitable
from bench.plan.seed_notation import seeds_of
from bench.plan.selectors import parse as parse_selector
from bench.plan.settings import OF_METHODS, check_agreement
from bench.plan.sizes import NoData, Stored, fitted
from bench.plan.source_files import files_behind
from bench.plan.stale import Change, RecordHead, Staleness
from bench.plan.worded_request import worded_request
from bench.schema import DEFAULT_SEEDS, Fields, Value
from suites.bracketed import identity
from suites.values import text_of

__all__ = [
    "DEFAULT_SEEDS", "OF_METHODS", "Budget", "CellSpec", "Change", "Checked", "Checkpoint", "Experiment",
    "Fields", "LaneGroup", "NoData", "Present", "RecordHead", "Request", "ResolvedPlan", "Staleness",
    "Stored", "Timing", "Value", "check_agreement", "code_of", "codes_of", "described", "expected_time",
    "exported_reference", "files_behind", "fitted", "identity", "one_cell", "parse_selector",
    "read_experiment", "resolve", "seeds_of", "text_of", "unknown_work", "unsuitable", "worded_request",
]  # fmt: skip
