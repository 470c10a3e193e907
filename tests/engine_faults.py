"""Injects faults into runs on Dask and counts what they lose or change: ``python -m tests.engine_faults``.

A scheduler, two workers and a command run 200 short cells. Meanwhile workers are killed or stopped for some
seconds, the scheduler and the command are killed and started again, a worker of another version joins, and
the folder of the run is full or read-only, until ``--faults`` were injected. Then records are compared with
those of an undisturbed run on one machine. ``--write`` adds the figures to those of docs/reliability.md. It
needs root, to mount the folder.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from bench.schema import differing_fields
from bench.store import RunReader
from tests.dask_cluster import DaskCluster
from tests.faults import RECORD, ROOT, Tally

CELLS = (
    "digits",
    "-s",
    "finetune",
    "-s",
    "er",
    "--seeds",
    "100",
    "--lanes",
    "1",
    "--set",
    "rows_per_class=10",
    "--checkpoint-every",
    "0",
)
KINDS = {
    "worker killed": 20,
    "worker stopped for seconds": 12,
    "command killed": 6,
    "scheduler killed": 2,
    "worker of another version": 3,
    "folder read-only": 2,
    "folder full": 2,
}
"""Faults, and how often each is chosen."""
ODD = """import importlib.metadata as packages
version = packages.version
packages.version = lambda name: "0.0.1" if name == "lethe-bench" else version(name)
"""
"""What Python runs at the start of a worker that has another version of Lethe."""
_MOST_S, _MOST_WAIT_S = 1800, 60


class Cluster(DaskCluster):
    """A scheduler, two workers and the command that uses them, each a process."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(stack, workers=2, log=stack.enter_context((folder.parent.parent / "log").open("ab")))
        self.folder = folder
        self.command = self.new_command()

    def new_command(self) -> subprocess.Popen[bytes]:
        """Start the command; a second one continues the first."""
        return self.start("lethe", "run", *CELLS, "--on", f"dask://{self.address}", "--out", str(self.folder))

    def inject(self, kind: str, draw: random.Random) -> bool:
        """Inject one fault; return whether it happened: it may be that the run ends before."""
        number = draw.randrange(2)
        if kind == "worker killed":
            self.workers[number].kill()
            self.workers[number] = self.new_worker()
        elif kind == "worker stopped for seconds":
            self.workers[number].send_signal(signal.SIGSTOP)
            time.sleep(draw.uniform(0.5, 4))
            self.workers[number].send_signal(signal.SIGCONT)
        elif kind == "command killed":
            self.command.kill()
            self.command.wait()
            self.command = self.new_command()
        elif kind == "worker of another version":
            return self._another_version()
        elif kind.startswith("folder "):
            return self._no_writing(full=kind == "folder full")
        else:
            for process in (self.scheduler, *self.workers):  # workers end with their scheduler
                process.kill()
                process.wait()
            self.scheduler, self.workers = self.new_scheduler(), [self.new_worker() for _ in range(2)]
        return True

    def _another_version(self) -> bool:
        """Add a worker of another version until it has refused a group."""
        odd = self.folder.parent.parent / "odd"
        odd.mkdir(exist_ok=True)
        (odd / "sitecustomize.py").write_text(ODD)
        worker = self.new_worker(PYTHONPATH=f"{odd}{os.pathsep}{ROOT}")
        said = f"worker {worker.pid} on {socket.gethostname()} has lethe-bench 0.0.1"
        refused = self._until(lambda: said in self.said())
        worker.kill()
        return refused

    def _no_writing(self, full: bool) -> bool:
        """Let the folder be full or read-only until the command has stopped; then give the command again."""
        disk = self.folder.parent
        if full:
            with suppress(OSError), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(2**12))
                    filler.flush()
        elif not self._until(lambda: mount("-o", "remount,ro", str(disk))):  # not while a file is written
            return False
        stopped = self._until(lambda: self.command.poll() == 1)
        (disk / "filler").unlink() if full else mount("-o", "remount,rw", str(disk))
        if self.command.poll() not in (None, 0):
            self.command = self.new_command()
        return stopped

    def said(self) -> str:
        """Return the output of all processes."""
        return (self.folder.parent.parent / "log").read_text()

    def _until(self, happened: Callable[[], bool]) -> bool:
        """Wait until something happened, or the command ended; return whether it happened."""
        deadline = time.monotonic() + _MOST_WAIT_S
        while not (done := happened()) and self.command.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return done or happened()


def mount(*words: str) -> bool:
    """Call mount; return whether it succeeded."""
    return subprocess.run(["mount", *words], capture_output=True).returncode == 0


def disk_of_its_own(place: Path, stack: ExitStack) -> Path:
    """Return a folder on a small file system of its own, so that it can be full or read-only.

    Raises:
        PermissionError: This user may not mount one.
    """
    disk = place / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=64m", "lethe-faults", str(disk)):
        raise PermissionError("mounting a small file system needs root: python -m tests.engine_faults")
    stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    return disk


def outcomes(folder: Path) -> dict[str, dict[str, object]]:
    """Return the records of a run, by key."""
    return {record["key"]: record for record in RunReader(folder).records()}


def n_records(folder: Path) -> int:
    """Return the number of lines of records, of which a cell should have one."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / "cells").glob("*.jsonl"))


def disturbed(place: Path, most: int, draw: random.Random, seconds: float) -> tuple[Counter[str], int, Path]:
    """Run all cells while faults are injected; return the faults, the command's exit code and the folder."""
    injected, began = Counter[str](), time.monotonic()
    with ExitStack() as stack:
        cluster = Cluster(disk_of_its_own(place, stack) / "run", stack)
        folder = cluster.folder
        last = 0
        while cluster.command.poll() is None and time.monotonic() - began < seconds:
            time.sleep(0.1)
            there = n_records(folder)
            # Some cells end between two faults, or the run would never end.
            if sum(injected.values()) < most and there >= last + draw.randint(1, 3):
                (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
                injected[kind] += cluster.inject(kind, draw)
                print(f"{there} records: {kind}", flush=True)
                last = n_records(folder)
        code = cluster.command.poll()
        shutil.copytree(folder, place / "run")
    return injected, -1 if code is None else code, place / "run"


def main(words: list[str] | None = None) -> int:
    """Inject faults and print a line for each kind; return 1 where something was lost or changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=100, help="How many.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of kinds and moments.")
    parser.add_argument("--write", action="store_true", help="Write the record.")
    asked = parser.parse_args(words)
    draw, left, tallies = random.Random(asked.seed), asked.faults, {kind: Tally() for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        alone = Path(scratch) / "alone"
        command = [sys.executable, "-m", "lethe", "run", *CELLS, "--out", str(alone)]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
        expected = outcomes(alone)
        while left > 0:
            place = Path(scratch) / str(left)
            place.mkdir()
            injected, code, folder = disturbed(place, left, draw, _MOST_S)
            found = outcomes(folder)
            lost = expected.keys() - found.keys()
            changed = [key for key in found if differing_fields(found[key], expected[key])]
            twice = n_records(folder) - len(found)
            ended = f"{len(lost)} lost, {len(changed)} changed, {twice} twice"
            print(f"{dict(injected)}: exit code {code}, {ended}", flush=True)
            for kind, n in injected.items():
                tallies[kind].injected += n
            if lost or changed or twice or code:  # which fault did it is not known: the first kind counts
                tallies[next(iter(injected), "command killed")].note(
                    lost or code, changed or twice, str(place)
                )
                print((place / "log").read_text()[-2000:])
            if not injected:
                break
            left -= sum(injected.values())
    if asked.write:
        record = json.loads(RECORD.read_text())
        for kind, tally in tallies.items():
            record["faults"][f"on Dask: {kind}"] = {k: v for k, v in asdict(tally).items() if k != "first"}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(tally.lost or tally.changed for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
