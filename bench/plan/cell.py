"""One cell: all that changes a result, and the key that names it on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.schema import Fields, Value, cell_key, digest

if TYPE_CHECKING:
    from bench.models import ModelRef

LANES = ("lr", "weight_decay")
"""Training settings that can differ between lanes."""


@dataclass(frozen=True)
class CellSpec:
    """One suite, scenario, strategy, setting and seed: all that changes a cell's result."""

    suite: str
    suite_version: int
    scenario: str
    strategy: str
    hyper: dict[str, Value]
    """The strategy's hyper-parameters, defaults included."""
    model: str
    model_options: dict[str, Any]
    training: dict[str, Any]
    """The fields of suites.base.Training."""
    seed: int
    identity: str
    """The selector in its canonical form; follows from the rest, so it is not part of the key."""
    continues: str = ""
    """Hash of the exported model that learning goes on from, which ``model`` is the folder of; see
    bench.export. It replaces the folder in the key, which a move must not change; empty for none, and
    then left out, so that older cells keep their keys."""

    @cached_property
    def key(self) -> str:
        """Name of the cell on disk: a hash of all that changes its result."""
        # Not asdict, which copies everything: reports hash ten thousand cells.
        return cell_key({f.name: getattr(self, f.name) for f in fields(self)})

    @cached_property
    def group_key(self) -> str:
        """What cells must share to run as lanes of one program."""
        import strategies

        shared = asdict(self)
        lanes = strategies.get(self.strategy).lane_fields()
        shared["hyper"] = {k: v for k, v in self.hyper.items() if k not in lanes}
        shared["training"] = {k: v for k, v in self.training.items() if k not in LANES}
        return digest({k: v for k, v in shared.items() if k not in ("identity", "seed")})

    @cached_property
    def reference(self) -> ModelRef:
        """The model, which records have by ``model`` and ``continues``; looked up once and pickled along."""
        from bench.plan.model import model_reference  # not at the top: reports need no torch

        return model_reference(self.model, self.continues)

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{self.suite} {self.scenario} {self.identity} seed {self.seed}"

    def is_called(self, text: str) -> bool:
        """Return whether a user means this cell: by its key, the start of it, or ``identity/seed``."""
        return self.key.startswith(text) or text in (self.identity, f"{self.identity}/{self.seed}")

    def as_record(self) -> Fields:
        """Return the spec as records hold it."""
        return {k: v for k, v in asdict(self).items() if v or k != "continues"}
