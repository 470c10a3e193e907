"""Checkpoints after a task, and saved models.

Every lane is saved separately, so that it can continue, or be exported, without its neighbours. A checkpoint
is copied at once and written in the background, while the next task is trained: a run that is killed by then
continues from the one before.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.encode import generation_header, normalised
from bench.plan import Fields
from bench.train.background import Background
from bench.train.lane_record import data_header
from bench.train.lane_state import LaneState
from strategies.core import ContractBroken, lane_by_lane, tensor_names
from suites.errors import some


class Models(Protocol):
    """A place for trained models; see bench.store.saved_models."""

    def wanted(self, tasks_done: int, n_tasks: int, /) -> bool:
        """Return whether models are saved after this number of tasks."""

    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], header: Fields, /) -> None:
        """Save the model of a cell."""


class Checkpoints(Protocol):
    """A place for the state after a task, until the cell is done; see bench.store."""

    def save(self, key: str, tensors: dict[str, Tensor], header: Fields, rows: Fields, /) -> None:
        """Save the state of a cell; replaces an earlier one.

        ``rows`` are losses and scores from row ``rows["first"]`` of R on: what the last checkpoint did not
        have. If that is row 0, they replace all earlier ones.
        """

    def load(self, key: str, /) -> tuple[dict[str, Tensor], Fields, list[Fields]] | None:
        """Return what was saved for a cell: tensors, header, all rows; None if nothing was."""


def save_checkpoint(
    state: LaneState, checkpoints: Checkpoints, tasks_done: int, background: Background
) -> None:
    """Save every lane after ``tasks_done`` tasks: all tensors, and the rows of R since the last checkpoint.

    The state may change as soon as this returns. The lanes are written in the background, and
    ``background.wait()`` waits until they are.

    Raises:
        ContractBroken: The strategy has state that cannot be saved.
    """
    background.wait()  # for the one before, so that there are never two copies of the state
    tree, tensors, whole, arrived = _copied(state)
    first, end = state.rows_saved, tasks_done + 1
    common = {
        "tasks_done": tasks_done,
        **_read(state),
        "clock": copy.deepcopy(state.clock.state()),
        "lanes": [s.key for s in state.specs],
        "strategy": copy.deepcopy(tree),
    }
    of_lanes = [
        (
            spec.key,
            common | {"diverged": state.diverged.get(lane)},
            {
                "first": first,
                "loss": [row[lane] for row in state.loss[max(first - 1, 0) :]],
                "own_term": [row[lane] for row in state.own_shares[max(first - 1, 0) :]],
                "scores": state.scorer.rows_of(lane, first, end),
            },
        )
        for lane, spec in enumerate(state.specs)
    ]

    def write() -> None:
        arrived()
        for lane, (key, header, rows) in enumerate(of_lanes):
            own = {name: _own(t[lane]) for name, t in tensors.items()}
            checkpoints.save(key, own | whole, header, rows)

    background.start(write)
    state.rows_saved = end


def resume(state: LaneState, checkpoints: Checkpoints) -> int:
    """Continue every lane from its checkpoint; return the number of tasks done.

    Returns 0 and restores nothing unless all lanes have done the same number of tasks. If the strategy has
    state that is not stored lane by lane (a Python number, a list that grew), the same lanes must also have
    been trained together.

    Raises:
        ContractBroken: The names in a checkpoint differ from those of the state.
    """
    loaded = [checkpoints.load(spec.key) for spec in state.specs]
    read = _read(state)
    found = [saved for saved in loaded if saved is not None and {n: saved[1][n] for n in read} == read]
    if len(found) < len(loaded) or len({header["tasks_done"] for _, header, _ in found}) != 1:
        return 0
    first, trees = found[0][1], [header["strategy"] for _, header, _ in found]
    together = all(header["lanes"] == [s.key for s in state.specs] for _, header, _ in found)
    if not together and any(lane_by_lane(t) != lane_by_lane(state.saved.tree) for t in trees):
        return 0
    of_strategy, whole = tensor_names(trees[0])
    parts: dict[str, dict[str, Any]] = {
        "model": state.model.state_dict(), "optimiser": state.optimiser.state(),
        "strategy": dict.fromkeys(of_strategy | whole),
    }  # fmt: skip
    names = {f"{part}/{name}" for part, own in parts.items() for name in own}
    if differing := [name for tensors, _, _ in found for name in names ^ tensors.keys()]:
        raise ContractBroken(
            f"the checkpoint of {state.specs[0].title} has other state than the method has now: "
            f"{some(differing, 4)}; --force starts again"
        )
    for part, own in parts.items():
        for name in own:
            lanes = [tensors[f"{part}/{name}"] for tensors, _, _ in found]
            one = part == "strategy" and name in whole
            own[name] = (lanes[0] if one else torch.stack(lanes)).to(state.device)
    state.model.load_state_dict(parts["model"])
    state.optimiser.load_state(parts["optimiser"])
    state.saved.load(trees[0], parts["strategy"])
    losses, shares = list[list[float | None]](), list[list[float | None]]()
    for lane, (_, header, saved_rows) in enumerate(found):
        for rows in saved_rows:
            state.scorer.load_rows(lane, rows["first"], rows["scores"])
        losses.append([loss for rows in saved_rows for loss in rows["loss"]])
        shares.append([share for rows in saved_rows for share in rows["own_term"]])
        if header["diverged"]:
            state.diverged[lane] = header["diverged"]
    done: int = first["tasks_done"]
    state.loss = [list(of_task) for of_task in zip(*losses, strict=True)]
    state.own_shares = [list(of_task) for of_task in zip(*shares, strict=True)]
    state.clock.load(first["clock"])
    state.strategy.task = done - 1 if state.training.boundaries == "shown" else 0
    return done


def _read(state: LaneState) -> dict[str, str]:
    """Return the fingerprints of data and model, which must be those of a checkpoint."""
    header = data_header(state)
    return {"data": header["fingerprint"], "model": header.get("model", "")}


def save_models(state: LaneState, models: Models, tasks_done: int) -> None:
    """Save the models of all lanes that have not diverged."""
    more = state.strategy.answers_with_more_than_model()
    wanted = ("model/", "strategy/") if more else ("model/",)
    tensors = {name: t.cpu() for name, t in _tensors(state)[1].items() if name.startswith(wanted)}
    data, first = state.streams.data, state.specs[0]
    images = data if data.texts else normalised(state.raw, first.reference, first.model_options)
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
            "shape": None if data.texts else list(images.x_N.shape[1:]),
            "scale": images.scale,
            "mean": list(images.mean),
            "std": list(images.std),
        }
        own = {name: _own(t[lane]) for name, t in tensors.items()}
        models.write(spec.key, tasks_done, own, header)


def _tensors(state: LaneState) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """Return everything that training changes, where it is.

    Returns:
        The tree of the strategy's state, tensors with a lane axis by ``part/name``, and the strategy's
        tensors without one.
    """
    tree, of_strategy, whole = state.saved.save()
    parts = {"model": state.model.state_dict(), "optimiser": state.optimiser.state(), "strategy": of_strategy}
    tensors = {f"{part}/{name}": t for part, own in parts.items() for name, t in own.items()}
    return tree, tensors, {f"strategy/{name}": t for name, t in whole.items()}


def _copied(
    state: LaneState,
) -> tuple[Any, dict[str, Tensor], dict[str, Tensor], Callable[[], None]]:
    """Return the same as copies on the host, and a function that waits until those of a GPU have arrived."""
    tree, tensors, whole = _tensors(state)
    # Into pinned memory: the steps of the next task are submitted behind the copies, without a wait.
    on_host = [
        {name: t.to("cpu", non_blocking=True) if t.is_cuda else _own(t) for name, t in own.items()}
        for own in (tensors, whole)
    ]
    if state.device.type != "cuda":
        return tree, *on_host, lambda: None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(state.device))
    return tree, *on_host, event.synchronize


def _own(tensor: Tensor) -> Tensor:
    """Return a copy with memory of its own: a file cannot hold two names of overlapping views."""
    return tensor.clone(memory_format=torch.contiguous_format)
