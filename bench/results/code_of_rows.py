"""The code that made the records of a row of a table, and whether it is the current one."""

from collections.abc import Callable, Sequence

from bench.plan import RecordHead, Staleness
from bench.results.outcome import Outcome

MadeFrom = tuple[str, str, str]
"""Strategy, suite and model."""


class CodeOfRows:
    """Chooses one code for each row, so that no mean mixes records of two codes."""

    def __init__(self, staleness: Staleness, commit: Callable[[Outcome], str]) -> None:
        """``staleness`` compares records with today's code; ``commit`` returns that of a record."""
        self.staleness, self.commit = staleness, commit
        self._same: dict[tuple[MadeFrom, str, str], bool] = {}

    def choose(
        self, cells: Sequence[Outcome]
    ) -> tuple[list[Outcome], list[tuple[Outcome, str]], dict[str, str]]:
        """Choose the current code if a record of the row has it, else the code of the latest record.

        Returns:
            The records of the code chosen and those without a result; the others, each with the reason; and
            the commits of records by other code than today's, by key.
        """
        rows: dict[tuple[str, str, str], dict[str, Outcome]] = {}
        for cell in cells:
            if cell.has_result:
                latest = rows.setdefault(cell.row, {})
                before = latest.get(cell.origin.code)
                if before is None or before.origin.written <= cell.origin.written:
                    latest[cell.origin.code] = cell
        chosen = {name: self._chosen(latest) for name, latest in rows.items()}
        kept: list[Outcome] = []
        others: list[tuple[Outcome, str]] = []
        stale: dict[str, str] = {}
        for cell in cells:
            if cell.has_result:
                shown = chosen[cell.row]
                if not self._are_same(cell, cell.origin.code, shown.origin.code):
                    others.append((cell, f"code {self._words(cell)}, not {self._words(shown)}"))
                    continue
                if not self._is_today(cell):
                    stale[cell.key] = self.commit(cell)
            kept.append(cell)
        return kept, others, stale

    def _chosen(self, latest: dict[str, Outcome]) -> Outcome:
        """Return a record of the chosen code of a row; ``latest`` contains the latest record of each code."""
        return max(latest.values(), key=lambda c: (self._is_today(c), c.origin.written, c.origin.code))

    def _words(self, cell: Outcome) -> str:
        code = cell.origin.code[:8]
        return f"{code} at {self.commit(cell)}" if code else f"of {self.commit(cell)}"

    def _is_today(self, cell: Outcome) -> bool:
        return self.staleness.of(cell.spec, RecordHead(cell.status, cell.origin.code)) is None

    def _are_same(self, cell: Outcome, a: str, b: str) -> bool:
        if a == b:
            return True
        asked = _made_from(cell), a, b
        if asked not in self._same:
            self._same[asked] = self.staleness.equivalences.same(*_made_from(cell), a, b)
        return self._same[asked]


def _made_from(cell: Outcome) -> MadeFrom:
    spec = cell.spec
    return spec["strategy"], spec["suite"], spec["model"]
