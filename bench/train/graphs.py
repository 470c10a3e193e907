"""Records the operations of a step, and submits them again in one launch."""

from collections.abc import Callable
from typing import Protocol

import torch

from strategies.core import NotAlike
from suites.tracebacks import first_line


class Graph(Protocol):
    """Records the operations of a step, and submits them again."""

    def record(self, step: Callable[[], None]) -> None:
        """Take a step, and record what it submits."""

    def replay(self) -> None:
        """Submit what was recorded."""


class CudaGraph:
    """A CUDA graph. Python runs once, while the step is captured; nothing is computed until a replay."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, step: Callable[[], None]) -> None:
        """Capture a step, then replay it.

        Raises:
            NotAlike: CUDA cannot capture it, for example because it waits for the device.
        """
        try:
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            raise NotAlike(f"CUDA cannot capture a step: {first_line(error)}") from error
        self._graph.replay()

    def replay(self) -> None:
        """Submit the step."""
        self._graph.replay()


def graphs_of(device: torch.device) -> Callable[[], Graph] | None:
    """Return what records steps on a device; None where launches cost little."""
    return CudaGraph if device.type == "cuda" and torch.version.cuda is not None else None
