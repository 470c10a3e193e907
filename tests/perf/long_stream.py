"""Measures a stream of 1,000 tasks, for the record that docs/guides/long-streams.md shows.

    python -m tests.perf.long_stream results/reference/long-stream.json

The suite is made up: the means of four classes move a little from task to task. Memory is that of the
process; times are processor time, which does not depend on what else the machine does.
"""

import json
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lethe
from bench.plan import CellSpec, one_cell
from bench.schema import differing_fields
from bench.store import RunFolder, where, write_json
from bench.train import Paused, make_lanes, run_group
from bench.train.loop import score
from suites.scenarios import ByDomain

CLASSES, FEATURES, LEARNED, TESTED = 4, 16, 24, 8
SIZES, TASKS = (250, 500, 1000), 1000
CHOICES = ("all", "every=100", "diagonal", "last")


def data(n_tasks: int) -> lethe.Data:
    """Return tasks of 24 training and 8 test rows each, as domains."""
    random = torch.Generator().manual_seed(0)
    mean_TCF = (0.3 * torch.randn(n_tasks, CLASSES, FEATURES, generator=random)).cumsum(0)
    parts = []
    for rows in (LEARNED, TESTED):
        y_TR = (torch.arange(rows) % CLASSES).expand(n_tasks, rows)
        x_TRF = mean_TCF.gather(1, y_TR.unsqueeze(2).expand(-1, -1, FEATURES))
        x_TRF = x_TRF + torch.randn(x_TRF.shape, generator=random)
        task_TR = torch.arange(n_tasks).unsqueeze(1).expand_as(y_TR)
        parts.append((x_TRF.reshape(-1, 1, 1, FEATURES), y_TR.flatten(), task_TR.flatten()))
    x_N, y_N, domain_N = (torch.cat(of) for of in zip(*parts, strict=True))
    n_train, names = n_tasks * LEARNED, tuple(map(str, range(n_tasks)))
    return lethe.Data(
        name=f"long-{n_tasks}",
        x_N=x_N.contiguous(),
        y_N=y_N,
        n_train=n_train,
        class_names=names[:CLASSES],
        scale=1.0,
        fingerprint=lethe.fingerprint(x_N, y_N, n_train),
        domain_N=domain_N,
        domain_names=names,
    )


def suite(n_tasks: int) -> lethe.Suite:
    """Return a stream of so many tasks."""
    return lethe.Suite(
        name=f"long-{n_tasks}",
        version=1,
        summary=f"four classes whose means move, {n_tasks} tasks",
        source="made up",
        load=partial(data, n_tasks),
        split=ByDomain(order="fixed"),
        scenarios=("domain",),
        training=lethe.Training(epochs=1, batch=8, lr=0.1),
    )


T40, T250, T500, T1000 = map(suite, (40, *SIZES))


def cell(n_tasks: int, choice: str, strategy: str = "er[buffer=100]") -> CellSpec:
    """Return a cell of the stream of so many tasks."""
    settings = {"eval": choice, "hidden": 32}
    return one_cell(f"{Path(__file__)}:T{n_tasks}", strategy, "domain", settings=settings)


def memory() -> float:
    """Return the resident memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 2**10
    return float("nan")


def opened(folder: Path, spec: CellSpec) -> RunFolder:
    """Return a new run of one cell."""
    run = RunFolder(folder)
    run.open([spec], {}, {spec.suite: "made up"}, "python -m tests.perf.long_stream", "cpu")
    return run


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def streamed(n_tasks: int, folder: Path, stop: int, early: int) -> dict[str, Any]:
    """Learn a stream, stop it twice, after so many tasks, and continue; return memory, sizes and times."""
    spec = cell(n_tasks, "diagonal")
    run, found = opened(folder, spec), dict[str, Any](stopped_after=stop, memory={}, checkpoint_bytes={})

    def watched(done: int, _: int) -> None:
        if done in (early, stop, n_tasks):
            found["memory"].setdefault(str(done), round(memory(), 1))

    for until in (early, stop):
        with suppress(Paused):
            run_group([spec], checkpoints=run.checkpoints, progress=watched, until=until)
        found["checkpoint_bytes"][str(until)] = size_of(folder / "checkpoints")
    start, first = time.process_time(), list[float]()

    def resumed(done: int, n: int) -> None:
        first.append(time.process_time())
        watched(done, n)

    (record,) = run_group([spec], checkpoints=run.checkpoints, progress=resumed)
    found["tasks_after_resume"] = len(first) - 1
    found["resume_seconds"] = round(first[0] - start, 2)
    run.write_group([(spec, record)])
    found["record_bytes"] = len(json.dumps({k: v for k, v in record.items() if k != "classes"}))
    found["classes_bytes"] = len(json.dumps(record["classes"]))
    found["record"] = record
    return found


def scoring(n_tasks: int, choice: str) -> float:
    """Return the processor time of scoring all rows of R that a choice measures."""
    state = make_lanes([cell(n_tasks, choice)])
    score(state, n_tasks)  # the first one is slower
    start = time.process_time()
    for row in range(n_tasks + 1):
        score(state, row)
    return time.process_time() - start


def exponent(seconds: dict[int, float]) -> float:
    """Return the slope of log seconds over log tasks."""
    slope, _ = np.polyfit(np.log([*seconds]), np.log([*seconds.values()]), 1)
    return float(slope)


def main(path: Path) -> None:
    """Measure, print and write the record."""
    torch.set_num_threads(1)
    about = {"schema": 1, "command": "python -m tests.perf.long_stream", **where("cpu")}
    with tempfile.TemporaryDirectory() as scratch:
        found = streamed(TASKS, Path(scratch) / "run", TASKS * 9 // 10, TASKS // 10)
        record = found.pop("record")
        start = time.process_time()
        report = lethe.report(Path(scratch) / "run", out=Path(scratch) / "report")
        found["report_seconds"] = round(time.process_time() - start, 1)
        found["report_bytes"] = size_of(report)
        print(found, flush=True)
        shutil.rmtree(scratch, ignore_errors=True)
    assert not differing_fields(record, run_group([cell(TASKS, "diagonal")])[0]), "resumed and whole differ"
    found["scoring"] = {}
    for choice in CHOICES:
        seconds = {n: scoring(n, choice) for n in SIZES}
        found["scoring"][choice] = {
            "seconds": {str(n): float(f"{s:.3g}") for n, s in seconds.items()},
            "exponent": round(exponent(seconds), 2),
        }
        print(choice, found["scoring"][choice], flush=True)
    write_json(path, about | {"tasks": TASKS, "at": time.strftime("%Y-%m-%d")} | found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
