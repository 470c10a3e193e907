"""What a strategy is: hyper-parameters as dataclass fields, and hooks that say how it learns.

A strategy runs all its lanes at once. Hyper-parameters annotated ``LaneFloat`` are numbers when a strategy
is made and tensors of shape (L,) by the time a hook runs, one value a lane; all others are the same for
every lane.

Axes: L lanes, B batch, U units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.draws import Draws
from strategies.lanes import LaneModel
from strategies.streams import Batch, LaneStreams
from suites.base import SCENARIOS, Training

LaneFloat = float
"""A hyper-parameter that can differ between lanes: a float to the user, a tensor (L,) in the hooks."""


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a hyper-parameter, both allowed; None for no bound."""

    low: float | None = None
    high: float | None = None


Share = Annotated[LaneFloat, Bounds(0.0, 1.0)]
NotNegative = Annotated[LaneFloat, Bounds(0.0)]
Count = Annotated[int, Bounds(1)]
CountOrNone = Annotated[int, Bounds(0)]


@dataclass
class Strategy:
    """A continual-learning method; its first docstring line is its summary."""

    name: ClassVar[str]
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = "nothing"
    """What a user must grant it: memory, task boundaries, a second network."""
    scenarios: ClassVar[tuple[str, ...]] = SCENARIOS
    needs_boundaries: ClassVar[bool] = False
    max_lanes: ClassVar[int | None] = None
    trains_on: ClassVar[Literal["task", "seen", "all"]] = "task"
    """Rows of a task: its own, those of all tasks so far, or those of all tasks and only at the last."""
    restarts: ClassVar[bool] = False
    """Whether every task starts from the initial weights."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Return why the strategy, with its hyper-parameters, cannot do this; None where it can."""
        if scenario not in self.scenarios:
            return f"{self.name} has no {scenario}-incremental form; it has: {', '.join(self.scenarios)}"
        if self.needs_boundaries and training.boundaries == "hidden":
            return f"{self.name} needs to know where tasks begin and end"
        return None

    @classmethod
    def lane_fields(cls) -> tuple[str, ...]:
        """Return the hyper-parameters that can differ between lanes."""
        hints = get_type_hints(cls, include_extras=True)
        return tuple(f.name for f in fields(cls) if _plain(hints[f.name]) is float)

    def attach(self, model: LaneModel, streams: LaneStreams, draws: Draws) -> None:
        """Give the strategy its model, data and random draws; called once, before ``setup``."""
        self.model, self.streams, self.draws = model, streams, draws
        self.task = 0
        """The task under way, from 0; stays 0 where boundaries are hidden."""

    # The hooks.

    def setup(self) -> None:
        """Make what is kept over the stream, in its final shape."""

    def begin_task(self, task: int) -> None:
        """Prepare for task ``task``, counted from 0."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each lane, shape (L,)."""
        return self.cross_entropy(self.logits(batch), batch)

    def adjust_gradients(self) -> None:
        """Change the gradients in ``self.model`` before the step: projections, quadratic penalties."""

    def after_step(self, batch: Batch) -> None:
        """Note what was just learned."""

    def end_task(self, task: int) -> None:
        """Consolidate after the last step of a task."""

    def predict(self, batch: Batch) -> Tensor:
        """Return scores for all units, shape (L, B, U); inactive units lowest."""
        return self.logits(batch)

    def memory_size(self) -> tuple[int, int]:
        """Return what one lane keeps between tasks beside the model, in samples and in bytes."""
        return 0, sum(t.nbytes for t in self.state().values()) // self.streams.lanes

    # What hooks are written with.

    def logits(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        """Return the logits of a batch, shape (L, B, U), with inactive units at the lowest value."""
        logits_LBU: Tensor = (model or self.model)(batch.x_LBCHW)
        return mask(logits_LBU, batch.active_LBU)

    @staticmethod
    def cross_entropy(logits_LBU: Tensor, batch: Batch) -> Tensor:
        """Return each lane's mean cross-entropy over the rows that count, shape (L,)."""
        loss_LB = F.cross_entropy(logits_LBU.flatten(0, 1), batch.y_LB.flatten(), reduction="none")
        return batch.mean_L(loss_LB.view_as(batch.y_LB))

    def state(self) -> dict[str, Tensor]:
        """Return every tensor kept over the stream, lanes first, by name: what a checkpoint holds."""
        skip = {"model", "streams", "draws", *(f.name for f in fields(self))}
        found: dict[str, Tensor] = {}
        for name, value in vars(self).items():
            if name not in skip and not name.startswith("_"):
                found.update(_tensors(name, value))
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave; ``setup`` has made every tensor in its shape."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def model_tensors(self) -> Iterator[Tensor]:
        """Yield the parameters without their history."""
        return (p.detach() for p in self.model.parameters())


def mask(logits_LBU: Tensor, active_LBU: Tensor | None) -> Tensor:
    """Give inactive units the lowest value, finite so that products with zero stay zero."""
    if active_LBU is None:
        return logits_LBU
    return logits_LBU.masked_fill(~active_LBU, torch.finfo(logits_LBU.dtype).min)


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Walk what a strategy may keep: tensors, lists of them, modules, and objects with ``state``."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        for key, tensor in value.state_dict().items():
            yield f"{name}.{key}", tensor
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _tensors(f"{name}.{i}", item)
    elif hasattr(value, "state"):
        for key, tensor in value.state().items():
            yield f"{name}.{key}", tensor


def _plain(hint: Any) -> Any:
    """Strip ``Annotated`` from a type."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
