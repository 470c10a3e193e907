"""Stale records: those whose code or data is not today's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import suites
from bench.plan.code import Code, code_of, is_users
from bench.schema import Equivalences, Fields
from suites.errors import UserError, some

DataNow = Callable[[str], str | None]
"""Returns the fingerprint of a suite's data set as it is now, None where that is not known."""
UNRECORDED = "made before Lethe recorded its code"
_SHOWN = 4


@dataclass(frozen=True)
class RecordHead:
    """What a cell's record says of how it ended and what it was made of."""

    status: str
    code: str = ""
    """Fingerprint of its code; empty in records of earlier versions."""
    data: str = ""
    """Fingerprint of its data set; empty where it learned nothing."""
    seconds: float = 0.0
    """Training and scoring."""

    @classmethod
    def of(cls, record: Fields) -> Self:
        """Return the head of a record."""
        made, data, timings = (record.get(name) or {} for name in ("made_by", "data", "timings"))
        seconds = timings.get("seconds_per_seed", 0.0)
        return cls(record["status"], made.get("code", ""), data.get("fingerprint", ""), seconds)


@dataclass(frozen=True)
class Change:
    """Why a record is stale."""

    reason: str
    """One line."""
    files: tuple[str, ...] = ()
    """The source files that changed; empty where they are not known, or the data alone changed."""
    of_user: bool = False
    """Whether all that changed is the user's own: files of methods, suites and models, or a suite's data."""


@dataclass
class Staleness:
    """Compares the records of a run with today's code and data."""

    code: Mapping[str, Mapping[str, str]]
    """The files behind each fingerprint, from the run's manifest."""
    equivalences: Equivalences
    """Code that was seen to make the same records."""
    data_now: DataNow
    _known: dict[tuple[str | bool, ...], Change | None] = field(default_factory=dict)

    def of(self, spec: Mapping[str, Any], head: RecordHead) -> Change | None:
        """Return why a record is stale, None where it is not.

        Args:
            spec: What the cell is, as its record holds it.
            head: What its record says.
        """
        what = spec["strategy"], spec["suite"], spec["model"], bool(spec.get("continues"))
        asked = (*what, head.code, head.data)
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
        names = spec["strategy"], spec["suite"], spec["model"]
        now, code = today.fingerprint, None
        if head.code != now and not self.equivalences.same(*names, head.code, now):
            code = self._change_of_code(today, head.code)
        data_now = self.data_now(spec["suite"]) if head.data else None
        if data_now in (None, head.data):
            return code
        data = Change(f"the data of {spec['suite']} changed", of_user=is_users_suite(spec["suite"]))
        if code is None:
            return data
        return Change(f"{code.reason}; {data.reason}", code.files, code.of_user and data.of_user)

    def _change_of_code(self, today: Code, before: str) -> Change:
        if not before:
            return Change(UNRECORDED)
        files = self.code.get(before)
        if files is None:
            return Change("made by code that its run does not name")
        differing = sorted(n for n in files.keys() | today.files.keys() if files.get(n) != today.files.get(n))
        return Change(f"{some(differing, _SHOWN)} changed", tuple(differing), all(map(is_users, differing)))


def is_users_suite(name: str) -> bool:
    """Return whether a suite is the user's own; raises UserError for an unknown one."""
    place = suites.REGISTRY.defined_in(name)
    return not isinstance(place, str) or is_users(f"{place.replace('.', '/')}.py")
