"""State at a task's end: checkpoints to resume from, and trained models to save.

Every lane is saved separately, so that it can continue, or be exported, without its neighbours.
"""

from typing import Protocol

import torch
from torch import Tensor

from bench.encode import generation_header
from bench.plan import Fields
from bench.train.lane_record import data_header
from bench.train.lane_state import LaneState


class Models(Protocol):
    """Where trained models are saved; see bench.store.saved_models."""

    def wanted(self, tasks_done: int, n_tasks: int, /) -> bool:
        """Return whether models are saved after so many tasks."""

    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], header: Fields, /) -> None:
        """Save one cell's model."""


class Checkpoints(Protocol):
    """Where the state after a task is saved until its cell is done; see bench.store."""

    def save(self, key: str, tensors: dict[str, Tensor], header: Fields, /) -> None:
        """Save one cell's state, in place of an earlier one."""

    def load(self, key: str, /) -> tuple[dict[str, Tensor], Fields] | None:
        """Return what ``save`` was given; None where there is nothing."""


def save_checkpoint(state: LaneState, checkpoints: Checkpoints, tasks_done: int) -> None:
    """Save every lane after so many tasks."""
    tensors = {name: t.cpu() for name, t in _tensors(state).items()}
    for lane, spec in enumerate(state.specs):
        header = {
            "tasks_done": tasks_done,
            "loss": [row[lane] for row in state.loss],
            "diverged": state.diverged.get(lane),
            "scores": state.scorer.record(lane),
            "clock": state.clock.state(),
        }
        own = {name: t[lane].contiguous() for name, t in tensors.items()}
        checkpoints.save(spec.key, own | state.scorer.tensors(lane), header)


def resume(state: LaneState, checkpoints: Checkpoints) -> int:
    """Continue every lane from its checkpoint; return the tasks done, 0 unless all lanes have as many."""
    loaded = [checkpoints.load(spec.key) for spec in state.specs]
    found = [checkpoint for checkpoint in loaded if checkpoint is not None]
    if len(found) < len(loaded) or len({header["tasks_done"] for _, header in found}) != 1:
        return 0
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "strategy": {}}
    for name in _tensors(state):
        part, _, key = name.partition("/")
        parts[part][key] = torch.stack([tensors[name] for tensors, _ in found]).to(state.device)
    state.model.load_state_dict(parts["model"])
    state.optimiser.load_state(parts["optimiser"])
    state.strategy.load_state(parts["strategy"])
    for lane, (tensors, header) in enumerate(found):
        state.scorer.load(lane, header["scores"], tensors)
        if header["diverged"]:
            state.diverged[lane] = header["diverged"]
    done: int = found[0][1]["tasks_done"]
    state.loss = [[header["loss"][task] for _, header in found] for task in range(done)]
    state.clock.load(found[0][1]["clock"])
    state.strategy.task = done - 1 if state.training.boundaries == "shown" else 0
    return done


def save_models(state: LaneState, models: Models, tasks_done: int) -> None:
    """Save the model of every lane that has not diverged."""
    more = state.strategy.answers_with_more_than_model()
    wanted = ("model/", "strategy/") if more else ("model/",)
    tensors = {name: t.cpu() for name, t in _tensors(state).items() if name.startswith(wanted)}
    data = state.streams.data
    for lane, (spec, stream) in enumerate(zip(state.specs, state.streams.streams, strict=True)):
        if lane in state.diverged:
            continue
        header = {
            "spec": spec.as_record(),
            "units": stream.unit_names(),
            "tasks": [list(task.units) for task in stream.tasks],
            "data": data_header(state),
            "answers_otherwise": more,
            "writes": generation_header(stream, spec.model),
            "shape": None if data.texts else list(state.streams.shape),
            "scale": data.scale,
            "mean": list(data.mean),
            "std": list(data.std),
        }
        own = {name: t[lane].contiguous() for name, t in tensors.items()}
        models.write(spec.key, tasks_done, own, header)


def _tensors(state: LaneState) -> dict[str, Tensor]:
    """Return every tensor that training changes, lanes first, by ``part/name``."""
    parts = {"model": state.model.state_dict(), "optimiser": state.optimiser.state()}
    parts["strategy"] = state.strategy.state()
    return {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()}
