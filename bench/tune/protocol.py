"""The protocol of tuning: which tasks and seeds settings are chosen on, and which are reported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from suites import name_and_view
from suites.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """A protocol by its name.

    ``seeds``: trials see the whole streams of the tuning seeds: other orders of classes, other held-out rows,
    other initial weights than the reported seeds have.
    ``first-tasks=k``: trials see the first k tasks of one order, results are of the other tasks (Chaudhry et
    al. 2019, Efficient lifelong learning with A-GEM).
    ``end``: trials see all tasks of one order, and so do the results: the usual protocol, which needs all
    tasks before the first can be learned.
    """

    name: str
    first: int = 0
    """k of ``first-tasks=k``."""

    @classmethod
    def read(cls, text: str) -> Protocol:
        """Return the protocol of a name; raises UserError for an unknown one."""
        if text in ("seeds", "end"):
            return cls(text)
        if found := re.fullmatch(r"first-tasks=([1-9]\d*)", text):
            return cls(text, int(found[1]))
        raise UserError(
            f"unknown protocol {text!r}; there are seeds, first-tasks=k (like first-tasks=2) and end"
        )

    def for_tuning(self, suite: str) -> str:
        """Return the view of a suite that trials are trained on; it has no test rows."""
        if name_and_view(suite)[1]:
            raise UserError(f"{suite} is a view already: tune its suite, and choose with --protocol")
        views = {"seeds": "tuning", "end": "end"}
        return f"{suite}@{views.get(self.name, f'first-{self.first}')}"

    def for_sizes(self, suite: str) -> str:
        """Return the view that methods are sized to a budget on: all tasks, without test rows."""
        return f"{suite}@{'tuning' if self.name == 'seeds' else 'end'}"

    def for_report(self, suite: str) -> str:
        """Return the suite, or the view of it, that results are reported on."""
        if self.name == "seeds":
            return suite
        return f"{suite}@{f'rest-{self.first}' if self.first else 'one-order'}"
