"""The base class of methods: hyper-parameters are dataclass fields, and hooks define how it learns.

A strategy runs all its lanes at once. Hyper-parameters of type ``LaneFloat`` are floats when a strategy is
constructed; ``attach`` turns them into tensors of shape (L,), one value per lane, before any hook runs. All
others are the same for every lane.

Axes: L lanes, B batch, U units, S tokens, V vocabulary; X the axes of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core.contract import ContractBroken, defined_at
from strategies.core.draws import Draws
from strategies.core.dropout import LaneDropout
from strategies.core.lanes import LaneModel
from strategies.core.optimisers import Optimiser
from strategies.core.own_term import OwnTerm
from strategies.core.streams import Batch, LaneStreams, join_batches
from suites.base import SCENARIOS, Training
from suites.values import Bounds

if TYPE_CHECKING:
    LaneFloat = Tensor
else:
    LaneFloat = float
"""A hyper-parameter that can differ between lanes: a float for the user, a tensor (L,) in the hooks.

Fields are written ``lam: NotNegative = LaneFloat(1.0)``. A type checker sees the tensor that hooks use; at
run time the default is a float.
"""


Share = Annotated[LaneFloat, Bounds(0.0, 1.0)]
"""A number from 0 to 1 that can differ between lanes."""
NotNegative = Annotated[LaneFloat, Bounds(0.0)]
"""A number from 0 up that can differ between lanes."""

IGNORED = -100
"""The token number of padding in target texts: it adds nothing to the loss."""


class Unsuitable(Exception):
    """A strategy cannot learn this suite or model: its cell is recorded as skipped, with this reason.

    ``attach`` and ``setup`` may raise it.
    """


@dataclass
class StepContext:
    """The position in the stream: one object, shared by the parts of a composed strategy."""

    task: int = 0
    """The current task, from 0; always 0 if boundaries are hidden."""
    batch: Batch = field(init=False)
    """The batch of this step, for hooks that do not take it as an argument."""
    active: tuple[bool, ...] | None = None
    """Which lanes learn at this step; None for all."""
    compiled: Callable[[Tensor], Tensor] | None = None
    """The compiled network, if training compiles it."""
    in_loss: bool = False
    """Whether the loss of a step is being computed."""
    own_term: OwnTerm | None = None
    """Measures the method's own term at this step; None at most steps."""


@dataclass
class Strategy:
    """A continual-learning method; the first line of its docstring is its summary.

    Class attributes with an annotation and a default are hyper-parameters; the string below each is its help.
    All hooks have defaults: a method overrides those in which it differs from plain training.

    All attributes are saved in checkpoints, also inside containers: tensors, numbers, text, lists, tuples,
    dictionaries, dataclasses, modules, optimisers, random generators. Other types raise an error that names
    the attribute. A tensor whose first axis has the number of lanes belongs to lanes one by one; any other
    tensor, and every number, is shared by all lanes.

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
    """Its name; a class of a user's file that sets none has the name of the class."""
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = "nothing"
    """What it requires, in words: memory, task boundaries, a second network."""
    scenarios: ClassVar[tuple[str, ...]] = SCENARIOS
    needs_boundaries: ClassVar[bool] = False
    max_lanes: ClassVar[int | None] = None
    trains_on: ClassVar[Literal["task", "seen", "all"]] = "task"
    """Rows to train on: those of the task, of all tasks so far, or of all tasks (once, at the last task)."""
    tunes: ClassVar[str] = ""
    """The value of the transformer option ``tune`` that it requires; empty for any model."""
    restarts: ClassVar[bool] = False
    """Whether every task starts from the initial weights."""
    one_pass: ClassVar[bool] = False
    """Whether it makes one pass over a task's rows, whatever the number of epochs or iterations."""
    gradient_free: ClassVar[bool] = False
    """Whether it takes no gradient steps: the optimiser and its settings have no effect."""
    projects: ClassVar[bool] = False
    """Whether ``adjust_gradients`` projects; in a composed strategy it is then called after all others."""
    adds_gradient: ClassVar[bool] = True
    """Whether ``adjust_gradients``, if it does not project, adds a term, whose share of the gradient is then
    recorded; see ``strategies.core.own_term``."""
    generates: ClassVar[bool] = False
    """Whether it can learn to generate text (sequence to sequence, without classes and head). Not inherited:
    each method that was tested with it sets it."""
    cost: ClassVar[float] = 1.0
    """Cost of a step at the defaults, in forward and backward passes over a batch of new rows."""
    sized_by: ClassVar[dict[str, str]] = {}
    """The hyper-parameter that a budget sizes, by kind of budget: ``memory`` or ``compute``. A method that
    names none for memory fits or is skipped; one that names none for compute is given other epochs."""
    waits: ClassVar[str] = ""
    """Why its steps wait for the host (the CPU); empty if they do not."""
    not_saved: ClassVar[tuple[str, ...]] = ()
    """Attributes left out of checkpoints: ``setup`` or ``begin_task`` sets them before they are read."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named recipes, ``name[preset=...]``: hyper-parameters, training settings and options of the model. Each
    has a value, or a dictionary of values by scenario."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Turn the bases' annotated defaults into fields, and reset ``generates``.

        Those of the class itself become fields when it is registered, or by its own decorator.
        """
        super().__init_subclass__(**given)
        for base in reversed(cls.__mro__[1:]):
            if issubclass(base, Strategy) and "__dataclass_fields__" not in vars(base):
                dataclass(base)
        cls.generates = vars(cls).get("generates", False)

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Return why the strategy, with its hyper-parameters, cannot learn a stream; None if it can.

        Args:
            scenario: The scenario of the stream, one of ``suites.base.SCENARIOS``.
            training: The training settings of the cell.
        """
        if scenario not in self.scenarios:
            return f"{self.name} has no {scenario}-incremental form; it has: {', '.join(self.scenarios)}"
        if self.needs_boundaries and training.boundaries == "hidden":
            return f"{self.name} needs to know where tasks begin and end"
        return None

    def step_cost(self, new: int) -> float:
        """Return the cost of a step with its hyper-parameters, in the unit of ``cost``.

        Args:
            new: Number of new rows in a batch.
        """
        return self.cost

    def cannot_generate(self) -> str | None:
        """Return why the strategy, with its hyper-parameters, cannot generate text; None if it can."""
        return None if self.generates else f"{self.name} cannot learn to generate text"

    @classmethod
    def lane_fields(cls) -> tuple[str, ...]:
        """Return the hyper-parameters that can differ between lanes."""
        hints = get_type_hints(cls)  # without ``Annotated``
        return tuple(f.name for f in fields(cls) if hints[f.name] is float)

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
        """Give the strategy its model, streams and optimiser; called once, before ``setup``.

        Args:
            model: The network of all lanes.
            streams: The task streams of all lanes.
            draws: The source of random numbers.
            optimiser: The update rule of the network's parameters.
            autocast: Returns the context manager in which losses are computed.
            context: For a part of a composed strategy, the context of the whole; None for a new one.
            lane_values: Values of ``lane_fields``, one per lane; a field that is missing has its default in
                every lane.

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
        """The current task, from 0; always 0 if boundaries are hidden."""
        return self.context.task

    @task.setter
    def task(self, task: int) -> None:
        self.context.task = task

    # The hooks.

    def setup(self) -> None:
        """Create the state of the whole stream, in its final shapes.

        Raises:
            Unsuitable: The strategy cannot work with this model or data.
        """

    def begin_task(self, task: int) -> None:
        """Prepare for task ``task``, counted from 0; called before its first step."""

    def learn(self, batch: Batch) -> Tensor:
        """Take one step: loss, backward pass, ``adjust_gradients``, optimiser.

        Methods without gradients or with inner loops override it; they cannot be composed with others.

        Args:
            batch: New rows of every lane.

        Returns:
            The loss of each lane, detached, shape (L,).
        """
        self.context.batch = batch
        self.context.in_loss = True
        try:
            with self.autocast():
                loss_L = per_lane_loss(self, "loss", self.loss(batch))
        finally:
            self.context.in_loss = False
        if self.context.own_term is None:
            self.backward(loss_L)
            self.adjust_gradients()
        else:
            adds, parameters = self.adds_to_gradient(), [*self.model.parameters()]
            self.context.own_term.backward(loss_L, parameters, self.backward, self.adjust_gradients, adds)
        self.optimiser.step(self.context.active)
        return loss_L.detach()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each lane, shape (L,): cross-entropy on the new rows plus ``extra_loss``."""
        raw_LBU = self._step_model(batch.x_LBX)
        loss_L = self.cross_entropy(mask(raw_LBU, batch.active_LBU), batch)
        extra_L = self.extra_loss(batch, raw_LBU)
        return loss_L if extra_L is None else loss_L + self.noted(per_lane_loss(self, "extra_loss", extra_L))

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return the method's own term, which is added to the loss on new rows.

        A method that defines this, and not ``loss``, can be composed with any other.

        Args:
            batch: New rows of every lane.
            raw_LBU: The model's logits of these rows, before inactive units are masked.

        Returns:
            One number per lane, shape (L,); None if there is none.
        """
        return None

    def adjust_gradients(self) -> None:
        """Change the gradients in ``self.model`` before the step: projection, quadratic penalty."""

    def after_step(self, batch: Batch) -> None:
        """Run after the optimiser's step on ``batch``: write to a memory, update statistics."""

    def end_task(self, task: int) -> None:
        """Run after the last step of a task: consolidate what was learned."""

    def predict(self, batch: Batch) -> Tensor:
        """Return the scores that rows are classified by: the unit with the largest score is predicted.

        Args:
            batch: Rows to predict, of any tasks, which may be in any order.

        Returns:
            One score per unit, shape (L, B, U); inactive units have the lowest.
        """
        return self.logits(batch)

    def notes(self) -> dict[str, Tensor]:
        """Return the method's own numbers for the record, by name; each tensor has lanes first."""
        return {}

    def not_composable_reason(self) -> str | None:
        """Return why its loss is not the loss on new rows plus ``extra_loss``; None if it is."""
        if type(self).learn is not Strategy.learn:
            return f"{self.name} has its own learn hook"
        if type(self).loss is not Strategy.loss:
            return f"the loss of {self.name} is not the loss on new rows plus a term of its own"
        return None

    def clashes(self, other: Strategy) -> str | None:
        """Return why it cannot be composed with another method; None if it can."""
        return None

    def answers_with_more_than_model(self) -> str | None:
        """Return the name of the method if its predictions are not the model's logits; None if they are."""
        own = type(self).predict is not Strategy.predict or type(self).logits is not Strategy.logits
        # Methods with ``tunes`` store parts of earlier tasks outside the model and predict with them.
        return self.name if own or self.tunes else None

    def padding_bytes(self, lane: int) -> int:
        """Return the bytes of a lane's tensors that are there only because another lane has more classes."""
        return 0

    def adds_to_gradient(self) -> bool:
        """Return whether ``adjust_gradients`` adds a term of the method's own."""
        overridden = type(self).adjust_gradients is not Strategy.adjust_gradients
        return overridden and self.adds_gradient and not self.projects

    def noted(self, extra_L: Tensor) -> Tensor:
        """Return a term of the loss, after noting it if this step's own term is measured."""
        if self.context.own_term is not None:
            self.context.own_term.add(extra_L)
        return extra_L

    # Helpers for hooks.

    @property
    def _step_model(self) -> Callable[[Tensor], Tensor]:
        """The model; within the loss of a step, the compiled one if training compiles it.

        A compiled network calls no hooks that were added later, and its backward pass cannot be taken twice:
        everywhere else it is called uncompiled.
        """
        compiled = self.context.compiled if self.context.in_loss else None
        return self.model if compiled is None else compiled

    def backward(self, loss_L: Tensor) -> None:
        """Add the gradient of every lane's loss to ``.grad``."""
        loss_L.backward(self.streams.ones_L.to(loss_L.dtype))  # as loss_L.sum().backward()

    def raw_logits(self, *batches: Batch) -> Sequence[Tensor]:
        """Return the model's logits of several batches, (L, B, U) each, before inactive units are masked.

        On a GPU they are computed in one pass. On a CPU each has its own, since the sums of one pass over all
        rows are rounded in another order; so it is where a pass computes statistics of its batch or draws.
        """
        x_LBX = join_batches(*batches).x_LBX
        apart = not x_LBX.is_cuda or next(self.model.buffers(), None) is not None
        if apart or any(isinstance(m, LaneDropout) and m.share for m in self.model.modules()):
            return [self.model(batch.x_LBX) for batch in batches]
        return torch.split(self.model(x_LBX), [batch.rows_LB.shape[1] for batch in batches], 1)

    def logits(self, batch: Batch, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the logits of a batch, shape (L, B, U), with inactive units at the lowest value."""
        logits_LBU: Tensor = (model or self._step_model)(batch.x_LBX)
        return mask(logits_LBU, batch.active_LBU)

    def cross_entropy(self, logits_LBU: Tensor, batch: Batch) -> Tensor:
        """Return each lane's mean cross-entropy over its rows, with the batch's weights, shape (L,).

        Labels are smoothed by the training setting ``label_smoothing``.
        """
        return batch.mean_L(row_losses(logits_LBU, batch.y_LB, self.streams.training.label_smoothing))

    def model_tensors(self) -> Iterator[Tensor]:
        """Yield the model's parameters, detached."""
        return (p.detach() for p in self.model.parameters())


def per_lane_loss(strategy: Strategy, hook: str, value: Any) -> Tensor:
    """Return the value that a hook (``loss``, ``extra_loss``, ``learn``) returned, one number per lane.

    Raises:
        ContractBroken: It is not a tensor of shape (L,), so lanes would share a loss.
    """
    if isinstance(value, Tensor) and value.shape == (strategy.streams.lanes,):
        return value
    found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ContractBroken(
        f"{defined_at(type(strategy), hook)}: {hook} of {strategy.name} returned {found}, not shape "
        f"({strategy.streams.lanes},), one number per lane: write self.cross_entropy(logits_LBU, batch), or "
        "take means over all axes but the first, x.flatten(1).mean(1)"
    )


def need_images(who: str, streams: LaneStreams) -> None:
    """Raise Unsuitable if rows are texts or features: for a method that generates or changes pixels."""
    what = "are texts" if streams.data.texts else "are features of images" if len(streams.shape) == 1 else ""
    if what:
        raise Unsuitable(f"{who} generates or changes pixels; rows of {streams.data.name} {what}")


def need_numbers(who: str, streams: LaneStreams) -> None:
    """Raise Unsuitable if rows are tokens: for a method that computes with the numbers of a row."""
    if streams.reads_tokens:
        raise Unsuitable(f"{who} computes with features, and these rows are token numbers; use tune=head")


def row_losses(logits_LBU: Tensor, y_LB: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each row with its label, shape (L, B).

    With ``smoothing``, that share of each label is spread over all active units (Szegedy et al. 2016,
    section 7): those whose logits are not the lowest number.

    Sequence to sequence, logits are (L, B, S, V) and labels tokens (L, B, S or more): a row's loss is the
    mean over its tokens that are not padding (``IGNORED``). Logits may be cut off after the longest row.
    """
    if logits_LBU.dim() == 4:
        y_LBS = y_LB[:, :, : logits_LBU.shape[2]]
        loss_LBS = F.cross_entropy(
            logits_LBU.flatten(0, 2),
            y_LBS.flatten(),
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        ).view_as(y_LBS)
        return loss_LBS.sum(2) / (y_LBS != IGNORED).sum(2).clamp(min=1)
    loss_LB = F.cross_entropy(logits_LBU.flatten(0, 1), y_LB.flatten(), reduction="none").view_as(y_LB)
    if smoothing:
        active_LBU = logits_LBU > torch.finfo(logits_LBU.dtype).min
        spread_LBU = torch.where(active_LBU, -logits_LBU.log_softmax(2), 0)
        loss_LB = (1 - smoothing) * loss_LB + smoothing * spread_LBU.sum(2) / active_LBU.sum(2)
    return loss_LB


def mask(logits_LBU: Tensor, active_LBU: Tensor | None) -> Tensor:
    """Set the logits of inactive units to the lowest finite number, so that products with zero are zero.

    Args:
        logits_LBU: Logits, shape (L, B, U).
        active_LBU: Which units are active, bool (L, B or 1, U); None for all.
    """
    if active_LBU is None:
        return logits_LBU
    return logits_LBU.masked_fill(~active_LBU, torch.finfo(logits_LBU.dtype).min)
