"""A Dask scheduler and its workers, each a process of this machine."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


def start(
    *words: str, log: IO[bytes] | int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen[bytes]:
    """Start ``python -m WORDS`` with one thread."""
    own = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([sys.executable, "-m", *words], env=own, stdout=log, stderr=log, cwd=ROOT)


def free_port() -> int:
    """Return the number of a port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class DaskCluster:
    """A scheduler and workers; the processes are killed when the stack is closed."""

    def __init__(self, stack: ExitStack, workers: int = 0, log: IO[bytes] | int = subprocess.DEVNULL) -> None:
        self.stack, self.log = stack, log
        self.address = f"127.0.0.1:{free_port()}"
        self.scheduler = self.new_scheduler()
        self.workers = [self.new_worker() for _ in range(workers)]

    def new_scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler at the address."""
        host, _, port = self.address.partition(":")
        return self.start("distributed.cli.dask_scheduler", "--host", host, "--port", port, "--no-dashboard")

    def new_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker with one thread."""
        words = self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"
        return self.start("distributed.cli.dask_worker", *words, **environment)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start ``python -m WORDS``; it is killed at the end."""
        started = start(*words, log=self.log, **environment)
        self.stack.callback(started.wait)
        self.stack.callback(started.kill)
        return started
