"""Engines of other projects that carry groups of lanes to other processes and machines.

A room of its own, though the runner alone uses it: a scheduler imports it, and should not import torch.
"""

from bench.engines.interface import Engine, Lost, Refused
from bench.engines.named import LOCAL, engine_at
from bench.engines.slurm import SLURM, Array

__all__ = ["LOCAL", "SLURM", "Array", "Engine", "Lost", "Refused", "engine_at"]
