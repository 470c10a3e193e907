"""Learning by looking ahead: La-MAML, and OML learned online.

Both take a few quick steps on the new rows, and then ask how a loss on new and remembered rows, taken where
those steps led, changes with where they started.

Axes: L lanes, B batch, U units; X the axes of one row.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import Batch, Bounds, CountOrNone, LaneFloat, NotNegative, dot_L, mask, per_lane, unless
from strategies.parts import Replay, join_batches


class LookAhead(Replay):
    """What methods that look ahead share: the quick steps, and the loss where they led."""

    family = "meta"
    needs = "a memory of rows, a graph over a few steps"

    batch: CountOrNone = 0
    """Remembered rows beside the new ones in the outer loss; 0 for an equal number."""
    inner: CountOrNone = 5
    """Quick steps that the new rows are cut into; 0 for one step a row."""
    order: Literal["first", "second"] = "first"
    """Whether quick steps count as constants (first) or are differentiated through as well (second)."""
    outer: Annotated[Literal["last", "mean"], unless("inner", 1)] = "last"
    """The outer loss after the last quick step, or its mean over all of them."""

    def look_ahead(self, batch: Batch, rates: Mapping[str, Tensor]) -> Tensor:
        """Return the outer loss after quick steps of the parameters named in ``rates``, shape (L,)."""
        slots_LB = self.memory.draw_slots("replay", self.batch or batch.rows_LB.shape[1])
        both = join_batches(batch, self.memory.read(slots_LB, batch))
        fast: dict[str, Tensor] = dict(self.model.named_parameters())
        ahead, stepped = [], []
        size, second = batch.rows_LB.shape[1], self.order == "second"
        n = min(self.inner or size, size)
        for i in range(n):
            part = batch.split((i + 1) * size // n)[0].split(i * size // n)[1]
            moved = [fast[name] for name in rates]
            grads = torch.autograd.grad(self.loss_at(fast, part).sum(), moved, create_graph=second)
            fast |= {k: p - rates[k] * g for k, p, g in zip(rates, moved, grads, strict=True)}
            if self.outer == "mean" or i == n - 1:
                ahead.append(self.loss_at(fast, both))
                stepped.append(part.learns_L)
        if self.outer == "last" or batch.all_count:
            return torch.stack(ahead).mean(0)
        # A piece of padding alone is no quick step: what follows it would count the step before twice.
        real_KL = torch.stack(stepped)
        return (torch.stack(ahead) * real_KL).sum(0) / real_KL.sum(0).clamp(min=1)

    def loss_at(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch at other parameters, shape (L,)."""
        logits_LBU = functional_call(self.model, dict(parameters), (batch.x_LBX,))
        return self.cross_entropy(mask(logits_LBU, batch.active_LBU), batch)


class LaMAML(LookAhead):
    """Look-ahead MAML: every parameter has a learning rate of its own, learned with it.

    p_k = p_0 - sum_i a * grad l_i(p_i) on the new rows; then, with L on new and remembered rows,
    a <- a - eta dL(p_k)/da and p <- p - max(0, a) * dL(p_k)/dp_0 (Gupta 2020, Algorithm 1). A parameter whose
    steps help the memory gets a larger rate, one whose steps hurt it is stopped.
    """

    name = "la-maml"
    cost = 3.0
    paper = "Gupta et al. 2020, La-MAML: look-ahead meta learning for continual learning"

    eta: NotNegative = LaneFloat(0.3)
    """Rate at which the learning rates are learned."""
    uphill: bool = False
    """Whether a negative rate steps uphill in the quick steps (the algorithm as written) or makes none."""
    clip: Annotated[LaneFloat, Bounds(1e-12)] = LaneFloat(2.0)
    """Longest gradient, of the parameters and of their rates, that is not shortened."""

    def setup(self) -> None:
        """Start all of a lane's rates at its learning rate."""
        super().setup()
        lr_L, decay = self.optimiser.lr_L, self.optimiser.weight_decay
        self.rates = [per_lane(lr_L, p) * torch.ones_like(p) for p in self.model_tensors()]
        self._decay_L = torch.tensor(decay, device=lr_L.device)

    def learn(self, batch: Batch) -> Tensor:
        """Look ahead, then move the rates and, by the new rates, the parameters.

        A resting lane stays where it is: the gradients of rows that do not count are exactly 0.
        """
        parameters = dict(self.model.named_parameters())
        rates = {k: r.detach().requires_grad_() for k, r in zip(parameters, self.rates, strict=True)}
        with self.autocast():
            quick = rates if self.uphill else {k: r.relu() for k, r in rates.items()}
            loss_L = self.look_ahead(batch, quick)
        found = torch.autograd.grad(loss_L.sum(), [*parameters.values(), *rates.values()])
        moves, rate_moves = self.clipped(found[: len(rates)]), self.clipped(found[len(rates) :])
        for p, r, g, h in zip(self.model_tensors(), self.rates, moves, rate_moves, strict=True):
            r.sub_(per_lane(self.eta, h) * h)
            p.sub_(r.clamp(min=0) * (g + per_lane(self._decay_L * batch.learns_L, p) * p))
        return loss_L.detach()

    def clipped(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Shorten each lane's gradient to ``clip`` where it is longer."""
        scale_L = (self.clip / (dot_L(gradients, gradients).sqrt() + 1e-6)).clamp(max=1)
        return [per_lane(scale_L, g) * g for g in gradients]


class OML(LookAhead):
    """Online-aware meta-learning: features that a quickly moving head does not spoil.

    The quick steps move the head alone, p_k = p_0 - alpha sum_i grad l_i(p_i) on the new rows; features and
    head are learned by the gradient, to where they stood before, of the loss on new and remembered rows where
    the head was led (Javed & White 2019, Algorithm 1, from a memory in place of sampled trajectories).
    """

    name = "oml"
    cost = 3.0
    paper = "Javed & White 2019, Meta-learning representations for continual learning"

    order: Literal["first", "second"] = "second"
    """Whether quick steps count as constants (first) or are differentiated through as well (second)."""
    alpha: NotNegative = LaneFloat(0.01)
    """Rate of the quick steps."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss after quick steps of the head; the optimiser takes it from there."""
        heads = {k: p for k, p in self.model.named_parameters() if k.startswith("head.")}
        return self.look_ahead(batch, {k: per_lane(self.alpha, p) for k, p in heads.items()})
