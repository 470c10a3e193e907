"""What the tests of methods share: a method over three lanes, and one lane's network in plain torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
from bench import models
from strategies.core import Batch, Draws, LaneModel, LaneStreams, Strategy, make_optimiser
from suites.base import Training, generator
from tests.toy import TOY, blobs

SEEDS = [0, 1, 2]


def lanes_on(seeds: list[int], scenario: str = "class", training: Training | None = None) -> LaneStreams:
    """Return the toy's streams of these seeds."""
    data, training = blobs(), training or Training()
    of_lanes = [TOY.stream(data, scenario, s, training) for s in seeds]  # type: ignore[arg-type]
    return LaneStreams(of_lanes, training, "cpu")


def ready(
    name: str,
    scenario: str = "class",
    model: str = "mlp",
    options: dict[str, int] | None = None,
    **hyper: Any,
) -> Strategy:
    """Return a strategy over three lanes that has been set up, its floats already one value a lane."""
    streams = lanes_on(SEEDS, scenario, Training(batch=6))
    options = options or {"hidden": 7, "layers": 1}
    net = models.build(
        models.reference(model), options, (1, 8, 8), streams.n_units, [generator(s, "model") for s in SEEDS]
    )
    strategy = strategies.get(name)(**hyper)
    update = make_optimiser("sgd", list(net.parameters()), len(SEEDS), 0.1)
    given = {name: getattr(strategy, name) for name in strategy.lane_fields()}
    values = {name: [value, 2 * value, 0.5 * value] for name, value in given.items()}
    strategy.attach(net, streams, Draws(SEEDS, "cpu"), update, lane_values=values)
    strategy.setup()
    return strategy


def new_batch(strategy: Strategy, task: int = 0, size: int = 6) -> Batch:
    """Return the first rows of a task as the batch of the strategy's next step."""
    rows = torch.stack([s.tasks[task].train_rows[:size] for s in strategy.streams.streams])
    strategy.context.batch = strategy.streams.batch(rows)
    return strategy.context.batch


def lane_module(strategy: Strategy, lane: int) -> LaneModel:
    """Return one lane's network alone: the plain single model of the calculations here."""
    net = models.build(
        models.reference("mlp"),
        {"hidden": 7, "layers": 1},
        (1, 8, 8),
        strategy.streams.n_units,
        [generator(0, "m")],
    )
    net.load_state_dict(
        {k: v[lane : lane + 1].detach().clone() for k, v in strategy.model.state_dict().items()}
    )
    return net


def plain(strategy: Strategy, lane: int, x_BCHW: Tensor) -> Tensor:
    """Return one lane's logits by functions of torch alone."""
    p = {k: v[lane] for k, v in strategy.model.named_parameters()}
    h = torch.relu(F.linear(x_BCHW.flatten(1), p["layers.0.weight"].T, p["layers.0.bias"]))
    return F.linear(h, p["head.weight"].T, p["head.bias"])


def lanes_of(hyper: Tensor | float, lane: int) -> float:
    return float(hyper[lane]) if isinstance(hyper, Tensor) else hyper


def move(strategy: Strategy, seed: int = 0, scale: float = 0.1) -> None:
    """Change the parameters as a task would."""
    random = torch.Generator().manual_seed(seed)
    for p in strategy.model.parameters():
        p.data += scale * torch.randn(p.shape, generator=random)
