"""The distillation loss between the outputs of a network and of its teacher.

Axes: L lanes, B batch, U units.
"""

from torch import Tensor

from strategies.core import per_lane


def soft_cross_entropy(logits_LBU: Tensor, target_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return -sum_u softmax(target/T)_u log softmax(logits/T)_u, shape (L, B).

    Masked logits add nothing: their probability is 0, times the lowest finite number.
    """
    return cross_entropy_with(tempered(target_LBU, temperature_L).softmax(2), logits_LBU, temperature_L)


def cross_entropy_with(p_LBU: Tensor, logits_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return -sum_u p_u log softmax(logits/T)_u, shape (L, B)."""
    return -(p_LBU * tempered(logits_LBU, temperature_L).log_softmax(2)).sum(2)


def tempered(logits_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return logits divided by each lane's temperature."""
    return logits_LBU / per_lane(temperature_L, logits_LBU)
