"""Herding: exemplars whose running mean stays as near as it can to the mean of their class.

Axes: L lanes, N candidates of one class, K chosen, F features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def herd(features_LNF: Tensor, real_LN: Tensor, wanted: int) -> Tensor:
    """Return the candidates to keep, the best first, int64 (L, K), K = min(wanted, N).

    p_k = argmin_x ||mu - (phi(x) + sum_{j<k} phi(p_j)) / k||, each candidate at most once, with phi of
    length 1 (Rebuffi 2017, Algorithm 4). Any first part of the result is the choice of that size. ``real_LN``
    is 0 for padding: a lane with fewer than K real candidates has them all in front.
    """
    phi_LNF = F.normalize(features_LNF, dim=2) * real_LN.unsqueeze(2)
    mean_LF = F.normalize(phi_LNF.sum(1), dim=1)
    sum_LF = torch.zeros_like(mean_LF)
    out_LN = real_LN == 0
    chosen = []
    for k in range(1, min(wanted, real_LN.shape[1]) + 1):
        # With |phi| = 1 the nearest is the one that points most along what is missing: k mu - sum.
        gain_LN = torch.bmm(phi_LNF, (k * mean_LF - sum_LF).unsqueeze(2)).squeeze(2)
        best_L1 = gain_LN.masked_fill(out_LN, -torch.inf).argmax(1, keepdim=True)
        out_LN = out_LN.scatter(1, best_L1, True)
        sum_LF = sum_LF + phi_LNF.gather(1, best_L1.unsqueeze(2).expand(-1, -1, phi_LNF.shape[2])).squeeze(1)
        chosen.append(best_L1)
    return torch.cat(chosen, 1)
