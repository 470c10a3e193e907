"""Networks with one lane and with several, against the same networks of ordinary layers."""

import pytest
import torch
from torch import Tensor, nn

from bench import models
from lethe.testing import pretended_device
from strategies.core import LaneBatchNorm2d, LaneConv2d, LaneLinear
from suites.base import generator
from suites.errors import UserError
from tests.conftest import refused


def lanes(name: str, n: int, **options: int) -> nn.Module:
    seeds = [generator(s, "model") for s in range(n)]
    return models.build(models.reference(name), options, (3, 8, 8), 5, seeds)


def ordinary(layer: nn.Module, lane: int) -> nn.Module:
    """Return the ordinary layer with one lane's weights."""
    made: nn.Module
    state = {k: v[lane] for k, v in layer.state_dict().items()}
    if isinstance(layer, LaneLinear):
        made = nn.Linear(*layer.weight.shape[1:])
        state["weight"] = state["weight"].T
    elif isinstance(layer, LaneConv2d):
        out, inputs, kernel, _ = layer.weight.shape[1:]
        made = nn.Conv2d(inputs, out, kernel, layer.stride, layer.padding, bias=layer.bias is not None)
    else:
        assert isinstance(layer, LaneBatchNorm2d)
        made = nn.BatchNorm2d(layer.weight.shape[1])
    made.load_state_dict(state, strict=False)
    return made


class Block(nn.Module):
    def __init__(self, block: nn.Module, lane: int) -> None:
        super().__init__()
        for name in ("conv1", "norm1", "conv2", "norm2"):
            setattr(self, name, ordinary(getattr(block, name), lane))
        short = block.shortcut if isinstance(block.shortcut, nn.Sequential) else ()
        self.shortcut = nn.Sequential(*(ordinary(m, lane) for m in short))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (h + self.shortcut(x)).relu()


def single(name: str, net: nn.Module, lane: int) -> nn.Module:
    def o(path: str) -> nn.Module:
        return ordinary(net.get_submodule(path), lane)

    relu, flat = nn.ReLU(), nn.Flatten()
    if name == "mlp":
        return nn.Sequential(flat, o("layers.0"), relu, o("layers.1"), relu, o("head"))
    if name == "cnn":
        pool = nn.MaxPool2d(2)
        convolutions = (o("conv1"), relu, o("conv2"), relu, pool, o("conv3"), relu, o("conv4"), relu, pool)
        return nn.Sequential(*convolutions, flat, o("dense"), relu, o("head"))
    blocks = [Block(b, lane) for b in net.get_submodule("blocks")]  # type: ignore[attr-defined]
    return nn.Sequential(o("conv"), o("norm"), relu, *blocks, nn.AdaptiveAvgPool2d(1), flat, o("head"))


CONVOLUTIONS = ("in_groups", "in_groups_channels_last", "by_product")
WAYS = [(name, way) for name in ("cnn", "resnet18") for way in CONVOLUTIONS]


@pytest.mark.parametrize(("name", "way"), [("mlp", ""), *WAYS])
def test_each_lane_equals_a_network_of_ordinary_layers(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They agree in logits, gradients and running statistics, in all ways to compute convolutions."""
    if way:
        monkeypatch.setattr(LaneConv2d, "forward", getattr(LaneConv2d, way))
    small = {"mlp": {"hidden": 6}, "cnn": {"width": 3, "hidden": 7}, "resnet18": {"width": 2}}[name]
    net = lanes(name, 3, **small).double().train()
    x = torch.rand(3, 4, 3, 8, 8, dtype=torch.float64)
    plain = [single(name, net, lane).double().train() for lane in range(3)]
    logits = net(x)
    weight = torch.randn_like(logits)
    (logits * weight).sum().backward()
    for lane, other in enumerate(plain):
        theirs = other(x[lane])
        torch.testing.assert_close(logits[lane], theirs)
        (theirs * weight[lane]).sum().backward()
        ours = sorted(float(p.grad[lane].square().sum()) for p in net.parameters() if p.grad is not None)
        expected = sorted(float(p.grad.square().sum()) for p in other.parameters() if p.grad is not None)
        assert ours == pytest.approx(expected, rel=1e-6)
        statistics = sorted(float(b[lane].sum()) for _, b in net.named_buffers())
        expected = sorted(float(b.sum()) for n, b in other.named_buffers() if "batches" not in n)
        assert statistics == pytest.approx(expected, rel=1e-9)


def test_convolutions_are_products_on_a_gpu_for_several_lanes_and_patches_of_a_size() -> None:
    def launched(lanes: int, device: str, side: int = 8) -> bool:
        layer = LaneConv2d([generator(s, "model") for s in range(lanes)], 2, 3, 3, padding=1).to(device)
        layer.most_bytes = 2 * 2 * 2 * 8 * 8 * 9 * 4  # type: ignore[misc]
        now.reset()
        layer(torch.ones(2, lanes * 2, side, side).to(device))
        return bool(now.launches["baddbmm"])

    with pretended_device(1) as now:
        assert launched(2, "cuda")
        assert not launched(1, "cuda")
        assert not launched(2, "cuda", 9)
        assert not launched(2, "cpu")


@pytest.mark.parametrize("on", [True, False])
def test_convolutions_have_channels_last_on_a_gpu_if_that_is_on(
    on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LaneConv2d, "channels_last", on)
    layouts: list[bool] = []
    in_groups = LaneConv2d.in_groups

    def noted(layer: LaneConv2d, x: torch.Tensor) -> torch.Tensor:
        layouts.append(x.is_contiguous(memory_format=torch.channels_last))
        return in_groups(layer, x)

    monkeypatch.setattr(LaneConv2d, "in_groups", noted)
    layer = LaneConv2d([generator(s, "model") for s in range(2)], 2, 3, 3, padding=1)
    x = torch.rand(2, 4, 8, 8)
    with pretended_device(1), torch.no_grad():
        here = layer(x)
        there = layer.to("cuda")(x.to("cuda")).cpu()
    assert layouts == [False, on]
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize("name", [n for n in models.names() if n != "efficientnet-lite0"])
def test_initial_weights_depend_on_the_lane_s_seed_alone(name: str) -> None:
    three = lanes(name, 3)
    one = models.build(models.reference(name), {}, (3, 8, 8), 5, [generator(2, "model")])
    for p, q in zip(three.parameters(), one.parameters(), strict=True):
        assert torch.equal(p[2:], q)
    assert not torch.equal(next(three.parameters())[0], next(three.parameters())[1])


def test_networks_have_the_sizes_of_the_literature() -> None:
    assert models.parameter_count(models.reference("mlp"), {"hidden": 400}, (1, 28, 28), 10) == 478_410
    # Lopez-Paz & Ranzato's reduced ResNet-18 on CIFAR-100: 1.09 million with its hundred outputs.
    assert models.parameter_count(models.reference("resnet18"), {}, (3, 32, 32), 100) == 1_109_240


def test_invalid_model_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown option of model mlp 'hiden'; did you mean hidden\?"):
        models.check(models.reference("mlp"), {"hiden": 3})
    refused("4 x 4 pixels", models.build, models.reference("cnn"), {}, (1, 3, 3), 2, [generator(0, "model")])
