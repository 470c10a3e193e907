"""A Wasserstein GAN with gradient penalty over lanes (Gulrajani et al. 2017, Improved training of WGANs).

Axes: L lanes, B batch, D pixels, Z latent variables, H hidden units.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Adam, Generators, LaneLinear, lanewise, per_lane
from strategies.parts.vae import Decoder

SLOPE = 0.2
"""Slope of the critic's leaky ReLU for negative inputs."""


class ImageGenerator(nn.Module):
    """The generator: from noise to pixels in [0, 1]."""

    def __init__(self, generators: Generators, pixels: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.decoder = Decoder(generators, pixels, hidden, latent)

    def forward(self, noise_LBZ: Tensor) -> Tensor:
        """Return an image of each row of noise, (L, B, D)."""
        return lanewise(torch.sigmoid, self.decoder(noise_LBZ))

    @torch.no_grad()
    def generate(self, noise_LBZ: Tensor) -> Tensor:
        """Return an image of each row of noise without gradients, (L, B, D)."""
        image_LBD: Tensor = self(noise_LBZ)
        return image_LBD


class Critic(nn.Module):
    """Scores how real a row looks, with two dense layers.

    There is no batch normalisation, since the penalty is on each row's own gradient, so that no score may
    depend on other rows (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, generators: Generators, pixels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [LaneLinear(generators, pixels, hidden), LaneLinear(generators, hidden, hidden)]
        )
        self.score = LaneLinear(generators, hidden, 1)

    def forward(self, x_LBD: Tensor) -> Tensor:
        """Return the score of each row, shape (L, B)."""
        for layer in self.layers:
            x_LBD = F.leaky_relu(layer(x_LBD), SLOPE)
        score_LB: Tensor = self.score(x_LBD).squeeze(2)
        return score_LB

    def loss(self, x_LBD: Tensor, made_LBD: Tensor, mix_LB: Tensor, penalty_L: Tensor) -> Tensor:
        """Return D(made) - D(x) + penalty (|grad D(between)| - 1)^2 of each pair of rows, shape (L, B).

        ``mix_LB``, in [0, 1], is the real row's share in the point between them (Algorithm 1, lines 4 to 7).
        """
        excess_LB = (self.slope(torch.lerp(made_LBD, x_LBD, mix_LB.unsqueeze(2))) - 1).square()
        loss_LB: Tensor = self(made_LBD) - self(x_LBD) + per_lane(penalty_L, excess_LB) * excess_LB
        return loss_LB

    def slope(self, x_LBD: Tensor) -> Tensor:
        """Return the norm of the score's gradient with respect to each row's pixels, shape (L, B)."""
        x_LBD = x_LBD.detach().requires_grad_()
        # Neither rows nor lanes mix: the gradient of the sum of all scores is each row's own.
        (slope_LBD,) = torch.autograd.grad(self(x_LBD).sum(), x_LBD, create_graph=True)
        return slope_LBD.square().sum(2).sqrt()


class GANAdam(Adam):
    """Adam with the betas of Algorithm 1: no first moment, because the critic changes quickly."""

    beta1 = 0.0
    beta2 = 0.9
