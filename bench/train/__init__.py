"""The main loop and what it measures."""

from bench.train.accuracy import unit_names
from bench.train.loop import Group, run_group
from bench.train.schedule import plan_task

__all__ = ["Group", "plan_task", "run_group", "unit_names"]
