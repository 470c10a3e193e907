"""What Lethe asks of an engine: to run a function elsewhere, to say how it ended, and to cancel it."""

from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, Protocol


class Lost(Exception):
    """A call ended without a result, because its worker or the scheduler did; it can be submitted again."""


class Refused(Exception):
    """A worker would not run a call; another one may."""

    worker = ""
    """Its name, for ``submit``; empty where the engine cannot choose workers."""


class Engine(Protocol):
    """A scheduler with workers."""

    def slots(self) -> int:
        """Return how many calls to have submitted: those that can run now, and perhaps some that wait."""

    def submit(self, call: Callable[..., Any], *given: Any, without: Collection[str] = ()) -> Future[Any]:
        """Call a function on a worker. The future's result is that of the call, or its exception, or Lost.

        ``without`` are workers that refused it; they may be asked again if there are no others.
        """

    def cancel(self) -> None:
        """Cancel the calls that have not begun; their futures end with Lost."""

    def close(self) -> None:
        """Leave the scheduler, which goes on without this process."""
