"""Whole runs on the pretended device: training, scoring, checkpoint, resume and saved models.

R must be that of the CPU, since the pretended device computes with the CPU's kernels: a difference is a
decision that the code makes by device. One such decision is intended: on a GPU, one kernel updates all lanes
with equal rates, so parameters and losses may differ by rounding. Cells that rounding alone changes on the
CPU, too, are not compared. Steps must not wait for the device, unless the strategy or the model says why
(``waits``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import strategies
from bench.checks.in_memory import Checkpoints, SavedTensors
from bench.checks.made_streams import SMALL, scenario_of
from bench.checks.one_check import Fault, Skip
from bench.checks.pretended_device import pretended_device
from bench.checks.pretended_tensor import PretendedDevice
from bench.plan import CellSpec, Fields, one_cell
from bench.schema import differing_fields
from bench.train import begin_task, make_lanes, run_group, take_steps
from strategies.core import Unsuitable
from suites.base import Training

FORMS: dict[str, tuple[str, Fields]] = {
    "mlp": ("check-uneven", {"model": "mlp"}),
    "cnn": ("check-easy", {"model": "cnn", "width": 4, "hidden": 8}),
    "resnet18": ("check-easy-large", {"model": "resnet18", "width": 4}),
    "head": ("check-easy-texts", {"tune": "head"}),
    "full": ("check-easy-texts", {"tune": "full"}),
    "lora": ("check-easy-texts", {"tune": "lora"}),
    "seq2seq": ("check-pairs", {"model": "tiny-seq2seq", "max_tokens": 16, "tune": "lora"}),
}
"""The suite and settings of each kind of model; made_streams registers the suites."""


def device_cells(name: str, form: str, lanes: int = 2) -> list[CellSpec]:
    """Return cells of a strategy with a kind of model, one per seed; empty if they do not go together."""
    cls = strategies.get(name)
    suite, settings = FORMS[form]
    pairs = form == "seq2seq"
    if (pairs and not cls.generates) or (cls.tunes and form != "lora"):
        return []
    scenario = "domain" if pairs else scenario_of(name)
    if cls().unsuitable(scenario, Training()) is not None:
        return []
    own = {"tune": cls.tunes} if cls.tunes else {}
    made = [one_cell(suite, name, scenario, s, settings | own | {"epochs": 1}) for s in range(lanes)]
    return [replace(spec, hyper=spec.hyper | SMALL.get(name, {})) for spec in made]


def device_findings(cells: Sequence[CellSpec]) -> Iterator[str]:
    """Run cells on the pretended device; yield a line for each fault.

    Raises:
        Unsuitable: The strategy cannot learn the suite or the model.
    """
    on_cpu, on_device = SavedTensors(), SavedTensors()
    expected = dict(zip((spec.key for spec in cells), run_group(cells, models=on_cpu), strict=True))
    with pretended_device() as device:
        saved = Checkpoints()
        # Not the current device, so that work on the current one is found.
        runs = {"": run_group(cells, device="cuda:1", checkpoints=saved, models=on_device)}
        if device.used[0]:
            yield f"{device.used[0]} bytes are on cuda:0, but cuda:1 was asked for"
        runs[", resumed after a task"] = run_group(cells, device="cuda:1", checkpoints=saved.at(1))
        waits = {str(wait) for wait in waits_of_steps(cells, device)}
    differ = {
        (spec.key, how): f"seed {spec.seed} on the CPU and on the pretended device{how}: {words}"
        for how, records in runs.items()
        for spec, cuda in zip(cells, records, strict=True)
        if (words := _differ(expected[spec.key], cuda))
    }
    far = {
        spec.key: f"saved models differ from those of the CPU: {', '.join(tensors[:3])}"
        for spec in cells
        if (tensors := _far(on_cpu.models.get(spec.key, {}), on_device.models.get(spec.key, {})))
    }
    apart = {key for key, _ in differ} | far.keys()
    excused = _by_rounding([spec for spec in cells if spec.key in apart], expected, on_cpu)
    yield from (words for (key, _), words in differ.items() if key not in excused)
    yield from (words for key, words in far.items() if key not in excused)
    for wait in waits:
        yield f"{wait}: this waits for a GPU at a step; do it once per task, or write the reason in waits"


def _by_rounding(apart: Sequence[CellSpec], expected: dict[str, Fields], saved: SavedTensors) -> set[str]:
    """Return the keys of those cells whose record or model rounding of the rate changes on the CPU, too.

    Adam takes a whole step by a gradient that is only rounding, as that of the orthogonality of vectors that
    are orthogonal; and batch normalisation of single rows enlarges rounding.
    """
    if not apart:
        return set()
    # A few roundings of float32.
    nudged = [replace(s, training=s.training | {"lr": s.training["lr"] * (1 + 1e-6)}) for s in apart]
    moved = SavedTensors()
    records = run_group(nudged, models=moved)
    return {
        spec.key
        for spec, near, record in zip(apart, nudged, records, strict=True)
        if _differ(expected[spec.key], record)
        or _far(saved.models.get(spec.key, {}), moved.models.get(near.key, {}))
    }


def _far(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors of two models that differ by more than rounding."""
    return [name for name, tensor in ours.items() if not _close(tensor, theirs[name])]


def _differ(cpu: Fields, cuda: Fields) -> str:
    """Return how two records differ by more than the rounding of losses; empty if they do not."""
    loss = [[loss if loss is not None else torch.nan for loss in r["loss"]] for r in (cpu, cuda)]
    # None, for a number that is not finite, becomes NaN.
    notes = [{k: torch.tensor(np.array(v, float)) for k, v in r["notes"].items()} for r in (cpu, cuda)]
    names = set(differing_fields(cpu, cuda)) - {"loss", "notes"}
    names |= set() if _close(*map(torch.tensor, loss)) else {"loss"}
    return ", ".join(sorted(names | {k for k, v in notes[0].items() if not _close(v, notes[1][k])}))


def _close(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether tensors differ by no more than rounding that a few dozen steps enlarged."""
    return torch.allclose(ours.double(), theirs.double(), rtol=1e-2, atol=1e-3, equal_nan=True)


def _check_of(name: str) -> Callable[[Any], None]:
    """Return the check of a strategy with every kind of model, for ``lethe check pretended-gpu``."""

    def check(device: Any) -> None:
        found, ran = [], 0
        for form in FORMS:
            try:
                cells = device_cells(name, form)
                found += [f"{form}: {words}" for words in device_findings(cells)] if cells else []
                ran += bool(cells)
            except Unsuitable:
                continue
        if found:
            raise Fault("; ".join(found))
        if not ran:
            raise Skip("it fits none of the models")

    return check


DEVICE_CHECKS = {name: _check_of(name) for name in strategies.names()}
"""For each strategy, whole runs on the pretended device with every kind of model."""


def waits_of_steps(cells: Sequence[CellSpec], device: PretendedDevice) -> list[Any]:
    """Return the waits within the steps of all tasks that neither the strategy nor the model declares."""
    state = make_lanes(cells, "cuda:0")
    found = []
    for task in range(state.streams.n_tasks):
        if (schedule := begin_task(state, task)) is not None:
            device.reset()
            take_steps(state, schedule)
            found += device.waits
            if state.shows_boundary(task + 1):
                state.strategy.end_task(task)
    declared = state.strategy.waits or state.model.waits
    return [] if declared else found
