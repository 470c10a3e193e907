"""The main loop with its schedule, scores, checkpoints and records."""

from bench.train.arithmetic import arithmetic
from bench.train.broken_device import is_broken
from bench.train.group import run_group
from bench.train.lane_state import LaneState, WarmStart, make_lanes
from bench.train.loop import begin_task, learn_task, run_lanes, take_steps
from bench.train.preparing import fingerprint_in_folder, parameters_of, prepare
from bench.train.saving import Paused, Saving
from bench.train.stored import StoredWhenFull

__all__ = [
    "LaneState", "Paused", "Saving", "StoredWhenFull", "WarmStart", "arithmetic", "begin_task",
    "fingerprint_in_folder", "is_broken", "learn_task", "make_lanes", "parameters_of", "prepare", "run_group",
    "run_lanes", "take_steps",
]  # fmt: skip
