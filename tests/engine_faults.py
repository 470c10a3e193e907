"""Injects faults into runs on Dask and counts what they lose or change: ``python -m tests.engine_faults``.

A scheduler, two workers and a command run 200 short cells. Meanwhile workers are killed or stopped for some
seconds, and the scheduler and the command are killed and started again, until ``--faults`` were injected.
Then records are compared with those of an undisturbed run on one machine. ``--write`` adds the figures to
the record that docs/reliability.md shows.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
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
)
KINDS = {"worker killed": 10, "worker stopped for seconds": 6, "command killed": 3, "scheduler killed": 1}
"""Faults, and how often each is chosen."""
_MOST_S = 1800


class Cluster(DaskCluster):
    """A scheduler, two workers and the command that uses them, each a process."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(stack, workers=2, log=stack.enter_context((folder.parent / "log").open("ab")))
        self.folder = folder
        self.command = self.new_command()

    def new_command(self) -> subprocess.Popen[bytes]:
        """Start the command; a second one continues the first."""
        return self.start("lethe", "run", *CELLS, "--on", f"dask://{self.address}", "--out", str(self.folder))

    def inject(self, kind: str, draw: random.Random) -> None:
        """Inject one fault."""
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
        else:
            for process in (self.scheduler, *self.workers):  # workers end with their scheduler
                process.kill()
                process.wait()
            self.scheduler, self.workers = self.new_scheduler(), [self.new_worker() for _ in range(2)]


def outcomes(folder: Path) -> dict[str, dict[str, object]]:
    """Return the records of a run, by key."""
    return {record["key"]: record for record in RunReader(folder).records()}


def n_records(folder: Path) -> int:
    """Return the number of lines of records, of which a cell should have one."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / "cells").glob("*.jsonl"))


def disturbed(place: Path, most: int, draw: random.Random, seconds: float) -> tuple[Counter[str], int, Path]:
    """Run all cells while faults are injected; return the faults, the command's exit code and the folder."""
    folder, injected, began = place / "run", Counter[str](), time.monotonic()
    with ExitStack() as stack:
        cluster = Cluster(folder, stack)
        last = 0
        while cluster.command.poll() is None and time.monotonic() - began < seconds:
            time.sleep(0.1)
            there = n_records(folder)
            # Some cells end between two faults, or the run would never end.
            if sum(injected.values()) < most and there >= last + draw.randint(1, 3):
                (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
                cluster.inject(kind, draw)
                injected[kind] += 1
                last = n_records(folder)
        code = cluster.command.poll()
    return injected, -1 if code is None else code, folder


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
            print(
                f"{dict(injected)}: exit code {code}, {len(lost)} lost, {len(changed)} changed, {twice} twice"
            )
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
