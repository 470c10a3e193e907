"""Large synthetic runs: what a plan of many cells costs beside their training.

``python -m tests.many_cells FOLDER [SUITES STRATEGIES SEEDS]`` resolves a plan, submits its groups to a Dask
scheduler with two workers, which write made-up records, then lists, packs, loads and reports the run, and
measures each stage; 10 50 20 are 10,000 cells, 50 50 40 are 100,000. ``--write`` adds the figures to the
record that docs/clusters.md shows.
"""

import argparse
import itertools
import os
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.plan import CellSpec, Request, ResolvedPlan
from bench.report import Layout, make_report
from bench.report.across_suites import across
from bench.report.layout import DEFAULT
from bench.report.tables import in_markdown, tables
from bench.results import Frames, load
from bench.runner import Options, carry_out_plan, on_engine, resolve_for
from bench.runner.run_outcome import Ended
from bench.runner.there import Answer, Asked
from bench.store import RunFolder, RunReader, pack_run, where, write_json
from lethe.testing import TOY, timings
from suites import REGISTRY
from tests.dask_cluster import ROOT, DaskCluster

RECORD = ROOT / "results" / "reference" / "many-cells.json"
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
    suite, strategy = (zlib.crc32(name.encode()) % 50 for name in (spec.suite, spec.identity))
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


def requests_of(suites: int, strategies: int, seeds: int) -> list[Request]:
    """Return requests for a grid of settings on made-up suites."""
    names = [f"suite-{n}" for n in range(suites)]
    for name in names:
        if name not in REGISTRY.entered:
            REGISTRY.enter(name, replace(TOY, name=name), __name__)
    grid = f"er[lr={'|'.join(str(n / 1000) for n in range(1, strategies + 1))}]"
    return [Request(name, (grid,), seeds=tuple(range(seeds))) for name in names]


def made_up_there(asked: Asked) -> Answer:
    """Write made-up records of a group, on a worker."""
    asked.target.write(asked.group, [_record(spec) for spec in asked.group], asked.codes)
    return Answer(Ended([spec.key for spec in asked.group]))


def stages(folder: Path, *size: int, on: str = "") -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the stages to measure: a run is written, perhaps by an engine, listed, packed, read, reported."""
    frames: list[Frames] = []
    if on:
        plans: list[ResolvedPlan] = []
        options = Options(on=on, lanes=LANES, quiet=True)

        def submit() -> None:
            with patch.object(on_engine, "run_there", made_up_there):
                done = carry_out_plan(plans[0], folder, options, "lethe run many.toml")
            assert set(done.counts) == {"done"}, done

        yield "resolve", lambda: plans.append(resolve_for(requests_of(*size), folder, options))
        yield "submit", submit
    else:
        yield "write", lambda: write_many(folder, *size)
    yield "list", lambda: RunReader(folder).statuses()
    yield "pack", lambda: pack_run(folder)
    yield "load", lambda: frames.append(load(folder))
    yield "tables", lambda: in_markdown(tables(frames[0], None, Layout(marks=True, origin=True)))
    yield "across", lambda: across(frames[0], DEFAULT)
    yield "report", lambda: make_report(frames[0], folder / "report")


def measure(folder: Path, *size: int, on: str = "") -> dict[str, dict[str, float]]:
    """Return the seconds, those of this process's processor, and the peak memory so far in GiB, by stage."""
    found = {}
    for name, act in stages(folder, *size, on=on):
        began, spent = time.perf_counter(), time.process_time()
        act()
        found[name] = {
            "seconds": round(time.perf_counter() - began, 1),
            "processor": round(time.process_time() - spent, 1),
            "peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }
        print(name, found[name], flush=True)
    return found


def main(words: list[str]) -> None:
    """Measure a run of many cells on Dask."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int, nargs="*", default=[10, 50, 20])
    parser.add_argument("--write", action="store_true", help="Write the record.")
    asked = parser.parse_args(words)
    with ExitStack() as stack:
        cluster = DaskCluster(stack, workers=2)
        found = measure(asked.folder, *asked.size, on=f"dask://{cluster.address}")
        status = Path(f"/proc/{cluster.scheduler.pid}/status").read_text(encoding="utf-8")
    of_scheduler = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    n = int(np.prod(asked.size))
    seconds, peak = sum(of["seconds"] for of in found.values()), max(of["peak"] for of in found.values())
    print(f"{n:,} cells: {seconds:.0f} s, peak {peak:.2f} GiB here, {of_scheduler:.2f} GiB in the scheduler")
    if asked.write:
        made = {
            "schema": 1,
            "command": f"python -m tests.many_cells FOLDER {' '.join(words[1:])}",
            **where("cpu"),
        }
        made |= {"at": time.strftime("%Y-%m-%d", time.gmtime()), "load": round(os.getloadavg()[1], 1)}
        made |= {
            "cells": n,
            "groups": asked.size[0] * -(-asked.size[1] * asked.size[2] // LANES),
            "scheduler": round(of_scheduler, 2),
        }
        write_json(RECORD, made | {"stages": found})


if __name__ == "__main__":
    from tests.many_cells import main as main_by_name  # workers import the function that they call

    main_by_name(sys.argv[1:])
