"""The distance between a network's answers and a teacher's.

Axes: L lanes, B batch, U units.
"""

from torch import Tensor

from strategies.core import per_lane


def soft_cross_entropy(answer_LBU: Tensor, target_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return -sum_u softmax(target/T)_u log softmax(answer/T)_u, shape (L, B).

    Of masked logits only the active units count: the others have probability 0 times the lowest number, 0.
    """
    p_LBU = tempered(target_LBU, temperature_L).softmax(2)
    return -(p_LBU * tempered(answer_LBU, temperature_L).log_softmax(2)).sum(2)


def tempered(logits_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return logits divided by each lane's temperature."""
    return logits_LBU / per_lane(temperature_L, logits_LBU)
