"""Feeds trackers from a thread for each, so that a slow or failing one neither delays nor ends a run."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue

from bench.report.trackers.sinks import TRACKERS
from bench.report.trackers.tracked_cell import Record, tracked_cell
from bench.results import outcomes
from suites.announce import to_stderr
from suites.errors import UserError, one_line, unknown
from suites.tracebacks import kind_and_message

PATIENCE = 60.0
"""Seconds that the end of a run waits for its trackers."""
FOLDER = "tensorboard"
"""The folder of event files in that of the run, if ``--track`` names none."""


def check_trackers(words: str | Iterable[str], out: Path | None) -> dict[str, str]:
    """Return the place of each tracker that ``--track`` names: ``tensorboard:DIR,mlflow:URI``.

    Args:
        words: Trackers with an optional place; one text may have several, with commas.
        out: Folder of the run; none if it is temporary or not known yet.

    Raises:
        UserError: A tracker is unknown, named twice or not installed.
    """
    found: dict[str, str] = {}
    listed = [words] if isinstance(words, str) else words
    for word in (part.strip() for text in listed for part in text.split(",") if text):
        kind, _, place = word.partition(":")
        if kind not in TRACKERS:
            raise unknown("tracker", kind, list(TRACKERS))
        if kind in found:
            raise UserError(f"--track names {kind} twice")
        if find_spec(kind) is None:
            raise UserError(f"--track {kind} needs {kind}: pip install 'lethe-bench[{kind}]'")
        if kind == "tensorboard" and not place:
            if out is None:
                raise UserError("--track tensorboard needs a folder without --out: tensorboard:DIR")
            place = str(out / FOLDER)
        found[kind] = place
    return found


@contextmanager
def tracking(
    places: dict[str, str], warn: Callable[[str], None] | None = None
) -> Iterator[Callable[[Record], None] | None]:
    """Yield a function that sends a record to trackers; None without any. At the end, wait for them.

    Nothing that a tracker does is an error of the run: it is one line, and the tracker gets no more cells.

    Args:
        places: The place of each tracker, as ``check_trackers`` returns them.
        warn: Called with the line of a tracker that failed, perhaps in another thread. By default it goes to
            stderr, and so does the number of cells sent.
    """
    if not places:
        yield None
        return
    feeds = [_Feed(kind, place, warn or to_stderr) for kind, place in places.items()]

    def send(record: Record) -> None:
        for feed in feeds:
            feed.put(record)

    with redirect_stdout(sys.stderr):  # trackers print what they do, and stdout may be JSON
        try:
            yield send
        finally:
            until = time.monotonic() + PATIENCE
            for feed in feeds:
                feed.end(until)
                if warn is None and feed.succeeded:
                    to_stderr(feed.sent())


class _Feed:
    """A tracker and its thread."""

    def __init__(self, kind: str, place: str, warn: Callable[[str], None]) -> None:
        self._kind, self._place, self._warn = kind, place, warn
        self._waiting: SimpleQueue[Record | None] = SimpleQueue()
        self._n_put = self._n_written = 0
        self._failed = False
        # A daemon: a tracker that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name=f"lethe-{kind}", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Send the record of a cell."""
        if not self._failed:
            self._n_put += 1
            self._waiting.put(record)

    def end(self, until: float) -> None:
        """Wait until all cells are written, or for some time."""
        self._waiting.put(None)
        self._thread.join(max(until - time.monotonic(), 0))
        if self._thread.is_alive():
            self._failed = True
            self._warn(f"{self.sent()}; it does not answer, and is not waited for any longer")

    @property
    def succeeded(self) -> bool:
        """Whether there were cells, and all are written."""
        return bool(self._n_put) and not self._failed

    def sent(self) -> str:
        """Return how many cells were sent, in words."""
        to = f" to {self._place}" if self._place else ""
        return f"tracker {self._kind}: {self._n_written} of {self._n_put} cells sent{to}"

    def _run(self) -> None:
        try:
            sink, compact = TRACKERS[self._kind](self._place), outcomes()
            while (record := self._waiting.get()) is not None:
                sink.write(tracked_cell(record, compact(record)))
                self._n_written += 1
        except (Exception, SystemExit) as error:
            if not self._failed:
                self._failed = True
                why = one_line(kind_and_message(error))
                self._warn(f"tracker {self._kind} failed: {why}; the run goes on without it")
