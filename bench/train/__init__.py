"""The main loop with its schedule, scores, checkpoints and records."""

from bench.train.lane_state import LaneState, WarmStart, make_lanes
from bench.train.loop import begin_task, learn_task, run_group, run_lanes, take_steps
