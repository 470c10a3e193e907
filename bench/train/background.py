"""Work that goes on in a thread beside training: a checkpoint is written, coming rows are read."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Background:
    """A thread that does one piece of work at a time, as a context; at its end all work is done.

    An error of the work is raised by the next call, or at the end of the context, unless another error ends
    it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "lethe-background")
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Wait until earlier work is done, then begin this."""
        self.wait()
        self._work = self._thread.submit(work)

    def wait(self) -> None:
        """Wait until all work is done."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()
