"""One cell: everything that changes a result, and the key that identifies it on disk."""

from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from typing import Any

import strategies
from bench.models import ModelRef
from bench.plan.model import model_reference
from bench.schema import Fields, Value, cell_key, digest

LANES = ("lr", "weight_decay")
"""Training settings that can differ between lanes."""


@dataclass(frozen=True)
class CellSpec:
    """One suite, scenario, strategy, setting and seed: everything that changes the result of a cell."""

    suite: str
    suite_version: int
    scenario: str
    strategy: str
    hyper: dict[str, Value]
    """The strategy's hyper-parameters, defaults included."""
    model: str
    model_options: dict[str, Any]
    training: dict[str, Any]
    """The fields of suites.training.Training."""
    seed: int
    identity: str
    """The canonical selector; it follows from the other fields, so it is not part of the key."""
    continues: str = ""
    """Hash of the exported model that learning continues from, whose folder is ``model``; see bench.export.
    It replaces the folder in the key, so that the folder can be moved. Empty for none, and then left out, so
    that older cells keep their keys."""

    @cached_property
    def key(self) -> str:
        """The key of the cell: a hash of everything that changes its result."""
        # Not asdict, which copies everything: reports hash ten thousand cells.
        return cell_key({f.name: getattr(self, f.name) for f in fields(self)})

    @cached_property
    def group_key(self) -> str:
        """A hash of what cells must share to be trained together as lanes."""
        shared = asdict(self)
        strategy: Any = strategies.get(self.strategy)
        lanes = _lane_fields(strategy)
        shared["hyper"] = {k: v for k, v in self.hyper.items() if k not in lanes}
        shared["training"] = {k: v for k, v in self.training.items() if k not in LANES}
        return digest({k: v for k, v in shared.items() if k not in ("identity", "seed")})

    @cached_property
    def reference(self) -> ModelRef:
        """The reference of the model; looked up once and pickled with the cell."""
        return model_reference(self.model, self.continues)

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{self.suite} {self.scenario} {self.identity} seed {self.seed}"

    def is_called(self, text: str) -> bool:
        """Return whether ``text`` is the key of the cell, its start, the identity, or ``identity/seed``."""
        return self.key.startswith(text) or text in (self.identity, f"{self.identity}/{self.seed}")

    def as_record(self) -> Fields:
        """Return the spec as in records."""
        return {k: v for k, v in asdict(self).items() if v or k != "continues"}


@cache
def _lane_fields(strategy: type[Any]) -> tuple[str, ...]:
    """Return what can differ between lanes, read from the types once for all cells of a strategy."""
    found: tuple[str, ...] = strategy.lane_fields()
    return found
