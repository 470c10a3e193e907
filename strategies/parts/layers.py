"""A network as a list of layers, for GPM, gates, masks and gradients of single rows.

Axes: L lanes, B batch, I inputs, O outputs, S positions; X the axes of one row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call

from strategies.core import LaneConv2d, LaneLinear, LaneModel, Unsuitable

Layer = LaneLinear | LaneConv2d


def hidden_layers(model: LaneModel, who: str) -> list[Layer]:
    """Return the layers before the head, in order.

    Raises:
        Unsuitable: There is none, or the network has parameters in other layers. Batch normalisation, for
            example, shares its statistics between tasks, so no part of the network belongs to one task.
    """
    layers = [m for m in model.modules() if isinstance(m, Layer)]
    known = {id(p) for layer in layers for p in layer.parameters()}
    if not all(id(p) in known for p in model.parameters()):
        raise Unsuitable(f"{who} needs a network of dense layers and convolutions alone (mlp, cnn)")
    hidden = [layer for layer in layers if layer is not model.head]
    if not hidden:
        raise Unsuitable(f"{who} needs layers before the head, and this model has only a head")
    return hidden


def relu_chain(model: LaneModel, who: str) -> list[LaneLinear]:
    """Return the dense layers of an mlp, the head last, for methods that compute hidden outputs themselves.

    Raises:
        Unsuitable: The network is not a chain of dense layers with ReLU alone between them.
    """
    hidden = getattr(model, "layers", None)
    if not (isinstance(hidden, nn.ModuleList) and hidden and all(isinstance(m, LaneLinear) for m in hidden)):
        raise Unsuitable(f"{who} needs a chain of dense layers, as in model mlp")
    if getattr(model, "activation", "relu") != "relu" or getattr(getattr(model, "dropout", None), "share", 0):
        raise Unsuitable(f"{who} needs ReLU alone between dense layers: activation=relu, dropout=0")
    return [m for m in [*hidden, model.head] if isinstance(m, LaneLinear)]


def unit_count(layer: Layer) -> int:
    """Return the number of units of a dense layer, or of output channels of a convolution."""
    return layer.weight.shape[2] if isinstance(layer, LaneLinear) else layer.weight.shape[1]


def fan_in(layer: Layer) -> int:
    """Return the number of weights of each output of a layer."""
    return layer.weight[0].numel() // unit_count(layer)


def with_masks(
    model: LaneModel, layers: Sequence[Layer], masks: Iterable[Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the network with the weights of each of ``layers`` multiplied by a mask of the same shape."""
    names = {id(p): name for name, p in model.named_parameters()}
    pairs = zip(layers, masks, strict=True)
    weights = {names[id(layer.weight)]: layer.weight * mask for layer, mask in pairs}
    return lambda x_LBX: functional_call(model, weights, (x_LBX,))


def inputs_during(model: LaneModel, x_LBX: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Run the network and return the input of each of ``layers``."""
    with recorded_calls(layers) as calls:
        model(x_LBX)
    given = {layer: x for layer, x, _ in calls}
    return [given[layer] for layer in layers]


@contextmanager
def recorded_calls(layers: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Record calls of layers within a ``with`` block: the layer, its input, detached, and its output."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda m, args, out: calls.append((m, args[0].detach(), out)))
        for layer in layers
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def patches_of(layer: LaneConv2d, x: Tensor, lanes: int) -> Tensor:
    """Return what a convolution's kernels see of images (B, L*C, H, W) at each position, (L, B, I, S)."""
    each = x.unflatten(1, (lanes, -1)).flatten(0, 1)
    patches = F.unfold(each, layer.weight.shape[-1], 1, layer.padding, layer.stride)
    patches_LBIS: Tensor = patches.unflatten(0, (-1, lanes)).transpose(0, 1)
    return patches_LBIS
