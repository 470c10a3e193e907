"""A method over three lanes, step by step, and each lane's network in plain torch.

With these a test compares a method's own term with the paper's formula, computed another way::

    strategy = ready("./mine.py:M", strength=0.5)
    train_on(strategy, 0)
    batch = new_batch(strategy, 1)
    ours_L = strategy.loss(batch)
    for lane in range(3):
        logits = logits_of(strategy, lane, batch.x_LBX[lane])
        expected = ...  # the formula, for one network
        torch.testing.assert_close(ours_L[lane], expected)

Axes: L lanes, B rows, U units.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

import strategies
from bench import models
from lethe.testing.plain_torch import network
from lethe.testing.toy_suites import TOY
from strategies.core import Batch, Draws, LaneStreams, Strategy, make_optimiser
from suites.base import Scenario, Suite, Training, generator

SEEDS = [0, 1, 2]
MLP, TRAINING = {"hidden": 7, "layers": 1}, Training(batch=6)


def lanes_on(
    seeds: list[int], scenario: Scenario = "class", training: Training | None = None, suite: Suite = TOY
) -> LaneStreams:
    """Return a suite's streams, one lane for each seed."""
    data, training = suite.load(), training or Training()
    of_lanes = [suite.stream(data, scenario, s, training) for s in seeds]
    return LaneStreams(of_lanes, training, "cpu")


def ready(
    name: str, scenario: Scenario = "class", model: str = "mlp", options: dict[str, int] = MLP,
    suite: Suite = TOY, **hyper: Any,
) -> Any:  # fmt: skip
    """Return a strategy over three lanes after ``setup``; its float hyper-parameters differ by lane.

    Args:
        name: A name, or ``./mine.py:M``.
        scenario: task, domain, class or online.
        model: The network, whose options follow.
        options: Options of the network.
        suite: The suite whose streams of three seeds are the lanes.
        **hyper: Hyper-parameters of the first lane; where they are floats, the second lane has twice the
            value and the third lane half of it.

    Returns:
        A strategy, typed ``Any``, so that tests can use attributes that only one method has.

    Raises:
        Unsuitable: The method refuses the scenario, or its hyper-parameters.
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
    """Return the first rows of a task of every lane as the next batch, (L, size)."""
    rows = torch.stack([s.tasks[task].train_rows[:size] for s in strategy.streams.streams])
    strategy.context.batch = strategy.streams.batch(rows)
    return strategy.context.batch


def begin(strategy: Strategy, task: int) -> None:
    """Begin a task as the training loop does."""
    strategy.task = task
    strategy.draws.begin(task)
    strategy.begin_task(task)


def learn_once(strategy: Any, task: int) -> Tensor:
    """Take one step as the training loop does, on the first rows of a task, and return its loss (L,)."""
    strategy.model.zero_grad()
    batch = new_batch(strategy, task)
    loss_L: Tensor = strategy.learn(batch)
    strategy.after_step(batch)
    return loss_L


def train_on(strategy: Any, task: int, steps: int = 1) -> None:
    """Begin a task, take steps on its first rows and end it.

    Args:
        strategy: As ``ready`` returns it.
        task: The task, counted from 0.
        steps: The number of steps, each on the same six rows.
    """
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
    """Return the rows in these slots of the memory, (L, n)."""
    return cast(Batch, strategy.streams.batch(strategy.memory.rows_LM.gather(1, slots)))


def snapshot(net: Strategy | nn.Module) -> list[Tensor]:
    """Return copies of the parameters."""
    return [p.detach().clone() for p in network(net).parameters()]


def perturb(strategy: Strategy, seed: int = 0, scale: float = 0.1) -> None:
    """Add normal noise with this scale to the model's parameters, as training on a task changes them."""
    random = torch.Generator().manual_seed(seed)
    for p in strategy.model.parameters():
        p.data += scale * torch.randn(p.shape, generator=random)
