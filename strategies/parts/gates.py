"""Gates on hidden layers: a unit's output is multiplied by a number between 0 and 1 that its task decides.

The gate stands before the ReLU: for a gate that is not negative that is the same as after it. New rows
are of the task under way, so one gate serves the whole batch; rows to be predicted are of any task, and
each takes its own.

Axes: L lanes, B batch, T tasks, F units of a layer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from strategies.core import Batch, LaneLinear, Strategy
from strategies.parts.layers import Layer, hidden_layers


class Gated(Strategy):
    """What the methods with gates share: hooks on the hidden layers, and each row's own gates in answers."""

    family = "isolation"
    scenarios = ("task",)
    needs_boundaries = True

    def setup(self) -> None:
        """Put a gate on every hidden layer."""
        self._layers = hidden_layers(self.model, self.name)
        self._task_LB: Tensor | None = None
        self._lane_L1 = torch.arange(self.streams.lanes, device=self.streams.device).unsqueeze(1)
        for i, layer in enumerate(self._layers):
            layer.register_forward_hook(_hook(self.gate, i))

    def gate(self, layer: int) -> Tensor:
        """Return the gates of a layer for the current rows, shape (L, 1 or B, F)."""
        if self._task_LB is None:
            return self.gate_now(layer)
        return self.gates_of_tasks(layer)[self._lane_L1, self._task_LB]

    def gate_now(self, layer: int) -> Tensor:
        """Return the gates of the task under way, shape (L, 1, F)."""
        raise NotImplementedError

    def gates_of_tasks(self, layer: int) -> Tensor:
        """Return the gates of every task as they are in answers, shape (L, T, F)."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Answer each row with the gates of its own task."""
        self._task_LB = self.streams.task_of(batch.rows_LB)
        try:
            return self.logits(batch)
        finally:
            self._task_LB = None


def _hook(gate: Callable[[int], Tensor], i: int) -> Callable[..., Tensor]:
    # A function of its own, not a method: a copy of the network must not copy the strategy with it.
    def multiply(layer: Layer, _: object, out: Tensor) -> Tensor:
        gate_LBF = gate(i)
        if isinstance(layer, LaneLinear):
            return out * gate_LBF
        return out * gate_LBF.transpose(0, 1).flatten(1)[..., None, None]

    return multiply
