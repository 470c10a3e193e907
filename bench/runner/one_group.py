"""Runs one group of lanes, and finds the cell that makes it fail.

A group that raises is run as halves, down to the cell that raised. A fault of the environment leaves its
cells without a record; see bench.runner.faults.
"""

import gc
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from bench.export import load_into
from bench.runner.claimed_groups import Group
from bench.runner.faults import breaks_process, fault_of
from bench.runner.progress import Notes
from bench.runner.run_outcome import Ended
from bench.runner.target import GroupCheckpoints, GroupModels, Target, codes_in
from bench.runner.widths import WIDTHS
from bench.schema import Failure
from bench.store import now
from bench.train import Paused, run_group
from strategies.core import ContractBroken, Unsuitable, python_if, shown
from suites.errors import EnvironmentFault
from suites.tracebacks import encodable, message_of, raised_at

PYTHON_IF = "one by one"
"""The kind of failure in which Python makes one decision for lanes that differ."""
Run = Callable[[Group, Target, str], Ended]


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
    return by_halves(group, target, device, failure, run_one)


def by_halves(group: Group, target: Target, device: str, failure: Failure, run: Run) -> Ended:
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
            ended += Ended.without_record([part], ended.stopped_by)
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
                checkpoints=GroupCheckpoints(target, codes),
                checkpoint_every=target.checkpoint_every,
                models=GroupModels(target, codes),
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
