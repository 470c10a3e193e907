"""Checks of a GPU in minutes: equal results, no waits, speed of lanes. ``lethe check gpu``

Also ``python -m bench.checks.gpu``, which needs nothing beyond torch, numpy, pandas, scikit-learn, joblib and
transformers. Five parts, within six minutes on one H100:

1. R on the GPU against R on the CPU, every strategy, five seeds; the CPU's side is in ``gpu_cpu_side.json``.
2. Steps of every strategy, in which a wait of the host is an error.
3. Step time and memory of 1 to 512 lanes of mlp and cnn, with captured steps and without.
4. Three entries of a published table at twenty seeds, from which the time of the whole table follows.
5. Step time of LoRA on MiniLM, 1 to 32 lanes.

Prints as it goes, and appends a line of JSON to a file whenever a strategy or a setting has ended. If one of
them raises, the others go on. ``--device pretended`` tries the script itself, without a GPU.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench.checks.stand_in import stand_in_for

if __name__ == "__main__":
    stand_in_for("pydantic", "pydantic_core")

import strategies
import suites
from bench.checks.made_streams import SMALL, made_streams, scenario_of
from bench.checks.pretended_device import pretended_device
from bench.checks.steady_state import timed
from bench.plan import CellSpec, Fields, one_cell
from bench.train import (
    LaneState,
    arithmetic,
    begin_task,
    is_broken,
    learn_task,
    make_lanes,
    run_group,
    take_steps,
)
from strategies.core import LaneConv2d
from suites.base import Data, Training, generator
from suites.errors import UserError
from suites.tracebacks import kind_and_message

TOLERANCE = 0.05
"""Largest allowed difference between the mean last rows of R over seeds. Rounding makes the training of a
seed differ between devices, but means over seeds must not differ by more than this."""
CPU_SIDE = Path(__file__).with_name("gpu_cpu_side.json")
"""Mean last row of R of each strategy on the CPU; ``--cpu-side`` makes it."""
SECONDS = {"strategies": 150.0, "lanes": 100.0, "table": 60.0, "lora": 40.0}
"""Limit of each part: what has not begun by then is left out and named."""
OTHER_WAYS: dict[str, Fields] = {
    "by product": {"most_bytes": 2**30},
    "channels last": {"channels_last": True},
}
"""Ways to compute convolutions of several lanes, beside that of ``LaneConv2d``: what each sets in it."""
_TABLE = Path(__file__).resolve().parents[2] / "results" / "published" / "three-types-split-mnist.toml"
_ENTRIES = ("finetune", "lwf[preset=vandeven2022]", "er[preset=vandeven2022]")


@dataclass(frozen=True)
class Size:
    """The size of the measurement; the quick one is a trial of the script."""

    seeds: int
    epochs: int
    rows_per_class: int
    """Of digits; 0 for all."""
    steps: int
    lanes: tuple[int, ...]
    repeats: int
    table_seeds: int
    table_steps: int
    """Steps of each task of the table; 0 for those of the suite."""
    texts: tuple[int, ...]
    """Lanes of LoRA."""
    rows: int
    """Rows of made data of the shape of MNIST."""


FULL = Size(5, 2, 0, 50, (1, 8, 64, 512), 3, 20, 0, (1, 2, 4, 8, 16, 32), 70_000)
QUICK = Size(2, 1, 20, 2, (1, 2), 1, 2, 2, (1, 2), 2_000)


@dataclass
class Report:
    """The lines of JSON written so far, each printed as well."""

    path: Path
    done: set[tuple[str, str]] = field(default_factory=set)
    """Part and name of what an earlier process of this check did."""
    wrong: list[str] = field(default_factory=list)
    """What did not agree, waited or raised."""

    def add(self, part: str, name: str, fault: str = "", **found: Any) -> None:
        """Print and append the outcome of a strategy or setting."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, "name": name, **found, "fault": fault}) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items() if v != "")
        print(f"  {part} {name}: {', '.join(shown)}{f' FAULT: {fault}' if fault else ''}", flush=True)
        self.wrong += [f"{part} {name}: {fault}"] if fault else []

    def each(
        self, part: str, device: str, todo: Sequence[tuple[str, Callable[[], dict[str, Any]]]], seconds: float
    ) -> None:
        """Call functions that return what to report, until the time of the part is over."""
        print(f"{part} ({seconds:.0f} s at most)", flush=True)
        end, late = time.monotonic() + seconds, []
        for name, measure in todo:
            if (part, name) in self.done:
                continue
            if time.monotonic() > end:
                late.append(name)
                continue
            began = time.monotonic()
            try:
                found = measure()
            except Exception as error:  # of whatever kind: the others go on
                found = {"fault": kind_and_message(error)}
            self.add(part, name, **found, seconds=round(time.monotonic() - began, 2))
            if found.get("fault") and is_broken(device):
                raise Broken(f"{part} {name}: {found['fault']}")
        if late:
            self.add(part, "left out, no time", names=" ".join(late))


class Broken(Exception):
    """The GPU cannot be used in this process any more."""


# Parts 1 and 2.


def cells(name: str, size: Size) -> list[CellSpec]:
    """Return the cells of a strategy, one per seed: digits, or made texts if it needs a transformer."""
    tunes = strategies.get(name).tunes
    suite = "check-easy-texts" if tunes else "digits"
    settings: Fields = {"tune": tunes} if tunes else {"model": "mlp"}
    if size.rows_per_class and not tunes:
        settings["rows_per_class"] = size.rows_per_class
    settings["epochs"] = size.epochs
    made = [one_cell(suite, name, scenario_of(name), seed, settings) for seed in range(size.seeds)]
    for spec in made:
        spec.hyper.update(SMALL.get(name, {}))
    return made


def last_rows(specs: Sequence[CellSpec], device: str, data: Data | None = None) -> np.ndarray[Any, Any]:
    """Run cells; return the last row of R of each."""
    records = run_group(specs, device=device, data=data)
    if bad := [str(r["reason"]) for r in records if r["status"] != "done"]:
        raise RuntimeError(bad[0])
    return np.array([np.array(r["test"]["right"][-1]) / r["test"]["total"][-1] for r in records])


def last_row(specs: Sequence[CellSpec], device: str) -> list[float]:
    """Return the mean over seeds of the last row of R."""
    mean: list[float] = np.mean(last_rows(specs, device), 0).round(6).tolist()
    return mean


def agreement(name: str, device: str, size: Size, cpu: dict[str, list[float]]) -> dict[str, Any]:
    """Compare R with that of the CPU, and take steps while waits are errors."""
    specs = cells(name, size)
    ours, theirs = last_row(specs, device), cpu.get(name) or last_row(specs, "cpu")
    gap = float(np.abs(np.subtract(ours, theirs)).max())
    waits, declared = wait_of_steps(specs, device)
    fault = "" if gap <= TOLERANCE else f"R differs by {gap:.3f} from the CPU's"
    if waits and not declared:
        fault = f"{fault}{'; ' if fault else ''}a step waits: {waits}"
    means = {"accuracy": float(np.mean(ours)), "accuracy_cpu": float(np.mean(theirs)), "largest_gap": gap}
    return {**means, "waits": declared if waits else "", "fault": fault}


def wait_of_steps(specs: Sequence[CellSpec], device: str) -> tuple[str, str]:
    """Return what waits in the steps of the last task, empty for nothing, and the reason that is declared."""
    state = make_lanes(specs, device)
    state.new_graph = None  # a captured step cannot wait
    declared = state.strategy.waits or state.model.waits
    for earlier in range(state.streams.n_tasks - 1):
        learn_task(state, earlier)
    steps = _steps_of(state, state.streams.n_tasks - 1)
    steps()  # what only the first steps of a process do
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps()
    except RuntimeError as error:
        return kind_and_message(error), declared
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "", declared


def _steps_of(state: LaneState, task: int) -> Callable[[], object]:
    """Begin a task and return a function that takes all its steps."""
    schedule = begin_task(state, task)
    if schedule is None:
        raise RuntimeError("nothing to learn at this task")
    return lambda: take_steps(state, schedule)


def cpu_side(size: Size = FULL) -> dict[str, list[float]]:
    """Return the CPU's side of part 1, for the file."""
    found = {}
    for name in strategies.names():
        found[name] = last_row(cells(name, size), "cpu")
        print(f"  {name}", flush=True)
    return found


# Parts 3 to 5.


def mnist(rows: int) -> tuple[Data, bool]:
    """Return MNIST and whether it is real; made data of its shape where it is not available."""
    try:
        if rows == FULL.rows:
            return suites.get("split-mnist").load(), True
    except (ImportError, OSError, UserError):
        pass
    y_N = torch.arange(rows) % 10
    x_N = torch.randint(0, 256, (rows, 1, 28, 28), generator=generator(0, "made"), dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    return Data("made", x_N, y_N, rows * 6 // 7, names, 255.0, f"made-{rows}"), False


def speed(
    name: str, model: str, lanes: int, graph: bool, device: str, size: Size, data: Data
) -> dict[str, Any]:
    """Measure steps of some lanes: milliseconds, rows per second, bytes of a lane."""
    settings: Fields = {
        "model": model,
        "batch": 32,
        "optimiser": "adam",
        "lr": 1e-3,
        "iterations": size.steps,
    }
    specs = [one_cell("split-mnist", name, "class", seed, settings) for seed in range(lanes)]
    return _measured(specs, device, size, data, graph)


def speed_otherwise(way: str, name: str, lanes: int, device: str, size: Size, data: Data) -> dict[str, Any]:
    """Measure steps of a cnn whose convolutions are computed in one of ``OTHER_WAYS``."""
    with patch.multiple(LaneConv2d, **OTHER_WAYS[way]):
        return speed(name, "cnn", lanes, True, device, size, data)


def _measured(
    specs: Sequence[CellSpec], device: str, size: Size, data: Data | None, graph: bool = True
) -> dict[str, Any]:
    place = torch.device(device)
    try:
        with arithmetic(Training(**specs[0].training), device):
            state = make_lanes(specs, device, data)
            if not graph:
                state.new_graph = None
            learn_task(state, 0)  # warm, and something to protect
            steps = _steps_of(state, 1)
            taken = sorted(timed(steps, place, clock=time.perf_counter) for _ in range(size.repeats))
    except torch.cuda.OutOfMemoryError:
        return {"lanes": len(specs), "out_of_memory": True}
    number = state.clock.steps  # of the first task, as long as the second
    step, batch = taken[len(taken) // 2] / number, specs[0].training["batch"]
    spread = {"step_ms_low": 1e3 * taken[0] / number, "step_ms_high": 1e3 * taken[-1] / number}
    memory = torch.cuda.max_memory_allocated(place) / len(specs)
    # A strategy whose steps cannot be captured says why.
    found: Fields = {"lanes": len(specs), "graph": state.not_replayed or "on" if graph else "off"}
    found |= {"step_ms": 1e3 * step, **spread}
    return {**found, "samples_per_second": len(specs) * batch / step, "bytes_per_lane": int(memory)}


def entry(selector: str, device: str, size: Size, data: Data, real: bool) -> dict[str, Any]:
    """Run an entry of the table from beginning to end; accuracy only on real data."""
    settings: dict[str, Any] = {"validation": 0.0}
    if size.table_steps:
        settings["iterations"] = size.table_steps
    seeds = range(2, 2 + size.table_seeds)
    specs = [one_cell("split-mnist", selector, "class", seed, settings) for seed in seeds]
    rows = last_rows(specs, device, data)
    return {"seeds": len(specs), **({"accuracy": float(np.mean(rows))} if real else {"data": "made"})}


def whole_table(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Extrapolate from the measured entries to all entries of the table, by the cost of their strategies."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["entry"]
    per_cost = sum(line["seconds"] for line in lines) / sum(_cost(line["name"]) for line in lines)
    costs = [_cost(e["run"]) for e in table for scenario in ("task", "domain", "class") if scenario in e]
    return {"entries": len(costs), "extrapolated_seconds": per_cost * sum(costs)}


def _cost(selector: str) -> float:
    (name,) = strategies.method_names(selector)
    return strategies.get(name).cost


@contextmanager
def minilm() -> Iterator[tuple[str, str]]:
    """Return the name of MiniLM, and what it is: its weights, or random ones in a network of its shape."""
    from bench.models import pretrained

    try:
        pretrained.backbone("minilm", "mean")
        name = "minilm"
    except (ImportError, OSError, UserError):
        name = ""
    if name:
        yield name, "weights of MiniLM"
        return
    from transformers import BertConfig, BertModel, ByT5Tokenizer

    with tempfile.TemporaryDirectory(prefix="lethe-minilm-") as folder:
        tokenizer = ByT5Tokenizer(extra_ids=0)
        shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
        config = BertConfig(vocab_size=len(tokenizer), intermediate_size=1536, pad_token_id=0, **shape)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield folder, "random weights in a network of MiniLM's shape"


def lora(name: str, lanes: int, device: str, size: Size) -> dict[str, Any]:
    """Measure steps of LoRA on made texts."""
    settings: Fields = {"model": name, "tune": "lora", "batch": 16, "iterations": size.steps}
    specs = [one_cell("check-easy-texts", "finetune", "class", seed, settings) for seed in range(lanes)]
    return _measured(specs, device, size, None)


# The script.


def main(words: Sequence[str] | None = None) -> int:
    """Run all parts; return 0 if R agrees and nothing waits or raises, 1 otherwise, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.checks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; pretended for a trial of the script")
    parser.add_argument("--quick", action="store_true", help="few seeds, steps and lanes")
    parser.add_argument("--strategies", default="", help="only these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="file for lines of JSON")
    parser.add_argument("--cpu-side", action="store_true", help="compute the CPU's side and write its file")
    parser.add_argument("--resume", action="store_true", help="leave out what the file has")
    args = parser.parse_args(words)
    pretended = args.device == "pretended"
    if not (args.cpu_side or pretended or torch.cuda.is_available()):
        print("gpu check: no CUDA device is available; --device pretended tries the script", file=sys.stderr)
        return 2
    if not args.out.parent.is_dir():
        print(f"gpu check: there is no folder {args.out.parent}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        stack.enter_context(made_streams())
        if args.cpu_side:
            torch.set_num_threads(1)
            lines = ",\n".join(f" {json.dumps(n)}: {json.dumps(row)}" for n, row in cpu_side().items())
            CPU_SIDE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
            return 0
        if pretended:
            stack.enter_context(pretended_device())
        try:
            return _run(args, "cuda" if pretended else args.device)
        except Broken as broken:
            if pretended:
                raise
            print(f"the GPU cannot be used any more after {broken}; a new process goes on", flush=True)
            again = [w for w in (words or sys.argv[1:]) if w != "--resume"]
            os.execv(sys.executable, [sys.executable, "-m", "bench.checks.gpu", *again, "--resume"])


def _run(args: argparse.Namespace, device: str) -> int:
    size, report = QUICK if args.quick else FULL, Report(args.out)
    if args.resume and args.out.is_file():
        lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
        report.done = {(line["part"], line["name"]) for line in lines}
        report.wrong = [f"{line['part']} {line['name']}: {line['fault']}" for line in lines if line["fault"]]
    else:
        args.out.write_text("", encoding="utf-8")
    date = time.strftime("%Y-%m-%d", time.gmtime())
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda or "", "numpy": np.__version__}
    report.add("machine", torch.cuda.get_device_name(device), date=date, quick=args.quick, **versions)
    cpu: dict[str, list[float]] = {} if args.quick else json.loads(CPU_SIDE.read_text(encoding="utf-8"))
    names = args.strategies.split(",") if args.strategies else strategies.names()
    of_strategies = [(n, partial(agreement, n, device, size, cpu)) for n in names]
    report.each("strategies", device, of_strategies, SECONDS["strategies"])

    data, real = mnist(size.rows)
    few = [n for n in ("finetune", "er", "ewc", "der++", "lwf") if n in names]
    settings = itertools.product(size.lanes, ("mlp", "cnn"), few, (True, False))
    of_lanes = [
        (f"{n} {m} {k} graph {'on' if g else 'off'}", partial(speed, n, m, k, g, device, size, data))
        for k, m, n, g in settings
    ]
    of_lanes += [
        (f"{n} cnn {k} {way}", partial(speed_otherwise, way, n, k, device, size, data))
        for k, n, way in itertools.product(size.lanes, few[:1], OTHER_WAYS)
    ]
    report.each("lanes", device, of_lanes, SECONDS["lanes"])

    chosen = [e for e in _ENTRIES if strategies.method_names(e)[0] in names]
    entries = [(e, partial(entry, e, device, size, data, real)) for e in chosen]
    report.each("table", device, entries, SECONDS["table"])
    lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
    measured = [line for line in lines if line["part"] == "table" and line["name"] in chosen]
    if (usable := [line for line in measured if not line["fault"]]) and _TABLE.is_file():
        report.add("table", "all entries", **whole_table(usable))

    with minilm() as (model, what):
        print(f"lora: {what}", flush=True)
        of_texts = [(f"{n} lanes", partial(lora, model, n, device, size)) for n in size.texts]
        report.each("lora", device, of_texts, SECONDS["lora"])
    print(f"{len(report.wrong)} faults; {args.out}")
    for words in report.wrong:
        print(f"  {words}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
