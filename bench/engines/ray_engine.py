"""Ray (https://docs.ray.io): a head and workers, started by ``ray start``."""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

import ray

from bench.engines.interface import Lost
from suites.errors import UserError
from suites.tracebacks import first_line


class RayEngine:
    """A Ray cluster.

    Raises:
        UserError: No cluster answers at the address.
    """

    def __init__(self, address: str, gpus: float = 0.0) -> None:
        self._gpus = gpus
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            advice = "start one with: ray start --head"
            raise UserError(f"no Ray cluster answers at {address} ({first_line(error)}); {advice}") from None

    def slots(self) -> int:
        """Return how many calls the processors of the cluster can run, and its GPUs if calls need them."""
        there = ray.cluster_resources()
        of_gpus = there.get("GPU", 0) / self._gpus if self._gpus else float("inf")
        return int(min(there.get("CPU", 0), of_gpus))

    def submit(self, call: Callable[..., Any], *given: Any, without: Collection[str] = ()) -> Future[Any]:
        """Call a function on a worker, with one processor and its share of a GPU, which alone it sees."""
        remote = ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=0)(call).remote(*given)
        ended = Future[Any]()

        def copy(of_ray: Future[Any]) -> None:
            try:
                ended.set_result(of_ray.result())
            except ray.exceptions.RayTaskError as error:
                ended.set_exception(error.cause or error)
            except Exception as error:
                ended.set_exception(Lost(first_line(error)))

        remote.future().add_done_callback(copy)
        return ended

    def cancel(self) -> None:
        """Cancel nothing: Ray would interrupt what has begun, and no more is submitted than can run."""

    def close(self) -> None:
        """Leave the cluster."""
        ray.shutdown()
