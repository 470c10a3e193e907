"""Gradient projection memory.

Axes: L lanes, B batch, R rows, I inputs, O outputs, S positions, D inputs of a layer's products and one
constant for its bias; X the axes of one row.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import (
    Count,
    LaneFloat,
    LaneLinear,
    Momentum,
    NotNegative,
    Search,
    Share,
    Strategy,
    eval_mode,
    gradients,
    unless,
)
from strategies.parts import Layer, fan_in, hidden_layers, inputs_during, patches_of, sample_rows

_CHUNK = 25
"""Number of rows whose patches are in memory together."""
_ROUNDING = 1e-10
"""A direction with a smaller share of the squared norm than this is a rounding error."""


class GPM(Strategy):
    """Gradient projection memory: a layer's weights move only orthogonally to its inputs in earlier tasks.

    grad W <- grad W - M M^T grad W, with M the leading left singular vectors of the layer's inputs at the
    end of each task: the fewest with a share ``threshold`` of their squared norm (Saha 2021, eq. 5 to 9).
    """

    name = "gpm"
    family = "gradient"
    paper = "Saha, Garg & Roy 2021, Gradient projection memory for continual learning"
    needs = "task boundaries, a square matrix per layer, dense layers and convolutions"
    needs_boundaries = True
    projects = True

    threshold: Annotated[Share, Search(0.9, 0.999)] = LaneFloat(0.97)
    """Share of the squared norm of a layer's inputs that the stored directions hold."""
    growth: Annotated[NotNegative, unless("threshold", 1.0)] = LaneFloat(0.003)
    """How much the threshold grows from task to task, up to 1."""
    rows: Count = 300
    """Number of a task's rows that directions are computed from."""

    def setup(self) -> None:
        """Start without directions: M M^T is 0 for every layer."""
        self._layers = hidden_layers(self.model, self.name)
        if self.streams.scenario != "task":  # in which each task has its own units of the head
            self._layers.append(self.model.head)
        lanes, device = self.streams.lanes, self.streams.device
        sizes = [fan_in(layer) + 1 for layer in self._layers]
        self.projectors = [torch.zeros(lanes, d, d, device=device) for d in sizes]

    def adjust_gradients(self) -> None:
        """Remove the part of the gradient that would change a layer's outputs on the stored directions."""
        if self.task > 0:
            self.project(list(self.model.parameters()), gradients(self.model))

    def project(self, parameters: Sequence[Tensor], moves: Sequence[Tensor]) -> None:
        """Remove from each parameter's move, in place, what would change outputs on the stored directions."""
        of = {id(p): move for p, move in zip(parameters, moves, strict=True)}
        for layer, projector_LDD in zip(self._layers, self.projectors, strict=True):
            weight, bias = of[id(layer.weight)], of[id(layer.bias)]
            dense = isinstance(layer, LaneLinear)
            weight_LIO = weight if dense else weight.flatten(2).transpose(1, 2)
            move_LDO = torch.cat([weight_LIO, bias.unsqueeze(1)], 1)
            move_LDO = move_LDO - torch.bmm(projector_LDD, move_LDO)
            left_LIO = move_LDO[:, :-1] if dense else move_LDO[:, :-1].transpose(1, 2)
            weight.copy_(left_LIO.reshape(weight.shape))
            bias.copy_(move_LDO[:, -1])

    def end_task(self, task: int) -> None:
        """Add the directions of the task's inputs that are not stored yet."""
        for projector_LDD, moment_LDD in zip(self.projectors, self.moments(task), strict=True):
            d = moment_LDD.shape[1]
            share_L = self.threshold + self.growth * task
            across_LDD = torch.eye(d, device=moment_LDD.device) - projector_LDD.double()
            left_LDD = torch.bmm(torch.bmm(across_LDD, moment_LDD), across_LDD)
            # The left singular vectors of the inputs R are the eigenvectors of R R^T, here largest first.
            square_LD, vectors_LDD = torch.linalg.eigh(left_LDD)
            square_LD, vectors_LDD = square_LD.flip(1).clamp(min=0), vectors_LDD.flip(2)
            total_L1 = trace(moment_LDD).unsqueeze(1)
            held_LD = total_L1 - trace(left_LDD).unsqueeze(1) + square_LD.cumsum(1) - square_LD
            needed_LD = held_LD < share_L.clamp(max=1).unsqueeze(1) * total_L1
            needed_LD &= square_LD > _ROUNDING * total_L1
            chosen_LDD = vectors_LDD * needed_LD.unsqueeze(1)
            projector_LDD += torch.bmm(chosen_LDD, chosen_LDD.transpose(1, 2))
        if isinstance(self.optimiser, Momentum):  # momentum still contains this task's gradients
            self.project(self.optimiser.parameters, self.optimiser.moments[0])

    @torch.no_grad()
    def moments(self, task: int) -> list[Tensor]:
        """Return R R^T of each layer's inputs R at some rows of a task, float64 (L, D, D)."""
        streams = self.streams
        rows_LR, real_LR = sample_rows(streams, self.draws, "gpm", task, self.rows)
        found = [torch.zeros_like(p, dtype=torch.float64) for p in self.projectors]
        with eval_mode(self.model):
            for rows_LB, real_LB in zip(rows_LR.split(_CHUNK, 1), real_LR.split(_CHUNK, 1), strict=True):
                x_LBX = streams.batch(rows_LB.contiguous()).x_LBX
                inputs = inputs_during(self.model, x_LBX, self._layers)
                for layer, x, moment_LDD in zip(self._layers, inputs, found, strict=True):
                    x_LBSD = inputs_of(layer, x, streams.lanes)
                    x_LRD = (x_LBSD * real_LB.view(*real_LB.shape, 1, 1)).flatten(1, 2).double()
                    moment_LDD += torch.bmm(x_LRD.transpose(1, 2), x_LRD)
        return found


def inputs_of(layer: Layer, x: Tensor, lanes: int) -> Tensor:
    """Return the inputs of a layer and the 1 of its bias, at each position, shape (L, B, S, D)."""
    if isinstance(layer, LaneLinear):
        return F.pad(x, (0, 1), value=1.0).unsqueeze(2)
    return F.pad(patches_of(layer, x, lanes).transpose(2, 3), (0, 1), value=1.0)


def trace(a_LDD: Tensor) -> Tensor:
    """Return the trace of each lane's matrix, shape (L,)."""
    return a_LDD.diagonal(dim1=1, dim2=2).sum(1)
