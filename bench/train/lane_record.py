"""The record of one lane, without its spec.

Axes: L lanes.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bench.encode import model_fingerprint
from bench.plan import Fields
from bench.train.clock import peak_bytes
from bench.train.lane_state import LaneState
from strategies.core import held_memory


def note_task(state: LaneState, mean_L: Tensor, task: int) -> None:
    """Append mean loss and own term of a task for every lane; mark lanes that are not finite as diverged."""
    parameters = [p.detach().flatten(1).isfinite().all(1) for p in state.model.parameters()]
    finite_L = torch.stack(parameters).all(0)
    values = mean_L.tolist()
    for lane, finite in enumerate(finite_L.tolist()):
        if not (finite and math.isfinite(values[lane])) and lane not in state.diverged:
            state.diverged[lane] = f"loss or parameters were no longer finite after task {task + 1}"
    state.loss.append([None if lane in state.diverged else value for lane, value in enumerate(values)])
    shares = state.own_term.read() if state.own_term else [None] * state.lanes
    state.own_shares.append([None if s is None or not math.isfinite(s) else s for s in shares])


def make_record(state: LaneState, lane: int) -> Fields:
    """Return the record of a cell; bench.store adds the other fields."""
    why = state.diverged.get(lane)
    samples, size = held_memory(state.strategy, lane)
    classes = state.scorer.classes(lane)
    shares = [row[lane] for row in state.own_shares]
    return {
        "status": "diverged" if why else "done",
        "reason": why,
        **state.scorer.record(lane),
        **({"classes": classes} if classes else {}),
        "loss": [row[lane] for row in state.loss],
        **({} if all(share is None for share in shares) else {"own_term": shares}),
        # Non-deterministic fields; everything else is equal when a cell is run again.
        "timings": {
            **state.clock.timings(state.lanes),
            "lanes": state.lanes,
            "device": state.clock.device_name,
            "peak_bytes": peak_bytes(state.device),
            **_replayed(state),
        },
        "resources": {
            "parameters": sum(p[0].numel() for p in state.model.parameters()),
            "memory_samples": samples,
            "memory_bytes": size,
        },
        **({"one_by_one": state.model.one_by_one} if state.model.one_by_one else {}),
        "data": data_header(state),
        "notes": {name: _finite(t[lane].tolist()) for name, t in state.strategy.notes().items()},
    }


def _replayed(state: LaneState) -> Fields:
    """Return how many steps on a GPU were replays, and why those of the last task were not."""
    if state.device.type != "cuda":
        return {}
    why = {"not_replayed": state.not_replayed} if state.not_replayed else {}
    return {"replayed_steps": state.clock.replayed, **why}


def data_header(state: LaneState) -> dict[str, str]:
    """Return name and fingerprint of the data set and, if it has given weights, that of the model."""
    data = state.streams.data
    header = {"name": data.name, "fingerprint": data.fingerprint}
    spec = state.specs[0]
    model = model_fingerprint(state.raw, spec.reference, spec.model_options)
    return header | ({"model": model} if model else {})


def _finite(value: Any) -> Any:
    """Return nested lists of numbers with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value if math.isfinite(value) else None
