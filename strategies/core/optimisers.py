"""SGD, momentum SGD, Adam and AdamW over stacked parameters, with a rate for each lane.

``torch.optim`` has one rate per parameter, but a stacked parameter needs L of them. The update is computed by
torch's own fused kernels, called on slices of lanes that share rate, decay and number of steps. On a CPU
a slice is one lane, so that no lane's rounding depends on other lanes; on a GPU slices are as long as
possible, so that few kernels are launched. A resting lane is in no slice, so it does not change.

Axes: L lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON, MOMENTUM = 0.9, 0.999, 1e-8, 0.9


class Optimiser:
    """The base class of optimisers; ``lr`` and ``weight_decay`` have one value per lane."""

    moments_needed: ClassVar[int] = 0

    def __init__(
        self, parameters: Sequence[Tensor], lr: Sequence[float], weight_decay: Sequence[float]
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.weight_decay = list(lr), list(weight_decay)
        device = self.parameters[0].device
        self.moments = [[torch.zeros_like(p) for p in self.parameters] for _ in range(self.moments_needed)]
        # Counted twice: torch's kernels need a tensor, and slices are made without reading from the device.
        self.steps_L = torch.zeros(len(self.lr), device=device)
        self.steps = [0] * len(self.lr)
        self._on_L = torch.zeros_like(self.steps_L)
        self._slices: list[_Slice] = []
        self._cut_for: tuple[bool, ...] | None = None

    @property
    def lr_L(self) -> Tensor:
        """The learning rates as a tensor, shape (L,)."""
        return torch.tensor(self.lr, device=self.steps_L.device)

    @torch.no_grad()
    def step(self, active: tuple[bool, ...] | None = None) -> None:
        """Update the parameters of active lanes (None: all) from ``.grad``; resting lanes do not change."""
        active = active or (True,) * len(self.lr)
        if active != self._cut_for:
            self._cut(active)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        self.steps_L.add_(self._on_L)
        for part in self._slices:
            self.update(part, grads if part.whole else [g[part.start : part.stop] for g in grads])
        self.steps = [n + on for n, on in zip(self.steps, active, strict=True)]

    def descend(self, loss_L: Tensor, active: tuple[bool, ...] | None = None) -> None:
        """Take a gradient step on a loss (L,) with these parameters only; no others get a gradient."""
        found = torch.autograd.grad(loss_L.sum(), self.parameters, materialize_grads=True)
        for p, gradient in zip(self.parameters, found, strict=True):
            p.grad = gradient
        self.step(active)

    def update(self, part: _Slice, grads: list[Tensor]) -> None:
        """Update the parameters of one slice of lanes."""
        raise NotImplementedError

    def alike(self, parameters: Iterable[Tensor], decays: bool = True) -> Self:
        """Return a new optimiser of the same class and rates for other parameters, perhaps without decay."""
        decay = self.weight_decay if decays else [0.0] * len(self.lr)
        return type(self)(list(parameters), self.lr, decay)

    def reset(self) -> None:
        """Set moments and step counts to zero, as in a new optimiser."""
        for tensor in (self.steps_L, *(m for moment in self.moments for m in moment)):
            tensor.zero_()
        self.steps = [0] * len(self.lr)
        self._cut_for = None

    def state(self) -> dict[str, Tensor]:
        """Return the state to save in a checkpoint, each tensor with lanes first."""
        moments = {f"moment{i}.{j}": m for i, ms in enumerate(self.moments) for j, m in enumerate(ms)}
        return {"steps": self.steps_L, **moments}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` returned."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.recount()

    def recount(self) -> None:
        """Read the step counts from the device again, after other code has written into the tensors."""
        self.steps = [int(n) for n in self.steps_L.cpu()]
        self._cut_for = None

    def _cut(self, active: tuple[bool, ...]) -> None:
        keys = list(zip(self.lr, self.weight_decay, self.steps, strict=True))
        alone = not self.parameters[0].is_cuda
        self._on_L.zero_()
        self._slices, start = [], 0
        for lane in range(1, len(keys) + 1):
            if lane == len(keys) or alone or keys[lane] != keys[start] or active[lane] != active[start]:
                if active[start]:
                    self._slices.append(_Slice(self, start, lane))
                    self._on_L[start:lane] = 1
                start = lane
        self._cut_for = active


class _Slice:
    """Lanes ``start`` to ``stop``, which share rate, decay and step count, and views of their state."""

    def __init__(self, owner: Optimiser, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.whole = stop - start == len(owner.lr)
        self.lr, self.weight_decay = owner.lr[start], owner.weight_decay[start]
        self.parameters = [p.detach()[start:stop] for p in owner.parameters]
        self.moments = [[m[start:stop] for m in moment] for moment in owner.moments]
        self.step_of_each = [owner.steps_L[start]] * len(self.parameters)


class SGD(Optimiser):
    """Stochastic gradient descent, with L2 added to the gradient."""

    momentum: ClassVar[float] = 0.0

    def update(self, part: _Slice, grads: list[Tensor]) -> None:
        """p -= lr * m, with m <- momentum * m + g + weight_decay * p."""
        torch._fused_sgd_(
            part.parameters,
            grads,
            part.moments[0] if part.moments else [],
            weight_decay=part.weight_decay,
            momentum=self.momentum,
            lr=part.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,  # moments start at zero, which gives the same first step
        )


class Momentum(SGD):
    """SGD with momentum 0.9."""

    moments_needed = 1
    momentum = MOMENTUM


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015, Algorithm 1), with L2 added to the gradient."""

    moments_needed = 2
    betas: ClassVar[tuple[float, float]] = (BETA_1, BETA_2)
    kernel: ClassVar[Callable[..., None]] = staticmethod(torch._fused_adam_)

    def update(self, part: _Slice, grads: list[Tensor]) -> None:
        """Update by the bias-corrected ratio of the moments."""
        self.kernel(
            part.parameters,
            grads,
            part.moments[0],
            part.moments[1],
            [],
            part.step_of_each,
            lr=part.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=part.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2)."""

    kernel: ClassVar[Callable[..., None]] = staticmethod(torch._fused_adamw_)


def make_optimiser(name: str, parameters: Sequence[Tensor], lanes: int, lr: float) -> Optimiser:
    """Return the optimiser of a second network, with one rate for all lanes and no weight decay."""
    return OPTIMISERS[name](parameters, [lr] * lanes, [0.0] * lanes)


OPTIMISERS: dict[str, type[Optimiser]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
