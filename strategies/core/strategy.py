"""What a strategy is: hyper-parameters as dataclass fields, and hooks that say how it learns.

A strategy runs all its lanes at once. Hyper-parameters of type ``LaneFloat`` are floats when a strategy is
made; ``attach`` turns them into tensors of shape (L,), one value per lane, before any hook runs. All others
are the same for every lane.

Axes: L lanes, B batch, U units, S tokens, V vocabulary; X the axes of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core.contract import per_lane_loss
from strategies.core.draws import Draws
from strategies.core.lanes import LaneModel
from strategies.core.optimisers import Optimiser
from strategies.core.streams import Batch, LaneStreams
from suites.base import SCENARIOS, Training

if TYPE_CHECKING:
    LaneFloat = Tensor
else:
    LaneFloat = float
"""A hyper-parameter that can differ between lanes: a float to the user, a tensor (L,) in the hooks.

Fields are written ``lam: NotNegative = LaneFloat(1.0)``: to a type checker the tensor that hooks find, at run
time the float that is the default.
"""


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a hyper-parameter, both allowed; None for no bound."""

    low: float | None = None
    high: float | None = None


Share = Annotated[LaneFloat, Bounds(0.0, 1.0)]
NotNegative = Annotated[LaneFloat, Bounds(0.0)]
Count = Annotated[int, Bounds(1)]
CountOrNone = Annotated[int, Bounds(0)]


IGNORED = -100
"""The token number of padding in target texts: it adds nothing to the loss."""


class Unsuitable(Exception):
    """A strategy cannot do what is asked; its cell is recorded as skipped, with this reason.

    Raised in ``attach`` and in ``setup``.
    """


@dataclass
class StepContext:
    """Where in the stream training is; one object, shared by the parts of a composed strategy."""

    task: int = 0
    """The current task, from 0; always 0 where boundaries are hidden."""
    batch: Batch = field(init=False)
    """The batch of this step, for hooks that are not given it."""
    active: tuple[bool, ...] | None = None
    """Which lanes learn at this step; None for all."""


@dataclass
class Strategy:
    """A continual-learning method; its first docstring line is its summary.

    Annotated defaults are hyper-parameters, and the string under each is its help. All hooks have defaults:
    a method overrides what it does differently.

    All attributes are saved in checkpoints, in any container: tensors, numbers, text, lists, tuples,
    dictionaries, dataclasses, modules, optimisers, random generators. What cannot be saved is refused by
    name. A tensor has lanes first, or is the same for all lanes, as a number is.

    Example::

        class PullBack(Strategy):
            strength: NotNegative = LaneFloat(0.1)

            def setup(self):
                self.anchor = [p.clone() for p in self.model_tensors()]

            def adjust_gradients(self):
                if self.task > 0:
                    for p, a, g in zip(self.model_tensors(), self.anchor, gradients(self.model)):
                        g += per_lane(self.strength, g) * (p - a)

            def end_task(self, task):
                for a, p in zip(self.anchor, self.model_tensors()):
                    a.copy_(p)
    """

    name: ClassVar[str]
    """What it is called; a class of a user's file without a name of its own is called as the class."""
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = "nothing"
    """What it requires: memory, task boundaries, a second network."""
    scenarios: ClassVar[tuple[str, ...]] = SCENARIOS
    needs_boundaries: ClassVar[bool] = False
    max_lanes: ClassVar[int | None] = None
    trains_on: ClassVar[Literal["task", "seen", "all"]] = "task"
    """Rows learned at a task: its own, those of all so far, or those of all, at the last task only."""
    tunes: ClassVar[str] = ""
    """The transformer option ``tune`` that it requires; empty for any model."""
    restarts: ClassVar[bool] = False
    """Whether every task starts from the initial weights."""
    one_pass: ClassVar[bool] = False
    """Whether it sees every row of a task once, whatever the number of epochs or iterations."""
    projects: ClassVar[bool] = False
    """Whether ``adjust_gradients`` projects, so that in a sum it must act after all others."""
    generates: ClassVar[bool] = False
    """Whether it can learn to generate text (sequence to sequence, without classes and head). Not inherited:
    each method that has been tried sets it itself."""
    cost: ClassVar[float] = 1.0
    """Cost of a step at the defaults, in forward and backward passes over a batch of new rows."""
    waits: ClassVar[str] = ""
    """Why its steps wait for the host; empty where they do not."""
    not_saved: ClassVar[tuple[str, ...]] = ()
    """Attributes that are in no checkpoint: ``setup`` or ``begin_task`` makes them before they are read."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named recipes, ``name[preset=...]``: hyper-parameters, training settings and options of the model, each
    a value or, where it differs, a dict by scenario."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Make the bases' annotated defaults fields, and prevent that ``generates`` is inherited.

        Those of the class itself become fields when it is registered, or by its own decorator.
        """
        super().__init_subclass__(**given)
        for base in reversed(cls.__mro__[1:]):
            if issubclass(base, Strategy) and "__dataclass_fields__" not in vars(base):
                dataclass(base)
        cls.generates = vars(cls).get("generates", False)

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Return why the strategy, with its hyper-parameters, cannot learn this; None where it can."""
        if scenario not in self.scenarios:
            return f"{self.name} has no {scenario}-incremental form; it has: {', '.join(self.scenarios)}"
        if self.needs_boundaries and training.boundaries == "hidden":
            return f"{self.name} needs to know where tasks begin and end"
        return None

    def cannot_generate(self) -> str | None:
        """Return why it, with its hyper-parameters, cannot generate text; None where it can."""
        return None if self.generates else f"{self.name} cannot learn to generate text"

    @classmethod
    def lane_fields(cls) -> tuple[str, ...]:
        """Return the hyper-parameters that can differ between lanes."""
        hints = get_type_hints(cls, include_extras=True)
        return tuple(f.name for f in fields(cls) if _plain(hints[f.name]) is float)

    def attach(
        self,
        model: LaneModel,
        streams: LaneStreams,
        draws: Draws,
        optimiser: Optimiser,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        context: StepContext | None = None,
        lane_values: Mapping[str, Sequence[float] | Tensor] | None = None,
    ) -> None:
        """Set what the strategy works with; called once, before ``setup``.

        Args:
            model: The network of all lanes.
            streams: The task streams of all lanes.
            draws: The source of random numbers.
            optimiser: The update rule of the network's parameters.
            autocast: Makes the context in which losses are computed.
            context: The part of a composed strategy shares that of the whole.
            lane_values: Values of ``lane_fields``, one per lane; a field that is not named has its own value
                in every lane.

        Raises:
            Unsuitable: The suite is sequence to sequence and the strategy cannot generate text.
        """
        if streams.generates and (reason := self.cannot_generate()) is not None:
            raise Unsuitable(reason)
        self.model, self.streams, self.draws, self.optimiser = model, streams, draws, optimiser
        self.autocast = autocast
        self.context = context or StepContext()
        for name in self.lane_fields():
            value = (lane_values or {}).get(name, [getattr(self, name)] * streams.lanes)
            setattr(self, name, torch.as_tensor(value, dtype=torch.float32, device=streams.device))

    @property
    def task(self) -> int:
        """The current task, from 0; always 0 where boundaries are hidden."""
        return self.context.task

    @task.setter
    def task(self, task: int) -> None:
        self.context.task = task

    # The hooks.

    def setup(self) -> None:
        """Create the state of the whole stream, in its final shapes.

        Raises:
            Unsuitable: The model or the data is none that the strategy can work with.
        """

    def begin_task(self, task: int) -> None:
        """Prepare for task ``task``, counted from 0."""

    def learn(self, batch: Batch) -> Tensor:
        """Take one step: loss, backward pass, ``adjust_gradients``, optimiser.

        Methods without gradients or with inner loops override it; they cannot be part of a sum.

        Args:
            batch: New rows of every lane.

        Returns:
            The loss of each lane, detached, shape (L,).
        """
        self.context.batch = batch
        with self.autocast():
            loss_L = per_lane_loss(self, "loss", self.loss(batch))
        loss_L.sum().backward()
        self.adjust_gradients()
        self.optimiser.step(self.context.active)
        return loss_L.detach()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each lane, shape (L,): cross-entropy on the new rows and what a method adds."""
        raw_LBU = self.model(batch.x_LBX)
        loss_L = self.cross_entropy(mask(raw_LBU, batch.active_LBU), batch)
        extra_L = self.extra_loss(batch, raw_LBU)
        return loss_L if extra_L is None else loss_L + per_lane_loss(self, "extra_loss", extra_L)

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return what is added to the loss on new rows.

        A method that has its loss here, and not in ``loss``, can be composed with any other.

        Args:
            batch: New rows of every lane.
            raw_LBU: The model's logits of these rows, before inactive units are masked.

        Returns:
            One number per lane, shape (L,); None for nothing.
        """
        return None

    def adjust_gradients(self) -> None:
        """Change the gradients in ``self.model`` before the step: projections, quadratic penalties."""

    def after_step(self, batch: Batch) -> None:
        """Act after the optimiser's step: write to a memory, update statistics."""

    def end_task(self, task: int) -> None:
        """Consolidate after the last step of a task."""

    def predict(self, batch: Batch) -> Tensor:
        """Return scores for all units, shape (L, B, U); inactive units lowest."""
        return self.logits(batch)

    def notes(self) -> dict[str, Tensor]:
        """Return what the record should contain of the method's own numbers, lanes first."""
        return {}

    def not_composable_reason(self) -> str | None:
        """Return why its loss is not the loss on new rows plus a term of its own; None where it is."""
        if type(self).learn is not Strategy.learn:
            return f"{self.name} takes its steps in its own way"
        if type(self).loss is not Strategy.loss:
            return f"the loss of {self.name} is not that on new rows plus a term of its own"
        return None

    def clashes(self, other: Strategy) -> str | None:
        """Return why it cannot be composed with another method; None where it can."""
        return None

    def answers_with_more_than_model(self) -> str | None:
        """Return the name of the method where its answers are not the model's logits; None where they are."""
        own = type(self).predict is not Strategy.predict or type(self).logits is not Strategy.logits
        # Methods for one way to tune keep earlier tasks' parts beside the model, and answer with them.
        return self.name if own or self.tunes else None

    def padding_bytes(self, lane: int) -> int:
        """Return the bytes that a lane has in its tensors only because another has more classes."""
        return 0

    # What hooks are written with.

    def logits(self, batch: Batch, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the logits of a batch, shape (L, B, U), with inactive units at the lowest value."""
        logits_LBU: Tensor = (model or self.model)(batch.x_LBX)
        return mask(logits_LBU, batch.active_LBU)

    @staticmethod
    def cross_entropy(logits_LBU: Tensor, batch: Batch) -> Tensor:
        """Return each lane's mean cross-entropy over the rows that count, shape (L,)."""
        return batch.mean_L(row_losses(logits_LBU, batch.y_LB))

    def model_tensors(self) -> Iterator[Tensor]:
        """Yield the parameters without their history."""
        return (p.detach() for p in self.model.parameters())


def need_images(who: str, streams: LaneStreams) -> None:
    """Raise Unsuitable for a method that makes or changes pixels where rows are texts."""
    if streams.data.texts:
        raise Unsuitable(f"{who} makes or changes pixels; {streams.data.name} is a data set of texts")


def need_numbers(who: str, streams: LaneStreams) -> None:
    """Raise Unsuitable for a method that calculates with a row's numbers where rows are tokens of texts."""
    if streams.reads_tokens:
        raise Unsuitable(f"{who} calculates with what a row is made of, and tokens are mere names: tune=head")


def row_losses(logits_LBU: Tensor, y_LB: Tensor) -> Tensor:
    """Return the cross-entropy of each row towards its label, shape (L, B).

    Sequence to sequence, logits are (L, B, S, V) and labels tokens (L, B, S or more): a row's loss is the
    mean over its tokens that are not padding (``IGNORED``). Logits may end where all rows have ended.
    """
    if logits_LBU.dim() == 4:
        y_LBS = y_LB[:, :, : logits_LBU.shape[2]]
        loss_LBS = F.cross_entropy(
            logits_LBU.flatten(0, 2), y_LBS.flatten(), reduction="none", ignore_index=IGNORED
        ).view_as(y_LBS)
        return loss_LBS.sum(2) / (y_LBS != IGNORED).sum(2).clamp(min=1)
    loss_LB = F.cross_entropy(logits_LBU.flatten(0, 1), y_LB.flatten(), reduction="none")
    return loss_LB.view_as(y_LB)


def mask(logits_LBU: Tensor, active_LBU: Tensor | None) -> Tensor:
    """Set the logits of inactive units to the lowest number, finite so that products with zero are zero."""
    if active_LBU is None:
        return logits_LBU
    return logits_LBU.masked_fill(~active_LBU, torch.finfo(logits_LBU.dtype).min)


def _plain(hint: Any) -> Any:
    """Strip ``Annotated`` from a type."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
