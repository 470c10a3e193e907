"""Checkpoints and trained models in memory, in place of those of a run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bench.plan import Fields


class Checkpoints:
    """Checkpoints in memory, as JSON and tensors; ``at`` returns those after a number of tasks."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Any]] = {}
        self.current: dict[str, Any] = {}
        self.rows: dict[str, list[Fields]] = {}

    def save(self, key: str, tensors: dict[str, Any], header: Fields, rows: Fields) -> None:
        """Save the state of a cell; those of earlier tasks stay."""
        self.rows[key] = [*(self.rows[key] if rows["first"] else []), rows]
        saved = {k: v.clone() for k, v in tensors.items()}, json.dumps((header, self.rows[key]))
        self.after.setdefault(header["tasks_done"], {})[key] = saved

    def load(self, key: str) -> Any:
        """Return the state of a cell, None if there is none."""
        if key not in self.current:
            return None
        tensors, rest = self.current[key]
        return dict(tensors), *json.loads(rest)

    def at(self, tasks_done: int) -> Checkpoints:
        """Return checkpoints from which a run continues after ``tasks_done`` tasks."""
        again = Checkpoints()
        again.current = self.after[tasks_done]
        return again


@dataclass
class SavedTensors:
    """Trained models in memory."""

    models: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def wanted(self, tasks_done: int, n_tasks: int) -> bool:
        """Return whether all tasks are done."""
        return tasks_done == n_tasks

    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], header: Fields) -> None:
        """Store the model of a cell."""
        self.models[key] = tensors
