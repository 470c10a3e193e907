"""Progressive networks.

Axes: L lanes, B batch, F features, U units; X the axes of one row.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from strategies.core import Batch, LaneLinear, Optimiser, Strategy, mask, uniform_parameter
from strategies.parts import by_task, one_per_task, relu_chain


class Adapter(nn.Module):
    """U relu(V (alpha h)) of the earlier columns' features h (Rusu 2016, eq. 2)."""

    def __init__(self, generators: list[torch.Generator], inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.alpha = uniform_parameter(generators, (1, 1), 0.1)
        self.inner = LaneLinear(generators, inputs, inner)
        self.outer = LaneLinear(generators, inner, outputs)

    def forward(self, h_LBF: Tensor) -> Tensor:
        """Return the term that is added to a layer's outputs."""
        out: Tensor = self.outer(self.inner(self.alpha * h_LBF).relu())
        return out


class Progressive(Strategy):
    """Progressive networks: a new column of layers for every task, which also reads the earlier ones.

    h_i of column k = relu(W_i h_{i-1} of column k + lateral connections from h_{i-1} of all earlier columns),
    and earlier columns are frozen (Rusu 2016, eq. 1 and 2).
    """

    name = "progressive"
    # Forward passes of two earlier columns, on average over five tasks: two thirds.
    cost = 1.67
    family = "isolation"
    paper = "Rusu et al. 2016, Progressive neural networks"
    needs = "the task of every row, a network of dense layers per task"
    scenarios = ("task",)
    needs_boundaries = True
    not_saved = ("_second",)

    lateral: Literal["adapter", "linear"] = "adapter"
    """Connections from earlier columns: through a small network (eq. 2), or one matrix (eq. 1)."""

    def setup(self) -> None:
        """Create the columns of all tasks and the connections between them."""
        streams = self.streams
        layers = relu_chain(self.model, self.name)
        self.columns = one_per_task(self.model, streams)
        self.laterals = nn.ModuleList()
        for task in range(1, streams.n_tasks):
            generators = streams.generators(f"laterals/{task}")
            shapes = [layer.weight.shape[1:] for layer in layers[1:]]
            self.laterals.append(
                nn.ModuleList(
                    Adapter(generators, task * i, i, o)
                    if self.lateral == "adapter"
                    else LaneLinear(generators, task * i, o)
                    for i, o in shapes
                )
            )
        self.laterals.to(streams.device)

    def begin_task(self, task: int) -> None:
        """Load the task's column into the trained model; create the optimiser of its connections."""
        self.model.load_state_dict(self.columns[task].state_dict())
        self.optimiser.reset(alike=False)
        self.laterals.requires_grad_(False)
        self._second: Optimiser | None = None
        if task > 0:
            self._second = self.optimiser.alike(self.laterals[task - 1].requires_grad_(True).parameters())

    def end_task(self, task: int) -> None:
        """Store the trained column."""
        self.columns[task].load_state_dict(self.model.state_dict())

    def column_logits(self, x_LBX: Tensor, last: int) -> list[Tensor]:
        """Return the logits of columns 0 to ``last``, (L, B, U) each."""
        found: list[Tensor] = []
        before: list[list[Tensor]] = []  # the features of the columns so far, layer by layer
        for k in range(last + 1):
            column: Any = self.model if k == self.task else self.columns[k]
            lateral: Any = self.laterals[k - 1] if k > 0 else []
            features = [column.layers[0](x_LBX.flatten(2)).relu()]
            for i, layer in enumerate([*column.layers[1:], column.head]):
                out_LBF = layer(features[i])
                if before:
                    out_LBF = out_LBF + lateral[i](torch.cat([h[i] for h in before], 2))
                features.append(out_LBF.relu())
            found.append(out_LBF)
            before.append(features)
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the task's column."""
        logits_LBU = self.column_logits(batch.x_LBX, self.task)[-1]
        return self.cross_entropy(mask(logits_LBU, batch.active_LBU), batch)

    def learn(self, batch: Batch) -> Tensor:
        """Take one step with the column, and one with its connections."""
        self.laterals.zero_grad()
        loss_L = super().learn(batch)
        if self._second is not None:
            self._second.step(self.context.active)
        return loss_L

    def predict(self, batch: Batch) -> Tensor:
        """Predict each row with the column of its task."""
        logits = self.column_logits(batch.x_LBX, self.streams.n_tasks - 1)
        return mask(by_task(logits, self.streams.task_of(batch.rows_LB)), batch.active_LBU)
