"""A large synthetic run, 10 suites x 50 strategies x 20 seeds, to measure loading and reporting.

``python -m tests.many_cells FOLDER [SUITES STRATEGIES SEEDS]`` writes one and measures each stage; 50 50
40 are 100,000 cells.
"""

import itertools
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.plan import CellSpec
from bench.report import Layout, make_report
from bench.report.across_suites import across
from bench.report.layout import DEFAULT
from bench.report.tables import in_markdown, tables
from bench.results import Frames, load
from bench.store import RunFolder, RunReader, pack_run
from lethe.testing import timings

N_TASKS, ROWS, LANES = 5, 200, 64
_TRAINING = {"epochs": 5, "batch": 16, "optimiser": "adam", "lr": 0.001, "validation": 0.1}


def write_many(folder: Path, suites: int = 10, strategies: int = 50, seeds: int = 20) -> Path:
    """Write a run of made-up cells with effects of the strategy, of the suite and of the seed."""
    specs = []
    for suite, strategy, seed in itertools.product(range(suites), range(strategies), range(seeds)):
        name, sizes = f"method-{strategy}", {"hidden": 100}
        of = f"suite-{suite}", 1, "class", name, {"lam": 1.0}, "mlp", sizes, _TRAINING, seed, name
        specs.append(CellSpec(*of))
    run = RunFolder(folder)
    run.open(specs, {}, {}, f"lethe run many.toml --seeds {seeds}", "cpu")
    for first in range(0, len(specs), LANES):
        run.write_group((spec, _record(spec)) for spec in specs[first : first + LANES])
    return folder


def _record(spec: CellSpec) -> dict[str, Any]:
    suite, strategy = (int(name.split("-")[1]) for name in (spec.suite, spec.strategy))
    stream = np.random.default_rng([suite, spec.seed])
    own = np.random.default_rng([suite, spec.seed, strategy])
    level = 0.9 - 0.02 * suite - 0.005 * strategy + stream.normal(0, 0.01)
    i, j = np.indices((N_TASKS + 1, N_TASKS))
    share = np.where(i > j, level - 0.03 * (i - j - 1), 0.2)
    counts = {}
    for split, rows in (("test", ROWS), ("validation", ROWS // 4)):
        right, total = own.binomial(rows, np.clip(share, 0, 1)), np.full(share.shape, rows)
        counts[split] = {"right": right.tolist(), "total": total.tolist()}
    speed = timings(samples_per_second=50_000.0 - 500 * strategy)
    resources = {"parameters": 16802, "memory_samples": 10 * strategy, "memory_bytes": 1000 * strategy}
    return {"status": "done", "curves": [], "loss": own.random(N_TASKS).tolist(), "timings": speed,
            "resources": resources, **counts}  # fmt: skip


def stages(folder: Path, *size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the stages to measure: write a run, list, pack, read, tabulate and report it."""
    frames: list[Frames] = []
    yield "write", lambda: write_many(folder, *size)
    yield "list", lambda: RunReader(folder).statuses()
    yield "pack", lambda: pack_run(folder)
    yield "load", lambda: frames.append(load(folder))
    yield "tables", lambda: in_markdown(tables(frames[0], None, Layout(marks=True, origin=True)))
    yield "across", lambda: across(frames[0], DEFAULT)
    yield "report", lambda: make_report(frames[0], folder / "report")


def measure(folder: Path, *size: int) -> dict[str, tuple[float, float]]:
    """Return the seconds and the peak memory so far in GiB of each stage."""
    found = {}
    for name, act in stages(folder, *size):
        began = time.perf_counter()
        act()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found[name] = (time.perf_counter() - began, peak)
        print(f"{name:<8} {found[name][0]:7.1f} s, peak {peak:.2f} GiB", flush=True)
    return found


if __name__ == "__main__":
    measure(Path(sys.argv[1]), *map(int, sys.argv[2:]))
