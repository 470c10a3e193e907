"""The loss of generative replay: that of new rows and that of generated ones, with weights.

Axes: L lanes, B batch.
"""

from functools import cache

import torch
from torch import Tensor

from strategies.core import Batch, send


def new_and_replayed(batch: Batch, loss_LB: Tensor, share: float) -> Tensor:
    """Return share L_new + (1 - share) L_replayed, each the mean over its rows, shape (L,).

    Args:
        batch: The new rows.
        loss_LB: The loss of new rows, then of at least one replayed row.
        share: The weight of the new rows.
    """
    new = batch.rows_LB.shape[1]
    old = loss_LB.shape[1] - new
    if loss_LB.is_cuda and batch.all_count:  # two operations; on a CPU the means stay those of each part
        return (loss_LB * _weights_B(new, old, share, loss_LB.device)).sum(1)
    new_LB, old_LB = loss_LB.split([new, old], 1)
    loss_L: Tensor = share * batch.mean_L(new_LB) + (1 - share) * old_LB.mean(1)
    return loss_L


@cache
def _weights_B(new: int, old: int, share: float, device: torch.device) -> Tensor:
    """Return the weight of each row; cached, as every step of a task needs it."""
    return send(torch.tensor([share / new] * new + [(1 - share) / old] * old), device)
