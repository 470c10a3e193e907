"""Look-ahead methods: La-MAML, and OML learned online.

Both take a few quick steps on the new rows, compute the loss on new and stored rows at the result, and
differentiate it with respect to the parameters before the quick steps.

Axes: L lanes, B batch, U units; X the axes of one row.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import (
    Batch,
    Bounds,
    CountOrNone,
    LaneFloat,
    NotNegative,
    Search,
    add_up,
    dot_L,
    mask,
    per_lane,
    unless,
)
from strategies.parts import Rehearsal
from suites.base import Training


class LookAhead(Rehearsal):
    """Base of the look-ahead methods: the quick steps and the outer loss after them."""

    family = "meta"
    needs = "a memory of rows, gradients through a few steps"
    cost = 3.0

    batch: CountOrNone = 0
    """Stored rows in the outer loss; 0 for the number of new rows."""
    inner: CountOrNone = 5
    """Number of quick steps, each on an equal part of the new rows; 0 for one step per row."""
    order: Literal["first", "second"] = "first"
    """first: quick steps' gradients are constants; second: they are differentiated through as well."""
    outer: Annotated[Literal["last", "mean"], unless("inner", 1)] = "last"
    """Outer loss: after the last quick step, or the mean over all quick steps."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: quick steps over the new rows, and the outer loss on all."""
        outer = min(self.inner or new, new) if self.outer == "mean" else 1
        return 1 + outer * (1 + (self.batch or new) / new)

    def look_ahead(self, batch: Batch, rates: Mapping[str, Tensor]) -> Tensor:
        """Return the outer loss after quick steps of the parameters named in ``rates``, shape (L,)."""
        both = self.both(batch)
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
            return add_up(ahead) / len(ahead)
        # A part with padding alone is not a quick step: leave its outer loss, a repetition, out of the mean.
        real = [loss_L * steps_L for loss_L, steps_L in zip(ahead, stepped, strict=True)]
        return add_up(real) / add_up(stepped).clamp(min=1)

    def loss_at(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch at other parameters, shape (L,)."""
        logits_LBU = functional_call(self.model, dict(parameters), (batch.x_LBX,))
        return self.cross_entropy(mask(logits_LBU, batch.active_LBU), batch)


class LaMAML(LookAhead):
    """Look-ahead MAML: every parameter has its own learning rate, which is learned too.

    p_k = p_0 - sum_i a * grad l_i(p_i) on the new rows; then, with L on new and stored rows,
    a <- a - eta dL(p_k)/da and p <- p - max(0, a) * dL(p_k)/dp_0 (Gupta 2020, Algorithm 1). The rate of a
    parameter grows if its quick steps also lower the loss on stored rows; it falls to 0 if they raise it.
    """

    name = "la-maml"
    paper = "Gupta et al. 2020, La-MAML: look-ahead meta learning for continual learning"

    eta: Annotated[NotNegative, Search(0.03, 1, log=True)] = LaneFloat(0.3)
    """Learning rate of the learning rates."""
    uphill: bool = False
    """Whether negative rates step uphill in the quick steps (the algorithm as written) or are taken as 0."""
    clip: Annotated[LaneFloat, Bounds(1e-12)] = LaneFloat(2.0)
    """Largest norm of the gradient of the parameters, and of that of their rates; longer ones are clipped."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Refuse schedules and the clipping of other methods: it learns its rates and clips by itself."""
        if training.schedule != "constant" or training.warmup or training.clip:
            return f"{self.name} learns its rates and clips by itself: leave out schedule, warmup and clip"
        return super().unsuitable(scenario, training)

    def setup(self) -> None:
        """Initialise all rates with the lane's learning rate."""
        super().setup()
        lr_L, decay = self.optimiser.lr_L, self.optimiser.weight_decay
        self.rates = [per_lane(lr_L, p) * torch.ones_like(p) for p in self.model_tensors()]
        self._decay_L = torch.tensor(decay, device=lr_L.device)

    def learn(self, batch: Batch) -> Tensor:
        """Look ahead, then update the rates, and the parameters with the new rates.

        A resting lane does not change: gradients of rows with weight 0 are exactly 0.
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
        """Return each lane's gradient, scaled down to norm ``clip`` where it is longer."""
        scale_L = (self.clip / (dot_L(gradients, gradients).sqrt() + 1e-6)).clamp(max=1)
        return [per_lane(scale_L, g) * g for g in gradients]


class OML(LookAhead):
    """Online-aware meta-learning: features with which quick steps of the head cause little interference.

    The quick steps move the head alone, p_k = p_0 - alpha sum_i grad l_i(p_i) on the new rows. The optimiser
    then follows the gradient, with respect to features and head before the quick steps, of the loss on new
    and stored rows at p_k (Javed & White 2019, Algorithm 1, with a memory instead of sampled
    trajectories).
    """

    name = "oml"
    paper = "Javed & White 2019, Meta-learning representations for continual learning"

    order: Literal["first", "second"] = "second"
    """first: quick steps' gradients are constants; second: they are differentiated through as well."""
    alpha: Annotated[NotNegative, Search(1e-3, 0.3, log=True)] = LaneFloat(0.01)
    """Learning rate of the quick steps."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss after quick steps of the head, differentiable in all parameters."""
        heads = {k: p for k, p in self.model.named_parameters() if k.startswith("head.")}
        return self.look_ahead(batch, {k: per_lane(self.alpha, p) for k, p in heads.items()})
