"""Pretrained transformers with a head for each lane, tuned whole, in small parts, or not at all.

Axes: L lanes, B batch, R rows of all lanes, S tokens, F features, P soft prompts; X the axes of one row.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.models.head_alone import HeadAlone
from bench.models.pretrained import NAMED, Backbone, backbone, check_length
from bench.models.reference import Shape
from bench.models.seq2seq import TINY, seq2seq
from bench.models.shared import Shared
from bench.models.tuning import insert_adapters, insert_biases, insert_lora
from strategies.core import Generators, LaneLinear, LaneModel
from suites.values import only_if

Tune = Literal["head", "full", "lora", "adapter", "bitfit", "prompt"]
Pooling = Literal["mean", "first", "own"]
_AT_ONCE = {"cpu": 16, "cuda": 1024}
"""Rows of all lanes that are computed together. On a CPU, rows are sorted by length first, so that each part
is only as wide as its longest row. The host would have to wait for a GPU to read that width, and a GPU is
faster with fewer, larger products: there, each part is as wide as the longest text of the data set."""


class Transformer(Shared[Backbone]):
    """A backbone and its trained parameters: all weights (``full``), or parts beside frozen shared ones."""

    def __init__(self, generators: Generators, base: Backbone, units: int, tune: Tune) -> None:
        super().__init__(len(generators), base)
        self.tune = tune
        self.past: dict[str, Tensor] = {}
        """LoRA factors of earlier tasks that a strategy adds, by their names in ``trained``."""
        self.head = LaneLinear(generators, _width(base), units)

    @property
    def places(self) -> float:
        """Number of positions, soft prompts included; infinite if positions are relative."""
        return float(getattr(self.base.transformer.config, "max_position_embeddings", float("inf")))

    def lengths(self, x_LBS: Tensor) -> Tensor:
        """Return the number of tokens of each row without padding, int64 (L, B)."""
        return (x_LBS != self.base.padding).sum(2)

    def features(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return pooled features, shape (L, B, F), computed in parts of rows of similar length.

        ``of_rows`` are other tensors, (L, B, ...) each, whose rows ``encode`` gets together with the tokens.
        """
        length_LB, at_once = self.lengths(x_LBS), max(1, _AT_ONCE[x_LBS.device.type] // len(x_LBS))
        if x_LBS.is_cuda:
            self.count(length_LB, x_LBS.numel())
            whole = (x_LBS, *of_rows)
            parts = zip(*(t.split(at_once, 1) for t in whole), strict=True)
            return torch.cat([self.encode(*part) for part in parts], 1)
        lane_L1 = torch.arange(len(x_LBS), device=x_LBS.device).unsqueeze(1)
        order_LB = length_LB.argsort(dim=1, stable=True)
        parts_LbF, padded = [], 0
        for part_Lb in order_LB.split(at_once, 1):
            width = max(1, int(length_LB.gather(1, part_Lb).amax()))
            index = part_Lb.unsqueeze(2).expand(-1, -1, width)
            more = [t[lane_L1, part_Lb] for t in of_rows]
            parts_LbF.append(self.encode(x_LBS[:, :, :width].gather(1, index), *more))
            padded += part_Lb.numel() * width
        self.count(length_LB, padded)
        sorted_LBF = torch.cat(parts_LbF, 1)
        return sorted_LBF.gather(1, order_LB.argsort(1).unsqueeze(2).expand_as(sorted_LBF))

    def encode(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return pooled features of one part, shape (L, B, F)."""
        features_RF: Tensor = self.base(x_LBS.flatten(0, 1))
        return features_RF.view(*x_LBS.shape[:2], -1)


class Prompted(Transformer):
    """Soft prompts before the tokens (Lester, Al-Rfou & Constant 2021, prompt tuning)."""

    def __init__(self, generators: Generators, base: Backbone, units: int, prompts: int) -> None:
        super().__init__(generators, base, units, "prompt")
        table_VF = base.transformer.get_input_embeddings().weight.detach()  # type: ignore[operator]
        # Drawn from the vocabulary, as in their section 3.2.
        drawn = [torch.randint(len(table_VF), (prompts,), generator=g) for g in generators]
        self.trained["prompt"] = nn.Parameter(torch.stack([table_VF[rows] for rows in drawn]))

    def encode(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return pooled features, with the lane's prompts, or those given (L, B, P, F), before each row."""
        if of_rows:
            prompt_RPF = of_rows[0].flatten(0, 1)
        else:
            prompt_RPF = self.trained["prompt"].repeat_interleave(x_LBS.shape[1], 0)
        features_RF: Tensor = self.base(x_LBS.flatten(0, 1), prompt_RPF)
        return features_RF.view(*x_LBS.shape[:2], -1)


class Whole(Transformer):
    """All weights are stacked over lanes; lanes are computed one after the other."""

    def __init__(self, generators: Generators, base: Backbone, units: int) -> None:
        super().__init__(generators, base, units, "full")
        self.stack([base] * self.lanes)

    def encode(self, x_LBS: Tensor, *of_rows: Tensor) -> Tensor:
        """Return pooled features, computed lane by lane with the lane's weights."""
        rows = zip(self.weights(), x_LBS, strict=True)
        return torch.stack([functional_call(self.base, weights, (x_BS,)) for weights, x_BS in rows])


def _width(base: Backbone) -> int:
    with torch.no_grad():
        features: Tensor = base(torch.full((1, 2), base.padding, device=next(base.parameters()).device))
    return features.shape[1]


def transformer(
    name: str,
    generators: Generators,
    shape: Shape,
    units: int,
    *,
    max_tokens: int = 128,
    pooling: Annotated[Pooling, only_if("generates", False)] = "mean",
    start: Annotated[Literal["random", "names"], only_if("generates", False)] = "random",
    tune: Tune = "head",
    rank: Annotated[int, only_if("tune", "lora")] = 8,
    alpha: Annotated[int, only_if("tune", "lora")] = 16,
    targets: Annotated[Literal["query-value", "attention", "dense"], only_if("tune", "lora")] = "query-value",
    width: Annotated[int, only_if("tune", "adapter")] = 64,
    prompts: Annotated[int, only_if("tune", "prompt")] = 20,
) -> LaneModel:
    """Any transformer from a folder or the Hugging Face hub; its head, or more of it, is trained.

    Args:
        name: Of the model: a folder, or a repository of the hub.
        generators: One for each lane.
        shape: Of an input: tokens, features, or tokens of text and target.
        units: Of the head.
        max_tokens: Tokens of a text that are read; the rest is cut.
        pooling: The vector of a text: the mean over its tokens, the first token, or the model's own pooler.
        start: Start the head at random, or from the classes' names.
        tune: What is trained beside the head: nothing (head), all weights (full), low-rank factors (lora),
            layers put between (adapter), biases (bitfit) or soft prompts (prompt).
        rank: Rank of the factors of lora.
        alpha: Scale of lora: its factors are multiplied by alpha / rank.
        targets: The layers that get factors of lora.
        width: Units of an adapter.
        prompts: Number of soft prompts.
    """
    if len(shape) == 2:  # input and target texts
        return seq2seq(name, generators, tune, rank, alpha, targets)
    if tune == "head":
        return HeadAlone(generators, shape[0], units)
    base = backbone(name, pooling)
    check_length(base.transformer, name, max_tokens + (prompts if tune == "prompt" else 0))
    if tune == "full":
        return Whole(generators, base, units)
    if tune == "prompt":
        return Prompted(generators, base, units, prompts)
    model = Transformer(generators, base, units, tune)
    if tune == "lora":
        insert_lora(base.transformer, model.trained, model.past, generators, rank, alpha, targets)
    elif tune == "adapter":
        insert_adapters(base.transformer, model.trained, generators, width)
    else:
        insert_biases(base.transformer, model.trained, generators)
    return model


MODELS = dict.fromkeys([*NAMED, TINY], transformer)
