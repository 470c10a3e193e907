"""Runs groups of lanes in processes and on devices; a failing group is split until the failing cell is found.

If a worker dies, by a crash or for lack of memory, only the cell that caused it fails.
"""

import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import joblib
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor
from torch import Tensor

from bench.export import load_into
from bench.plan import CellSpec, codes_of
from bench.runner.progress import note
from bench.schema import Failure, Fields
from bench.store import Maker, RunFolder, SavedModels, now
from bench.train import run_group
from strategies.core import ContractBroken, Unsuitable, python_if
from suites.errors import UserError

Group = list[CellSpec]
PYTHON_IF = "one by one"
"""The kind of failure in which Python makes one decision for lanes that differ."""


@dataclass(frozen=True)
class Target:
    """Where records and models are written, with the provenance of the records."""

    models: SavedModels
    maker: Maker
    checks: Mapping[str, str] = field(default_factory=dict)
    """The check that was made of a strategy, by name."""

    def write(
        self, group: Group, records: Sequence[Fields], codes: Sequence[str] = (), began: str = ""
    ) -> None:
        """Write the records of cells that ended together.

        Args:
            group: The cells.
            records: Their records, in the same order.
            codes: Fingerprint of the code of each; by default the current one.
            began: When they began; by default now.
        """
        codes, began = codes or _codes(group), began or now()
        made = [
            {**r, "made_by": self.maker.record(code, began) | {"check": self.checks.get(spec.strategy, "")}}
            for spec, r, code in zip(group, records, codes, strict=True)
        ]
        RunFolder(self.models.run).write_group(zip(group, made, strict=True))


@dataclass
class Ended:
    """Cells that have ended, each with a record."""

    keys: list[str] = field(default_factory=list)
    halved: list[str] = field(default_factory=list)
    """A line for each group that ran as halves, with the reason."""

    def __iadd__(self, other: Self) -> Self:
        self.keys += other.keys
        self.halved += other.halved
        return self


def run_groups(groups: list[Group], target: Target, device: str, jobs: int) -> Iterator[Ended]:
    """Run groups, in several processes if there are several groups; yield cells as they end."""
    cuda = torch.device(device).type == "cuda"
    if cuda and torch.device(device).index is None:
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    else:
        devices = [device]
    jobs = min(jobs or (len(devices) if cuda else os.cpu_count() or 1), len(groups))
    if jobs <= 1:
        for group in groups:
            yield _run_one(group, target, devices[0])
        return
    if cuda:  # one process per device: each takes its share of the groups, one after the other
        shares = [(groups[i::jobs], devices[i % len(devices)]) for i in range(jobs)]
    else:
        shares = [([group], devices[0]) for group in groups]
    while shares:
        try:
            for number, ended in _parallel(shares, target, jobs):
                shares[number] = ([], "")
                yield ended
            return
        except BrokenProcessPool:
            # A worker died, by a crash or for lack of memory. Workers take shares in order, so the
            # cause is in one of the first unfinished ones: these get their own processes.
            shares = [share for share in shares if share[0]]
            suspects, shares = shares[:jobs], shares[jobs:]
            for own, own_device in suspects:
                for group in own:
                    yield _run_alone(group, target, own_device)


def _parallel(
    shares: Sequence[tuple[list[Group], str]], target: Target, jobs: int
) -> Iterator[tuple[int, Ended]]:
    """Run shares in processes; yield the number and the outcome of each as it ends."""
    work = [joblib.delayed(_run_share)(i, own, target, device) for i, (own, device) in enumerate(shares)]
    with warnings.catch_warnings():
        # loky warns that it replaced a worker that grew; the user need not act.
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        pool = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
        yield from pool(work)


def _run_share(number: int, groups: list[Group], target: Target, device: str) -> tuple[int, Ended]:
    ended = Ended()
    for group in groups:
        ended += _run_one(group, target, device)
    return number, ended


def _run_alone(group: Group, target: Target, device: str) -> Ended:
    """Run one group in its own process; if that dies, run halves, down to the cell that causes it."""
    pool = ProcessPoolExecutor(max_workers=1)
    try:
        ended: Ended = pool.submit(_run_one, group, target, device).result()
        return ended
    except BrokenProcessPool as error:
        failure = _described(error)
    finally:
        pool.shutdown(wait=True, kill_workers=True)
    return _by_halves(group, target, device, failure, _run_alone)


def _run_one(group: Group, target: Target, device: str) -> Ended:
    """Run one group and write its records; if it fails, run halves, so that only the failing cell fails.

    Halves and not single lanes, because a group may only have been too large for the device's memory.
    """
    failure = _attempt(group, target, device)
    if failure is None:
        return Ended([spec.key for spec in group])
    return _by_halves(group, target, device, failure, _run_one)


def _by_halves(group: Group, target: Target, device: str, failure: Failure, run: Any) -> Ended:
    """Run the halves of a failed group; a single cell gets a record with the failure."""
    if len(group) == 1 or failure.kind == ContractBroken.__name__:  # the method's fault, not a lane's
        target.write(group, [{"status": "failed", "error": failure.model_dump()}] * len(group))
        return Ended([spec.key for spec in group])
    ended = Ended(halved=[f"{len(group)} lanes from {group[0].title} on: {failure.kind}: {failure.message}"])
    middle = len(group) // 2
    # Lanes for which Python decides differently must run one by one; any other group may be too large.
    alone = failure.kind == PYTHON_IF
    for part in [[spec] for spec in group] if alone else (group[:middle], group[middle:]):
        ended += run(part, target, device)
    return ended


def _attempt(group: Group, target: Target, device: str) -> Failure | None:
    """Run one group and write its records; return the failure as text, which keeps no tensor alive."""
    folder = target.models.run
    began, codes = now(), _codes(group)  # before a user's file is imported
    try:
        with _one_thread(device):
            records = run_group(
                group,
                device=device,
                checkpoints=_Checkpoints(folder, group, codes),
                models=SavedModels(folder, target.models.which, _by_key(group, codes)),
                warm_start=load_into,
                progress=lambda done, tasks: note(folder, [s.key for s in group], done, tasks),
            )
        target.write(group, records, codes, began)
    except Unsuitable as error:
        target.write(group, [{"status": "skipped", "reason": str(error)}] * len(group), codes, began)
    except Exception as error:
        return _described(error, len(group))
    return None


class _Checkpoints:
    """The checkpoints of a group that the current code made; others are ignored."""

    def __init__(self, folder: Path, group: Group, codes: Sequence[str]) -> None:
        self.run, self.codes = RunFolder(folder), _by_key(group, codes)

    def save(self, key: str, tensors: dict[str, Tensor], header: Fields) -> None:
        """Save the state of a cell."""
        self.run.save(key, tensors, header | {"code": self.codes[key]})

    def load(self, key: str) -> tuple[dict[str, Tensor], Fields] | None:
        """Return the state of a cell, None if there is none by this code."""
        found = self.run.load(key)
        return found if found and found[1]["code"] == self.codes[key] else None


def _by_key(group: Group, codes: Sequence[str]) -> dict[str, str]:
    return {spec.key: code for spec, code in zip(group, codes, strict=True)}


def _codes(group: Group) -> list[str]:
    """Return the fingerprint of each cell's code; empty if a file is missing, and the cell cannot run."""
    try:
        found = codes_of(group)
        return [found[spec.key].fingerprint for spec in group]
    except UserError:
        return [""] * len(group)


def _described(error: Exception, lanes: int = 1) -> Failure:
    lines, kind = str(error).splitlines() or [""], type(error).__name__
    if lanes > 1 and (why := python_if(error)):
        lines, kind = [why], PYTHON_IF
    return Failure(kind=kind, message=lines[0], traceback=traceback.format_exc())


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
