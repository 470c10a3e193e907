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

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from strategies.core import Draws, LaneStreams, NotAlike, Optimiser, is_measured
from suites.tracebacks import first_line

if TYPE_CHECKING:
    from bench.train.lane_state import LaneState
    from bench.train.schedule import Schedule

_FIRST, _FEWEST = 2, 8
"""The first step of a task that may be captured, and the number of steps that a capture must be worth."""


class Graph(Protocol):
    """Records the operations of a step, and submits them again."""

    def record(self, step: Callable[[], None]) -> None:
        """Take a step, and record what it submits."""

    def replay(self) -> None:
        """Submit what was recorded."""


class CudaGraph:
    """A CUDA graph. Python runs once, while the step is captured; nothing is computed until a replay."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, step: Callable[[], None]) -> None:
        """Capture a step, then replay it.

        Raises:
            NotAlike: CUDA cannot capture it, for example because it waits for the device.
        """
        try:
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            raise NotAlike(f"CUDA cannot capture a step: {first_line(error)}") from error
        self._graph.replay()

    def replay(self) -> None:
        """Submit the step."""
        self._graph.replay()


def graphs_of(device: torch.device) -> Callable[[], Graph] | None:
    """Return what records steps on a device; None where launches cost little."""
    return CudaGraph if device.type == "cuda" and torch.version.cuda is not None else None


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
                    self._before = dict(_seen_by_python(state.strategy))
                    state.draws.watch()
                    self._next = number + 1
                return False
            _check_same(self._before, dict(_seen_by_python(state.strategy)))
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


_CONSTANT = (
    Draws, LaneStreams, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType,
    type, torch.dtype, torch.device,
)  # fmt: skip


def _seen_by_python(strategy: Any) -> Iterator[tuple[str, Any]]:
    """Yield what Python sees of a strategy between two steps, by path: numbers, and where tensors are.

    Raises:
        NotAlike: It draws from a random generator, whose state cannot be seen.
    """
    met: set[int] = {id(strategy.context), *map(id, strategy.draws.sources)}
    left: deque[tuple[str, Any]] = deque([("", strategy)])
    while left:
        path, value = left.popleft()
        if isinstance(value, Tensor) or value is None or isinstance(value, str | int | float | bytes):
            yield path, value
        elif isinstance(value, torch.Generator):
            raise NotAlike(f"{path.lstrip('.')} is a random generator of the host")
        elif id(value) in met or isinstance(value, _CONSTANT):
            continue
        elif isinstance(value, dict):
            met.add(id(value))
            left += [(f"{path}[{key!r}]", item) for key, item in value.items()]
            yield f"len {path}", len(value)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            met.add(id(value))
            left += [(f"{path}[{n}]", item) for n, item in enumerate(value)]
            yield f"len {path}", len(value)
        elif isinstance(value, Optimiser):
            met.add(id(value))
            left += [(f"{path}.{name}", t) for name, t in value.state().items()]
            yield f"{path}.steps on the host", value.steps_were_read
        elif hasattr(value, "__dict__"):
            met.add(id(value))
            own = _OF_TORCH if isinstance(value, nn.Module) else frozenset()
            left += [(f"{path}.{name}", item) for name, item in vars(value).items() if name not in own]


_OF_TORCH = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}


def _check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise NotAlike if a step changed what Python sees of a strategy."""
    for path in dict.fromkeys([*before, *after]):
        was, now = before.get(path, NotAlike), after.get(path, NotAlike)
        if isinstance(was, Tensor) and isinstance(now, Tensor):
            same = (
                was.data_ptr() == now.data_ptr() and was.shape == now.shape and was.stride() == now.stride()
            )
        else:
            same = type(was) is type(now) and was == now
        if not same or (path.endswith("steps on the host") and now):
            raise NotAlike(
                f"Python reads {path.removeprefix('len ').lstrip('.')}, which changes at every step"
            )
