"""The state of each cell of a run, and why it has it."""

from collections.abc import Callable
from typing import NamedTuple

from bench.schema import Fields, failure_in_words
from bench.store.claims import running
from bench.store.equivalences import staleness_of
from bench.store.run_reader import RunReader


class CellState(NamedTuple):
    """The state of a cell."""

    status: str
    """``running``, ``missing``, or the status of its record."""
    is_stale: bool = False
    """Whether it has a record of other code or data."""
    why: str = ""
    """Why it has this state, with the traceback of a failed cell in further lines if it was asked for."""

    @property
    def shown(self) -> str:
        """The state in one word: ``stale`` instead of done, if it is."""
        return "stale" if self.status == "done" and self.is_stale else self.status


def cell_states(
    run: RunReader, data_now: Callable[[str], str | None] = lambda suite: None, tracebacks: bool = False
) -> dict[str, CellState]:
    """Return the state of each cell by key: those of the manifest, then other records.

    Args:
        run: The run.
        data_now: Returns the current fingerprint of the data of a suite, see ``staleness_of``.
        tracebacks: Whether reasons contain tracebacks.
    """
    staleness = staleness_of(run, data_now)

    def of_record(record: Fields) -> CellState:
        change, error = staleness.of_record(record), record["error"]
        why = failure_in_words(error) if error else record["reason"] or ""
        if change is not None:
            why = f"{why}; stale, {change.reason}" if why else change.reason
        trace = error["traceback"].rstrip() if error and tracebacks else ""
        return CellState(record["status"], change is not None, "\n".join(filter(None, [why, trace])))

    found, cells = run.each(of_record), run.manifest_if_readable().cells
    states = {key: found.get(key) or CellState("missing") for key in {**cells, **found}}
    claimed = {key: by for key, by in running(run.folder).items() if key in cells}
    for key, state in states.items():
        if key in claimed or state.status == "missing":
            header = run.checkpoints.header(key)
            tasks = f"{header.tasks_done} tasks are done" if header else ""
            by = f"by {claimed[key]}" if key in claimed else ""
            status = "running" if by else state.status
            states[key] = CellState(status, state.is_stale, ", ".join(filter(None, [by, tasks])))
    return states
