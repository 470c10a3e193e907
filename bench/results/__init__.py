"""What the records of one or several runs say, as frames."""

from bench.results.choose import as_shown, choose, read_names
from bench.results.compared_runs import compare_runs, own_project
from bench.results.folded_grids import folded
from bench.results.frames import CELL, Frames, load, scores_of, tidy
from bench.results.grids import Grid
from bench.results.like_finetune import LikeFinetune, compared_with_finetune
from bench.results.merge import state_of
from bench.results.outcome import TIMINGS, Outcome, outcomes
from bench.results.over_revisions import Line, Step, commits_between, history
from bench.results.per_class import AVERAGES, SPLITS, Confusions, by_class, classes, confusions, so_far
from bench.results.setup_differences import ranges
from bench.schema import Command, ComparedScore, Comparison, Expectation, Trial, Tuned

__all__ = [
    "AVERAGES", "CELL", "SPLITS", "TIMINGS", "Command", "ComparedScore", "Comparison", "Confusions",
    "Expectation", "Frames", "Grid", "LikeFinetune", "Line", "Outcome", "Step", "Trial", "Tuned",
    "as_shown", "by_class", "choose", "classes", "commits_between", "compare_runs",
    "compared_with_finetune", "confusions", "folded", "history", "load", "outcomes", "own_project",
    "ranges", "read_names", "scores_of", "so_far", "state_of", "tidy",
]  # fmt: skip
