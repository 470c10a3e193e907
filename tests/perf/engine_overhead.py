"""Times short cells on Dask, as processes of this machine and by joblib alone, for docs/clusters.md.

    python -m tests.perf.engine_overhead results/reference/engine-overhead.json [CELLS TURNS]

The same cells of about 0.2 s, one to a group, two at a time: on a Dask scheduler with two workers, by
``--on local --jobs 2``, and by joblib, which calls the training loop and writes nothing. The ways take turns,
every second time in reverse order, so that all have the same load. A cell's time is that between the end of
the tenth part of the cells and of the last one, divided by their number: starting is not in it.
Processor time is that of all processes, also of the scheduler, and depends little on what else runs.
"""

import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from bench.plan import CellSpec, Request
from bench.runner import Options, carry_out
from bench.store import RunReader, where, write_json
from bench.train import run_group
from tests.dask_cluster import DaskCluster
from tests.faults import descendants

SETTINGS = {"rows_per_class": "70"}
AT_ONCE = 2
GOAL = 1.1
KINDS = ("wall", "processor")
Way = Callable[[Request, Path], Sequence[float]]


class Clock:
    """Samples the processor time of this process and its descendants, as a context."""

    def __enter__(self) -> "Clock":
        self.samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.2):
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # loky replaces workers that grow
            spent = sum(map(_processor_time, [os.getpid(), *descendants(os.getpid())]))
            self.samples.append((time.time(), spent + ended.ru_utime + ended.ru_stime))

    def between(self, first: float, last: float) -> float:
        """Return the processor time between two moments."""
        begun, ended = np.interp([first, last], *np.array(self.samples).T)
        return float(ended - begun)


def _processor_time(process: int) -> float:
    try:
        of = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(of[11]) + int(of[12])) / os.sysconf("SC_CLK_TCK")


def by_joblib(asked: Request, folder: Path) -> list[float]:
    """Train by joblib; return when each cell ended."""
    pool = Parallel(n_jobs=AT_ONCE, return_as="generator_unordered")
    return [time.time() for _ in pool(delayed(_trained)(spec) for spec in asked.cells())]


def _trained(spec: CellSpec) -> None:
    run_group([spec])


def run_on(address: str) -> Way:
    """Return a way that runs cells on an engine; it returns when each record was written."""

    def way(asked: Request, folder: Path) -> list[float]:
        done = carry_out([asked], folder, Options(jobs=AT_ONCE, lanes=1, quiet=True, on=address), "")
        assert set(done.counts) == {"done"}, done
        return [datetime.fromisoformat(r["written"]).timestamp() for r in RunReader(folder).records()]

    return way


def measured(cells: int, turns: int, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of a cell for each way and kind, in each turn."""
    asked = Request("digits", ("finetune",), seeds=tuple(range(cells)), settings=SETTINGS)
    with ExitStack() as stack:
        cluster = DaskCluster(stack, workers=AT_ONCE)
        ways = {"joblib": by_joblib, "local": run_on("local"), "dask": run_on(f"dask://{cluster.address}")}
        found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in ways}
        for turn in range(turns):
            for name in [*ways][:: -1 if turn % 2 else 1]:
                with Clock() as clock:
                    ends = ways[name](asked, scratch / f"{name}-{turn}")
                first, *_, last = late = sorted(ends)[cells // 10 :]
                for kind, seconds in zip(KINDS, (last - first, clock.between(first, last)), strict=True):
                    found[name][kind].append(1e3 * seconds / (len(late) - 1))
                spent = ", ".join(f"{found[name][kind][-1]:.1f} ms {kind}" for kind in KINDS)
                print(f"  {name:<6} {spent} time a cell, load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def main(target: Path, cells: int = 250, turns: int = 4) -> None:
    """Measure and write the record."""
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(cells, turns, Path(scratch))
    made = {"schema": 1, "command": f"python -m tests.perf.engine_overhead {target.name} {cells} {turns}"}
    made |= {**where("cpu"), "at": time.strftime("%Y-%m-%d", time.gmtime()), "cells": cells, "turns": turns}
    made |= {"at_once": AT_ONCE, "settings": SETTINGS, "load": round(os.getloadavg()[1], 1)}
    middle = {n: {k: round(statistics.mean(v), 1) for k, v in of.items()} for n, of in found.items()}
    write_json(target, made | {"milliseconds": middle})
    for other in ("local", "joblib"):
        of = ", ".join(f"{kind} {middle['dask'][kind] / middle[other][kind]:.2f}" for kind in KINDS)
        print(f"a cell on Dask, times that of {other}: {of} (goal: at most {GOAL})")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
