"""All parameters or gradients of a lane as one vector.

Axes: L lanes, P parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def lane_vectors(tensors: Sequence[Tensor]) -> Tensor:
    """Flatten and concatenate stacked tensors (L, ...) to shape (L, P)."""
    return torch.cat([t.flatten(1) for t in tensors], 1)


def write_lane_vectors(flat_LP: Tensor, tensors: Sequence[Tensor]) -> None:
    """Write vectors (L, P) into stacked tensors, in place: the inverse of ``lane_vectors``."""
    parts = flat_LP.split([t[0].numel() for t in tensors], 1)
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
