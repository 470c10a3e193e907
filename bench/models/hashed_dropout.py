"""Random numbers in the forward pass of a network: the same for a lane alone and beside others."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn

from strategies.core import hashed_uniform

_KINDS: dict[type[nn.Module], int] = {nn.Dropout: 0, nn.Dropout1d: 2, nn.Dropout2d: 2, nn.Dropout3d: 2}
"""Kinds of dropout, with the number of leading axes that a mask has; 0 for all axes."""
_GOLDEN_RATIO = 0.6180339887498949


class HashedDropout(nn.Module):
    """Dropout whose mask is a hash of the lane's key and the number of calls, which are buffers.

    Unlike torch's it draws from no generator, so that ``vmap`` can stack it and a checkpoint contains all of
    its state.
    """

    key: Tensor
    calls: Tensor

    def __init__(self, p: float, axes: int, key: float) -> None:
        super().__init__()
        self.p, self.axes = p, axes
        self.register_buffer("key", torch.tensor(key, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Set a share p of the numbers to zero and divide the others by 1 - p; only in training mode."""
        if not self.training or self.p == 0:
            return x
        shape = x.shape[: self.axes] if self.axes else x.shape
        self.calls = self.calls + 1
        # Fractional parts of the multiples of an irrational number: as good as any other key for each call.
        key_1 = torch.frac(self.key + self.calls * _GOLDEN_RATIO).unsqueeze(0)
        drawn = hashed_uniform(key_1, "dropout", prod(shape)).view(*shape, *[1] * (x.dim() - len(shape)))
        return torch.where(drawn >= self.p, x / max(1 - self.p, 1e-9), 0)

    @staticmethod
    def replace(network: nn.Module, generator: torch.Generator) -> None:
        """Replace torch's layers of dropout in a network, each with a key drawn from a generator."""
        new: dict[nn.Module, HashedDropout] = {}
        for name, layer in list(network.named_modules(remove_duplicate=False)):
            if type(layer) in _KINDS and name:
                if layer not in new:
                    key = float(torch.rand((), generator=generator, dtype=torch.float64))
                    new[layer] = HashedDropout(layer.p, _KINDS[type(layer)], key)
                network.set_submodule(name, new[layer])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let everything inside draw from torch's global generators with a seed, and restore them."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let torch's global CPU generator continue from a generator inside, and that one from there."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator.get_state())
        yield
        generator.set_state(torch.default_generator.get_state())
