"""Per-example gradients of any model: each example is passed through it as a lane of its own.

Parameters are repeated so that every row has its own copy. Nothing mixes lanes, so one backward pass of the
sum gives each row its own gradient. This needs memory for rows times parameters, and much less time than a
loop over rows. Models of dense layers and convolutions alone do not need it: see ``fisher``.

Axes: L lanes, B batch, N rows at once, E examples (lanes times N), K rows of one example; 1 its only row.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import Batch, LaneModel

Run = Callable[[Tensor], Tensor]
"""A model, or one with other parameters: rows to logits."""
Values = Callable[[Run, Batch, Tensor | None], list[tuple[Tensor, Tensor]]]
"""Returns pairs of (values to differentiate, their weights), (L, B) each, from a model, a batch and draws."""
Size = Callable[[Tensor], Tensor]
"""``torch.square`` or ``torch.abs``."""

_EXAMPLES = {"cpu": 32, "cuda": 512}
"""Examples passed through the model together; with more, a layer's inputs do not fit in a CPU's cache."""
_NUMBERS = {"cpu": 2**22, "cuda": 2**27}
"""Limit of parameters times examples: 16 MiB on a CPU, which allows 32 examples with LoRA and one with
``tune=full``; half a GiB on a GPU. Gradients take the same again."""


def summed_by_example(
    model: LaneModel, batch: Batch, values: Values, size: Size, draw_LB: Tensor | None = None
) -> list[Tensor]:
    """Return, for each parameter, the weighted sum over rows and ``values`` of the gradients' ``size``.

    The model must be in eval mode. Rows with weight 0 in all lanes are skipped.
    """
    named = {name: p.detach() for name, p in model.named_parameters()}
    found = {name: torch.zeros_like(p) for name, p in named.items()}
    for rows_N in counting_rows(model, batch).split(rows_at_once(model, len(batch.x_LBX))):
        rows_N1 = rows_N.unsqueeze(1)
        alone = {name: p.repeat_interleave(len(rows_N), 0).requires_grad_() for name, p in named.items()}

        def run(x_E1X: Tensor, alone: dict[str, Tensor] = alone) -> Tensor:
            logits_E1U: Tensor = functional_call(model, alone, (x_E1X,))
            return logits_E1U

        draw_E1 = None if draw_LB is None else _alone(draw_LB, rows_N1)
        for value_E1, weight_E1 in values(run, groups_as_lanes(batch, rows_N1), draw_E1):
            if not bool(weight_E1.any()):  # a unit that no row can be classified as
                continue
            reached = torch.autograd.grad(
                value_E1.sum(), list(alone.values()), retain_graph=True, allow_unused=True
            )
            weight_LN = weight_E1.view(-1, len(rows_N))
            for summed, g in zip(found.values(), reached, strict=True):
                if g is not None:
                    summed += torch.einsum("ln...,ln->l...", size(g.unflatten(0, weight_LN.shape)), weight_LN)
    return list(found.values())


def rows_at_once(model: LaneModel, lanes: int) -> int:
    """Return how many rows of each lane are processed together; one if a model's lanes are fixed."""
    if not model.any_lanes:
        return 1
    p = next(model.parameters())
    numbers = sum(p.numel() for p in model.parameters())
    return max(1, min(_EXAMPLES[p.device.type] // lanes, _NUMBERS[p.device.type] // numbers))


def counting_rows(model: LaneModel, batch: Batch) -> Tensor:
    """Return positions in the batch with weight in some lane, shortest rows first, to save padding."""
    order_B = model.lengths(batch.x_LBX).amax(0).argsort(stable=True)
    return order_B[(batch.weight_LB > 0).any(0)[order_B]]


def groups_as_lanes(batch: Batch, rows_NK: Tensor) -> Batch:
    """Return N groups of K rows of every lane as a batch of L * N lanes."""
    return batch.rearranged(lambda of_rows_LB: _alone(of_rows_LB, rows_NK))


def _alone(of_rows_LB: Tensor, rows_NK: Tensor) -> Tensor:
    """Return the rows at ``rows_NK`` of every lane: (L, B, ...) to (L * N, K, ...)."""
    return of_rows_LB[:, rows_NK].flatten(0, 1)
