"""The main loop, what it needs and what it measures."""

from bench.train.lane_state import LaneState, WarmStart, make_lanes
from bench.train.loop import begin_task, learn_task, run_group, take_steps

__all__ = [
    "LaneState",
    "WarmStart",
    "begin_task",
    "learn_task",
    "make_lanes",
    "run_group",
    "take_steps",
]
