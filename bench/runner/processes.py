"""Runs groups of lanes in processes and on devices, and finds the cell that makes a group fail.

A group that raises is run as halves, down to the cell that raised. If a worker dies, the others go on; the
group that it ran is run again at the end, with nothing beside it. Only a cell that ends its own process twice
has failed. A fault of the environment leaves its cells without a record; see bench.runner.faults.
"""

import gc
import os
import re
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from bench import lifeline
from bench.export import load_into
from bench.runner.claimed_groups import SECONDS, ClaimedGroups, Group
from bench.runner.faults import breaks_process, fault_of, lost_device
from bench.runner.progress import Notes
from bench.runner.sharing import Sharing, share_of_memory
from bench.runner.target import GroupCheckpoints, GroupModels, Target, by_key, codes_in
from bench.runner.widths import WIDTHS
from bench.schema import Failure
from bench.store import now
from bench.train import Paused, run_group
from strategies.core import ContractBroken, Unsuitable, python_if, shown
from suites.errors import EnvironmentFault
from suites.tracebacks import encodable, message_of, raised_at

PYTHON_IF = "one by one"
"""The kind of failure in which Python makes one decision for lanes that differ."""
DIED = "process died"
"""The kind of failure of a cell that ends its own process."""
_CRASHES, _KILLS = 2, 3
"""How often a cell may end its process, or its process be killed from outside, before it is given up."""

_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2"}
"""Signals that a process gets from the system or from a user, and not from a mistake of its own."""


@dataclass
class Ended:
    """What became of some cells."""

    keys: list[str] = field(default_factory=list)
    """Cells with a new record."""
    halved: list[str] = field(default_factory=list)
    """A line for each group that ran as halves, with the reason."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """Cells without a record, with the fault of the environment."""
    stops: bool = False
    """Whether the fault would meet all other cells too."""
    again: list[Group] = field(default_factory=list)
    """Groups to run in another process, because this one cannot use its device any more."""
    failure: Failure | None = None
    """Why it cannot."""
    memory: float = 0.0
    """The share of its GPU's memory that its process has needed at most."""

    def __iadd__(self, other: Self) -> Self:
        self.keys += other.keys
        self.halved += other.halved
        self.unfinished |= other.unfinished
        self.stops |= other.stops
        self.again += other.again
        self.failure = other.failure or self.failure
        self.memory = max(self.memory, other.memory)
        return self

    @classmethod
    def without_record(cls, groups: Sequence[Group], why: str, stops: bool = False) -> Self:
        """Return that groups met a fault of the environment."""
        return cls(unfinished={spec.key: why for group in groups for spec in group}, stops=stops)


Run = Callable[[Group, Target, str], Ended]


def run_groups(groups: ClaimedGroups, ends: Generator[Ended]) -> Generator[Ended]:
    """Yield what becomes of cells as their groups end, and of those that other commands run."""
    with closing(ends):
        for ended in ends:
            groups.release([*ended.keys, *ended.unfinished])
            yield ended
            if elsewhere := groups.finished_elsewhere():
                yield Ended(elsewhere)
    if elsewhere := groups.finished_elsewhere():
        yield Ended(elsewhere)


def in_processes(
    groups: ClaimedGroups, target: Target, device: str, jobs: int, per_device: int = 0
) -> Generator[Ended]:
    """Run groups on this machine, in several processes if there are several groups."""
    devices, jobs = _devices(device), min(number_of_processes(device, jobs, per_device), len(groups))
    sharing = Sharing(per_device)
    why, broken = "", False
    while groups and not (why or groups.fault):
        suspects: list[Group] = []
        if jobs > 1:
            ends = _in_workers(groups, target, devices, jobs, sharing)
        else:
            ends = _one_suspect(groups) if broken else _in_this_process(groups, target, devices[0])
        with closing(ends):
            for ended in ends:
                suspects += ended.again
                yield ended
                if ended.stops:  # groups under way go on
                    why = next(iter(ended.unfinished.values()))
                    suspects += groups.clear()
        broken = broken or bool(suspects)
        for suspect in suspects:
            groups.put_back([suspect])
            if not why and (group := groups.take()) is not None:
                ended = _run_alone(group, target, devices[0])
                yield ended
                if ended.stops:
                    why = next(iter(ended.unfinished.values()))
    if why or groups.fault:
        yield Ended.without_record(groups.clear(), why or str(groups.fault), stops=True)


def _one_suspect(groups: ClaimedGroups) -> Generator[Ended]:
    """Let the next group run in another process, as this one cannot use its device any more."""
    if (group := groups.next()) is not None:
        yield Ended(again=[group])


def _in_this_process(groups: ClaimedGroups, target: Target, device: str) -> Generator[Ended]:
    """Run groups here, until the device cannot be used any more."""
    while (group := groups.next()) is not None:
        ended = run_one(group, target, device)
        yield ended
        if ended.again:
            return


def _devices(device: str) -> list[str]:
    """Return the devices that ``cuda`` names, or the one of another name."""
    if torch.device(device).type == "cuda" and torch.device(device).index is None:
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [device]


def number_of_processes(device: str, jobs: int, per_device: int = 0) -> int:
    """Return the number of processes: 0 ``jobs`` means one per core, or ``per_device`` for each GPU."""
    of_gpus = torch.device(device).type == "cuda"
    return jobs or (max(per_device, 1) * len(_devices(device)) if of_gpus else os.cpu_count() or 1)


def _in_workers(
    groups: ClaimedGroups, target: Target, devices: Sequence[str], jobs: int, sharing: Sharing
) -> Generator[Ended]:
    """Run groups in processes, each bound to a device; a worker that dies does not disturb the others.

    Returns early if others run all that is left and a worker has died: they may wait for its group.
    """
    idle = [_Worker(devices[i % len(devices)], jobs) for i in range(jobs)]
    running: dict[Future[Ended], tuple[_Worker, Group]] = {}
    died = False
    with warnings.catch_warnings():
        # loky warns that it replaced a worker that grew; the user need not act.
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        try:
            while (groups and not groups.fault) or running:
                while (worker := _free(idle, running.values(), sharing)) and (group := groups.take()):
                    idle.remove(worker)
                    running[worker.submit(_run_measured, group, target)] = worker, group
                if groups and not groups.fault and not running:
                    if died:
                        return
                    groups.wait()
                # With an idle worker and groups left, others run those: they may have ended soon.
                timeout = SECONDS if groups and idle else None
                for future in wait(running, timeout, FIRST_COMPLETED).done if running else ():
                    worker, group = running.pop(future)
                    try:
                        ended = future.result()
                    except BrokenProcessPool:
                        ended = Ended(again=[group])
                    if ended.again:
                        died = True
                        worker.stop()
                    if ended.memory:
                        sharing.note(worker.device, ended.memory)
                    idle.append(worker)
                    yield ended
        finally:
            for worker in [*idle, *(worker for worker, _ in running.values())]:
                worker.stop()


def _free(
    idle: Sequence["_Worker"], running: Collection[tuple["_Worker", Group]], sharing: Sharing
) -> "_Worker | None":
    """Return an idle worker whose device may run one more group."""
    of_device = Counter(worker.device for worker, _ in running)
    return next((w for w in idle if of_device[w.device] < sharing.at_once(w.device)), None)


def _run_measured(group: Group, target: Target, device: str) -> Ended:
    """Run a group in a process of its own, and measure the memory of its device."""
    ended = run_one(group, target, device)
    if not ended.again:  # else the device cannot be asked any more
        ended.memory = share_of_memory(device)
    return ended


class _Worker:
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


def _run_alone(group: Group, target: Target, device: str) -> Ended:
    """Run a group in its own process, with no other beside it.

    If the group ends its process, its halves are run, down to the cell that does so: it has failed if it does
    so twice. A process that is killed from outside is not an outcome of the cell: it is tried a few times.
    """
    crashes = kills = 0
    while True:
        memory, worker, began = _kills_for_memory(), _Worker(device), False
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
                    ended += _run_alone(part, target, device)
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
            return _by_halves(group, target, device, failure, _run_alone)


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


def run_one(group: Group, target: Target, device: str) -> Ended:
    """Run one group and write its records; if it fails, run halves, so that only the failing cell fails.

    Halves and not single lanes, because a group may only have been too large for the device's memory. The
    width that fits is learned: later groups of such cells are cut before they begin.
    """
    if len(parts := WIDTHS.parts(group, device)) > 1:
        return _each(parts, target, device, run_one, Ended())
    try:
        failure = _attempt(group, target, device)
    except EnvironmentFault as fault:
        return Ended.without_record([group], str(fault), fault.stops)
    except _ProcessBroken as broken:
        return Ended(again=[group], failure=broken.failure)
    if failure is None:
        return Ended([spec.key for spec in group])
    WIDTHS.note(group, device, failure)
    return _by_halves(group, target, device, failure, run_one)


def _by_halves(group: Group, target: Target, device: str, failure: Failure, run: Run) -> Ended:
    """Run the halves of a failed group; a single cell gets a record with the failure."""
    if len(group) == 1 or failure.kind == ContractBroken.__name__:  # the method's fault, not a lane's
        try:
            target.write(group, [{"status": "failed", "error": failure.model_dump()}] * len(group))
        except EnvironmentFault as fault:
            return Ended.without_record([group], str(fault), fault.stops)
        return Ended([spec.key for spec in group])
    ended = Ended(halved=[f"{len(group)} lanes from {group[0].title} on: {failure.kind}: {failure.message}"])
    middle = len(group) // 2
    # Lanes for which Python decides differently must run one by one; any other group may be too large.
    alone = failure.kind == PYTHON_IF
    parts = [[spec] for spec in group] if alone else [group[:middle], group[middle:]]
    return _each(parts, target, device, run, ended)


def _each(parts: Sequence[Group], target: Target, device: str, run: Run, ended: Ended) -> Ended:
    """Run parts of a group, and add what becomes of them."""
    for part in parts:
        if ended.again:
            ended.again.append(part)
        elif ended.stops:
            ended += Ended.without_record([part], next(iter(ended.unfinished.values())))
        else:
            # A strategy whose model refers back to it, by a hook, would keep the memory of the group, and
            # then of its first half.
            gc.collect()
            ended += run(part, target, device)
    return ended


def _attempt(group: Group, target: Target, device: str) -> Failure | None:
    """Run one group and write its records; return the failure as text, which keeps no tensor alive.

    Raises:
        EnvironmentFault: The environment failed, not the cells.
        _ProcessBroken: The device can only be used by another process.
    """
    folder = target.models.run
    began, codes = now(), codes_in(group)  # before a user's file is imported
    notes = Notes(folder, [spec.key for spec in group])
    try:
        with _one_thread(device):
            records = run_group(
                group,
                device=device,
                checkpoints=GroupCheckpoints(target, by_key(group, codes)),
                checkpoint_every=target.checkpoint_every,
                models=GroupModels(target, by_key(group, codes)),
                warm_start=load_into,
                progress=notes.task,
                on_step=notes.step,
                until=target.until,
                graph=target.graph,
            )
        target.write(group, records, codes, began)
    except Paused:
        return None
    except Unsuitable as error:
        target.write(group, [{"status": "skipped", "reason": str(error)}] * len(group), codes, began)
    except (Exception, SystemExit) as error:
        if (fault := fault_of(error)) is not None:
            raise fault from error
        failure = _described(error, len(group))
        if breaks_process(error, device):
            raise _ProcessBroken(failure) from None
        return failure
    return None


class _ProcessBroken(Exception):
    """An error after which no cell can use the device in this process."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def _described(error: Exception | SystemExit, lanes: int = 1) -> Failure:
    """Return an error as text."""
    message, trace = message_of(error), encodable(traceback.format_exc())
    if lanes > 1 and message and isinstance(error, Exception) and (why := python_if(error)):
        return Failure(kind=PYTHON_IF, message=why, traceback=trace)
    frame = None if isinstance(error, ContractBroken) else raised_at(error)  # its message says where
    where = f"{shown(frame.filename)}, line {frame.lineno}" if frame else ""
    return Failure(kind=type(error).__name__, message=message, traceback=trace, where=where)


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """On a CPU, use one torch thread: processes share the cores, and rounding does not depend on jobs."""
    before = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
