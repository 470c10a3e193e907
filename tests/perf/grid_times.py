"""Times a grid as lanes against its settings one by one, for the record that docs/guides/grids.md shows.

    python -m tests.perf.grid_times results/reference/grid-times.json [SAMPLE]

The grid, 5 x 5 settings of er and 5 seeds on digits, is one command. The time of its 125 cells one by one in
one process is scaled from that of 5 and of 1, and as processes of their own, two at a time, from that of a
sample (20, or SAMPLE). All are timed from the start of Python to the end of the command: wall time is what a
user waits for, processor time does not depend on what else the machine does.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.plan import CellSpec, Request
from bench.schema import differing_fields
from bench.store import RunReader, where, write_json

GRID = "er[balance=sum,lam=0.1|0.3|1|3|10,lr=0.0003|0.001|0.003|0.01|0.03]"
SEEDS, AT_ONCE = 5, 2
COMMON = ("--scenario", "class", "--no-check")
Times = dict[str, float]


def lethe(*words: str) -> None:
    """Run ``lethe run digits`` as a user does."""
    full = [sys.executable, "-m", "bench", "run", "digits", *COMMON, *words]
    subprocess.run(full, check=True, capture_output=True, text=True)


def measured(what: str, act: Callable[[], None]) -> Times:
    """Return the wall time and the processor time, of all processes, of a function, and print them."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    act()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"wall": wall, "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    print(what, {kind: round(seconds, 1) for kind, seconds in found.items()}, flush=True)
    return found


def as_lanes(folder: Path) -> None:
    """Run the grid."""
    lethe("-s", GRID, "--seeds", str(SEEDS), "--jobs", str(AT_ONCE), "--out", str(folder))


def one_process(cells: list[CellSpec], folder: Path) -> None:
    """Run cells of one seed one by one in one process."""
    settings = [word for name in dict.fromkeys(c.identity for c in cells) for word in ("-s", name)]
    seeds = ",".join(f"{seed}-{seed}" for seed in sorted({cell.seed for cell in cells}))
    lethe(*settings, "--seeds", seeds, "--lanes", "1", "--jobs", "1", "--out", str(folder))


def processes(cells: list[CellSpec], folder: Path) -> None:
    """Run every cell in a process of its own, two at a time."""

    def one(cell: CellSpec) -> None:
        out = str(folder / cell.key)
        lethe("-s", cell.identity, "--seeds", f"{cell.seed}-{cell.seed}", "--jobs", "1", "--out", out)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, cells))


def check_equal(grid: Path, folder: Path, cells: list[CellSpec]) -> None:
    """Assert that single runs have the grid's numbers."""
    ours = RunReader(grid).each(lambda record: record)
    for cell in cells:
        [theirs] = RunReader(folder / cell.key).records()
        assert differing_fields(ours[cell.key], theirs) == [], cell.title


def main(target: Path, sample: int = 20) -> None:
    """Measure all ways and write the record."""
    cells = Request("digits", (GRID,), seeds=tuple(range(SEEDS))).cells()
    n = len(cells)
    few = [cells[i * n // sample] for i in range(sample)]
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        lethe("-s", "finetune", "--seeds", "1", "--out", str(here / "warm"))  # compiles, converts the data
        grid = measured("the grid", lambda: as_lanes(here / "grid"))
        one = measured("one cell", lambda: one_process(cells[:1], here / "one"))
        alike = [cell for cell in cells if cell.identity == cells[0].identity]
        many = measured(f"{len(alike)} cells one by one", lambda: one_process(alike, here / "many"))
        alone = measured(f"{sample} processes", lambda: processes(few, here / "alone"))
        check_equal(here / "grid", here / "alone", few)
    each = {kind: (many[kind] - one[kind]) / (len(alike) - 1) for kind in one}
    found = {
        "lanes": grid,
        "one process": {kind: one[kind] + (n - 1) * each[kind] for kind in one},
        "separate processes": {kind: alone[kind] * n / sample for kind in alone},
    }
    made = {"schema": 1, "command": f"python -m tests.perf.grid_times {target.name} {sample}", **where("cpu")}
    made |= {"at": time.strftime("%Y-%m-%d", time.gmtime()), "grid": GRID, "cells": n, "seeds": SEEDS}
    made |= {"sample": sample, "sample_one_process": len(alike), "at_once": AT_ONCE}
    made |= {"load": round(os.getloadavg()[1], 1)}
    ways = {way: {kind: round(seconds, 1) for kind, seconds in of.items()} for way, of in found.items()}
    write_json(target, made | {"seconds": ways})
    print(json.dumps(ways, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
