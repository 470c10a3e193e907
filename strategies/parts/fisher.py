"""Importance of each parameter for the outputs: squared or absolute gradients of single examples.

No loop over examples is needed. With a the inputs of a dense layer and g the gradients at its outputs, the
sum of squared gradients over examples is one product of squares, (a^2)^T (g^2), and the sum of absolute
gradients is |a|^T |g|. Convolutions and batch normalisation sum over positions first, a chunk of examples at
a time. For models with parameters in other layers, per_example computes the gradients.

Axes: L lanes, B batch, I inputs, O outputs, U units, S positions.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from strategies.core import (
    Batch,
    LaneBatchNorm2d,
    LaneConv2d,
    LaneLinear,
    LaneModel,
    gradients,
    lanewise,
    row_losses,
)
from strategies.parts.layers import patches_of, recorded_calls
from strategies.parts.per_example import Run, Size, Values, summed_by_example

Estimator = Literal["exact", "sampled", "true", "batched"]
Output = Callable[[Batch, Run], Tensor]
"""Computes an output of each row from a batch and a model."""
_LAYERS = (LaneLinear, LaneConv2d, LaneBatchNorm2d)
_CHUNK = 64
"""Number of examples whose convolution gradients are in memory together."""


def squared_gradients(
    model: LaneModel, batch: Batch, logits: Output, estimator: Estimator, draw_LB: Tensor | None = None
) -> list[Tensor]:
    """Return, for each parameter, squared gradients of log p(y|x) summed over the rows with weight 1.

    The estimators are compared in van de Ven 2025, On the computation of the Fisher information in continual
    learning:

    - ``exact``: the expectation over the model's own predictions of y.
    - ``sampled``: one y per row, drawn from the model's predictions with the uniform numbers ``draw_LB``.
    - ``true``: y is the label (often called the empirical Fisher).
    - ``batched``: the squared mean gradient of the batch at its labels, times the number of rows. A loop over
      batches computes this; it depends on the batch size.

    The model must be in eval mode.
    """

    def predictions(run: Run, batch: Batch, draw_LB: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        log_p_LBU = logits(batch, run).log_softmax(2)
        weight_LB = batch.weight_LB.to(log_p_LBU.dtype)
        if estimator != "exact":
            label_LB = batch.y_LB if estimator == "true" else _sample(log_p_LBU.detach(), draw_LB)
            return [(log_p_LBU.gather(2, label_LB.unsqueeze(2)).squeeze(2), weight_LB)]
        chances = [weight_LB * lp_LB.exp() for lp_LB in log_p_LBU.detach().unbind(2)]
        return [(log_p_LBU[:, :, u], chance_LB) for u, chance_LB in enumerate(chances)]

    if estimator == "batched":
        return _batched(model, batch, logits)
    return _summed(model, batch, predictions, torch.square, draw_LB)


def absolute_gradients(model: LaneModel, batch: Batch, output: Output) -> list[Tensor]:
    """Return, for each parameter, absolute gradients of ``output`` summed over the rows with weight 1.

    ``output`` returns one number per row, shape (L, B). The model must be in eval mode.
    """

    def values(run: Run, batch: Batch, draw_LB: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        value_LB = output(batch, run)
        return [(value_LB, batch.weight_LB.to(value_LB.dtype))]

    return _summed(model, batch, values, torch.abs)


def _summed(
    model: LaneModel, batch: Batch, values: Values, size: Size, draw_LB: Tensor | None = None
) -> list[Tensor]:
    """Return the weighted sum over rows, and over (value, weight) pairs, of the gradients' ``size``."""
    found = {
        id(p): torch.zeros_like(p) for m in model.modules() if isinstance(m, _LAYERS) for p in m.parameters()
    }
    if any(id(p) not in found for p in model.parameters()):
        return summed_by_example(model, batch, values, size, draw_LB)
    with recorded_calls(m for m in model.modules() if isinstance(m, _LAYERS)) as layers:
        pairs = values(model, batch, draw_LB)
    outputs = [out for _, _, out in layers]
    for value_LB, weight_LB in pairs:
        reached = torch.autograd.grad(value_LB.sum(), outputs, retain_graph=True, allow_unused=True)
        for (layer, inputs, _), g in zip(layers, reached, strict=True):
            if g is not None:
                for p, summed in _layer(layer, inputs, g, weight_LB, size):
                    found[id(p)] += summed
    return [found[id(p)] for p in model.parameters()]


def _sample(log_p_LBU: Tensor, draw_LB: Tensor | None) -> Tensor:
    assert draw_LB is not None, "fisher=sampled needs draws"
    below_LBU = lanewise(torch.exp, log_p_LBU).double().cumsum(2) < draw_LB.unsqueeze(2)
    return below_LBU.sum(2).clamp(max=log_p_LBU.shape[2] - 1)


def _batched(model: LaneModel, batch: Batch, logits: Output) -> list[Tensor]:
    loss_L = batch.mean_L(row_losses(logits(batch, model), batch.y_LB))
    model.zero_grad()
    loss_L.sum().backward()
    n_L = batch.weight_LB.sum(1)
    return [g.square() * n_L.view(-1, *[1] * (g.dim() - 1)) for g in gradients(model)]


def _layer(
    layer: nn.Module, a: Tensor, g: Tensor, weight_LB: Tensor, size: Size
) -> list[tuple[Tensor, Tensor]]:
    """Return (parameter, sum over rows of weight * size of gradient) for one layer."""
    if isinstance(layer, LaneLinear):
        size_LBO = size(g) * weight_LB.unsqueeze(2)
        return [(layer.weight, torch.bmm(size(a).transpose(1, 2), size_LBO)), (layer.bias, size_LBO.sum(1))]
    lanes = len(weight_LB)
    g_LBOS = g.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(3)
    if isinstance(layer, LaneBatchNorm2d):
        mean, var = layer.running_mean.view(1, -1, 1, 1), layer.running_var.view(1, -1, 1, 1)
        normal = (a - mean) / (var + 1e-5).sqrt()
        normal_LBOS = normal.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(3)
        weight_LB1 = weight_LB.unsqueeze(2)
        return [
            (layer.weight, (size((g_LBOS * normal_LBOS).sum(3)) * weight_LB1).sum(1)),
            (layer.bias, (size(g_LBOS.sum(3)) * weight_LB1).sum(1)),
        ]
    assert isinstance(layer, LaneConv2d)
    weight = torch.zeros_like(layer.weight).flatten(2)
    for start in range(0, a.shape[0], _CHUNK):
        cut = slice(start, start + _CHUNK)
        each_LBOI = torch.einsum("lbos,lbis->lboi", g_LBOS[:, cut], patches_of(layer, a[cut], lanes))
        weight += torch.einsum("lboi,lb->loi", size(each_LBOI), weight_LB[:, cut])
    found: list[tuple[Tensor, Tensor]] = [(layer.weight, weight.view_as(layer.weight))]
    if layer.bias is not None:
        found.append((layer.bias, (size(g_LBOS.sum(3)) * weight_LB.unsqueeze(2)).sum(1)))
    return found
