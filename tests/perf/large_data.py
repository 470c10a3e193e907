"""Measures 10 million short rows from a mapped file against memory, for docs/guides/long-streams.md.

    python -m tests.perf.large_data results/reference/large-data.json [ROWS [TIMES]]

One pass of a small network over ten tasks, in a process of its own: the peak of its resident memory, the
parts of mapped files among it, and its training speed. Both ways are taken twice (or TIMES), in alternating
order. The data set is made, and put into the cache, by other processes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import suites
from bench.plan import one_cell
from bench.schema import Fields
from bench.store import where, write_json
from bench.train import run_group

ROWS, FEATURES, CLASSES, TASKS, TIMES = 10_000_000, 64, 4, 10, 2
SETTINGS: dict[str, Any] = {"epochs": 1, "batch": 1024, "hidden": 64, "validation": 0, "eval": "last"}
STRATEGY = "er[buffer=200]"
SUITE = "rows.safetensors[task=month,test=0.002]"
WAYS = {"mapped": 2**27, "memory": 2**40}
"""Largest data set in memory, in bytes."""
NUMBERS = (
    "load_seconds", "train_seconds", "processor_seconds", "samples_per_second", "peak_mib", "steps"
)  # fmt: skip


def write(path: Path, n: int) -> None:
    """Write rows of four classes whose means differ, in the order of tasks, a part at a time."""
    random = np.random.default_rng(0)
    mean_CF = random.normal(size=(CLASSES, FEATURES)).astype(np.float32)
    header, at = dict[str, Any](), 0
    arrays = {"x": ("F32", [n, FEATURES], 4), "y": ("I64", [n], 8), "month": ("I64", [n], 8)}
    for name, (dtype, shape, size) in arrays.items():
        end = at + size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    y_N = random.integers(0, CLASSES, n)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, n, 100_000):
            y_R = y_N[start : start + 100_000]
            x_RF = mean_CF[y_R] + random.standard_normal((len(y_R), FEATURES), dtype=np.float32)
            file.write(x_RF.tobytes())
        file.write(y_N.tobytes() + (np.arange(n) * TASKS // n).tobytes())


def peak() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def train() -> None:
    """Train in this process and print what it took, and the result."""
    start = time.perf_counter()
    mapped = suites.get(SUITE).load().file is not None
    loaded, before = time.perf_counter() - start, time.process_time()
    (record,) = run_group([one_cell(SUITE, STRATEGY, "domain", settings=SETTINGS)])
    found = {"mapped": mapped, "load_seconds": loaded, "processor_seconds": time.process_time() - before}
    found |= {name: record["timings"][name] for name in NUMBERS if name in record["timings"]}
    print(json.dumps(found | {"peak_mib": peak(), "result": [record["test"]["right"], record["loss"]]}))


def prepare() -> None:
    """Put the data set into the cache; print the time it took."""
    start = time.perf_counter()
    suites.get(SUITE).load()
    print(json.dumps({"seconds": time.perf_counter() - start}))


def run(what: str, folder: Path, limit: int) -> dict[str, Any]:
    """Run a step in a process of its own, with at most so many bytes of rows in memory."""
    more = {"LETHE_CACHE": str(folder / "cache"), "LETHE_IN_MEMORY": str(limit), "OMP_NUM_THREADS": "1"}
    more["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "tests.perf.large_data", "--", what]
    done = subprocess.run(command, cwd=folder, env=os.environ | more, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(what, {name: value for name, value in found.items() if name != "result"}, flush=True)
    return found


def main(path: Path, n: int = ROWS, times: int = TIMES) -> None:
    """Measure, print and write the record."""
    about: Fields = {"schema": 1, "command": "python -m tests.perf.large_data", **where("cpu")}
    with tempfile.TemporaryDirectory() as scratch:
        folder, tries = Path(scratch), {way: list[dict[str, Any]]() for way in WAYS}
        write(folder / "rows.safetensors", n)
        about |= {"rows": n, "features": FEATURES, "tasks": TASKS, "times": times, "settings": SETTINGS}
        about |= {"strategy": STRATEGY, "bytes": (folder / "rows.safetensors").stat().st_size}
        about["prepare"] = run("prepare", folder, WAYS["mapped"])
        for turn in range(times):
            for way in [*WAYS][:: 1 - 2 * (turn % 2)]:
                tries[way].append(run("train", folder, WAYS[way]))
                assert tries[way][-1]["mapped"] == (way == "mapped")
    assert len({str(one["result"]) for of in tries.values() for one in of}) == 1, "results differ"
    about["ways"] = {
        way: {name: round(float(median(one[name] for one in of)), 2) for name in NUMBERS}
        for way, of in tries.items()
    }
    write_json(path, about | {"at": time.strftime("%Y-%m-%d")})


if __name__ == "__main__":
    if sys.argv[1] == "--":
        {"train": train, "prepare": prepare}[sys.argv[2]]()
    else:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
