"""How much of the gradient is a method's own term: what it adds to the gradient of the loss on new rows.

It is measured at a few steps of each task, on the device, and read once after the task. Nothing is drawn, and
nothing that the step computes is changed.

Axes: L lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from strategies.core.lanes import dot_L


def is_measured(step: int) -> bool:
    """Return whether a step of a task, counted from 0, is measured: the 4th, 16th, 64th, 256th ...

    At the first steps a penalty or a distillation is still zero, since the model is where the last task left
    it. The rule does not depend on the number of steps, which differs between lanes.
    """
    n = step + 1
    return n > 1 and n & (n - 1) == 0 and n.bit_length() % 2 == 1


class OwnTerm:
    """Norms of the gradients of the own term and of the rest, summed over the measured steps of a task.

    Their ratio says how much the term acted. Sums, not a mean of ratios: late in a task the loss on new rows
    can be almost zero, and a term that is larger than nothing moves nothing.

    Args:
        lanes: Number of lanes.
        device: The device of the model.
    """

    def __init__(self, lanes: int, device: torch.device) -> None:
        self.own_L, self.rest_L = torch.zeros(2, lanes, device=device).unbind()
        self.active_L: Tensor | None = None
        """Which lanes learn at this step; None for all."""
        self._terms: list[Tensor] = []

    def add(self, extra_L: Tensor) -> None:
        """Note a term of the loss, shape (L,), while the loss of a measured step is computed."""
        self._terms.append(extra_L)

    def backward(
        self,
        loss_L: Tensor,
        parameters: Sequence[Tensor],
        backward: Callable[[Tensor], None],
        adjust: Callable[[], None],
        added: bool,
    ) -> None:
        """Take a step's backward pass and adjust the gradients, as ``Strategy.learn`` does; measure.

        The gradient of the terms takes a backward pass of its own, and the change by ``adjust`` a copy of the
        gradients, if ``added`` says that it is a term.
        """
        own = self._gradients_of_terms(loss_L, parameters)
        backward(loss_L)
        before = [None if p.grad is None else p.grad.clone() for p in parameters] if added else []
        adjust()
        if added:
            after = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            change = [a if b is None else a - b for a, b in zip(after, before, strict=True)]
            own = change if own is None else [a + b for a, b in zip(own, change, strict=True)]
        if own is None:
            return
        with torch.no_grad():
            rest = [-g if p.grad is None else p.grad - g for p, g in zip(parameters, own, strict=True)]
            for total_L, part in ((self.own_L, own), (self.rest_L, rest)):
                norm_L = dot_L(part, part).sqrt()
                total_L += norm_L if self.active_L is None else torch.where(self.active_L, norm_L, 0)

    def _gradients_of_terms(self, loss_L: Tensor, parameters: Sequence[Tensor]) -> list[Tensor] | None:
        """Return the gradient of the noted terms as the loss weights them; None if there are none."""
        terms = [term for term in self._terms if term.requires_grad]
        self._terms = []
        if not terms:
            return None
        weights = torch.autograd.grad(loss_L.sum(), terms, retain_graph=True, materialize_grads=True)
        found = torch.autograd.grad(terms, parameters, weights, retain_graph=True, materialize_grads=True)
        return [*found]

    def read(self) -> list[float | None]:
        """Return own / rest of each lane, None if nothing was measured, and start the next task."""
        both = torch.stack([self.own_L, self.rest_L]).tolist()
        self.own_L.zero_()
        self.rest_L.zero_()
        return [own / rest if rest else None for own, rest in zip(*both, strict=True)]
