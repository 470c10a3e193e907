"""Stale records: those made by other code or data than the current ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import suites
from bench.plan.code import Code, code_of, is_users, weights_of
from bench.schema import Equivalences, Fields
from suites.errors import UserError, some

Now = Callable[[str], str | None]
"""Returns the current fingerprint of the data set of a suite, or of a model; None if it is not known."""
UNRECORDED = "made before Lethe recorded its code"
_SHOWN = 4


@dataclass(frozen=True)
class RecordHead:
    """Status and provenance of a record."""

    status: str
    code: str = ""
    """Fingerprint of its code; empty in records of earlier versions."""
    data: str = ""
    """Fingerprint of its data set; empty if it has no numbers."""
    model: str = ""
    """Fingerprint of its pretrained model; empty for others."""
    seconds: float = 0.0
    """Training and scoring."""
    written: str = ""
    """When it was written, in UTC."""
    has_classes: bool = False
    """Whether it was written with confusion counts."""
    incomplete: bool = False
    """Whether these are damaged: its cell is run again."""

    @classmethod
    def of(cls, record: Fields) -> Self:
        """Return the head of a record."""
        made, data, timings = (record.get(name) or {} for name in ("made_by", "data", "timings"))
        marks = made.get("code", ""), data.get("fingerprint", ""), data.get("model") or ""
        seconds, counted = timings.get("seconds_per_seed", 0.0), record.get("has_classes", False)
        return cls(record["status"], *marks, seconds, record["written"], counted)


@dataclass(frozen=True)
class Change:
    """Why a record is stale."""

    reason: str
    """The reason, in one line."""
    files: tuple[str, ...] = ()
    """The source files that changed; empty if they are not known or only the data changed."""
    of_user: bool = False
    """Whether only files or data of the user changed: methods, suites and models in files, their data."""


@dataclass
class Staleness:
    """Compares the records of a run with the current code and data."""

    code: Mapping[str, Mapping[str, str]]
    """The files of each fingerprint, from the manifest of the run."""
    equivalences: Equivalences
    """Code that reproduced the same records."""
    data_now: Now
    model_now: Now = lambda name: None
    _known: dict[tuple[str | bool, ...], Change | None] = field(default_factory=dict)

    def of(self, spec: Mapping[str, Any], head: RecordHead) -> Change | None:
        """Return why a record is stale, None where it is not.

        Args:
            spec: What the cell is, as its record holds it.
            head: What its record says.
        """
        what = spec["strategy"], spec["suite"], spec["model"], bool(spec.get("continues")), weights_of(spec)
        asked = (*what, head.code, head.data, head.model)
        if asked not in self._known:  # a run has thousands of cells and few methods
            self._known[asked] = self._change(spec, head)
        return self._known[asked]

    def of_record(self, record: Fields) -> Change | None:
        """Return why a record is stale, None where it is not."""
        return self.of(record["spec"], RecordHead.of(record))

    def _change(self, spec: Mapping[str, Any], head: RecordHead) -> Change | None:
        try:
            today = code_of(spec)
        except UserError as error:
            return Change(f"its code cannot be compared: {error}")
        suite, model = spec["suite"], spec["model"]
        changes = []
        if not self._equal_code(spec, head.code, today.fingerprint):
            changes.append(self._change_of_code(today, head.code))
        if head.data and self.data_now(suite) not in (None, head.data):
            changes.append(Change(f"the data of {suite} changed", of_user=is_users_suite(suite)))
        if head.model and self.model_now(model) not in (None, head.model):
            changes.append(Change(f"the model in {model} changed", of_user=True))
        if len(changes) < 2:
            return changes[0] if changes else None
        files = tuple(file for change in changes for file in change.files)
        return Change("; ".join(c.reason for c in changes), files, all(c.of_user for c in changes))

    def _equal_code(self, spec: Mapping[str, Any], before: str, now: str) -> bool:
        names = spec["strategy"], spec["suite"], spec["model"]
        return before == now or self.equivalences.same(*names, before, now)

    def _change_of_code(self, today: Code, before: str) -> Change:
        if not before:
            return Change(UNRECORDED)
        files = self.code.get(before)
        if files is None:
            return Change("made by code that its run does not name")
        differing = sorted(n for n in files.keys() | today.files.keys() if files.get(n) != today.files.get(n))
        gone = [name for name in differing if name not in today.files]
        what = "cannot be found" if gone == differing else "changed"
        return Change(f"{some(differing, _SHOWN)} {what}", tuple(differing), all(map(is_users, differing)))


def is_users_suite(name: str) -> bool:
    """Return whether a suite belongs to the user; raises UserError for an unknown one."""
    if suites.REGISTRY.is_declared(name):
        return True
    place = suites.REGISTRY.defined_in(name)
    return not isinstance(place, str) or is_users(f"{place.replace('.', '/')}.py")
