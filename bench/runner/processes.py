"""Runs groups of lanes in processes and on devices.

If a worker dies, the others go on; the group that it ran is run again at the end, with nothing beside it.
Only a cell that ends its own process twice has failed.
"""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing

import torch
from joblib.externals.loky.process_executor import BrokenProcessPool

from bench.runner.claimed_groups import SECONDS, ClaimedGroups, Group
from bench.runner.one_group import run_one
from bench.runner.run_outcome import Ended
from bench.runner.sharing import Sharing, share_of_memory
from bench.runner.suspects import run_alone
from bench.runner.target import Target
from bench.runner.worker import Worker


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
                    why = ended.stopped_by
                    suspects += groups.clear()
        broken = broken or bool(suspects)
        for suspect in suspects:
            groups.put_back([suspect])
            if not why and (group := groups.take()) is not None:
                ended = run_alone(group, target, devices[0])
                yield ended
                why = ended.stopped_by
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
    idle = [Worker(devices[i % len(devices)], jobs) for i in range(jobs)]
    running: dict[Future[Ended], tuple[Worker, Group]] = {}
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
    idle: Sequence["Worker"], running: Collection[tuple["Worker", Group]], sharing: Sharing
) -> "Worker | None":
    """Return an idle worker whose device may run one more group."""
    of_device = Counter(worker.device for worker, _ in running)
    return next((w for w in idle if of_device[w.device] < sharing.at_once(w.device)), None)


def _run_measured(group: Group, target: Target, device: str) -> Ended:
    """Run a group in a process of its own, and measure the memory of its device."""
    ended = run_one(group, target, device)
    if not ended.again:  # else the device cannot be asked any more
        ended.memory = share_of_memory(device)
    return ended
