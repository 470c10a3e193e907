"""Replayed steps against steps taken one by one, with a stand-in for a CUDA graph on the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import strategies
from bench.checks.made_streams import scenario_of
from bench.train import LaneState, make_lanes, run_lanes
from lethe.testing import blobs, outcome, toy_cell
from strategies.core import NotAlike

_NEW = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class Tape(TorchDispatchMode):
    """Records the operators of a step, and runs them again on the same tensors, as a CUDA graph does.

    Numbers of Python are those of the recorded step, so a replay is right only if none of them changes.
    """

    replays = 0

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.ops.append((func, args, kwargs or {}, out))
        return out

    def record(self, step: Callable[[], None]) -> None:
        with self:
            step()

    @torch.no_grad()
    def replay(self) -> None:
        type(self).replays += 1
        for func, args, kwargs, out in self.ops:
            returns = func._schema.returns
            if func._schema.name.split("::")[1] in _NEW:
                continue
            if returns and all(r.alias_info is not None and not r.alias_info.is_write for r in returns):
                continue  # a view of memory that another operator writes
            again = func(*args, **kwargs)
            for was, now in zip(tensors(out), tensors(again), strict=True):
                if now is not was:
                    was.copy_(now)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


_QUICK = ("finetune", "er", "ewc", "si", "lwf", "der++", "agem", "dgr")
_TAKEN_ONE_BY_ONE = {
    "adaptive-replay": "_since", "gem": "quadratic programme", "generative-classifier": "_step",
    "hal": "_mean_LF", "hat": "_step", "mbpa++": "_steps", "packnet": "_step", "redo": "optimiser.steps",
    "rwalk": "_steps", "sparse-er": "_steps",
}  # fmt: skip
"""Strategies whose steps are decided on the host, and what the reason names."""
_NAMES = [name for name in strategies.names() if not strategies.get(name).tunes]


def lanes(name: str) -> LaneState:
    cells = [toy_cell(name, seed, scenario_of(name), epochs=4, batch=5) for seed in range(2)]
    return make_lanes(cells, "cpu", blobs())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n if n in _QUICK else pytest.param(n, marks=pytest.mark.slow) for n in _NAMES]
)
def test_replayed_steps_equal_steps_taken_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with whole and padded batches and steps in which the own term is measured."""
    expected = [outcome(record) for record in run_lanes(lanes(name))]
    monkeypatch.setattr(Tape, "replays", 0)
    state = lanes(name)
    state.new_graph = Tape
    assert [outcome(record) for record in run_lanes(state)] == expected
    if name in _TAKEN_ONE_BY_ONE:
        assert (Tape.replays, _TAKEN_ONE_BY_ONE[name] in state.not_replayed) == (0, True)
    else:
        assert Tape.replays > 10
        assert state.not_replayed == ""
        assert Tape.replays <= state.clock.replayed <= Tape.replays + state.streams.n_tasks  # one is recorded


class Counts(strategies.get("er")):  # type: ignore[misc]
    """A method that counts its steps in Python."""

    name = "counts"

    def after_step(self, batch: Any) -> None:
        super().after_step(batch)
        self.count = getattr(self, "count", 0) + 1


def test_a_step_that_changes_what_python_sees_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    state = lanes("er")
    state.strategy.__class__ = Counts
    state.new_graph = Tape
    monkeypatch.setattr(Tape, "replays", 0)
    run_lanes(state)
    assert Tape.replays == 0
    assert state.not_replayed == "Python reads count, which changes at every step"


def test_what_cannot_be_recorded_is_taken_one_by_one() -> None:
    class Refuses(Tape):
        def record(self, step: Callable[[], None]) -> None:
            raise NotAlike("CUDA cannot capture a step: it waits")

    expected = [outcome(record) for record in run_lanes(lanes("er"))]
    state = lanes("er")
    state.new_graph = Refuses
    assert [outcome(record) for record in run_lanes(state)] == expected
    assert state.not_replayed == "CUDA cannot capture a step: it waits"
