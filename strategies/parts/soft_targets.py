"""The distance between a network's answers and a teacher's.

Axes: L lanes, B batch, U units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.core import per_lane


def soft_cross_entropy(answer_LBU: Tensor, target_LBU: Tensor, temperature: Tensor | float) -> Tensor:
    """Return -sum_u softmax(target/T)_u log softmax(answer/T)_u, shape (L, B).

    Of masked logits only the active units count: the others have probability 0 times the lowest number, 0.
    """
    p_LBU = tempered(target_LBU, temperature).softmax(2)
    return -(p_LBU * tempered(answer_LBU, temperature).log_softmax(2)).sum(2)


def tempered(logits_LBU: Tensor, temperature: Tensor | float) -> Tensor:
    """Return logits divided by each lane's temperature."""
    heat_L = torch.as_tensor(temperature, device=logits_LBU.device).expand(len(logits_LBU))
    return logits_LBU / per_lane(heat_L, logits_LBU)
