"""Any ``nn.Module`` over lanes: its parameters and buffers are stacked, and torch.func calls it.

The last dense layer becomes the head. A module that torch.func cannot call for all lanes at once is called
for one lane after the other, and the model says why.

Axes: L lanes, B batch, F features, U units; X the axes of one row.
"""

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bench.models.hashed_dropout import HashedDropout, drawing_from, seeded
from bench.models.mlp import MLP
from bench.models.reference import Shape
from strategies.core import Generators, LaneLinear, LaneModel, Unsuitable, eval_mode
from suites.errors import UserError
from suites.tracebacks import first_line

Tensors = Mapping[str, Tensor]
_CLOSE = 1e-3
"""How far the features of stacked lanes may be from those of each lane alone: by rounding."""


@dataclass(frozen=True)
class Source:
    """How a network is made and read."""

    name: str
    """Its name in messages."""
    make: Callable[[Shape, int], nn.Module]
    """Makes it for rows of the shape that it reads and a number of units, with torch's global generator."""
    head: str = "last"
    """``last``: a dense layer whose output is the network's becomes the head. ``new``: the network's output
    is the features, and a head is added."""
    keeps: bool = True
    """Whether the head has the initial weights of that layer, if the layer has as many outputs as the suite
    units. Weights trained for other classes are dropped."""
    pixels: int = 0
    """Height and width that images are resized to; 0 for those of the suite."""
    channels: int = 0
    """Channels that it reads: images of one channel are repeated; 0 for those of the suite."""
    frozen: bool = False
    """Whether only the head is trained."""

    def read(self, x_LBX: Tensor) -> Tensor:
        """Return images with the channels and the size that the network reads."""
        if self.channels and x_LBX.dim() == 5 and x_LBX.shape[2] == 1:
            x_LBX = x_LBX.expand(-1, -1, self.channels, -1, -1)
        if not self.pixels or x_LBX.shape[-2:] == (self.pixels, self.pixels):
            return x_LBX
        resized = F.interpolate(x_LBX.flatten(0, 1), size=(self.pixels, self.pixels), mode="bilinear")
        return resized.view(*x_LBX.shape[:2], *resized.shape[1:])

    def build(self, generators: Generators, shape: Shape, units: int) -> LaneModel:
        """Return the network with one lane for each generator, from which all of its numbers are drawn.

        A chain of dense layers becomes one of layers of the built-in mlp, which every method can read.

        Raises:
            UserError: The network cannot be made, or cannot read rows of this shape.
        """
        x_2X = self.read(torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(0)))[0]
        lanes = [self._one(g, x_2X, units) for g in generators]
        networks = [network for network, _, _ in lanes]
        head = LaneLinear(generators, lanes[0][2], units)
        for lane, (_, own, _) in enumerate(lanes):
            if own is not None and self.keeps and own.out_features == units:
                head.weight.data[lane] = own.weight.detach().T
                head.bias.data[lane] = 0 if own.bias is None else own.bias.detach()
        remake = partial(self.build, shape=shape, units=units)
        chains = [chain for network in networks if (chain := _dense_chain(network, x_2X.dim())) is not None]
        if chains and not (self.frozen or self.pixels or self.channels):
            return Chain([_lane_linear(of_lanes) for of_lanes in zip(*chains, strict=True)], head, remake)
        for network, generator in zip(networks, generators, strict=True):
            HashedDropout.replace(network, generator)
        seeds = [int(torch.randint(2**62, (), generator=g)) for g in generators]
        if self.frozen:
            networks[0].requires_grad_(False)
        why = _why_not_stacked(networks[0], x_2X)
        # A network that decides by values may use other parameters for other rows.
        untrained = _without_gradient(networks[0], None if why else x_2X)
        return Network(networks, head, why, seeds, self.read, remake, untrained)

    def _one(
        self, generator: torch.Generator, x_2X: Tensor, units: int
    ) -> tuple[nn.Module, nn.Linear | None, int]:
        """Return the network of one lane without its last layer, that layer, and the number of features."""
        with drawing_from(generator):
            network = self.make(tuple(x_2X.shape[1:]), units).train()
            name, width = self._head_of(network, x_2X)
        if name is None:
            return network, None, width
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if not name:
            return nn.Flatten(), layer, layer.in_features
        network.set_submodule(name, nn.Identity())
        return network, layer, layer.in_features

    @torch.no_grad()
    def _head_of(self, network: nn.Module, x_2X: Tensor) -> tuple[str | None, int]:
        """Return the name of the layer that becomes the head (None for a new one), and the output's width.

        Raises:
            UserError: The network cannot read the rows, or does not return one vector for each.
        """
        calls: list[tuple[str, Tensor]] = []

        def note(name: str) -> Callable[..., None]:
            return lambda layer, given, out: calls.append((name, out))

        layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}
        hooks = [m.register_forward_hook(note(name)) for name, m in layers.items()]
        network.eval()
        try:
            out = network(x_2X)
        except Exception as error:
            raise UserError(
                f"model {self.name} cannot read rows of shape {tuple(x_2X.shape[1:])}: {first_line(error)}"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
            network.train()
        if not isinstance(out, Tensor) or len(out) != 2 or out.dim() < 2:
            found = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise UserError(
                f"model {self.name} returned {found} for 2 rows: return features or logits, (2, F)"
            )
        last = next((name for name, of_layer in reversed(calls) if of_layer is out), None)
        once = [name for name, _ in calls].count(last or "") == 1
        is_head = self.head == "last" and last is not None and once and out.dim() == 2
        return last if is_head else None, out[0].numel()


class Chain(MLP):
    """A chain of dense layers of a user's network."""

    def __init__(
        self, layers: Sequence[LaneLinear], head: LaneLinear, remake: Callable[[Generators], LaneModel]
    ) -> None:
        super().__init__(layers, head)
        self._remake = remake

    def redrawn(self, generators: Generators) -> dict[str, Tensor]:
        """Return the state of the same network with initial weights from other generators."""
        return self._remake(generators).state_dict()


class Network(LaneModel):
    """A module with stacked parameters, and a head.

    ``net`` is the module as its author wrote it, but each of its parameters and buffers has lanes first. It
    is only called with those of one lane in their place.
    """

    any_lanes: ClassVar[bool] = True
    seed_L: Tensor
    calls_L: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        head: LaneLinear,
        one_by_one: str,
        seeds: Sequence[int],
        read: Callable[[Tensor], Tensor],
        remake: Callable[[Generators], LaneModel],
        untrained: frozenset[str],
    ) -> None:
        super().__init__()
        self.net, self.head, self.one_by_one = _stacked(networks, untrained), head, one_by_one
        self._read, self._remake = read, remake
        self.convolves = any(isinstance(m, nn.Conv2d) for m in self.net.modules())
        self.waits = one_by_one  # Python may decide by values, so no step is replayed for others
        if one_by_one:  # the network may draw random numbers, which must be the lane's own
            self.register_buffer("seed_L", torch.tensor(seeds))
            self.register_buffer("calls_L", torch.zeros(len(seeds), dtype=torch.long))

    def features(self, x_LBX: Tensor) -> Tensor:
        """Return the output of the network before its head, shape (L, B, F)."""
        x_LBX = self._read(x_LBX)
        parameters = dict(self.net.named_parameters(remove_duplicate=False))
        stored = dict(self.net.named_buffers(remove_duplicate=False))
        updates = self.training and all(len(b) == len(x_LBX) for b in stored.values())
        buffers = {n: b.clone() if updates else _for_lanes(b, len(x_LBX)) for n, b in stored.items()}
        # Convolutions of one lane take half the time with channels last; dense layers would round otherwise.
        single = self.convolves and len(x_LBX) == 1
        stacked = self._single if single else vmap(partial(_called, self.net))
        call = self._one_by_one if self.one_by_one else stacked
        try:
            features_LBF, after = call(parameters, buffers, x_LBX)
        except ValueError as error:
            if not (self.training and x_LBX.shape[1] == 1):
                raise
            raise Unsuitable(f"the network cannot be trained on one row at a time: {error}") from error
        if updates:
            for name, buffer in stored.items():
                buffer.copy_(after[name])
        return features_LBF

    def _single(self, parameters: Tensors, buffers: Tensors, x_1BX: Tensor) -> tuple[Tensor, Tensors]:
        own, state = ({name: t[0] for name, t in of.items()} for of in (parameters, buffers))
        x_BX = x_1BX[0]
        if x_BX.dim() == 4:
            x_BX = x_BX.contiguous(memory_format=torch.channels_last)
        features_BF, after = _called(self.net, own, state, x_BX)
        return features_BF.unsqueeze(0), {name: b.unsqueeze(0) for name, b in after.items()}

    def _one_by_one(self, parameters: Tensors, buffers: Tensors, x_LBX: Tensor) -> tuple[Tensor, Tensors]:
        lanes = len(x_LBX)
        seeds = _for_lanes(self.seed_L + self.calls_L, lanes).tolist()
        if self.training:
            self.calls_L += 1
        found = []
        for of_lane in zip(seeds, _by_lane(parameters, lanes), _by_lane(buffers, lanes), x_LBX, strict=True):
            with seeded(of_lane[0], x_LBX.device):
                found.append(_called(self.net, *of_lane[1:]))
        after = {name: torch.stack([own[name] for _, own in found]) for name in buffers}
        features_LBF = torch.stack([features_BF for features_BF, _ in found])
        for p in parameters.values():  # those that were not used get a gradient of zero
            features_LBF = features_LBF + 0 * p.flatten(1)[:, :1].unsqueeze(2)
        return features_LBF, after

    def redrawn(self, generators: Generators) -> dict[str, Tensor]:
        """Return the state of the same network with initial weights from other generators."""
        return self._remake(generators).state_dict()


def _dense_chain(network: nn.Module, axes: int) -> list[nn.Linear] | None:
    """Return the layers of a chain of dense layers, each with a ReLU after it; None for any other network.

    ``axes`` is the number of axes of a batch, which must be flattened first.
    """
    parts = [m for m in network.modules() if type(m) not in (nn.Sequential, nn.Identity)]
    flat, rest = (parts[:1], parts[1:]) if parts and type(parts[0]) is nn.Flatten else ([], parts)
    dense, relu = rest[::2], rest[1::2]
    plain = (
        type(network) is nn.Sequential
        and (flat != [] or axes == 2)
        and all(f.start_dim == 1 and f.end_dim == -1 for f in flat)
    )
    plain = plain and len(dense) == len(relu) > 0 and all(type(m) is nn.ReLU for m in relu)
    plain = plain and all(type(m) is nn.Linear and m.bias is not None for m in dense)
    changed = any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    if not plain or changed or not all(p.requires_grad for p in network.parameters()):
        return None
    return [m for m in dense if isinstance(m, nn.Linear)]


def _lane_linear(of_lanes: Sequence[nn.Linear]) -> LaneLinear:
    """Return one layer of all lanes with the weights of a layer of each lane."""
    generators = [torch.Generator() for _ in of_lanes]
    layer = LaneLinear(generators, of_lanes[0].in_features, of_lanes[0].out_features)
    layer.weight.data = torch.stack([m.weight.detach().T for m in of_lanes]).contiguous()
    layer.bias.data = torch.stack([m.bias.detach() for m in of_lanes])
    return layer


def _called(net: nn.Module, parameters: Tensors, buffers: Tensors, x_BX: Tensor) -> tuple[Tensor, Tensors]:
    """Return the features (B, F) of one lane's rows, and its buffers after the call."""
    own = {**parameters, **buffers}
    # Without tie_weights (every name of a shared tensor is given), ``own`` gets what the call assigned.
    out: Tensor = functional_call(net, own, (x_BX,), tie_weights=False)
    return out.flatten(1), {name: own[name].detach() for name in buffers}


def _for_lanes(t: Tensor, lanes: int) -> Tensor:
    """Repeat each lane in place for a call with more lanes than the model, as for one lane per example."""
    return t if len(t) == lanes else t.repeat_interleave(lanes // len(t), 0)


def _by_lane(stacked: Tensors, lanes: int) -> Iterator[Tensors]:
    """Yield the tensors of each lane."""
    cut = {name: t.unbind(0) for name, t in stacked.items()}
    yield from ({name: parts[lane] for name, parts in cut.items()} for lane in range(lanes))


def _stacked(networks: Sequence[nn.Module], untrained: frozenset[str]) -> nn.Module:
    """Return the first network with the parameters and buffers of all of them, lanes first.

    Parameters that are not trained become buffers. A tensor with several names stays one tensor.
    """
    base, made = networks[0], dict[int, Tensor]()
    tensors = [
        (name, t)
        for of in (base.named_parameters, base.named_buffers)
        for name, t in of(remove_duplicate=False)
    ]
    for name, first in tensors:
        path, _, leaf = name.rpartition(".")
        module = base.get_submodule(path)
        if id(first) not in made:
            of_lanes = [getattr(n.get_submodule(path), leaf) for n in networks]
            stacked = torch.stack([t.detach() for t in of_lanes])
            trained = isinstance(first, nn.Parameter) and name not in untrained
            # A trained number is (1,) in its lane: parameters have an axis beside that of lanes.
            made[id(first)] = (
                nn.Parameter(stacked.view(len(networks), *first.shape or (1,))) if trained else stacked
            )
        new = made[id(first)]
        if isinstance(new, nn.Parameter):
            module._parameters[leaf] = new
        else:
            module._parameters.pop(leaf, None)
            module._buffers[leaf] = new
    return base


def _without_gradient(network: nn.Module, x_2X: Tensor | None) -> frozenset[str]:
    """Return the names of frozen parameters and, given rows, of those that have no part in their features."""
    if x_2X is None:
        named = network.named_parameters(remove_duplicate=False)
        return frozenset(name for name, p in named if not p.requires_grad)
    twin = copy.deepcopy(network).train()
    with torch.enable_grad(), seeded(0, x_2X.device):
        out = twin(x_2X)
        if out.requires_grad:
            out.sum().backward()
    return frozenset(n for n, p in twin.named_parameters(remove_duplicate=False) if p.grad is None)


def _why_not_stacked(network: nn.Module, x_2X: Tensor) -> str:
    """Return why lanes of a network cannot be computed together; empty if they can.

    Two lanes of the same weights are tried, so that the answer does not depend on the lanes of a group.
    """
    two = _stacked([copy.deepcopy(network) for _ in range(2)], frozenset())
    x_22X = torch.stack([x_2X, x_2X.flip(0)])
    parameters, buffers = (
        dict(of(remove_duplicate=False)) for of in (two.named_parameters, two.named_buffers)
    )
    one = [{n: t[0].detach().clone() for n, t in of.items()} for of in (parameters, buffers)]
    call = vmap(partial(_called, two))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an operation that is computed lane by lane within a stacked one
            # In eval mode: statistics of a batch of two rows would turn rounding into differences.
            with eval_mode(two), torch.no_grad():
                out_22F, _ = call(parameters, buffers, x_22X)
                alone_22F = torch.stack([_called(two, one[0], one[1], x_2X)[0] for x_2X in x_22X])
            with seeded(0, x_2X.device):
                before = torch.get_rng_state()
                _called(two, one[0], one[1], x_2X)
                if not torch.equal(before, torch.get_rng_state()):
                    return "it draws random numbers other than those of nn.Dropout"
            with torch.enable_grad():
                trained_22F, _ = call(parameters, buffers, x_22X)
                if trained_22F.requires_grad:
                    trained_22F.sum().backward()
    except Exception as error:
        without_rule = re.search(r"batching rule for ([\w:]*\w)", str(error))
        why = f"it has no rule for {without_rule[1]}" if without_rule else first_line(error)
        return f"torch.func cannot stack it: {why}"
    same = torch.allclose(out_22F, alone_22F, rtol=_CLOSE, atol=_CLOSE)
    return "" if same else "stacked by torch.func it computes other features"
