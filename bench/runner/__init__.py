"""Schedules cells over lanes, processes and devices, and isolates failures."""

from bench.runner.dispatch import carry_out, carry_out_plan, resolve_for
from bench.runner.options import Options, Outcome
