"""Several methods composed into one: ``er+lwf``.

The loss on new rows is computed once, and every part adds its own term, penalties and state. At most one part
may define a loss that is not such a sum, at most one may predict in its own way, and at most one may project
the gradient, after all others have changed it.
"""

from collections.abc import Sequence
from dataclasses import asdict, field, fields, make_dataclass
from typing import Any, ClassVar, get_type_hints

from torch import Tensor

from strategies.core.strategy import Strategy, per_lane_loss
from strategies.core.streams import Batch
from strategies.sums import field_name
from suites.base import Training
from suites.errors import UserError


class Composed(Strategy):
    """The sum of several methods; ``composed`` makes its classes."""

    of: ClassVar[tuple[type[Strategy], ...]] = ()

    def make_parts(self) -> list[Strategy]:
        """Return the parts with their hyper-parameters, in the order in which their hooks are called."""
        made = [part(**{f.name: self._value(part, f.name) for f in fields(part)}) for part in self.of]
        return sorted(made, key=lambda p: p.projects)

    def _value(self, part: Strategy | type[Strategy], name: str) -> Any:
        """Return a part's hyper-parameter."""
        return getattr(self, field_name(part.name, name))

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Return the first reason why a part, or the sum, cannot learn this stream; None if it can."""
        made = self.make_parts()
        reasons = [part.unsuitable(scenario, training) for part in made]
        return next((r for r in reasons if r is not None), None) or _clash(made)

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: one pass over new rows, and what each part adds."""
        return 1 + sum(part.step_cost(new) - 1 for part in self.make_parts())

    def setup(self) -> None:
        """Set up the parts over one model and one context."""
        given = self.model, self.streams, self.draws, self.optimiser, self.autocast, self.context
        self.parts = self.make_parts()
        for part in self.parts:
            part.attach(*given, {name: self._value(part, name) for name in part.lane_fields()})
            part.setup()

    def begin_task(self, task: int) -> None:
        """Call the hook of every part."""
        for part in self.parts:
            part.begin_task(task)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss on new rows, or of the part that defines its own, plus the terms of all others."""
        whole = next((p for p in self.parts if p.not_composable_reason()), None)
        others = [p for p in self.parts if p is not whole]
        if whole is None:
            return super().loss(batch)
        loss_L = per_lane_loss(whole, "loss", whole.loss(batch))
        if all(type(p).extra_loss is Strategy.extra_loss for p in others):
            return loss_L  # they add to the gradient only, so no second forward pass is needed
        extra_L = _sum(others, batch, self.model(batch.x_LBX))
        return loss_L if extra_L is None else loss_L + self.noted(extra_L)

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        """Return the sum of the parts' terms."""
        return _sum(self.parts, batch, raw_LBU)

    def adjust_gradients(self) -> None:
        """Call the hook of every part, a projection last."""
        for part in self.parts:
            part.adjust_gradients()

    def adds_to_gradient(self) -> bool:
        """Return whether a part adds a term to the gradient, and none projects it."""
        return any(p.adds_to_gradient() for p in self.parts) and not any(p.projects for p in self.parts)

    def after_step(self, batch: Batch) -> None:
        """Call the hook of every part."""
        for part in self.parts:
            part.after_step(batch)

    def end_task(self, task: int) -> None:
        """Call the hook of every part."""
        for part in self.parts:
            part.end_task(task)

    def predict(self, batch: Batch) -> Tensor:
        """Predict as the part that has its own ``predict``, else with the model's logits."""
        for part in self.parts:
            if type(part).predict is not Strategy.predict:
                return part.predict(batch)
        return super().predict(batch)

    def answers_with_more_than_model(self) -> str | None:
        """Return the first part whose predictions are not the model's logits; None if there is none."""
        return next((name for p in self.make_parts() if (name := p.answers_with_more_than_model())), None)

    def notes(self) -> dict[str, Tensor]:
        """Return the notes of all parts, by part and name."""
        return {f"{p.name}.{k}": v for p in self.parts for k, v in p.notes().items()}


def _sum(parts: Sequence[Strategy], batch: Batch, raw_LBU: Tensor) -> Tensor | None:
    found = ((part, part.extra_loss(batch, raw_LBU)) for part in parts)
    terms = [per_lane_loss(part, "extra_loss", t) for part, t in found if t is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _clash(parts: Sequence[Strategy]) -> str | None:
    """Return why these methods cannot be composed; None if they can."""
    for part in parts:
        if part.trains_on != "task" or part.restarts or part.one_pass:
            return f"{part.name} decides what is trained on, so it cannot be composed"
        if type(part).learn is not Strategy.learn:
            return f"{part.not_composable_reason()}, so it cannot be composed"
    clashes = (part.clashes(other) for part in parts for other in parts if other is not part)
    if reason := next((r for r in clashes if r is not None), None):
        return reason
    whole = [p for p in parts if p.not_composable_reason()]
    if len(whole) > 1:
        reasons = " and ".join(str(p.not_composable_reason()) for p in whole[:2])
        return f"their losses do not add: {reasons}"
    answering = [p for p in parts if type(p).predict is not Strategy.predict]
    projecting = [p for p in parts if p.projects]
    for own, what in ((answering, "predicts in its own way"), (projecting, "projects the gradient")):
        if len(own) > 1:
            return f"{own[0].name} {what}, and so does {own[1].name}"
    return None


def composed(parts: Sequence[type[Strategy]]) -> type[Strategy]:
    """Return the class of the sum of methods, with all their hyper-parameters.

    Raises:
        UserError: A method is named twice.
    """
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UserError(f"{'+'.join(names)}: a method can be named only once")
    own: list[tuple[str, Any, Any]] = []
    for part in parts:
        hints, defaults = get_type_hints(part, include_extras=True), asdict(part())
        own += [(field_name(part.name, k), hints[k], field(default=v)) for k, v in defaults.items()]
    attributes = {
        "name": "+".join(names),
        "of": tuple(parts),
        "family": "composed",
        "__doc__": f"The sum of {' and '.join(names)}.",
        "paper": "; ".join(part.paper for part in parts if part.paper),
        "needs": "; ".join(part.needs for part in parts),
        "scenarios": tuple(s for s in parts[0].scenarios if all(s in part.scenarios for part in parts)),
        "generates": all(part.generates for part in parts),
        "needs_boundaries": any(part.needs_boundaries for part in parts),
        "max_lanes": min((part.max_lanes for part in parts if part.max_lanes), default=None),
        "cost": 1 + sum(part.cost - 1 for part in parts),
        "sized_by": _sized_by(parts),
        "waits": next((part.waits for part in parts if part.waits), ""),
    }
    return make_dataclass("Composed", own, bases=(Composed,), namespace=attributes)


def _sized_by(parts: Sequence[type[Strategy]]) -> dict[str, str]:
    """Return what budgets size, by kind: the hyper-parameter of the only part that names one."""
    found = {}
    for kind in ("memory", "compute"):
        named = [field_name(part.name, part.sized_by[kind]) for part in parts if kind in part.sized_by]
        if len(named) == 1:
            found[kind] = named[0]
    return found
