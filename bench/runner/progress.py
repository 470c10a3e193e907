"""Progress of a run over cells and tasks: a bar in a terminal, plain lines elsewhere.

Workers write the number of finished tasks into small files in the run folder; the parent reads them.
"""

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeElapsedColumn

from bench.plan import CellSpec

_FOLDER = "progress"
_SECONDS, _PLAIN_SECONDS = 0.5, 60.0
"""Seconds between updates of a bar, and of lines in a log."""


def note(folder: Path, keys: Sequence[str], done: int, tasks: int) -> None:
    """Record the number of finished tasks of a group, for the display only."""
    try:
        path = folder / _FOLDER
        path.mkdir(exist_ok=True)
        (path / keys[0]).write_text(f"{done} {tasks} {len(keys)}", encoding="utf-8")
    except OSError:
        return


class Progress:
    """The progress display of one command, as a context."""

    def __init__(self, folder: Path, specs: Sequence[CellSpec], quiet: bool) -> None:
        self.folder, self.specs, self.quiet = folder, specs, quiet
        self.finished = 0
        self.console = Console(stderr=True)
        self.bar: Bar | None = None
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        shutil.rmtree(self.folder / _FOLDER, ignore_errors=True)
        if self.specs and not self.quiet and self.console.is_terminal:
            text = TextColumn("{task.description}")
            columns = text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self.bar = Bar(*columns, console=self.console)
            self.cells = self.bar.add_task("cells", total=len(self.specs))
            self.tasks = self.bar.add_task("tasks", total=None)
            self.bar.start()
        if self.specs and not self.quiet:
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self.thread is not None:
            self.thread.join()
        if self.bar is not None:
            self._update()
            with suppress(OSError):
                self.bar.stop()
        shutil.rmtree(self.folder / _FOLDER, ignore_errors=True)

    def done(self, specs: Sequence[CellSpec]) -> None:
        """Record that these cells have ended."""
        self.finished += len(specs)
        if self.bar is not None:
            self.bar.update(self.cells, completed=self.finished)
        elif specs and not self.quiet:
            more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
            self._say(specs[0].title + more)

    def _say(self, words: str) -> None:
        seconds = time.monotonic() - self.began
        cells = f"{self.finished}/{len(self.specs)} cells"
        with suppress(OSError):  # the terminal was closed, or the reader of a pipe has stopped
            print(f"{cells}, {seconds:.0f} s: {words}", file=sys.stderr, flush=True)

    def _watch(self) -> None:
        while not self._stop.wait(_PLAIN_SECONDS if self.bar is None else _SECONDS):
            self._update()

    def _update(self) -> None:
        done = total = 0
        for path in (self.folder / _FOLDER).glob("*"):
            try:
                tasks_done, tasks, lanes = map(int, path.read_text(encoding="utf-8").split())
            except (OSError, ValueError):
                continue
            done, total = done + tasks_done * lanes, total + tasks * lanes
        if self.bar is not None and total:
            self.bar.update(self.tasks, completed=done, total=total)
        elif total:
            self._say(f"{done} of {total} tasks of the cells started so far")
