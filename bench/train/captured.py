"""Steps that are alike, captured once in a task and replayed: on a GPU a replay is one launch.

A step is captured as the operations that it submits. A replay submits the same ones on the same tensors, so
whatever changes from step to step has to be on the device: the number of the step, from which rows are read,
and the position of every stream of draws. Rates and rows of draws are written before a replay. What Python
decides is decided once, so steps are replayed only if no step changes what Python sees of the strategy. Which
that is, is found out by looking before and after one step.

Steps that differ are taken one by one as without a graph: the first ones of a task, those with padded rows or
resting lanes, and those in which the own term is measured.

Axes: L lanes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.train.graphs import Graph
from bench.train.lane_state import LaneState
from bench.train.python_view import check_same, seen_by_python
from bench.train.schedule import Schedule
from strategies.core import NotAlike, is_measured

_FIRST, _FEWEST = 2, 8
"""The first step of a task that may be captured, and the number of steps that a capture must be worth."""


class CapturedSteps:
    """The steps of one task that are replayed.

    Args:
        state: The lanes.
        schedule: The batches of the task.
        take: Takes a step with the given rows of every lane; returns each lane's loss.
        total_L: The sum of each lane's losses, to which replayed steps add theirs.
    """

    def __init__(
        self,
        state: LaneState,
        schedule: Schedule,
        take: Callable[[LaneState, Tensor], Tensor],
        total_L: Tensor,
    ) -> None:
        self.state, self.schedule, self.total_L = state, schedule, total_L
        self._take = take
        self._graph: Graph | None = None
        self._before: dict[str, Any] | None = None
        self._at = torch.zeros(1, dtype=torch.long, device=state.device)
        self._next = 0  # the number of the step after the last one that was watched or replayed
        self._alike: object = None
        self.reason = _why_never(state)
        """Why no step is replayed; empty if nothing is against it so far."""

    def took(self, number: int) -> bool:
        """Take a step by a replay, if it is one of those that are alike; return whether it was taken."""
        taken = self._took(number)
        self.state.clock.replayed += taken
        return taken

    def _took(self, number: int) -> bool:
        state = self.state
        if self.reason or number < _FIRST or not self._is_plain(number):
            return False
        if self._graph is not None:
            return self._replayed(number)
        try:
            if self._before is None or self._next != number:
                if self.schedule.n_steps - number >= _FEWEST:
                    self._before = dict(seen_by_python(state.strategy))
                    state.draws.watch()
                    self._next = number + 1
                return False
            check_same(self._before, dict(seen_by_python(state.strategy)))
            self._record(number)
        except NotAlike as found:
            self.reason = str(found)
            state.draws.by_cursor(False)
            return False
        return True

    def end(self) -> None:
        """End the task: count on the host what was counted on the device, and release the graph."""
        self.state.draws.end_replays()
        self.state.not_replayed = self.reason
        if self._graph is not None:
            self._graph = None
            self.state.optimiser.recount()

    def _is_plain(self, number: int) -> bool:
        whole = self.schedule.active(number) is None and self.schedule.weight(number) is None
        return whole and not (self.state.own_term is not None and is_measured(number))

    def _record(self, number: int) -> None:
        state = self.state
        assert state.new_graph is not None
        graph = state.new_graph()
        self._at.fill_(number)
        state.strategy.context.active = None
        state.draws.prepare()
        self._alike = state.optimiser.grouping
        graph.record(self._step)
        self._graph, self._next = graph, number + 1
        state.draws.advance()

    def _step(self) -> None:
        rows_LB = self.schedule.rows_SLB.index_select(0, self._at).squeeze(0)
        self.state.draws.by_cursor(True)
        self.total_L += self._take(self.state, rows_LB)
        self.state.draws.by_cursor(False)
        self._at.add_(1)

    def _replayed(self, number: int) -> bool:
        assert self._graph is not None
        if self.state.optimiser.grouping != self._alike:
            return False
        if self._next != number:
            self._at.fill_(number)
        self._next = number + 1
        self.state.draws.prepare()
        self._graph.replay()
        self.state.draws.advance()
        return True


def _why_never(state: LaneState) -> str:
    if state.new_graph is None:
        return state.not_replayed or "there are no graphs on this device"
    if waits := state.strategy.waits or state.model.waits:
        return waits
    return "the model is compiled" if state.training.compile else ""
