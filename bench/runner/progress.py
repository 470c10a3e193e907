"""Progress of a run over cells, tasks and steps: bars in a terminal, plain lines elsewhere.

Workers write how far their group is into small files in the run folder; the parent reads them.
"""

import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeElapsedColumn

from bench.plan import CellSpec

_FOLDER = "progress"
_SECONDS, _FIRST, _PLAIN_SECONDS = 0.5, 10.0, 60.0
"""Seconds between updates of a bar; until the first line in a log, and between lines."""


class UnderWay(NamedTuple):
    """How far a group of lanes is."""

    lanes: int
    task: int
    """Number of finished tasks."""
    tasks: int
    step: int = 0
    """Number of finished steps of the current task."""
    steps: int = 0

    @property
    def share(self) -> float:
        """Return the share of the work that is done, counting tasks as equal."""
        return (self.task + self.step / max(self.steps, 1)) / max(self.tasks, 1)


class Notes:
    """Writes how far a group is, for the display only: when it begins, then at most twice a second."""

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self._path, self._lanes = folder / _FOLDER / keys[0], len(keys)
        self._task = self._tasks = 0
        self._written = float("-inf")

    def task(self, done: int, tasks: int) -> None:
        """Record the number of finished tasks."""
        self._task, self._tasks = done, tasks
        self.step(0, 0)

    def step(self, done: int, steps: int) -> None:
        """Record the number of finished steps of the current task."""
        if time.monotonic() - self._written > _SECONDS:
            self._write(done, steps)

    def _write(self, step: int, steps: int) -> None:
        self._written = time.monotonic()
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(
                f"{self._lanes} {self._task} {self._tasks} {step} {steps}", encoding="utf-8"
            )
        except OSError:
            return


def is_noted(folder: Path, key: str) -> bool:
    """Return whether the group whose first cell this is has begun, by this command."""
    return (folder / _FOLDER / key).exists()


class Progress:
    """The progress display of one command, as a context."""

    def __init__(self, folder: Path, specs: Sequence[CellSpec], quiet: bool) -> None:
        self.folder, self.specs, self.quiet = folder, specs, quiet
        self.by_key = {spec.key: spec for spec in specs}
        self.ended: set[str] = set()
        self.console = Console(stderr=True)
        self.bar: Bar | None = None
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._remove_notes()
        if self.specs and not self.quiet and self.console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            self.bar = Bar(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=self.console)
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
        self._remove_notes()

    def _remove_notes(self) -> None:
        """Remove the notes of this command's cells; others may be of another command."""
        with suppress(OSError):
            for path in (self.folder / _FOLDER).iterdir():
                if path.name in self.by_key:
                    path.unlink(missing_ok=True)
            (self.folder / _FOLDER).rmdir()

    def done(self, specs: Sequence[CellSpec]) -> None:
        """Record that these cells have ended."""
        self.ended |= {spec.key for spec in specs}
        if self.bar is not None:
            self.bar.update(self.cells, completed=len(self.ended))
        elif specs and not self.quiet:
            self._say(_named(specs[0], len(specs)), self.under_way())

    def under_way(self) -> dict[str, UnderWay]:
        """Return how far each group is that has begun and not ended, by the key of its first cell."""
        found = {}
        for path in (self.folder / _FOLDER).glob("*"):
            try:
                if path.name in self.by_key and path.name not in self.ended:
                    found[path.name] = UnderWay(*map(int, path.read_text(encoding="utf-8").split()))
            except (OSError, ValueError, TypeError):
                continue  # it is being written
        return found

    def left(self, groups: dict[str, UnderWay]) -> str:
        """Return the time left in words, as if all cells took equally long; empty if it cannot be told."""
        share = (len(self.ended) + sum(g.share * g.lanes for g in groups.values())) / len(self.specs)
        seconds = time.monotonic() - self.began
        if not 0.01 < share < 1 or seconds < _SECONDS:
            return ""
        rest = seconds * (1 - share) / share
        if rest >= 7200:
            return f"about {rest / 3600:.0f} h left"
        return f"about {rest / 60:.0f} min left" if rest >= 120 else f"about {rest:.0f} s left"

    def _say(self, words: str, groups: dict[str, UnderWay]) -> None:
        seconds = time.monotonic() - self.began
        parts = [f"{len(self.ended)}/{len(self.specs)} cells", f"{seconds:.0f} s", self.left(groups)]
        with suppress(OSError):  # the terminal was closed, or the reader of a pipe has stopped
            print(f"{', '.join(filter(None, parts))}: {words}", file=sys.stderr, flush=True)

    def _watch(self) -> None:
        wait = _FIRST if self.bar is None else _SECONDS
        while not self._stop.wait(wait):
            self._update()
            wait = _PLAIN_SECONDS if self.bar is None else _SECONDS

    def _update(self) -> None:
        groups = self.under_way()
        if not groups:
            return
        key, latest = max(groups.items(), key=lambda item: item[1].share)
        words = _named(self.by_key[key], latest.lanes)
        words += f", task {min(latest.task + 1, latest.tasks)} of {latest.tasks}"
        words += f", step {latest.step} of {latest.steps}" if latest.steps else ""
        words += f"; {len(groups)} groups under way" if len(groups) > 1 else ""
        if self.bar is None:
            self._say(words, groups)
            return
        done, total = (sum(g.lanes * n for g, n in zip(groups.values(), of, strict=True)) for of in (
            [g.task for g in groups.values()], [g.tasks for g in groups.values()]
        ))  # fmt: skip
        described = ", ".join(filter(None, [words, self.left(groups)]))
        self.bar.update(self.tasks, completed=done, total=total, description=described)


def _named(spec: CellSpec, n: int) -> str:
    """Return a cell, and how many more are in its group."""
    return spec.title + (f" and {n - 1} more" if n > 1 else "")
