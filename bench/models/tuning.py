"""Ways to tune a transformer whose own weights are frozen and shared by all lanes.

Lanes are folded into the rows, so each frozen layer is one large product; the trained parameters are small
and stacked over lanes. They are in one ``nn.ParameterDict`` of the model, and the layers inserted into the
transformer look them up there by name. So ``torch.func.functional_call`` on the model replaces them, too.

Axes: L lanes, R rows of all lanes, S tokens, I inputs, O outputs, K rank or width.
"""

import math
import re
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Generators, uniform_parameter
from suites.errors import UserError

_QUERY_VALUE = re.compile(r"(^|[._])(query|value|q_lin|v_lin|q_proj|v_proj|q|v)$")
_ATTENTION = re.compile(r"(^|[._])(attention|attn|self_attn|selfattention)[._]", re.IGNORECASE)
_OUTPUT = re.compile(r"(output\.dense|out_lin|ffn\.lin2|o_proj|out_proj|down_proj|fc2|wo)$")
TARGETS: dict[str, Callable[[str], bool]] = {
    "query-value": lambda name: _QUERY_VALUE.search(name) is not None,
    "attention": lambda name: _ATTENTION.search(name) is not None,
    "dense": lambda name: True,
}
"""Which dense layers LoRA acts on: queries and values (Hu et al. 2022), all of attention, or all."""


def key_of(name: str, part: str) -> str:
    """Return the name of a trained parameter; names in a ParameterDict cannot contain dots."""
    return f"{name}.{part}".replace(".", "/")


class _Inserted(nn.Module):
    """A frozen layer of the transformer with trained parameters beside it."""

    def __init__(self, frozen: nn.Module, trained: nn.ParameterDict, name: str) -> None:
        super().__init__()
        self.frozen = frozen
        # In a tuple, so that the parameters are not registered here, too.
        self._trained, self._name = (trained,), name

    @property
    def weight(self) -> Tensor:
        """The frozen weight; some transformers look up its type."""
        return self.frozen.get_parameter("weight")

    def own(self, part: str) -> Tensor:
        """Return a trained parameter of this layer, shape (L, ...)."""
        found: Tensor = self._trained[0][key_of(self._name, part)]
        return found


def _product(x: Tensor, weight_LIO: Tensor) -> Tensor:
    """Multiply the rows (L * rows, ..., I) of each lane by the lane's weight."""
    x_LBI = x.reshape(len(weight_LIO), -1, x.shape[-1])
    return torch.bmm(x_LBI, weight_LIO.to(x)).view(*x.shape[:-1], -1)


class LoRA(_Inserted):
    """W x + (alpha / r) B A x (Hu et al. 2022, LoRA, section 4.1), summed over this A and B and past ones.

    ``past`` contains frozen factors, of any rank, under the same names as those in ``trained``.
    """

    def __init__(
        self, frozen: nn.Module, trained: nn.ParameterDict, past: dict[str, Tensor], name: str, scale: float
    ) -> None:
        super().__init__(frozen, trained, name)
        # Past factors cannot be merged into the frozen weight, which all lanes share. The sum of products is
        # one product of concatenated factors.
        self._past, self.scale = past, scale

    def forward(self, x: Tensor) -> Tensor:
        """Add the low-rank product of each lane."""
        h: Tensor = self.frozen(x)
        return h + self.scale * _product(_product(x, self._all("down", 2)), self._all("up", 1))

    def _all(self, part: str, axis: int) -> Tensor:
        own, past = self.own(part), self._past.get(key_of(self._name, part))
        if past is None:
            return own
        # A call with more lanes than the model (one per example) repeats each lane in place.
        return torch.cat([past.repeat_interleave(len(own) // len(past), 0), own], axis)


class Adapter(_Inserted):
    """h + up(gelu(down(h))) after a sublayer's last projection (Houlsby et al. 2019, figure 2)."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of each lane's bottleneck."""
        h: Tensor = self.frozen(x)
        narrow = F.gelu(_product(h, self.own("down")) + _over_rows(self.own("down_bias"), h))
        return h + _product(narrow, self.own("up")) + _over_rows(self.own("up_bias"), h)


class Shifted(_Inserted):
    """A layer whose bias is trained (Ben Zaken et al. 2022, BitFit)."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the difference of each lane's bias from the frozen one."""
        h: Tensor = self.frozen(x)
        # y = f(x) + (b - b_0) holds for every kind of layer.
        moved_LO = self.own("bias") - self.frozen.get_parameter("bias")
        return h + _over_rows(moved_LO, h)


def _over_rows(bias_LO: Tensor, like: Tensor) -> Tensor:
    """Repeat one vector a lane for the lane's rows, shape (L * rows, 1, ..., O)."""
    rows = len(like) // len(bias_LO)
    spread = bias_LO.to(like).repeat_interleave(rows, 0)
    return spread.view(len(like), *[1] * (like.dim() - 2), -1)


def insert_lora(
    model: nn.Module,
    trained: nn.ParameterDict,
    past: dict[str, Tensor],
    generators: Generators,
    rank: int,
    alpha: int,
    targets: str,
) -> None:
    """Put LoRA beside the dense layers that ``targets`` selects; A is drawn as in peft, B is 0."""
    for name, layer in _found(model, TARGETS[targets], f"lora with targets={targets}"):
        size = layer.in_features
        trained[key_of(name, "down")] = uniform_parameter(generators, (size, rank), 1 / math.sqrt(size))
        trained[key_of(name, "up")] = _zeros(generators, rank, layer.out_features)
        model.set_submodule(name, LoRA(layer, trained, past, name, alpha / rank))


def insert_adapters(model: nn.Module, trained: nn.ParameterDict, generators: Generators, width: int) -> None:
    """Put an adapter after the last projection of every sublayer; its up-projection is 0 at first."""
    for name, layer in _found(model, lambda name: _OUTPUT.search(name) is not None, "adapter"):
        size = layer.out_features
        trained[key_of(name, "down")] = uniform_parameter(generators, (size, width), 1 / math.sqrt(size))
        trained[key_of(name, "down_bias")] = _zeros(generators, width)
        trained[key_of(name, "up")] = _zeros(generators, width, size)
        trained[key_of(name, "up_bias")] = _zeros(generators, size)
        model.set_submodule(name, Adapter(layer, trained, name))


def insert_biases(model: nn.Module, trained: nn.ParameterDict, generators: Generators) -> None:
    """Train the biases of all dense layers and normalisations, from the pretrained ones, for each lane."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear | nn.LayerNorm) and layer.bias is not None:
            bias = layer.bias.detach().expand(len(generators), -1)
            trained[key_of(name, "bias")] = nn.Parameter(bias.clone())
            model.set_submodule(name, Shifted(layer, trained, name))


def _found(model: nn.Module, wanted: Callable[[str], bool], who: str) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the names and dense layers that a way to tune acts on."""
    dense = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen = {n: m for n, m in dense.items() if wanted(n)}
    if not chosen:
        raise UserError(f"{who} finds no layer to act on in this model; it has: {', '.join(list(dense)[:8])}")
    yield from chosen.items()


def _zeros(generators: Generators, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(len(generators), *shape))
