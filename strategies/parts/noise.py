"""Gaussian noise per lane, for methods that need many numbers at every step.

Hashing every number (``Draws``) would take a large part of a generative method's step. Here each lane has a
generator, which is seeded at every task from the lane's seed and the task, so that checkpoints need not
contain it. The numbers are drawn on the host and copied, so they are the same on every device.

Axes: L lanes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from strategies.core import send
from suites.base import derive


class GaussianNoise:
    """Standard normal draws for all lanes, named by their purpose."""

    def __init__(self, name: str, seeds: Sequence[int], device: torch.device) -> None:
        self.name, self.seeds, self._device = name, tuple(seeds), str(device)
        self.generators = [torch.Generator() for _ in seeds]
        self.begin(0)

    def begin(self, task: int) -> None:
        """Seed the generators for a task."""
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(derive(seed, f"{self.name}/{task}"))

    def normal(self, *shape: int) -> Tensor:
        """Return the next numbers of every lane, float32, shape (L, *shape)."""
        out = torch.empty(len(self.generators), *shape)
        for lane, generator in zip(out, self.generators, strict=True):
            torch.randn(shape, generator=generator, out=lane)
        return send(out, self._device)
