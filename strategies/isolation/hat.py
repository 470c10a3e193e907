"""Hard attention to the task.

Axes: L lanes, T tasks, F units of a layer, I inputs, O outputs.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import (
    Batch,
    Bounds,
    LaneFloat,
    LaneLinear,
    NotNegative,
    Search,
    Unsuitable,
    add_up,
    gradients,
    lanewise,
    per_lane,
)
from strategies.parts import Gated, fan_in, unit_count

_LARGEST, _LARGEST_COSH = 6.0, 50.0
"""Bounds of an embedding, and of the argument of its cosh, as in the released code."""


class HAT(Gated):
    """Hard attention to the task: each task learns which units it uses, and protects them from later tasks.

    Gates a = sigmoid(s e) with a learned embedding e per task and layer; s grows from 1/s_max to s_max in
    training and is s_max in prediction. A weight's gradient is multiplied by 1 - min(a of its output, a of
    its input), the largest gates of earlier tasks, and c * sum a (1 - a_earlier) / sum (1 - a_earlier) is
    added to the loss (Serra 2018, eq. 1 to 5).
    """

    name = "hat"
    paper = "Serra et al. 2018, Overcoming catastrophic forgetting with hard attention"
    needs = "the task of every row, gates per task, dense layers and convolutions"
    projects = True

    s_max: Annotated[LaneFloat, Bounds(1e-3), Search(10, 800, log=True)] = LaneFloat(400.0)
    """Steepness of the gates at the end, when they are nearly 0 or 1."""
    c: Annotated[NotNegative, Search(0.1, 2.5)] = LaneFloat(0.75)
    """Weight of the term that leaves units free for later tasks."""
    anneal: Literal["epoch", "task"] = "epoch"
    """s grows from 1/s_max to s_max in every epoch (the paper), or once over a task."""

    def setup(self) -> None:
        """Draw the embeddings of all tasks from N(0, 1), and add gates to the hidden layers."""
        super().setup()
        streams = self.streams
        sizes = [unit_count(layer) for layer in self._layers]
        self.embeddings = []
        for i, size in enumerate(sizes):
            shape = (streams.n_tasks, size)
            lanes = [torch.randn(shape, generator=g) for g in streams.generators(f"hat/{i}")]
            self.embeddings.append(torch.stack(lanes).to(streams.device))
        self.used = [e.new_zeros(len(e), size) for e, size in zip(self.embeddings, sizes, strict=True)]
        self._now = nn.ParameterList(e[:, 0].clone() for e in self.embeddings)
        self._second = self.optimiser.alike(self._now, decays=False)
        for layer, below in zip(self._layers[1:], sizes, strict=False):
            if fan_in(layer) % below:
                raise Unsuitable(f"{self.name} needs layers that each read the one before")

    def begin_task(self, task: int) -> None:
        """Load the task's embeddings, and compute the factors of the weights' gradients."""
        self.optimiser.reset()
        for now, all_LTF in zip(self._now, self.embeddings, strict=True):
            now.data.copy_(all_LTF[:, task])
        epoch, whole = self.streams.steps_of_task(task)
        self._period_L = torch.tensor(epoch if self.anneal == "epoch" else whole, device=self.streams.device)
        self._step = 0
        self._free = self.free() if task > 0 else {}

    def free(self) -> dict[nn.Parameter, Tensor]:
        """Return 1 - min(a of the output, a of the input), the gates of earlier tasks, for each parameter."""
        found = {}
        below_LF = None
        for layer, used_LO in zip(self._layers, self.used, strict=True):
            dense = isinstance(layer, LaneLinear)
            out = used_LO.unsqueeze(1) if dense else used_LO[:, :, None, None, None]
            if below_LF is not None:  # the first layer reads pixels, which have no gates
                # A dense layer after a convolution reads each channel at several positions.
                places = layer.weight.shape[1 if dense else 2] // below_LF.shape[1]
                in_LI = below_LF.repeat_interleave(places, 1)
                out = torch.minimum(out, in_LI.unsqueeze(2) if dense else in_LI[:, None, :, None, None])
            found[layer.weight] = 1 - out
            if layer.bias is not None:
                found[layer.bias] = 1 - used_LO
            below_LF = used_LO
        return found

    def learn(self, batch: Batch) -> Tensor:
        """Take one step with the network's weights, and one with the embeddings."""
        share_L = self._step % self._period_L / (self._period_L - 1).clamp(min=1)
        self._s_L = 1 / self.s_max + (self.s_max - 1 / self.s_max) * share_L
        self._now.zero_grad()
        loss_L = super().learn(batch)
        self._second.step(self.context.active)
        for e, all_LTF in zip(self._now, self.embeddings, strict=True):
            e.data.clamp_(-_LARGEST, _LARGEST)
            all_LTF[:, self.task] = e.data
        self._step += 1
        return loss_L

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        """Return c times the share of the free units that the task uses, shape (L,)."""
        pairs = [(self.gate_now(i).squeeze(1), 1 - used_LF) for i, used_LF in enumerate(self.used)]
        taken_L = add_up([(a_LF * free_LF).sum(1) for a_LF, free_LF in pairs])
        free_L = add_up([free_LF.sum(1) for _, free_LF in pairs])
        return self.c * taken_L / free_L.clamp(min=1e-6) * batch.learns_L

    def adjust_gradients(self) -> None:
        """Multiply the weights' gradients by their factors; compensate the embeddings' gradients for s."""
        gradients(self.model)
        for parameter, free in self._free.items():
            assert parameter.grad is not None
            parameter.grad.mul_(free)
        for e in self._now:
            assert e.grad is not None
            s_L1 = per_lane(self._s_L, e)
            steep = in_rows((s_L1 * e.data).clamp(-_LARGEST_COSH, _LARGEST_COSH)).cosh() + 1
            e.grad.mul_(per_lane(self.s_max, e) / s_L1 * steep / (in_rows(e.data).cosh() + 1))

    def end_task(self, task: int) -> None:
        """Record the largest gate of each unit so far."""
        for i, used_LF in enumerate(self.used):
            torch.maximum(used_LF, self.gates_of_tasks(i)[:, task], out=used_LF)

    def gate_now(self, layer: int) -> Tensor:
        """Return the gates of the current task with the s of this step, shape (L, 1, F)."""
        gate_LF: Tensor = in_rows(self._s_L.unsqueeze(1) * self._now[layer]).sigmoid()
        return gate_LF.unsqueeze(1)

    def gates_of_tasks(self, layer: int) -> Tensor:
        """Return the gates of every task with s = s_max, shape (L, T, F)."""
        return lanewise(torch.sigmoid, self.s_max.view(-1, 1, 1) * self.embeddings[layer])


def in_rows(x_LF: Tensor) -> Tensor:
    """Return a copy whose rows do not touch in memory, on a CPU.

    torch then applies a function to each row by itself: no lane's rounding depends on other lanes, as with
    ``lanewise``, which takes an operation for each lane. The gradient of sigmoid does not round by place.
    """
    return x_LF if x_LF.is_cuda else F.pad(x_LF, (0, 1))[:, :-1]
