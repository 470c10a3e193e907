"""Measures the memory of a method: what a lane stores besides its model, found in the method's attributes.

docs/glossary.md defines under "memory" what is included.

Axes: L lanes.
"""

import types
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from strategies.core.draws import Draws
from strategies.core.optimisers import Optimiser
from strategies.core.strategy import Strategy, Unsuitable
from strategies.core.streams import LaneStreams

_NOT_HELD = (
    Optimiser, torch.optim.Optimizer, torch.Generator, LaneStreams, Draws, types.FunctionType,
    types.MethodType, types.ModuleType, type,
)  # fmt: skip
_OF_TORCH = frozenset(vars(nn.Module()))


def held_memory(strategy: Strategy, lane: int = 0, full: bool = False) -> tuple[int, int]:
    """Return the number of data rows that a lane stores, and the bytes of its memory with these rows.

    An object with a method ``held_rows(lane)`` is a memory of rows: the method returns the number of rows
    and the bytes of each. With ``full``, its ``most_rows(lane)`` is the number of rows that it stores when it
    is full: after ``setup``, that is the memory that the lane will have at the end of its stream.

    Raises:
        Unsuitable: With ``full``, a memory of rows has no ``most_rows``.
    """
    walk = _Walk(strategy, lane, full)
    walk.attributes(strategy)
    return walk.rows, walk.bytes


@dataclass
class _Walk:
    strategy: Strategy
    lane: int
    full: bool
    rows: int = 0
    bytes: int = 0
    seen: set[int] = field(default_factory=set)
    alive: list[Any] = field(default_factory=list)
    """Objects seen, kept alive so that no new object gets the id of one of them."""

    def __post_init__(self) -> None:
        model, streams = self.strategy.model, self.strategy.streams
        given = [*model.parameters(), *model.buffers(), streams.x_N, *streams.units.tensors, streams.own_LTU]
        self.given = {t.untyped_storage().data_ptr() for t in given}
        self.seen |= {id(part) for part in (*model.modules(), streams.data, self.strategy.context)}

    def attributes(self, owner: Any) -> None:
        """Add an object's attributes.

        In Lethe's own code, attributes that every task or step makes again have names that begin with an
        underscore; they are not included.
        """
        left_out = _OF_TORCH if isinstance(owner, nn.Module) else frozenset()
        if isinstance(owner, Strategy):
            left_out = frozenset([*owner.not_saved, *(f.name for f in fields(owner))])
            self.bytes -= owner.padding_bytes(self.lane)
        own = type(owner).__module__.split(".")[0] in ("strategies", "bench")
        self.all(v for k, v in vars(owner).items() if k not in left_out and not (own and k.startswith("_")))

    def all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.value(value)

    def value(self, value: Any) -> None:
        if id(value) in self.seen or isinstance(value, _NOT_HELD):
            return
        self.seen.add(id(value))
        self.alive.append(value)
        if isinstance(value, Tensor):
            if value.untyped_storage().data_ptr() not in self.given:
                per_lane = value.dim() > 0 and len(value) == self.strategy.streams.lanes
                self.bytes += value[self.lane].nbytes if per_lane else value.nbytes
        elif isinstance(value, np.ndarray):
            self.bytes += value.nbytes
        elif isinstance(value, dict):
            self.all(value.values())
        elif isinstance(value, list | tuple | set | frozenset | deque):
            self.all(value)
        elif hasattr(value, "held_rows"):
            rows, size = value.held_rows(self.lane)
            if self.full:
                if not hasattr(value, "most_rows"):
                    raise Unsuitable(
                        f"{type(value).__name__} of {self.strategy.name} has held_rows but not "
                        "most_rows(lane), the number of its rows when it is full"
                    )
                rows = value.most_rows(self.lane)
            self.rows, self.bytes = self.rows + rows, self.bytes + rows * size
        elif isinstance(value, nn.Module):
            self.all([*value.parameters(), *value.buffers()])
            self.all(value.modules())
            self.attributes(value)
        elif hasattr(value, "__dict__"):
            self.attributes(value)
