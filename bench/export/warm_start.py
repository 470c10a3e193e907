"""Training that continues from an exported model: ``lethe run SUITE --resume-from DIR``.

The backbone is the exported one; a model that generates text has nothing else. In the head, units of classes
that the suite has, too (by name), are copied, and units of new classes are initialised randomly. Classes that
the suite does not have are dropped.

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
"""Largest number of classes in a message."""


@torch.no_grad()
def load_into(model: LaneModel, streams: LaneStreams, spec: CellSpec) -> None:
    """Copy the exported model's head, and parameters trained beside its transformer, into every lane.

    Raises:
        UserError: The folder has changed since the run was planned.
    """
    exported = Exported.at(spec.model)
    if exported.fingerprint != spec.continues:
        raise UserError(f"{exported.folder} has changed since the run was planned")
    if exported.writes:
        return
    if exported.reads_texts:
        state = head_state(exported)
    else:
        state = {k: t.unsqueeze(0) for k, t in load_file(exported.folder / WEIGHTS).items()}
    for name, tensor in model.state_dict().items():
        if name in state and not name.startswith("head."):
            tensor.copy_(state[name].expand_as(tensor))
    place = {label: u for u, label in enumerate(exported.header.labels)}
    for lane, stream in enumerate(streams.streams):
        for unit, label in enumerate(stream.unit_names()):
            if label in place:
                model.head.weight[lane, :, unit] = state["head.weight"][0, :, place[label]]
                model.head.bias[lane, unit] = state["head.bias"][0, place[label]]


def describe_overlap(spec: CellSpec) -> str:
    """Return a message with the classes that the exported model knows, new ones, and those it will lose.

    For a model that generates text, tasks instead of classes.

    Raises:
        UserError: Images of the suite have another shape than those of the model.
    """
    exported, suite = Exported.at(spec.model), suites.get(spec.suite)
    data = suite.load()
    if not exported.reads_texts and tuple(data.x_N.shape[1:]) != tuple(exported.header.shape):
        here, there = (tuple(s) for s in (data.x_N.shape[1:], exported.header.shape))
        raise UserError(f"{exported.folder} reads images of shape {there}; {suite.name} has shape {here}")
    stream = suite.stream(data, spec.scenario, spec.seed, Training(**spec.training))  # type: ignore[arg-type]
    names = list(data.domain_names) if exported.writes else stream.unit_names()
    known = exported.header.tasks if exported.writes else exported.header.labels
    parts = {
        "known": [n for n in names if n in known],
        "new": [n for n in names if n not in known],
        f"not in the suite{', left out' * (not exported.writes)}": [n for n in known if n not in names],
    }
    words = "; ".join(f"{what}: {some(found, _SHOWN)}" for what, found in parts.items() if found)
    return f"{suite.name} continues from {exported.folder}: {words}"
