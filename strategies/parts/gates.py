"""Gates on hidden layers: a unit's output is multiplied by a number between 0 and 1 for each task.

The gate is applied before the ReLU, which for a non-negative gate is the same as after it. New rows are of
the current task, so one gate is used for the whole batch. Rows to predict are of any task, and each uses the
gate of its own task.

Axes: L lanes, B batch, T tasks, F units of a layer.
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from strategies.core import Batch, LaneLinear, Strategy
from strategies.parts.layers import Layer, hidden_layers


class Gated(Strategy):
    """Base of methods with gates: hooks on hidden layers, and the gates of each row's task in prediction."""

    family = "isolation"
    scenarios = ("task",)
    needs_boundaries = True

    def setup(self) -> None:
        """Add a gate to every hidden layer."""
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
        """Return the gates of the current task, shape (L, 1, F)."""
        raise NotImplementedError

    def gates_of_tasks(self, layer: int) -> Tensor:
        """Return the gates of every task in prediction, shape (L, T, F)."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Predict each row with the gates of its own task."""
        self._task_LB = self.streams.task_of(batch.rows_LB)
        try:
            return self.logits(batch)
        finally:
            self._task_LB = None


def _hook(gate: Callable[[int], Tensor], i: int) -> Callable[..., Tensor]:
    # A function, because a hook that is a method would make a copy of the network copy the strategy, too. It
    # does not own the strategy, which owns the network: a cycle would keep both in memory after the group.
    own = weakref.WeakMethod(gate)

    def multiply(layer: Layer, _: object, out: Tensor) -> Tensor:
        gate_of = own()
        assert gate_of is not None
        gate_LBF: Tensor = gate_of(i)
        if isinstance(layer, LaneLinear):
            return out * gate_LBF
        return out * gate_LBF.transpose(0, 1).flatten(1)[..., None, None]

    return multiply
