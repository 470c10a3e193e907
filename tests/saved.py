"""Checkpoints in memory, all of them, so that a run can be taken up after any task."""

import json
from typing import Any, Self


class Saved:
    """Keeps every checkpoint; ``at`` is a store of which a run goes on after so many tasks."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Any]] = {}
        self.current: dict[str, Any] = {}

    def save(self, key: str, tensors: dict[str, Any], header: dict[str, Any]) -> None:
        saved = {k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(header))
        self.after.setdefault(header["tasks_done"], {})[key] = saved

    def load(self, key: str) -> Any:
        return self.current.get(key)

    def tasks(self) -> list[int]:
        return sorted(self.after)

    def at(self, tasks_done: int) -> Self:
        again = type(self)()
        again.current = self.after[tasks_done]
        return again
