"""Terms of a variational loss with gradients written by hand: on a GPU they take a third of the launches.

Values and gradients are those of the formulas in each docstring. On a CPU methods compute the formulas by
autograd instead, since the order of operations differs.

Axes: L lanes, B batch, Z latent variables, U units.
"""

import math
from typing import Any

import torch
from torch import Tensor

ROOT_E, ONE_BY_E = math.exp(0.5), math.exp(-1)
"""Powers of these are exp(x / 2) and exp(-x) in one launch."""


def sample_and_divergence(mean_LBZ: Tensor, log_var_LBZ: Tensor, noise_LBZ: Tensor) -> tuple[Tensor, Tensor]:
    """Return z = m + s n, and twice the divergence of N(m, s^2) from N(0, 1), sum_z m^2 + s^2 - 1 - log s^2.

    Returns:
        Latent variables (L, B, Z), and the sum over them, (L, B).
    """
    z_LBZ, twice_LB = _SampleAndDivergence.apply(mean_LBZ, log_var_LBZ, noise_LBZ)  # type: ignore[no-untyped-call]
    return z_LBZ, twice_LB


class _SampleAndDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        shift = torch.pow(ROOT_E, log_var).mul_(noise)
        excess = log_var.expm1()  # s^2 - 1
        ctx.save_for_backward(mean, shift, excess)
        return mean + shift, torch.addcmul(excess, mean, mean).sub_(log_var).sum(2)

    @staticmethod
    def backward(ctx: Any, d_z: Tensor, d_sum: Tensor) -> Any:
        mean, shift, excess = ctx.saved_tensors
        d_sum = d_sum.unsqueeze(2)
        d_mean = torch.addcmul(d_z, mean, d_sum, value=2)
        return d_mean, (excess * d_sum).addcmul_(d_z, shift, value=0.5), None


def sample_and_log_ratio(
    mean_LBZ: Tensor,
    log_var_LBZ: Tensor,
    noise_LBZ: Tensor,
    share_LBU: Tensor,
    mean_LUZ: Tensor,
    log_var_LUZ: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return z = m + s n, and log sum_u share_u N(z; m_u, s_u^2) - log N(z; m, s^2), without constants.

    (z - m) / s = n, so -2 log N(z; m, s^2) is sum_z log s^2 + n^2. There is no gradient for shares.

    Returns:
        Latent variables (L, B, Z), and the ratio, (L, B).
    """
    given = mean_LBZ, log_var_LBZ, noise_LBZ, share_LBU, mean_LUZ, log_var_LUZ
    with torch.autocast(mean_LBZ.device.type, enabled=False):
        z_LBZ, ratio_LB = _SampleAndLogRatio.apply(*given)  # type: ignore[no-untyped-call]
    return z_LBZ, ratio_LB


class _SampleAndLogRatio(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var, noise, share, mean_u, log_var_u = given
        shift = torch.pow(ROOT_E, log_var).mul_(noise)
        z = mean + shift
        square = z * z
        inverse = torch.pow(ONE_BY_E, log_var_u)
        scaled = inverse * mean_u
        # log N(z; u) = -1/2 sum_z (z^2 - 2 z m_u + m_u^2) / s_u^2 + log s_u^2, as products over Z.
        constant = torch.addcmul(log_var_u, scaled, mean_u).sum(2).unsqueeze(1)
        log_unit = torch.add(share.log(), constant, alpha=-0.5)
        log_unit = torch.baddbmm(log_unit, square, inverse.transpose(1, 2), alpha=-0.5)
        log_unit = torch.baddbmm(log_unit, z, scaled.transpose(1, 2))
        ctx.save_for_backward(shift, z, square, log_unit.softmax(2), mean_u, inverse, scaled)
        twice = torch.addcmul(log_var, noise, noise).sum(2)
        return z, torch.add(log_unit.logsumexp(2), twice, alpha=0.5)

    @staticmethod
    def backward(ctx: Any, d_z: Tensor, d_ratio: Tensor) -> Any:
        shift, z, square, posterior, mean_u, inverse, scaled = ctx.saved_tensors
        d_ratio = d_ratio.unsqueeze(2)
        weight = posterior * d_ratio
        d_z = torch.baddbmm(d_z, weight, scaled).addcmul_(z, torch.bmm(weight, inverse), value=-1)
        d_log_var = torch.addcmul(0.5 * d_ratio, d_z, shift, value=0.5)
        # Of each unit, the sums over rows of weight, weight z and weight z^2.
        weight_LUB = weight.transpose(1, 2)
        total = weight.sum(1).unsqueeze(2)
        first, second = torch.bmm(weight_LUB, z), torch.bmm(weight_LUB, square)
        away = torch.addcmul(first, total, mean_u, value=-1)
        spread = torch.addcmul(second, mean_u, first, value=-1).addcmul_(mean_u, away, value=-1)
        d_log_var_u = torch.addcmul(-0.5 * total, inverse, spread, value=0.5)
        return d_z, d_log_var, None, None, inverse * away, d_log_var_u
