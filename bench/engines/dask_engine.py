"""Dask (https://distributed.dask.org): ``dask scheduler`` and any number of ``dask worker``.

A worker that dies is noticed by the scheduler, which lets another one run its calls, up to three times.
"""

import logging
import pickle
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from distributed import Client, Future as DaskFuture, Worker, get_worker
from distributed.scheduler import KilledWorker

from bench.engines.interface import Lost, Refused
from suites.errors import UserError

_SECONDS = 10
_COUNT_SECONDS = 1.0
"""Seconds for which the number of workers is taken as known."""


def _begun(dask_worker: Worker) -> list[str]:
    """Return the calls that run on a worker, on that worker: others wait there."""
    return [str(call.key) for call in dask_worker.state.executing]


def _unpacked(packed: bytes) -> Any:
    """Run a call on a worker. The scheduler unpickles what it hands on: of bytes, it imports no torch."""
    call, given = pickle.loads(packed)
    try:
        return call(*given)
    except Refused as refused:
        refused.worker = get_worker().address
        raise


class DaskEngine:
    """A Dask scheduler.

    Raises:
        UserError: No scheduler answers at the address.
    """

    def __init__(self, address: str) -> None:
        # It reports a lost scheduler at length; so do the futures, in a word.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._client = Client(f"tcp://{address}", timeout=_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            start = "start one with: dask scheduler, and workers with: dask worker HOST:PORT --nthreads 1"
            raise UserError(f"no Dask scheduler answers at {address} ({error}); {start}") from None
        self._calls: dict[str, DaskFuture[Any]] = {}
        self._workers, self._counted = set[str](), float("-inf")
        self._only: dict[str, set[str]] = {}
        """The workers that may run a call, if others refused it."""

    def slots(self) -> int:
        """Return two calls for each worker: it runs one, and the next one is ready when that ends."""
        if self._client.status != "running":
            return 0
        if time.monotonic() - self._counted > _COUNT_SECONDS or not self._workers:
            self._workers = set(self._client.scheduler_info(n_workers=-1)["workers"])
            self._counted = time.monotonic()
            # Dask would wait for a worker of the same address.
            gone = [key for key, only in self._only.items() if only.isdisjoint(self._workers)]
            self._client.cancel([self._calls[key] for key in gone if key in self._calls])
        return 2 * len(self._workers)

    def submit(self, call: Callable[..., Any], *given: Any, without: Collection[str] = ()) -> Future[Any]:
        """Call a function on a worker."""
        key, ended = f"lethe-{uuid.uuid4().hex}", Future[Any]()
        only = self._workers.difference(without) if without else set()
        if only:
            self._only[key] = only
        try:
            of_dask = self._client.submit(
                _unpacked, pickle.dumps((call, given)), key=key, pure=False, workers=[*only] or None
            )
        except Exception as error:  # the scheduler has just gone
            ended.set_exception(Lost(f"{type(error).__name__}: {error}"))
            return ended
        self._calls[key] = of_dask

        def copy(of_dask: "DaskFuture[Any]") -> None:
            self._calls.pop(key, None)
            self._only.pop(key, None)
            try:
                ended.set_result(of_dask.result(timeout=_SECONDS))
            except KilledWorker as error:
                ended.set_exception(Lost(f"the workers that ran it died: {error.last_worker.address}"))
            except BaseException as error:
                lost = of_dask.status != "error"
                ended.set_exception(Lost(f"the scheduler lost it: {of_dask.status}") if lost else error)

        of_dask.add_done_callback(copy)
        return ended

    def cancel(self) -> None:
        """Cancel the calls that no worker has begun."""
        if self._client.status != "running":
            return
        try:
            of_workers = self._client.run(_begun, callback_timeout=_SECONDS)
        except (TimeoutError, OSError):  # of a worker that does not answer: all that it has may have begun
            of_workers = self._client.processing()
        begun = {key for keys in of_workers.values() for key in keys}
        self._client.cancel([future for key, future in [*self._calls.items()] if key not in begun])

    def close(self) -> None:
        """Leave the scheduler."""
        self._client.close(timeout=_SECONDS)
