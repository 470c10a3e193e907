"""Layers over lanes: many networks of the same shape as one module.

Every parameter is stacked to (L, ...), and every activation of a dense layer is (L, B, F). Activations of
convolutions are (B, L*C, H, W): lanes are the groups of one grouped convolution. Nothing mixes lanes, so the
gradient of the sum of all losses gives each lane its own gradient.

This is written without ``vmap`` over ordinary layers: on a CPU, eight lanes of a 64-100-100-10 network take
about half the time of ``vmap``.

Axes: L lanes, B batch, F features, C channels, O outputs, I inputs, H height, W width, P parameters;
X the axes of one row.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Generators = Sequence[torch.Generator]


def uniform_parameter(generators: Generators, shape: tuple[int, ...], bound: float) -> nn.Parameter:
    """Return a parameter (L, *shape), each lane drawn from U(-bound, bound) by its own CPU generator."""
    stacked = torch.empty(len(generators), *shape)
    for lane, g in zip(stacked, generators, strict=True):
        lane.uniform_(-bound, bound, generator=g)
    return nn.Parameter(stacked)


class LaneLinear(nn.Module):
    """A dense layer per lane, initialised like ``nn.Linear``: (L, B, I) to (L, B, O).

    The weight is stored as (L, I, O), not (L, O, I) as in ``nn.Linear``, because the product that computes
    its gradient returns this layout. With the other layout the gradient is copied at every step, which takes
    longer than the product at a batch size of ten.

    Args:
        generators: One CPU random generator per lane.
        inputs: Number of inputs, I.
        outputs: Number of outputs, O.
    """

    def __init__(self, generators: Generators, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weight_LOI = uniform_parameter(generators, (outputs, inputs), bound).detach()
        self.weight = nn.Parameter(weight_LOI.transpose(1, 2).contiguous())
        self.bias = uniform_parameter(generators, (outputs,), bound)

    def forward(self, x_LBI: Tensor) -> Tensor:
        """Apply each lane's weights to its own rows."""
        return torch.baddbmm(self.bias.unsqueeze(1), x_LBI, self.weight)


class LaneConv2d(nn.Module):
    """A convolution per lane, initialised like ``nn.Conv2d``: (B, L*I, H, W) to (B, L*O, H', W').

    Several lanes are one convolution with lanes as groups. On a GPU its images can have channels as the last
    axis in memory, or it can be one batched product of patches if these take at most ``most_bytes``. On a
    CPU, with 8 to 16 lanes, the product takes 1.3 to 2 times as long as the groups for one input channel and
    2 to 11 times for more. ``lethe check gpu`` measures all three.
    """

    most_bytes: ClassVar[int] = 0
    """The most memory that patches of a product take; 0, for groups, until a GPU has been measured."""
    channels_last: ClassVar[bool] = False
    """Whether groups have channels as the last axis, on a GPU; no, until one has been measured."""

    def __init__(
        self,
        generators: Generators,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        bound = 1 / math.sqrt(inputs * kernel * kernel)
        self.weight = uniform_parameter(generators, (outputs, inputs, kernel, kernel), bound)
        self.bias = uniform_parameter(generators, (outputs,), bound) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each lane's channels with its own kernels."""
        if x.is_cuda and len(self.weight) > 1 and self._patch_bytes(x) <= self.most_bytes:
            return self.by_product(x)
        if x.is_cuda and self.channels_last:
            return self.in_groups_channels_last(x)
        return self.in_groups(x)

    def in_groups(self, x: Tensor) -> Tensor:
        """Return the convolution as one with lanes as groups."""
        bias = None if self.bias is None else self.bias.flatten()
        return F.conv2d(
            x, self.weight.flatten(0, 1), bias, self.stride, self.padding, groups=len(self.weight)
        )

    def in_groups_channels_last(self, x: Tensor) -> Tensor:
        """Return the same with channels as the last axis in memory."""
        return self.in_groups(x.contiguous(memory_format=torch.channels_last))

    def by_product(self, x: Tensor) -> Tensor:
        """Return the convolution as a product of patches, P a lane, and kernels of K numbers."""
        lanes, outputs, inputs, kernel, _ = self.weight.shape
        padded = F.pad(x, (self.padding,) * 4).unflatten(1, (lanes, inputs))
        patches = padded.unfold(3, kernel, self.stride).unfold(4, kernel, self.stride)
        height, width = patches.shape[3:5]
        patches_LPK = patches.permute(1, 0, 3, 4, 2, 5, 6).reshape(lanes, -1, inputs * kernel**2)
        weight_LKO = self.weight.flatten(2).transpose(1, 2)
        if self.bias is None:
            out_LPO = torch.bmm(patches_LPK, weight_LKO)
        else:
            out_LPO = torch.baddbmm(self.bias.unsqueeze(1), patches_LPK, weight_LKO)
        out = out_LPO.view(lanes, len(x), height, width, outputs)
        return out.permute(1, 0, 4, 2, 3).reshape(len(x), -1, height, width)

    def _patch_bytes(self, x: Tensor) -> int:
        kernel = self.weight.shape[3]
        height, width = ((n + 2 * self.padding - kernel) // self.stride + 1 for n in x.shape[2:])
        return x.shape[0] * x.shape[1] * height * width * kernel**2 * x.element_size()


class LaneBatchNorm2d(nn.Module):
    """Batch normalisation per lane over (B, L*C, H, W), with running statistics of shape (L, C)."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, lanes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(lanes, channels))
        self.bias = nn.Parameter(torch.zeros(lanes, channels))
        self.register_buffer("running_mean", torch.zeros(lanes, channels))
        self.register_buffer("running_var", torch.ones(lanes, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of the batch in training mode, else by the running statistics."""
        # view(-1), not flatten(): the running statistics must be updated in place.
        return F.batch_norm(
            x,
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.flatten(),
            self.bias.flatten(),
            training=self.training,
        )


class LaneModel(nn.Module):
    """A classifier over lanes: ``features`` returns (L, B, F), and a dense ``head`` maps it to (L, B, U).

    A subclass creates ``head`` in its constructor and implements ``features``.
    """

    head: LaneLinear
    any_lanes: ClassVar[bool] = False
    """Whether ``functional_call`` may use parameters of more lanes than the model was built with."""
    waits: str = ""
    """Why a step waits for the host (the CPU); empty if it does not."""
    one_by_one: str = ""
    """Why lanes are computed one after the other, in one line; empty if they are computed together."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, Any] = {}
        """For models of texts: numbers of tokens trained on since the counts were last read."""

    def features(self, x_LBX: Tensor) -> Tensor:
        """Return the input of the head, shape (L, B, F)."""
        raise NotImplementedError

    def lengths(self, x_LBX: Tensor) -> Tensor:
        """Return the number of tokens of each row without padding, int64 (L, B); 0 if rows are not texts."""
        return torch.zeros(x_LBX.shape[:2], dtype=torch.long, device=x_LBX.device)

    def forward(self, x_LBX: Tensor) -> Tensor:
        """Return the logits of all units, shape (L, B, U)."""
        logits_LBU: Tensor = self.head(self.features(x_LBX))
        return logits_LBU

    def redrawn(self, generators: Generators) -> dict[str, Tensor] | None:
        """Return a state with new initial weights; None if it has layers of this module alone."""
        return None

    def generate(self, x_LBX: Tensor) -> Tensor:
        """Return the tokens generated for each text, int64 (L, B, S); sequence-to-sequence models only."""
        raise NotImplementedError


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode within a ``with`` block: running statistics are used, not updated."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def copy_buffers(model: nn.Module) -> list[Tensor]:
    """Return copies of a model's buffers, the running statistics that a forward pass changes."""
    return [buffer.clone() for buffer in model.buffers()]


def restore_buffers(model: nn.Module, copies: Sequence[Tensor], on_L: Tensor) -> None:
    """Restore the buffers of lanes that are not marked in ``on_L``; call it after the backward pass."""
    for buffer, before in zip(model.buffers(), copies, strict=True):
        buffer.copy_(torch.where(per_lane(on_L, buffer), buffer, before))


def fold_lanes(x_LBX: Tensor) -> Tensor:
    """Reshape images (L, B, C, H, W) to the layout of grouped convolutions, (B, L*C, H, W)."""
    return x_LBX.transpose(0, 1).flatten(1, 2)


def unfold_lanes(x: Tensor, lanes: int) -> Tensor:
    """Reshape (B, L*C, H, W) to features of dense layers, (L, B, C*H*W)."""
    unfolded: Tensor = x.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(2)
    return unfolded


def per_lane(value_L: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per lane so that it broadcasts over a stacked tensor.

    Args:
        value_L: One value per lane, shape (L,).
        like: A tensor with lanes first, shape (L, ...).

    Returns:
        The values in shape (L, 1, ...), with the number of axes of ``like``.
    """
    return value_L.view(-1, *[1] * (like.dim() - 1))


def send(host: Tensor, device: torch.device | str) -> Tensor:
    """Copy a new tensor of the host to a device; the host does not wait until the device has received it."""
    device = torch.device(device)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


_BLOCK = 64
"""A multiple of the numbers that element-wise functions process at a time on any CPU."""


def lanewise(function: Callable[..., Tensor], *stacked: Tensor) -> Tensor:
    """Apply an element-wise function to stacked tensors so that no lane's rounding depends on other lanes.

    On a CPU, exp, log or sigmoid processes eight or sixteen numbers at a time and the last few one by one
    with another formula; which numbers are the last depends on the number of lanes. They are computed lane by
    lane, unless lanes have no last few. With several threads, which runs do not use, the places differ.

    Args:
        function: An element-wise function, such as ``torch.exp``.
        stacked: Its arguments, each (L, ...).
    """
    first = stacked[0]
    in_blocks = first[0].numel() % _BLOCK == 0
    if first.is_cuda or len(first) == 1 or (in_blocks and all(t.is_contiguous() for t in stacked)):
        return function(*stacked)
    return torch.stack([function(*parts) for parts in zip(*(t.unbind(0) for t in stacked), strict=True)])


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """Add tensors of one shape, (L, ...) each, so that no lane's rounding depends on the number of lanes.

    torch's sum over a stack of them adds in one order for up to three lanes, and in others for 4 or 32.
    """
    if parts[0].is_cuda:  # two launches
        return torch.stack(list(parts)).sum(0)
    end = len(parts) // 4 * 4  # its order for three lanes: four sums, the first one with the remaining parts
    sums = [[*parts[0:end:4], *parts[end:]], *(parts[n:end:4] for n in (1, 2, 3) if end)]
    return reduce(torch.add, [reduce(torch.add, of) for of in sums])


def lane_vectors(stacked: Sequence[Tensor]) -> Tensor:
    """Flatten and concatenate stacked tensors, such as gradients, to one vector per lane, (L, P)."""
    return torch.cat([t.flatten(1) for t in stacked], 1)


def write_lane_vectors(flat_LP: Tensor, stacked: Sequence[Tensor]) -> None:
    """Write vectors (L, P) into stacked tensors, in place: the inverse of ``lane_vectors``."""
    parts = flat_LP.split([t[0].numel() for t in stacked], 1)
    for tensor, part in zip(stacked, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def dot_L(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return each lane's inner product of two lists of tensors, such as gradients, shape (L,).

    Args:
        a: Tensors with lanes first, (L, ...) each.
        b: Tensors of the same shapes.
    """
    if a[0].is_cuda:  # a fixed number of launches; on a CPU the sums stay those of each tensor
        a_LP = lane_vectors(a)
        return (a_LP * (a_LP if a is b else lane_vectors(b))).sum(1)
    return add_up([(u * v).flatten(1).sum(1) for u, v in zip(a, b, strict=True)])


def dot_and_square_L(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return each lane's inner products of a with b and of b with itself, (L,) each; see ``dot_L``."""
    if not a[0].is_cuda:
        return dot_L(a, b), dot_L(b, b)
    both_L2P = lane_vectors([*a, *b]).unflatten(1, (2, -1))
    inner_L, square_L = (both_L2P * both_L2P[:, 1:]).sum(2).unbind(1)
    return inner_L, square_L


def gradients(model: nn.Module) -> list[Tensor]:
    """Return the ``.grad`` of all parameters, in their order, (L, ...) each.

    A missing ``.grad`` is set to zeros first. Writing into the tensors changes the step.
    """
    for p in model.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    return [p.grad for p in model.parameters() if p.grad is not None]
