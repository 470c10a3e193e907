"""Gaussian noise per lane, for methods that need many numbers at every step.

Hashing every number (``Draws``) would take a large part of a generative method's step. Here each lane has a
generator, which is seeded at every task from the lane's seed and the task, so that checkpoints need not
contain it. The numbers are drawn on the host and copied, so they are the same on every device.

Axes: L lanes.
"""

import torch
from torch import Tensor

from strategies.core import Draws, NotAlike, send
from suites.base import derive


class GaussianNoise:
    """Standard normal draws for all lanes, named by their purpose."""

    def __init__(self, name: str, draws: Draws) -> None:
        self.name, self.seeds, self._device = name, draws.seeds, str(draws.device)
        self.generators = [torch.Generator() for _ in self.seeds]
        self._shapes: list[tuple[int, ...]] | None = None
        self._buffers: list[Tensor] = []
        self._ready: list[Tensor] = []
        draws.sources.append(self)
        self.begin(0)

    def begin(self, task: int) -> None:
        """Seed the generators for a task."""
        self.forget()
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(derive(seed, f"{self.name}/{task}"))

    def normal(self, *shape: int) -> Tensor:
        """Return the next numbers of every lane, float32, shape (L, *shape)."""
        if self._shapes is not None:
            self._shapes.append(shape)
        if self._ready:
            if self._ready[0].shape[1:] != shape:
                raise NotAlike(f"the shapes of {self.name} differ from step to step")
            return self._ready.pop(0)
        return send(self._draw(shape), self._device)

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        out = torch.empty(len(self.generators), *shape)
        for lane, generator in zip(out, self.generators, strict=True):
            torch.randn(shape, generator=generator, out=lane)
        return out

    def watch(self) -> None:
        """Note the shapes that the next step draws."""
        self._shapes = []

    def prepare(self) -> None:
        """Draw the numbers of a step that is captured or replayed into tensors that every replay reads."""
        if self._shapes is not None:
            lanes, device = len(self.seeds), self._device
            self._buffers = [torch.empty(lanes, *shape, device=device) for shape in self._shapes]
            self._shapes = None
        for buffer in self._buffers:
            buffer.copy_(send(self._draw(buffer.shape[1:]), self._device))
        self._ready = [*self._buffers]

    def advance(self) -> None:
        """End a step that was captured or replayed."""
        self._ready = []

    def forget(self) -> None:
        """End the task's replays."""
        self._shapes, self._buffers, self._ready = None, [], []
