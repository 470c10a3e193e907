"""A Dask scheduler and its workers, each a process of this machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """Return the number of a port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class DaskCluster:
    """A scheduler and workers; the processes are killed when the stack is closed.

    Args:
        stack: It ends the processes.
        workers: How many to start.
        log: Where all write their output.
        host: The address of the scheduler.
        before: Words before its command and those of ``start``, for another host.
    """

    def __init__(
        self,
        stack: ExitStack,
        workers: int = 0,
        log: IO[bytes] | int = subprocess.DEVNULL,
        host: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        self.stack, self.log, self.before = stack, log, [*before]
        self.address = f"{host}:{free_port()}"
        self.scheduler = self.new_scheduler()
        self.workers = [self.new_worker() for _ in range(workers)]

    def new_scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler at the address."""
        host, _, port = self.address.partition(":")
        return self.start("distributed.cli.dask_scheduler", "--host", host, "--port", port, "--no-dashboard")

    def new_worker(self, before: Sequence[str] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, perhaps on another host."""
        words = self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"
        return self.start("distributed.cli.dask_worker", *words, before=before, **environment)

    def start(
        self,
        *words: str,
        before: Sequence[str] | None = None,
        log: IO[bytes] | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m WORDS`` with one thread, and with the usual answer to Ctrl-C."""
        own = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
        line = [*(self.before if before is None else before), sys.executable, "-m", *words]
        to = log or self.log
        # What a shell starts in the background ignores SIGINT, and so would its children.
        usual = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
        started = subprocess.Popen(line, env=own, stdout=to, stderr=to, cwd=ROOT, preexec_fn=usual)
        self.stack.callback(started.wait)
        self.stack.callback(started.kill)
        return started
