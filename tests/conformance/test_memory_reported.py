"""The memory that records report, against a second walk over the method and sums by hand."""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import strategies
from bench.checks.made_streams import scenario_of
from bench.train import group, loop, run_group
from lethe.testing.made_lanes import begin, new_batch, ready
from lethe.testing.toy_suites import TOY_UNEVEN, blobs, domain_blobs, outcome, registered, sentences, toy_cell
from strategies.core import Draws, LaneStreams, Optimiser, Strategy, held_memory
from strategies.gradient.gem import Rings
from strategies.parts import Memory
from strategies.parts.exemplars import Exemplars
from suites.base import Data, Scenario, Stream, Training
from suites.scenarios import by_domain

ALL = [*strategies.names(), "er+lwf", "ewc+er"]
LANES = 3


def parts_of(value: Any) -> Iterator[Any]:
    """Yield a value and all its parts, except the parts of a memory of rows."""
    if isinstance(value, Optimiser | LaneStreams | Draws | torch.Generator):
        return
    yield value
    if isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from parts_of(item)
    elif hasattr(value, "__dict__") and not isinstance(value, Tensor | Memory | Exemplars | Rings):
        given = {"model", "context", "streams"} | (
            {f.name for f in fields(value)} if isinstance(value, Strategy) else set()
        )
        for name, item in vars(value).items():
            if name not in given and not name.startswith("_"):
                yield from parts_of(item)


def rows_in(memory: Any) -> int:
    """Return the number of rows in the first lane's memory."""
    if isinstance(memory, Rings):
        return sum(min(n, memory.rows_LTM.shape[2] - 1) for n in memory.seen_LT[0].tolist())
    held = memory.count_LG[0].sum() if isinstance(memory, Exemplars) else memory.in_use_LM()[0].sum()
    return int(held)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_memory_reported_equals_that_of_a_walk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/glossary.md defines it: rows and other state besides the model, no optimiser moments."""
    states: list[Any] = []

    def make_lanes(*args: Any) -> Any:
        states.append(lanes(*args))
        return states[0]

    lanes = group.make_lanes
    monkeypatch.setattr(group, "make_lanes", make_lanes)
    record = run_group([toy_cell(name, seed, scenario_of(name), epochs=1) for seed in range(LANES)])[0]
    strategy = states[0].strategy
    row = strategy.streams.x_N[0].numel() * strategy.streams.x_N.element_size() + 8
    own = {id(t) for t in strategy.model.state_dict(keep_vars=True).values()}
    tensors, rows, size = {}, 0, 0.0
    for value in parts_of(strategy):
        if isinstance(value, Tensor) and id(value) not in own:
            tensors[id(value)] = value
        elif isinstance(value, Memory | Exemplars | Rings):
            n, beside = rows_in(value), getattr(value, "kept", {}).values()
            rows, size = rows + n, size + n * (row + sum(k[0, 0].nbytes for k in beside))
    size += sum(t[0].nbytes if len(t) == LANES else t.nbytes for t in tensors.values())
    resources = record["resources"]
    assert (resources["memory_samples"], resources["memory_bytes"]) == (rows, size)
    assert (rows > 0) == ("a memory of rows" in strategy.needs)


def private_tensors(value: Any, under: bool, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors under private names of a method and of its objects, with their paths."""
    if isinstance(value, Tensor) and under:
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from private_tensors(item, under, f"{path}.{i}")
    elif type(value).__module__.startswith("strategies") and not isinstance(
        value, nn.Module | Optimiser | LaneStreams | Draws
    ):
        for name, item in vars(value).items():
            if name not in ("model", "streams", "context"):
                yield from private_tensors(item, under or name.startswith("_"), f"{path}.{name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_private_tensors_carry_nothing_from_task_to_task(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not counted as memory: overwriting them between tasks changes nothing."""
    cell, made, learn_task = (
        toy_cell(name, 0, scenario_of(name), epochs=1),
        dict[str, Tensor](),
        loop.learn_task,
    )
    data = (sentences if cell.suite == "toy-text" else blobs)(6)
    expected = outcome(run_group([cell], data=data)[0])

    def after_overwriting(state: Any, task: int, *more: Any) -> bool:
        strategy = state.strategy
        given = [*strategy.model.state_dict().values(), *vars(strategy.streams).values()]
        given += strategy.optimiser.state().values()
        tensors = [t for t in (*parts_of(strategy), *given) if isinstance(t, Tensor)]
        public = {t.untyped_storage().data_ptr() for t in tensors}
        for path, t in private_tensors(strategy, False):
            if task == 0:
                made[path] = t.clone()
            elif t.untyped_storage().data_ptr() not in public and not (
                path in made and torch.equal(made[path], t)  # setup makes the same tensor
            ):
                t.detach().fill_(torch.nan if t.is_floating_point() else 0)
        return learn_task(state, task, *more)

    monkeypatch.setattr(loop, "learn_task", after_overwriting)
    assert outcome(run_group([cell], data=data)[0]) == expected


P, U, ROW = 4 * (64 * 7 + 7 + 7 * 4 + 4), 4, 64 + 8
"""Bytes of the network and number of units of ``ready``; bytes of a row: 64 pixels and a label."""


@pytest.mark.parametrize(
    ("name", "rows", "beside"),
    [
        ("er", 12, 0),
        ("der", 12, 12 * 4 * U),
        ("gem", 12, 0),
        ("icarl", 24, P),
        ("wa", 24, P),
        ("bic", 24, P + 2 * 4 * U),
        ("lucir", 24, P + 4),
        ("il2m", 24, 3 * 4 * U + U),
        ("scr", 12, 4 * (7 * 7 + 7 + 7 * 128 + 128)),
        ("lwf", 0, P),
        ("ewc", 0, 2 * P),
        ("si", 0, 3 * P),
        ("ncm", 0, 4 * (7 * U + U)),
    ],
)
def test_the_memory_reported_equals_a_sum_by_hand(name: str, rows: int, beside: int) -> None:
    """A frozen copy of the network is included, momentum is not; a memory need not be full."""
    strategy = ready(name, **({"buffer": 24} if rows else {}))
    for task in range(2):
        begin(strategy, task)
        batch = new_batch(strategy, task)
        strategy.learn(batch)
        strategy.after_step(batch)
        strategy.end_task(task)
    assert held_memory(strategy, 1) == (rows, rows * ROW + beside)


@pytest.mark.parametrize("name", ["generative-classifier", "hal", "icarl"])
def test_a_lane_s_memory_does_not_depend_on_the_classes_of_others(name: str) -> None:
    """Two classes return for seed 0, not for seed 1: tasks of 3, 1 and 4 classes, or of 3, 1 and 2."""

    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        left_out = (data.domain_N == 2) & (data.y_N < 2) & (seed == 1)
        data = replace(data, domain_N=data.domain_N.masked_fill(left_out, 3))
        return by_domain()(data, scenario, seed, training)

    domains = {"a": (0, 1, 2), "b": (3,), "c": (4, 5, 0, 1)}
    with registered(replace(TOY_UNEVEN, name="padded", load=partial(domain_blobs, domains), split=split)):
        cells = [toy_cell(name, seed, suite="padded", epochs=1) for seed in range(2)]
        together = [r["resources"] for r in run_group(cells)]
        assert [run_group([cell])[0]["resources"] for cell in cells] == together


class Mine(Strategy):
    """Stores state under all kinds of names."""

    name = "mine"
    not_saved = ("again",)

    def setup(self) -> None:
        """Store 4 numbers a lane in a list, 3 under a private name, 2 of numpy, and a weight of the model."""
        self.kept = [torch.zeros(3, 4)]
        self._private = {"deep": (torch.zeros(3, 3),)}
        self.array = np.zeros(2, dtype=np.float32)
        self.same, self.again = self.model.head.weight, torch.zeros(3, 100)
        self.twice = self.kept[0]


def test_all_state_of_a_user_s_method_is_counted_once() -> None:
    other, mine = ready("finetune"), Mine()
    mine.attach(other.model, other.streams, other.draws, other.optimiser)
    mine.setup()
    assert held_memory(mine) == (0, 4 * (4 + 3 + 2))
