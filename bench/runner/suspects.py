"""Runs a group that may end its process in one of its own, with no other beside it."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from joblib.externals.loky.process_executor import BrokenProcessPool

from bench.runner.claimed_groups import Group
from bench.runner.faults import lost_device
from bench.runner.one_group import by_halves, run_one
from bench.runner.run_outcome import Ended
from bench.runner.target import Target
from bench.runner.worker import Worker
from bench.schema import Failure

DIED = "process died"
"""The kind of failure of a cell that ends its own process."""
_CRASHES, _KILLS = 2, 3
"""How often a cell may end its process, or its process be killed from outside, before it is given up."""

_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2"}
"""Signals that a process gets from the system or from a user, and not from a mistake of its own."""


def run_alone(group: Group, target: Target, device: str) -> Ended:
    """Run a group in its own process, with no other beside it.

    If the group ends its process, its halves are run, down to the cell that does so: it has failed if it does
    so twice. A process that is killed from outside is not an outcome of the cell: it is tried a few times.
    """
    crashes = kills = 0
    while True:
        memory, worker, began = _kills_for_memory(), Worker(device), False
        try:
            worker.start()
            began = True
            ended = worker.submit(_run_suspect, group, target).result()
            if not ended.again:
                return ended
            failure, ended.failure = ended.failure, None
            if failure is not None and (why := lost_device(failure.message, device)):
                ended += Ended.without_record(ended.again, why, stops=True)
                ended.again = []
                return ended
            if ended.again != [group]:  # a half of it
                parts, ended.again = ended.again, []
                worker.stop()
                for part in parts:
                    ended += run_alone(part, target, device)
                return ended
        except BrokenProcessPool as error:
            how, from_outside = _death(error)
            if not began or (from_outside and _kills_for_memory() == memory):
                kills += 1
                if kills < _KILLS:
                    continue
                why = f"its process ended {kills} times ({how}), by the system or by a user"
                advice = "if memory is short, use fewer --lanes"
                return Ended.without_record([group], f"{why}: {advice}")
            for_memory = ", for lack of memory" if from_outside else ""
            failure = Failure(
                kind=DIED, message=f"alone in its process, the cell ended it: {how}{for_memory}"
            )
        finally:
            worker.stop()
        crashes += 1
        if len(group) > 1 or crashes == _CRASHES:
            assert failure is not None
            return by_halves(group, target, device, failure, run_alone)


def _run_suspect(group: Group, target: Target, device: str) -> Ended:
    """Run a group that may end its process; a signal to itself is an error of the cell, with its line."""

    def refuse(event: str, values: tuple[Any, ...]) -> None:
        if event == "os.kill" and values[0] == os.getpid() and values[1]:
            raise RuntimeError(f"the cell ends its own process: signal {values[1]}")

    sys.addaudithook(refuse)
    return run_one(group, target, device)


def _death(error: Exception) -> tuple[str, bool]:
    """Return how a worker died, and whether that was done from outside."""
    found = re.search(r"\{(?:\w+\()?(-?\d+)", str(error).partition("exit codes of the workers")[2])
    if found is None:  # it did not understand its task: its Lethe is another one by now
        return (str(error.__cause__ or error).strip().splitlines() or [""])[-1], True
    code = int(found[1])
    if code >= 0:
        return f"exit code {code}", False
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return name, name in _FROM_OUTSIDE


def _kills_for_memory() -> int:
    """Return how many processes Linux has ended for lack of memory; 0 on other systems."""
    try:
        counts = Path("/proc/vmstat").read_text(encoding="utf-8").split()
        return int(counts[counts.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0
