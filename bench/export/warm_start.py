"""Learning that goes on from an exported model: ``lethe run SUITE --resume-from DIR``.

The backbone is the exported one; a model that writes is no more than that. Of the head, the rows of classes
that both know by name are copied, those of new classes are fresh; a class that the suite lacks is forgotten,
head row and label.

Axes: L lanes, F features, U units.
"""

import torch
from safetensors.torch import load_file

import suites
from bench.export.predictor import head_state
from bench.plan import CellSpec
from bench.schema import WEIGHTS, Exported
from strategies.core import LaneModel, LaneStreams
from suites.base import Training
from suites.errors import UserError, some

_SHOWN = 12
"""Classes that a message names at most."""


@torch.no_grad()
def load_into(model: LaneModel, streams: LaneStreams, spec: CellSpec) -> None:
    """Give every lane the exported model's rows of the head, and what was trained beside its transformer.

    Raises UserError where the folder no longer holds what the cell was to go on from.
    """
    exported = Exported.at(spec.model)
    if exported.mark != spec.continues:
        raise UserError(f"{exported.folder} was changed since the run was planned")
    if exported.writes:
        return
    if exported.reads_texts:
        state = head_state(exported)
    else:
        state = {k: t.unsqueeze(0) for k, t in load_file(exported.folder / WEIGHTS).items()}
    for name, tensor in model.state_dict().items():
        if name in state and not name.startswith("head."):
            tensor.copy_(state[name].expand_as(tensor))
    place = {label: u for u, label in enumerate(exported.labels)}
    for lane, stream in enumerate(streams.streams):
        for unit, label in enumerate(stream.unit_names()):
            if label in place:
                model.head.weight[lane, :, unit] = state["head.weight"][0, :, place[label]]
                model.head.bias[lane, unit] = state["head.bias"][0, place[label]]


def describe_overlap(spec: CellSpec) -> str:
    """Return which classes of a cell are known, which new, and which of the exported model's are not there.

    Of a model that writes, tasks instead of classes.

    Raises UserError where the suite's images are of another shape than the model's.
    """
    exported, suite = Exported.at(spec.model), suites.get(spec.suite)
    data = suite.load()
    if not exported.reads_texts and tuple(data.x_N.shape[1:]) != tuple(exported.header.shape):
        here, there = (tuple(s) for s in (data.x_N.shape[1:], exported.header.shape))
        raise UserError(f"{exported.folder} reads images of shape {there}; those of {suite.name} are {here}")
    stream = suite.stream(data, spec.scenario, spec.seed, Training(**spec.training))  # type: ignore[arg-type]
    names = list(data.domain_names) if exported.writes else stream.unit_names()
    known = exported.tasks if exported.writes else exported.labels
    parts = {
        "known": [n for n in names if n in known],
        "new": [n for n in names if n not in known],
        f"not in the suite{', left out' * (not exported.writes)}": [n for n in known if n not in names],
    }
    words = "; ".join(f"{what}: {some(found, _SHOWN)}" for what, found in parts.items() if found)
    return f"{suite.name} goes on from {exported.folder}: {words}"
