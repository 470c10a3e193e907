"""Checks of models, for authors: ``lethe check``.

Axes: L lanes, B rows, U units.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import models
from bench.checks.conformance import export, learns, resumed
from bench.checks.made_streams import DIGITS, SHAPES
from bench.checks.one_check import Fault, Skip
from bench.checks.subjects import Subject
from bench.plan import Fields
from bench.train import make_lanes
from suites.errors import UserError


class ModelSubject(Subject):
    """A model to check, trained by ``finetune`` on the generated streams."""

    def __init__(self, name: str, method: str = "finetune") -> None:
        super().__init__(method)
        self.model = models.reference(name)
        if self.model.generates:
            raise Skip(f"{name} generates texts, which the generated streams do not have")
        self.shape = DIGITS if self.model.reads_texts else self._readable()

    def _readable(self) -> tuple[int, int, int]:
        """Return the first of SHAPES that it reads; raises UserError if it reads none."""
        refused = []
        for shape in SHAPES:
            try:
                models.one_lane(self.model, {}, shape, 4)
            except UserError as error:
                refused.append(error)
            else:
                return shape
        raise refused[0]

    @property
    def of_texts(self) -> bool:
        """Whether it reads texts; its rounding then depends on the number of lanes, as for convolutions."""
        return self.model.reads_texts

    @property
    def settings(self) -> Fields:
        """The model and a rate; for a transformer, settings that train all of it on short texts."""
        texts = {"tune": "full", "max_tokens": 16, "epochs": 1} if self.of_texts else {}
        return {"model": self.model.name, "lr": 0.003, **texts}  # at 0.01 a cnn without normalisation dies


def lanes(subject: ModelSubject) -> None:
    """It has one network per lane: parameters have a lane axis, and logits only depend on the lane's rows."""
    state = make_lanes(subject.cells("uneven", (0, 1)))
    for name, t in [*state.model.named_parameters(), *state.model.named_buffers()]:
        if not t.dim() or len(t) != state.lanes:
            raise Fault(f"{name} has shape {tuple(t.shape)} for 2 lanes: stack it, lanes first")
    batch = state.streams.batch(torch.stack([s.tasks[0].train_rows[:3] for s in state.streams.streams]))
    out_LBU: Tensor = state.model(batch.x_LBX)
    if out_LBU.shape != (2, 3, state.streams.n_units):
        raise Fault(f"logits have shape {tuple(out_LBU.shape)}, not (lanes, rows, units)")
    out_LBU[0].sum().backward()
    mixed = [n for n, p in state.model.named_parameters() if p.grad is not None and bool(p.grad[1].any())]
    if mixed:
        raise Fault(
            f"{mixed[0]} of lane 1 changes the answers of lane 0: use layers of strategies.core.lanes"
        )


def within_rounding(subject: ModelSubject) -> None:
    """A lane has the same numbers alone and together with others in its first task, except for rounding."""
    # Later tasks enlarge rounding, most of all batch normalisation of a single row.
    losses = [r["loss"][0] for r in subject.base[1][1:]], [r["loss"][0] for r in subject.alone]
    a, b = (torch.tensor([x or 0.0 for x in of]) for of in losses)
    if not torch.allclose(a, b, rtol=2e-3, atol=1e-4):
        raise Fault(f"loss alone and beside others: {b.tolist()} and {a.tolist()}: lanes are mixed")


def learned_jointly(subject: ModelSubject) -> None:
    """Two easy tasks are learned together better than by chance, in every scenario."""
    learns(ModelSubject(subject.model.name, "joint"))


MODEL_CHECKS: dict[str, Callable[[Any], None]] = {
    "lanes": lanes, "alone": within_rounding, "resumed": resumed, "export": export, "learns": learned_jointly,
}  # fmt: skip
