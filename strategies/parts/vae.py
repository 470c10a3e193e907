"""A variational autoencoder over lanes, for generative replay.

Axes: L lanes, B batch, D pixels, Z latent variables, F features.
"""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Generators, LaneLinear, LaneStreams, Unsuitable, lanewise, need_images
from strategies.parts.latent_terms import ROOT_E, sample_and_divergence


class Encoder(nn.Module):
    """Two dense layers, then mean and log-variance of the latent variables."""

    def __init__(
        self, generators: Generators, pixels: int, hidden: int, latent: int, log_var_bias: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [LaneLinear(generators, pixels, hidden), LaneLinear(generators, hidden, hidden)]
        )
        self.latent = Latent(generators, hidden, latent, log_var_bias)

    def forward(self, x_LBD: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (L, B, Z) each."""
        for layer in self.layers:
            x_LBD = layer(x_LBD).relu()
        mean_LBZ, log_var_LBZ = self.latent(x_LBD)
        return mean_LBZ, log_var_LBZ


class Latent(nn.Module):
    """Maps features to mean and log-variance of the latent variables."""

    def __init__(self, generators: Generators, features: int, latent: int, log_var_bias: bool = True) -> None:
        super().__init__()
        self.mean = LaneLinear(generators, features, latent)
        self.log_var = LaneLinear(generators, features, latent)
        if not log_var_bias:
            zero_LZ = torch.zeros_like(self.log_var.bias)
            del self.log_var.bias
            self.log_var.register_buffer("bias", zero_LZ)

    def forward(self, features_LBF: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (L, B, Z) each."""
        return self.mean(features_LBF), self.log_var(features_LBF)


class Decoder(nn.Module):
    """Two dense layers from the latent variables, then the logits of the pixels."""

    def __init__(self, generators: Generators, pixels: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.first = LaneLinear(generators, latent, hidden)
        self.second = LaneLinear(generators, hidden, hidden)
        self.pixels = LaneLinear(generators, hidden, pixels)

    def forward(self, z_LBZ: Tensor, gates_LB2H: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the logits of the pixels, (L, B, D); gates multiply the two hidden layers."""
        h_LBH = self.first(z_LBZ)
        h_LBH = h_LBH if gates_LB2H is None else h_LBH * gates_LB2H[0]
        h_LBH = self.second(h_LBH.relu())
        h_LBH = h_LBH if gates_LB2H is None else h_LBH * gates_LB2H[1]
        logits_LBD: Tensor = self.pixels(h_LBH.relu())
        return logits_LBD


class VAE(nn.Module):
    """Encoder and decoder with a standard normal prior (Kingma & Welling 2014)."""

    def __init__(
        self, generators: Generators, pixels: int, hidden: int, latent: int, log_var_bias: bool = True
    ) -> None:
        super().__init__()
        self.encoder = Encoder(generators, pixels, hidden, latent, log_var_bias)
        self.decoder = Decoder(generators, pixels, hidden, latent)

    def loss(self, x_LBD: Tensor, noise_LBZ: Tensor) -> Tensor:
        """Return reconstruction loss plus divergence from the prior, both per pixel, shape (L, B)."""
        mean_LBZ, log_var_LBZ = self.encoder(x_LBD)
        if x_LBD.is_cuda:
            z_LBZ, twice_LB = sample_and_divergence(mean_LBZ.float(), log_var_LBZ.float(), noise_LBZ)
            rebuilt_LB = reconstruction_loss(self.decoder(z_LBZ), x_LBD)
            return torch.add(rebuilt_LB, twice_LB, alpha=0.5 / x_LBD.shape[2])
        z_LBZ = sample_latent(mean_LBZ, log_var_LBZ, noise_LBZ)
        var_LBZ = lanewise(torch.exp, log_var_LBZ)
        divergence_LB = -0.5 * (1 + log_var_LBZ - mean_LBZ.square() - var_LBZ).sum(2)
        loss_LB: Tensor = reconstruction_loss(self.decoder(z_LBZ), x_LBD) + divergence_LB / x_LBD.shape[2]
        return loss_LB

    @torch.no_grad()
    def generate(self, noise_LBZ: Tensor) -> Tensor:
        """Return images decoded from draws of the prior, (L, B, D)."""
        return lanewise(torch.sigmoid, self.decoder(noise_LBZ))


def sample_latent(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """Return latent variables drawn so that gradients reach mean and log-variance."""
    if mean.is_cuda:
        return torch.addcmul(mean, torch.pow(ROOT_E, log_var), noise)
    return mean + lanewise(torch.exp, 0.5 * log_var) * noise


def reconstruction_loss(logits_LBD: Tensor, x_LBD: Tensor) -> Tensor:
    """Return the binary cross-entropy of pixels in [0, 1], mean over pixels, shape (L, B)."""
    loss = partial(F.binary_cross_entropy_with_logits, reduction="none")
    return lanewise(loss, logits_LBD, x_LBD).mean(2)


def log_normal_density(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return log N(x; mean, exp(log_var)) without its constant, summed over the last axis."""
    return -0.5 * (log_var + (x - mean).square() / lanewise(torch.exp, log_var)).sum(-1)


def need_pixels_0_to_1(name: str, streams: LaneStreams) -> None:
    """Raise Unsuitable if pixels are not in [0, 1], as a decoder's outputs are."""
    need_images(name, streams)
    if streams.mean is not None:
        raise Unsuitable(f"{name} generates pixels in [0, 1]; those of {streams.data.name} are normalised")
