"""Supermasks in superposition: random weights that never change, with a mask for every task.

Axes: L lanes, T tasks, N weights of a layer, C bytes of N bits, U units; X the axes of one row.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Batch, LaneFloat, Search, Share, Strategy, uniform_parameter
from strategies.parts import by_task, fan_in, hidden_layers, unit_count, with_masks


class SupSup(Strategy):
    """Supermasks in superposition: weights stay random, and each task learns which of them it uses.

    Weights are a constant with random signs, biases are 0. A task has a score s for every weight; the share
    ``kept`` of each layer with the largest magnitudes is used, and scores are trained as if the weight were
    multiplied by abs(s): dL/ds = dL/d(masked weight) * weight * sign(s) (edge-popup, Ramanujan 2020). A
    finished task is stored as a mask of bits (Wortsman 2020, section 3).
    """

    name = "supsup"
    family = "isolation"
    paper = "Wortsman et al. 2020, Supermasks in superposition"
    needs = "the task of every row, a bit per weight and task, dense layers and convolutions"
    scenarios = ("task",)
    needs_boundaries = True

    kept: Annotated[Share, Search(0.1, 0.9)] = LaneFloat(0.5)
    """Share of each layer's weights that a task uses, at least one; in the head, of its units' weights."""

    @torch.no_grad()
    def setup(self) -> None:
        """Set the weights to a constant with their initial signs, and store each task's initial mask."""
        self._layers = [*hidden_layers(self.model, self.name), self.model.head]
        self.model.requires_grad_(False)
        for layer in self._layers:
            constant = math.sqrt(2 / fan_in(layer))
            layer.weight.copy_(torch.where(layer.weight < 0, -constant, constant))
            if layer.bias is not None:
                layer.bias.zero_()
        streams, weights = self.streams, [layer.weight for layer in self._layers]
        self._scores = [nn.Parameter(torch.empty_like(w)) for w in weights]
        self._second = self.optimiser.alike(self._scores)
        # The host needs the number of weights in a mask; copied once here, not at every step.
        self._shares = self.kept.tolist()
        self._bit_8 = 2 ** torch.arange(8, dtype=torch.uint8, device=streams.device)
        shape = (streams.lanes, streams.n_tasks)
        self.bits = [w.new_zeros(*shape, -(-w[0].numel() // 8), dtype=torch.uint8) for w in weights]
        for task in range(streams.n_tasks):
            self._draw(task)
            self._store(task)
        self._learning = False

    def _draw(self, task: int) -> None:
        """Draw a task's score of every weight from U(-b, b), b = 1 / sqrt(inputs)."""
        for i, (layer, score) in enumerate(zip(self._layers, self._scores, strict=True)):
            generators = self.streams.generators(f"scores/{task}/{i}")
            score.data.copy_(uniform_parameter(generators, tuple(score.shape[1:]), fan_in(layer) ** -0.5))

    def begin_task(self, task: int) -> None:
        """Draw the task's initial scores."""
        self._draw(task)
        self._second.reset()
        self._learning = True

    def learn(self, batch: Batch) -> Tensor:
        """Take one step that changes the scores only."""
        with self.autocast():
            loss_L = self.loss(batch)
        self._second.descend(loss_L, self.context.active)
        return loss_L.detach()

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the new rows in the masked network, shape (L,)."""
        sizes = [score.abs() for score in self._scores]
        masks = zip(sizes, self._masks(self.task), strict=True)
        # Straight-through: the value of the mask, and the gradient of the score's magnitude.
        straight = [mask + (size - size.detach()) for size, mask in masks]
        return self.cross_entropy(self.logits(batch, with_masks(self.model, self._layers, straight)), batch)

    def end_task(self, task: int) -> None:
        """Store the task's masks."""
        self._store(task)
        self._learning = False

    def predict(self, batch: Batch) -> Tensor:
        """Predict each row in the network of its task's masks."""
        if self._learning:
            self._store(self.task)
        logits = [
            self.logits(batch, with_masks(self.model, self._layers, self._stored(task)))
            for task in range(self.streams.n_tasks)
        ]
        return by_task(logits, self.streams.task_of(batch.rows_LB))

    @torch.no_grad()
    def _masks(self, task: int) -> list[Tensor]:
        """Return the mask of each layer by the current scores, for a task; bool, shaped like the weights."""
        own = [len(s.tasks[task].units) for s in self.streams.streams]
        masks = []
        for layer, score in zip(self._layers, self._scores, strict=True):
            size, used = score.abs(), [unit_count(layer)] * len(own)
            if layer is self.model.head:  # of the head, a task uses its own units only
                size.masked_fill_(~self.streams.own_LTU[:, task].unsqueeze(1), -1)
                used = own
            counts = [round(share * n * fan_in(layer)) for share, n in zip(self._shares, used, strict=True)]
            masks.append(_largest(size.flatten(1), counts).view_as(score))
        return masks

    def _store(self, task: int) -> None:
        """Store the masks of the current scores, eight bits to a byte."""
        for bits_LTC, mask in zip(self.bits, self._masks(task), strict=True):
            mask_LN = mask.flatten(1)
            mask_LC8 = F.pad(mask_LN, (0, -mask_LN.shape[1] % 8)).unflatten(1, (-1, 8))
            bits_LTC[:, task] = (mask_LC8 * self._bit_8).sum(2)

    def _stored(self, task: int) -> list[Tensor]:
        """Return the stored masks of a task; bool, shaped like the weights."""
        masks = []
        for bits_LTC, layer in zip(self.bits, self._layers, strict=True):
            mask_LC8 = (bits_LTC[:, task].unsqueeze(2) & self._bit_8) > 0
            masks.append(mask_LC8.flatten(1)[:, : layer.weight[0].numel()].view_as(layer.weight))
        return masks


def _largest(size_LN: Tensor, counts: list[int]) -> Tensor:
    """Return a mask of each lane's ``counts`` (at least 1) largest numbers, with all equal to the last."""
    places = [size_LN.shape[1] - max(count, 1) + 1 for count in counts]
    if len(set(places)) == 1:  # one launch for all lanes
        edge_L = size_LN.kthvalue(places[0]).values
    else:
        edge_L = torch.stack([n.kthvalue(place).values for n, place in zip(size_LN, places, strict=True)])
    return size_LN >= edge_L.unsqueeze(1)
