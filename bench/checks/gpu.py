"""Checks of a GPU: equal results, no waiting within a task, speed of lanes. ``python -m bench.checks.gpu``

Needs nothing beyond torch, numpy, pandas, scikit-learn, joblib and pydantic. Three parts: R on the GPU
against R on the CPU (digits, every strategy, five seeds); every strategy's steps with host synchronisation
made an error; step time and samples per second for 1 to 256 lanes of mlp and cnn with finetune, er and ewc.
Prints a table and writes a JSON file with the machine's name.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch.overrides import TorchFunctionMode

import strategies
import suites
from bench.checks.made_streams import scenario_of
from bench.checks.steady_state import timed
from bench.plan import CellSpec, one_cell
from bench.train import LaneState, begin_task, learn_task, make_lanes, run_group, take_steps
from suites.base import Data, Scenario

TOLERANCE = 0.05
"""Largest allowed difference between the mean last rows of R over seeds. Rounding makes the training of a
seed differ between devices, but means over seeds must not differ by more than this."""
LANES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Size:
    """The size of the measurement; the quick one is a trial."""

    seeds: int
    epochs: int
    steps: int
    lanes: tuple[int, ...]
    repeats: int


FULL, QUICK = Size(5, 10, 100, LANES, 5), Size(2, 2, 5, (1, 2), 2)


def cell(
    strategy: str, seed: int, scenario: Scenario, model: str, suite: str = "digits", **training: Any
) -> CellSpec:
    """Return a cell of the digits suite with other training settings."""
    return one_cell(suite, strategy, scenario, seed, {"model": model, **training})


def last_rows(specs: list[CellSpec], device: str) -> np.ndarray[Any, Any]:
    """Return the last row of R of each cell, shape (cells, tasks)."""
    records = run_group(specs, device=device)
    bad = [r["reason"] for r in records if r["status"] != "done"]
    if bad:
        raise RuntimeError(f"{specs[0].strategy} on {device}: {bad[0]}")
    return np.array([np.array(r["test"]["right"][-1]) / r["test"]["total"][-1] for r in records])


def of_any_model() -> list[str]:
    """Return the strategies that do not need a transformer."""
    return [name for name in strategies.names() if not strategies.get(name).tunes]


def agreement(device: str, size: Size) -> pd.DataFrame:
    """Compare R on the device with R on the CPU, for every strategy."""
    rows = []
    for name in of_any_model():
        specs = [cell(name, seed, scenario_of(name), "mlp", epochs=size.epochs) for seed in range(size.seeds)]
        cpu, here = last_rows(specs, "cpu"), last_rows(specs, device)
        gap = float(np.abs(cpu.mean(0) - here.mean(0)).max())
        means = {"acc_cpu": float(cpu.mean()), "acc_device": float(here.mean())}
        rows.append({"strategy": name, **means, "largest_gap": gap, "agrees": gap <= TOLERANCE})
    return pd.DataFrame(rows)


class _NoReads(TorchFunctionMode):
    """Makes an error of every read of a tensor's values by Python, for which a GPU would have to wait."""

    reads: ClassVar = {
        "item",
        "tolist",
        "numpy",
        "cpu",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__array__",
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch unless it reads values."""
        if getattr(func, "__name__", "") in self.reads:
            raise RuntimeError(f"{func.__name__} of a tensor waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def _no_waiting(device: str) -> Iterator[None]:
    """Turn every synchronisation of the host with the GPU into an error; on a CPU, what would be one."""
    if not device.startswith("cuda"):
        with _NoReads():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def never_waits(device: str, size: Size) -> pd.DataFrame:
    """Take all steps of the second task with every strategy; a host synchronisation is an error."""
    rows = []
    for name in of_any_model():
        specs = [cell(name, seed, scenario_of(name), "mlp", epochs=1) for seed in range(3)]
        state = make_lanes(specs, device)
        for earlier in range(state.streams.n_tasks - 1):
            learn_task(state, earlier)
        steps = _steps_of(state, state.streams.n_tasks - 1)
        steps()
        error = ""
        try:
            with _no_waiting(device):
                steps()
        except RuntimeError as raised:
            error = str(raised).splitlines()[0]
        declared = strategies.get(name).waits
        rows.append({"strategy": name, "waits": (declared or error) if error else "never"})
    return pd.DataFrame(rows)


def _steps_of(state: LaneState, task: int) -> Callable[[], object]:
    """Begin a task and return a function that takes all its steps."""
    schedule = begin_task(state, task)
    if schedule is None:
        raise RuntimeError("nothing to learn at this task")
    return lambda: take_steps(state, schedule)


def speed(device: str, size: Size, data: Data) -> pd.DataFrame:
    """Measure step time and samples per second for growing numbers of lanes."""
    rows, place = [], torch.device(device)
    for model in ("mlp", "cnn"):
        for name in ("finetune", "er", "ewc"):
            for lanes in size.lanes:
                settings: dict[str, Any] = {"batch": 32, "optimiser": "adam", "lr": 1e-3}
                settings["iterations"] = size.steps
                specs = [cell(name, seed, "class", model, **settings) for seed in range(lanes)]
                state = make_lanes(specs, device, data)
                learn_task(state, 0)  # warm, and something to protect
                steps = _steps_of(state, 1)
                taken = [
                    timed(steps, place, clock=time.perf_counter) / size.steps for _ in range(size.repeats)
                ]
                seconds = statistics.median(taken)
                row = {"model": model, "strategy": name, "lanes": lanes, "step_ms": 1e3 * seconds}
                ends = {"step_ms_low": 1e3 * min(taken), "step_ms_high": 1e3 * max(taken)}
                rows.append({**row, **ends, "samples_per_second": lanes * 32 / seconds})
                print(f"  {model} {name} {lanes} lanes: {1e3 * seconds:.2f} ms a step", flush=True)
    frame = pd.DataFrame(rows)
    first = frame.groupby(["model", "strategy"])["samples_per_second"].transform("first")
    frame["times_one_lane"] = frame["samples_per_second"] / first
    return frame


def main(words: list[str] | None = None) -> int:
    """Run all three parts; return 0 if R agrees and nothing waits, 1 otherwise, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.checks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu for a dry check")
    parser.add_argument("--quick", action="store_true", help="few seeds, steps and lanes")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the record goes")
    asked = parser.parse_args(words)
    cuda = asked.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print("gpu check: no CUDA device is available here; --device cpu makes a dry check", file=sys.stderr)
        return 2
    if not asked.out.parent.is_dir():
        print(f"gpu check: there is no folder {asked.out.parent}", file=sys.stderr)
        return 2
    size = QUICK if asked.quick else FULL
    name = torch.cuda.get_device_name(asked.device) if cuda else "cpu"
    print(f"{name}, torch {torch.__version__}")
    print("R against the CPU", flush=True)
    agrees = agreement(asked.device, size)
    print(agrees.to_string(index=False))
    print("host synchronisation within a task" if cuda else "reads of tensors by Python within a task")
    waits = never_waits(asked.device, size)
    print(waits.to_string(index=False))
    print("speed", flush=True)
    speeds = speed(asked.device, size, suites.get("digits").load())
    print(speeds.to_string(index=False, float_format="{:.2f}".format))
    date = time.strftime("%Y-%m-%d", time.gmtime())
    tables = {"agreement": agrees, "waits": waits, "speed": speeds}
    record = {"schema": 1, "machine": name, "torch": torch.__version__, "date": date, "quick": asked.quick}
    record |= {"tolerance": TOLERANCE, **{part: table.to_dict("records") for part, table in tables.items()}}
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"record: {asked.out}")
    declared = {strategies.get(name).waits for name in strategies.names()} - {""}
    return 0 if agrees["agrees"].all() and waits["waits"].isin({"never", *declared}).all() else 1


if __name__ == "__main__":
    sys.exit(main())
