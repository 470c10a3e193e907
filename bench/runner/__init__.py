"""Carries out a plan over lanes, processes and devices."""

from bench.runner.dispatch import Options, all_cells, carry_out, common, unsuitable, wanted

__all__ = ["Options", "all_cells", "carry_out", "common", "unsuitable", "wanted"]
