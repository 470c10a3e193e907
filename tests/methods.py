"""Builders for tests of methods: a method over three lanes, its batches and its memory."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

import strategies
from bench import models
from strategies.core import Batch, Draws, LaneStreams, Strategy, make_optimiser
from suites.base import Suite, Training, generator
from tests.toy import TOY

SEEDS = [0, 1, 2]
MLP, TRAINING = {"hidden": 7, "layers": 1}, Training(batch=6)


def lanes_on(
    seeds: list[int], scenario: str = "class", training: Training | None = None, suite: Suite = TOY
) -> LaneStreams:
    """Return a toy suite's streams, one lane for each seed."""
    data, training = suite.load(), training or Training()
    of_lanes = [suite.stream(data, scenario, s, training) for s in seeds]
    return LaneStreams(of_lanes, training, "cpu")


def ready(
    name: str, scenario: str = "class", model: str = "mlp", options: dict[str, int] = MLP, suite: Suite = TOY,
    **hyper: Any,
) -> Any:  # fmt: skip
    """Return a strategy over three lanes after ``setup``; its float hyper-parameters differ by lane.

    Typed ``Any``, so that tests can use attributes that only one method has.
    """
    seeds, streams = [generator(s, "model") for s in SEEDS], lanes_on(SEEDS, scenario, TRAINING, suite)
    net = models.build(models.reference(model), options, (1, 8, 8), streams.n_units, seeds)
    strategy = strategies.get(name)(**hyper)
    update = make_optimiser("sgd", list(net.parameters()), len(SEEDS), 0.1)
    given = {name: getattr(strategy, name) for name in strategy.lane_fields()}
    values = {name: [value, 2 * value, 0.5 * value] for name, value in given.items()}
    strategy.attach(net, streams, Draws(SEEDS, "cpu"), update, lane_values=values)
    strategy.setup()
    return strategy


def new_batch(strategy: Strategy, task: int = 0, size: int = 6) -> Batch:
    """Return the first rows of a task as the next batch."""
    rows = torch.stack([s.tasks[task].train_rows[:size] for s in strategy.streams.streams])
    strategy.context.batch = strategy.streams.batch(rows)
    return strategy.context.batch


def begin(strategy: Strategy, task: int) -> None:
    """Begin a task as the training loop does."""
    strategy.task = task
    strategy.draws.begin(task)
    strategy.begin_task(task)


def learn_once(strategy: Any, task: int) -> Tensor:
    """Take one step as the training loop does, and return its loss."""
    strategy.model.zero_grad()
    loss_L: Tensor = strategy.learn(new_batch(strategy, task))
    return loss_L


def learned(strategy: Any, task: int, steps: int = 1) -> None:
    """Train on a whole task."""
    begin(strategy, task)
    for _ in range(steps):
        learn_once(strategy, task)
    strategy.end_task(task)


def assert_equal(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> None:
    """Assert that tensors are equal bit by bit."""
    torch.testing.assert_close(list(ours), list(theirs), rtol=0, atol=0)


def replayed(strategy: Any, n: int, name: str = "replay") -> Batch:
    """Return the n rows that the next draw of the named stream takes from the memory."""
    slots = Draws(SEEDS, "cpu").below(name, strategy.memory.filled_L, n)
    return remembered(strategy, slots)


def remembered(strategy: Any, slots: Tensor) -> Batch:
    return strategy.streams.batch(strategy.memory.rows_LM.gather(1, slots))


def snapshot(net: Strategy | nn.Module) -> list[Tensor]:
    """Return copies of the parameters."""
    return [p.detach().clone() for p in getattr(net, "model", net).parameters()]


def move(strategy: Strategy, seed: int = 0, scale: float = 0.1) -> None:
    """Change the parameters, as training on a task would."""
    random = torch.Generator().manual_seed(seed)
    for p in strategy.model.parameters():
        p.data += scale * torch.randn(p.shape, generator=random)
