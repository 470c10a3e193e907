"""One lane's network and its losses in plain torch: the reference for tests of methods.

Axes: B rows, U units, C H W of an image.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bench import models
from strategies.core import LaneModel, Strategy
from suites.base import generator


def network(of: Strategy | nn.Module) -> nn.Module:
    """Return the network of a strategy; a network is its own."""
    return of.model if isinstance(of, Strategy) else of


def lane_module(strategy: Strategy, lane: int) -> LaneModel:
    """Return one lane's network as a plain model."""
    shape, n_units = {"hidden": 7, "layers": 1}, strategy.streams.n_units
    net = models.build(models.reference("mlp"), shape, (1, 8, 8), n_units, [generator(0, "m")])
    net.load_state_dict({k: v[lane : lane + 1].clone() for k, v in strategy.model.state_dict().items()})
    return net


def dense_of(net: nn.Module, name: str, lane: int, x: Tensor) -> Tensor:
    """Return the output of one lane's dense layer, by functions of torch alone."""
    p = {k: v[lane] for k, v in net.state_dict(keep_vars=True).items()}
    return F.linear(x, p[f"{name}.weight"].T, p[f"{name}.bias"])


def features_of(net: Strategy | nn.Module, lane: int, x_BCHW: Tensor) -> Tensor:
    """Return one lane's features of images, by functions of torch alone."""
    return dense_of(network(net), "layers.0", lane, x_BCHW.flatten(1)).relu()


def logits_of(net: Strategy | nn.Module, lane: int, x_BCHW: Tensor) -> Tensor:
    """Return one lane's logits by functions of torch alone."""
    return dense_of(network(net), "head", lane, features_of(net, lane, x_BCHW))


def loss_among(units: list[int], logits_BU: Tensor, y_B: Tensor, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy among some of the units."""
    labels_B = torch.tensor([units.index(int(y)) for y in y_B])
    return F.cross_entropy(logits_BU[:, units], labels_B, reduction=reduction)


def lane_value(hyper: Tensor | float, lane: int) -> float:
    """Return one lane's value of a hyper-parameter."""
    return float(hyper[lane]) if isinstance(hyper, Tensor) else hyper


def descend(net: LaneModel, loss: Tensor, rate: float = 0.1) -> None:
    """Take a plain gradient step."""
    parameters = list(net.parameters())
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True):
        p.data -= rate * g


def assert_lanes_are(model: LaneModel, nets: list[LaneModel]) -> None:
    """Assert that each lane of a model has the parameters of its own network, except for rounding."""
    for lane, net in enumerate(nets):
        ours, theirs = [p[lane] for p in model.parameters()], [p[0] for p in net.parameters()]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
