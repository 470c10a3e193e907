"""A process that runs groups on one device."""

import os
from concurrent.futures import Future

import torch
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from bench.runner.claimed_groups import Group
from bench.runner.one_group import Run
from bench.runner.run_outcome import Ended
from bench.runner.target import Target
from suites import lifeline


class Worker:
    """A process that runs one group at a time; it is started when it is first used.

    It sees no other GPU than its own, by ``CUDA_VISIBLE_DEVICES``, which is set before it imports torch.
    """

    _THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

    def __init__(self, device: str, jobs: int = 1) -> None:
        threads = str(max((os.cpu_count() or 1) // jobs, 1))
        self.device, self._env = device, {name: os.environ.get(name, threads) for name in self._THREADS}
        self._own = device
        """The name of the device in the process."""
        if torch.device(device).type == "cuda":
            self._env["CUDA_VISIBLE_DEVICES"] = _visible(torch.device(device).index or 0)
            self._own = "cuda:0"
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> None:
        """Start the process and wait until it has imported what it needs."""
        self._executor().submit(_imported).result()

    def submit(self, run: Run, group: Group, target: Target) -> Future[Ended]:
        """Start to run a group."""
        future: Future[Ended] = self._executor().submit(run, group, target, self._own)
        return future

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            first = {"initializer": lifeline.follow, "initargs": (os.getpid(),)}
            self._pool = ProcessPoolExecutor(max_workers=1, env=self._env, **first)
        return self._pool

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


def _visible(index: int) -> str:
    """Return the name of a GPU for other processes, from its index among those that this one sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return seen.split(",")[index].strip() if seen else str(index)


def _imported() -> None:
    """Do nothing, in a worker that has imported this module."""
