"""SGD, momentum SGD, Adam and AdamW over stacked parameters, with a rate for each lane.

``torch.optim`` has one rate per parameter, but a stacked parameter needs L of them. There are two ways:

* Torch's fused kernels, called once for all lanes of equal rate and decay. Where every lane takes the step
  they read whole stacked tensors on a GPU. Everywhere else they read each lane's part, so that on a CPU no
  lane's rounding depends on other lanes. A resting lane is left out, so it does not change.
* Plain arithmetic on one vector of all parameters per lane, the same number of operations for any rates.
  This is used where rates differ on a GPU, and where this version of torch has no fused kernels. It agrees
  with the kernels to about 1e-6 of a step: the order of operations differs.

``lr`` can be assigned between steps, as a schedule does. Optimisers made by ``alike`` follow it, and are
reset with the first one.

Axes: L lanes, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self
from weakref import WeakSet

import torch
from torch import Tensor

from strategies.core.lanes import add_up, lane_vectors, per_lane, send

EPSILON = 1e-8


class Rates:
    """The learning rate of each lane, which optimisers of several sets of parameters share."""

    def __init__(self, lr: Sequence[float], device: torch.device) -> None:
        self.lr_L = torch.zeros(len(lr), device=device)
        self.assign(lr)

    def assign(self, lr: Sequence[float]) -> None:
        """Change the rates."""
        self.lr = list(lr)
        self.lr_L.copy_(send(torch.tensor(self.lr), self.lr_L.device))


class Optimiser:
    """The base class of optimisers; ``lr`` and ``weight_decay`` have one value per lane.

    Args:
        parameters: Stacked parameters, (L, ...) each.
        lr: The learning rate of each lane, or the rates of another optimiser.
        weight_decay: The weight decay of each lane.
        how: Numbers of the update rule that differ from those of the class: ``clip``, ``momentum`` ...
    """

    kernel: ClassVar[str] = ""
    """The name of torch's fused kernel; it is private, so it may be missing."""
    n_moments: ClassVar[int] = 0
    clip: float = 0.0
    """Largest norm of a lane's gradient over all parameters: a larger gradient is scaled down before a step
    (Pascanu et al. 2013). 0 for no limit."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: Sequence[float] | Rates,
        weight_decay: Sequence[float],
        **how: float,
    ) -> None:
        self.parameters = list(parameters)
        self.weight_decay = list(weight_decay)
        self.how = how
        for name, value in how.items():
            setattr(self, name, type(getattr(type(self), name))(value))
        self._followers: WeakSet[Optimiser] = WeakSet()
        self._rates = lr if isinstance(lr, Rates) else Rates(lr, self.parameters[0].device)
        lr = self.lr
        self._grouped_for: list[float] = []
        self._fused: Any = getattr(torch, self.kernel, None)
        self._plain = self._fused is None or (self.lr_L.is_cuda and len(set(self.grouping)) > 1)
        self._sizes = [p[0].numel() for p in self.parameters]
        self._moments_LP = [
            torch.zeros(len(lr), sum(self._sizes), device=self.lr_L.device) for _ in range(self.n_moments)
        ] if self._plain else []  # fmt: skip
        self.moments = [
            [part.view_as(p) for p, part in zip(self.parameters, m.split(self._sizes, 1), strict=True)]
            for m in self._moments_LP
        ] or [[torch.zeros_like(p) for p in self.parameters] for _ in range(self.n_moments)]
        # Counted twice: the kernels need a tensor, and parts are made without reading from the device.
        self.steps_L = torch.zeros_like(self.lr_L)
        self._steps = [0] * len(lr)
        self.steps_were_read = False
        self._on_L, self._ones_L = torch.zeros_like(self.steps_L), torch.ones_like(self.steps_L)
        self._decay_L1 = torch.tensor(self.weight_decay, device=self.lr_L.device).unsqueeze(1)
        self._all = (True,) * len(lr)
        self._parts: list[_Part] = []
        self._cut_for: object = None

    @property
    def lr(self) -> list[float]:
        """The learning rate of each lane; assign a new list to change it before a step."""
        return self._rates.lr

    @lr.setter
    def lr(self, lr: Sequence[float]) -> None:
        self._rates.assign(lr)

    @property
    def steps(self) -> list[int]:
        """The number of steps of each lane, for decisions on the host."""
        self.steps_were_read = True
        return self._steps

    @property
    def lr_L(self) -> Tensor:
        """The learning rates on the device."""
        return self._rates.lr_L

    @property
    def grouping(self) -> tuple[int, ...]:
        """For each lane the first one with the same rate and decay; the operations of a step depend on it."""
        if self._grouped_for is not self.lr:
            first: dict[object, int] = {}
            keys = zip(self.lr, self.weight_decay, strict=True)
            self._groups = tuple(first.setdefault(key, lane) for lane, key in enumerate(keys))
            self._grouped_for = self.lr
        return self._groups

    @torch.no_grad()
    def step(self, active: tuple[bool, ...] | None = None) -> None:
        """Update the parameters of active lanes (None: all) from ``.grad``; resting lanes do not change.

        A missing ``.grad`` is taken as zeros, as by ``gradients``: momentum and weight decay still act.
        """
        active = active or self._all
        if (active, self.grouping) != self._cut_for:
            self._cut(active)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        if self.clip:
            self.clip_gradients(grads)
        self.steps_L.add_(self._on_L)
        if self._plain:
            self._step_plainly(grads, active)
        for part in self._parts:
            # A GPU's kernel reads the rate from the device, so that a captured step follows its changes.
            lr = self.lr_L[part.lane] if self.lr_L.is_cuda else self.lr[part.lane]
            self.update(part, part.of(grads), lr)
        self._steps = [n + on for n, on in zip(self._steps, active, strict=True)]

    def clip_gradients(self, grads: Sequence[Tensor]) -> None:
        """Scale gradients in place, so that the norm of each lane over all tensors is at most ``clip``."""
        square_L = add_up([g.square().flatten(1).sum(1) for g in grads])
        factor_L = (self.clip / (square_L.sqrt() + 1e-6)).clamp(max=1)
        for g in grads:
            g.mul_(per_lane(factor_L, g))

    def descend(self, loss_L: Tensor, active: tuple[bool, ...] | None = None) -> None:
        """Take a gradient step on a loss (L,) with these parameters only; no others get a gradient."""
        found = torch.autograd.grad(loss_L, self.parameters, self._ones_L, materialize_grads=True)
        for p, gradient in zip(self.parameters, found, strict=True):
            p.grad = gradient
        self.step(active)

    def update(self, part: _Part, grads: list[Tensor], lr: float | Tensor) -> None:
        """Update the parameters of some lanes by the fused kernel."""
        raise NotImplementedError

    def change(self, grad_LP: Tensor, value_LP: Tensor | None) -> Tensor:
        """Update the moments of all lanes, and return what is subtracted from the parameters, (L, P).

        Args:
            grad_LP: The gradients.
            value_LP: The parameters, None without weight decay.
        """
        raise NotImplementedError

    def alike(self, parameters: Iterable[Tensor], decays: bool = True) -> Self:
        """Return a new optimiser of the same class and rates for other parameters, perhaps without decay.

        It is reset with this one.
        """
        decay = self.weight_decay if decays else [0.0] * len(self.lr)
        made = type(self)(list(parameters), self._rates, decay, **self.how)
        self._followers.add(made)
        return made

    def reset(self, alike: bool = True) -> None:
        """Set moments and step counts to zero, as in a new optimiser.

        Args:
            alike: Whether the optimisers made by ``alike`` are reset as well.
        """
        for follower in self._followers if alike else ():
            follower.reset()
        for tensor in (self.steps_L, *(m for moment in self.moments for m in moment)):
            tensor.zero_()
        self._steps = [0] * len(self.lr)
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
        self._steps = [int(n) for n in self.steps_L.cpu()]
        self._cut_for = None

    def _cut(self, active: tuple[bool, ...]) -> None:
        """Divide the active lanes into parts of equal rate and decay, one call of the kernel for each."""
        self._on_L.copy_(send(torch.tensor(active), self._on_L.device))
        groups = {
            first: [lane for lane, of in enumerate(self.grouping) if of == first and active[lane]]
            for first in dict.fromkeys(self.grouping)
        }
        together = all(active) and len(groups) == 1 and len(set(self._steps)) == 1
        whole = len(active) == 1 or (together and self.lr_L.is_cuda)
        found = [_Part(self, lanes, whole) for lanes in groups.values() if lanes]
        self._parts, self._cut_for = [] if self._plain else found, (active, self.grouping)

    def _step_plainly(self, grads: list[Tensor], active: tuple[bool, ...]) -> None:
        before = [] if all(active) else [m.clone() for m in self._moments_LP]
        value_LP = lane_vectors(self.parameters) if any(self.weight_decay) else None
        change_LP = self.change(lane_vectors(grads), value_LP)
        if not all(active):
            on_L1 = self._on_L.unsqueeze(1) > 0
            change_LP = torch.where(on_L1, change_LP, 0)
            for moment_LP, was_LP in zip(self._moments_LP, before, strict=True):
                moment_LP.copy_(torch.where(on_L1, moment_LP, was_LP))
        for p, part in zip(self.parameters, change_LP.split(self._sizes, 1), strict=True):
            p.sub_(part.view_as(p))


class _Part:
    """Lanes that share rate and decay, and views of their state: of each lane, or of all together."""

    def __init__(self, owner: Optimiser, lanes: list[int], whole: bool) -> None:
        self.lane, self.lanes, self.whole = lanes[0], lanes, whole
        self.every = len(lanes) == len(owner.lr)
        self.parameters = self.of([p.detach() for p in owner.parameters])
        self.moments = [self.of(moment) for moment in owner.moments]
        counts = [owner.steps_L] * len(owner.parameters)
        self.steps = [n[0] for n in counts] if whole else self.of(counts)

    def of(self, stacked: list[Tensor]) -> list[Tensor]:
        """Return what the kernel reads of stacked tensors."""
        if self.whole:
            return stacked
        return [v for t in stacked for v in (t.unbind(0) if self.every else [t[lane] for lane in self.lanes])]


class SGD(Optimiser):
    """Stochastic gradient descent, with L2 added to the gradient."""

    kernel = "_fused_sgd_"
    momentum: float = 0.0
    nesterov: bool = False
    """Whether the step looks ahead along the moment (Sutskever et al. 2013, in torch's form)."""

    def update(self, part: _Part, grads: list[Tensor], lr: float | Tensor) -> None:
        """p -= lr * m, with m <- momentum * m + d, d = g + weight_decay * p; nesterov: d + momentum * m."""
        self._fused(
            part.parameters,
            grads,
            part.moments[0] if part.moments else [],
            weight_decay=self.weight_decay[part.lane],
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,  # moments start at zero, which gives the same first step
        )

    def change(self, grad_LP: Tensor, value_LP: Tensor | None) -> Tensor:
        """Return the same, lr * m."""
        step_LP = grad_LP if value_LP is None else grad_LP.addcmul_(self._decay_L1, value_LP)
        if self._moments_LP:
            moment_LP = self._moments_LP[0].mul_(self.momentum).add_(step_LP)
            step_LP = step_LP + self.momentum * moment_LP if self.nesterov else moment_LP
        return self.lr_L.unsqueeze(1) * step_LP


class Momentum(SGD):
    """SGD with momentum, 0.9 unless given."""

    n_moments = 1
    momentum = 0.9


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015, Algorithm 1), with L2 added to the gradient."""

    kernel = "_fused_adam_"
    n_moments = 2
    beta1: float = 0.9
    beta2: float = 0.999

    def update(self, part: _Part, grads: list[Tensor], lr: float | Tensor) -> None:
        """Update by the bias-corrected ratio of the moments."""
        self._fused(
            part.parameters,
            grads,
            part.moments[0],
            part.moments[1],
            [],
            part.steps,
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay[part.lane],
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def change(self, grad_LP: Tensor, value_LP: Tensor | None) -> Tensor:
        """Return the same, in the order of the paper's Section 2: both corrections are one factor a lane."""
        if value_LP is not None:
            grad_LP.addcmul_(self._decay_L1, value_LP)
        mean_LP, square_LP = self._moments_LP
        mean_LP.lerp_(grad_LP, 1 - self.beta1)
        square_LP.mul_(self.beta2).addcmul_(grad_LP, grad_LP, value=1 - self.beta2)
        n_L1 = self.steps_L.double().unsqueeze(1)  # 1 - 0.999^n loses digits in float32
        root_L1 = (1 - self.beta2**n_L1).sqrt()
        rate_L1 = self.lr_L.unsqueeze(1) * root_L1 / (1 - self.beta1**n_L1)
        below_LP = square_LP.sqrt().add_((EPSILON * root_L1).float())
        return (mean_LP * rate_L1.float()).div_(below_LP)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2)."""

    kernel = "_fused_adamw_"

    def change(self, grad_LP: Tensor, value_LP: Tensor | None) -> Tensor:
        """Return Adam's change and the decay, lr * weight_decay * p."""
        change_LP = super().change(grad_LP, None)
        if value_LP is None:
            return change_LP
        return change_LP.addcmul_(self.lr_L.unsqueeze(1) * self._decay_L1, value_LP)


def make_optimiser(name: str, parameters: Sequence[Tensor], lanes: int, lr: float) -> Optimiser:
    """Return the optimiser of a second network, with one rate for all lanes and no weight decay."""
    return OPTIMISERS[name](parameters, [lr] * lanes, [0.0] * lanes)


OPTIMISERS: dict[str, type[Optimiser]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
