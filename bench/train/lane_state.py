"""The state of one group of lanes: streams, model, optimiser, strategy and scores so far.

All cells of a group have the same suite, scenario, strategy, model and training. Seeds, learning rates,
weight decay and float hyper-parameters of the strategy can differ between lanes.

Axes: L lanes, U units, C classes, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
import suites
from bench.encode import inputs, name_features
from bench.models import build
from bench.train.clock import Clock, reset_peak
from bench.train.graphs import Graph, graphs_of
from bench.train.scorer import Scorer, make_scorer
from strategies.core import (
    OPTIMISERS,
    Draws,
    LaneModel,
    LaneStreams,
    Optimiser,
    OwnTerm,
    SavedState,
    Strategy,
    Unsuitable,
    draw_dropout,
)
from suites.base import Data, Training, generator

if TYPE_CHECKING:
    from bench.plan import CellSpec

WarmStart = Callable[[LaneModel, LaneStreams, "CellSpec"], None]
"""A function that copies the exported model that a cell continues from into all lanes; see bench.export."""


@dataclass
class LaneState:
    """Everything that changes while a group of lanes is trained."""

    specs: list[CellSpec]
    raw: Data
    """The data set of the suite, before it was encoded for the model."""
    training: Training
    streams: LaneStreams
    model: LaneModel
    initial: dict[str, Tensor]
    """The model's parameters and buffers before any training."""
    optimiser: Optimiser
    draws: Draws
    strategy: Strategy
    saved: SavedState
    """The state of the strategy in checkpoints."""
    scorer: Scorer
    clock: Clock
    loss: list[list[float | None]] = field(default_factory=list)
    """Mean loss of each task so far and each lane; None if nothing was learned or the loss is not finite."""
    own_term: OwnTerm | None = None
    """Measures the method's own term; None if the method has its own ``learn``, or the model is compiled,
    since a compiled backward pass cannot be taken twice."""
    own_shares: list[list[float | None]] = field(default_factory=list)
    """Share of the own term in the gradient in each task so far and each lane; None if not measured."""
    diverged: dict[int, str] = field(default_factory=dict)
    """Lanes whose loss or parameters are not finite, with the reason."""
    new_graph: Callable[[], Graph] | None = None
    """Makes what captures steps to replay them; None to take them one by one."""
    not_replayed: str = ""
    """Why no step of the last task was replayed."""
    rows_saved: int = 0
    """Number of rows of R in the checkpoints that were written since training began or was resumed."""

    @property
    def lr(self) -> list[float]:
        """The learning rate of each lane before a schedule changes it."""
        return [spec.training["lr"] for spec in self.specs]

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.specs)

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.streams.device

    def shows_boundary(self, tasks_done: int) -> bool:
        """Return whether strategies see this boundary; they always see the start and end of the stream."""
        return self.training.boundaries == "shown" or tasks_done in (0, self.streams.n_tasks)

    def draw_augmentation(self, rows_LB: Tensor) -> Tensor | None:
        """Return random numbers for crops and flips of a batch, (L, B, 3); None without augmentation."""
        if not self.training.augment:
            return None
        return self.draws.uniform("augment", 3 * rows_LB.shape[1]).view(*rows_LB.shape, 3)


def make_lanes(
    specs: Sequence[CellSpec],
    device: str = "cpu",
    data: Data | None = None,
    warm_start: WarmStart | None = None,
) -> LaneState:
    """Return the lanes of one group before the first task.

    Args:
        specs: The cells, one per lane; only seeds, rates and float hyper-parameters differ.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        data: The data set of the suite, if it is already loaded.
        warm_start: Copies the weights of an exported model that cells continue from.

    Raises:
        Unsuitable: The strategy does not support the scenario, model or settings of the cells.
        ValueError: The cells continue from an exported model and ``warm_start`` is missing.
    """
    reset_peak(torch.device(device))
    spec, seeds = specs[0], [s.seed for s in specs]
    suite, training = suites.get(spec.suite), Training(**spec.training)
    raw = data or suite.load()
    data = inputs(raw, spec.reference, spec.model_options, device)
    of_lanes = [suite.stream(data, spec.scenario, seed, training) for seed in seeds]  # type: ignore[arg-type]
    streams = LaneStreams(of_lanes, training, device)
    if streams.tap_LTKD is not None and len(streams.shape) == 1:
        raise Unsuitable(f"tasks of {suite.name} change pixels, and tune=head reads features; use tune=full")
    generators = [generator(seed, "model") for seed in seeds]
    model = build(spec.reference, spec.model_options, streams.shape, streams.n_units, generators).to(device)
    if spec.model_options.get("start") == "names":
        _start_from_names(model, streams, spec)
    if spec.continues:
        if warm_start is None:
            raise ValueError(f"{spec.identity} continues from an exported model: warm_start is missing")
        warm_start(model, streams, spec)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lr, decay = [s.training["lr"] for s in specs], [s.training["weight_decay"] for s in specs]
    optimiser = OPTIMISERS[training.optimiser](list(model.parameters()), lr, decay, **_numbers(training))
    draws = Draws(seeds, streams.device)
    draw_dropout(model, draws)
    strategy = strategies.get(spec.strategy)(**spec.hyper)
    values = {
        name: [float(s.hyper.get(name, getattr(type(strategy), name))) for s in specs]
        for name in strategy.lane_fields()
    }
    autocast = partial(_autocast, training, streams.device)
    strategy.attach(model, streams, draws, optimiser, autocast, lane_values=values)
    strategy.setup()
    if training.compile:
        _compile(model, strategy)
    return LaneState(
        specs=list(specs),
        raw=raw,
        training=training,
        streams=streams,
        model=model,
        initial=initial,
        optimiser=optimiser,
        draws=draws,
        strategy=strategy,
        saved=SavedState(strategy),
        own_term=_own_term(strategy, len(specs)),
        scorer=make_scorer(streams, strategy, suite.score, spec.model),
        clock=Clock(streams.device),
        new_graph=graphs_of(streams.device),
    )


def _numbers(training: Training) -> dict[str, float]:
    """Return the numbers of the update rule."""
    names = {"momentum": ("momentum", "nesterov"), "adam": ("beta1", "beta2"), "adamw": ("beta1", "beta2")}
    return {name: getattr(training, name) for name in ("clip", *names.get(training.optimiser, ()))}


def _own_term(strategy: Strategy, lanes: int) -> OwnTerm | None:
    measured = type(strategy).learn is Strategy.learn and not strategy.streams.training.compile
    return OwnTerm(lanes, strategy.streams.device) if measured else None


def _compile(model: LaneModel, strategy: Strategy) -> None:
    """Compile the forward pass of training steps.

    Raises:
        Unsuitable: What the strategy or the model does cannot be compiled.
    """
    why = ""
    if type(strategy).learn is not Strategy.learn:
        why = f"{strategy.name} takes its own steps, none of which is compiled"
    elif model.counts:
        why = "transformers are not compiled"
    elif any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules()):
        why = f"{strategy.name} adds hooks to layers, which a compiled model may not call"
    if why:
        raise Unsuitable(f"{why}; leave out compile=true")
    strategy.context.compiled = torch.compile(model)


@torch.no_grad()
def _start_from_names(model: LaneModel, streams: LaneStreams, spec: CellSpec) -> None:
    """Initialise the head with features of the class names: row 0 of R is then the zero-shot score."""
    device, classes = streams.device, len(streams.data.class_names)
    name_CF = name_features(streams.data, spec.reference, spec.model_options, str(device)).to(device)
    for lane, stream in enumerate(streams.streams):
        of_UC = torch.zeros(streams.n_units, classes, device=device)
        for unit_C in stream.unit_TC.to(device):
            known = (unit_C >= 0).nonzero().flatten()
            of_UC[unit_C[known], known] = 1
        # A unit of several classes gets their mean.
        model.head.weight[lane] = F.normalize(of_UC @ F.normalize(name_CF, dim=1), dim=1).T
    model.head.bias.zero_()


def _autocast(training: Training, device: torch.device) -> AbstractContextManager[Any]:
    """Return bfloat16 autocast if the training settings ask for it."""
    if training.precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
