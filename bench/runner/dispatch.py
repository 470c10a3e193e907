"""Who does which cells where: what is left to do, lanes and processes, failures."""

from __future__ import annotations

import os
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

import strategies
import suites
from bench.encode import inputs, to_stderr
from bench.export import take_up, told
from bench.models import parameter_count
from bench.plan import CellSpec, Request, line
from bench.runner.progress import Progress, note
from bench.store import WHICH, RunFolder, RunReader, SavedModels
from bench.train import run_group
from strategies.core import Unsuitable
from suites.base import Training
from suites.errors import UserError, unknown

SMALL = 50_000
"""Parameters below which a network on a CPU spends its time in Python, not in arithmetic: its lanes are
stacked. Measured: 8 lanes of 64-100-100-10 (17,610) ran 2.8 times faster than one by one; 784-400-400-10
(478,410) gained nothing."""
WIDTH_CPU, WIDTH_CUDA = 64, 256

Group = list[CellSpec]


@dataclass(frozen=True)
class Options:
    """How a plan is carried out: nothing here changes a result."""

    device: str = "cpu"
    jobs: int = 0
    """Processes; 0 for one a core, or one a GPU."""
    lanes: int = 0
    """Lanes of a group at most; 0 for the fixed rule."""
    force: bool = False
    """Run cells again that are there."""
    retry_failed: bool = False
    """Run cells again that failed or diverged."""
    quiet: bool = False
    keep_models: str = ""
    """Keep trained models, the ``last`` or those after ``all`` tasks; empty for none. See bench.store."""


@dataclass(frozen=True)
class Outcome:
    """What became of the cells that were run or skipped now."""

    counts: dict[str, int]
    failures: list[str]
    """A line for each failed cell."""
    set_aside: list[str]
    """A line for each file of the folder that could not be read and was set aside."""


def carry_out(requests: Sequence[Request], folder: Path, options: Options, command: str) -> Outcome:
    """Run what is missing of a plan into a folder.

    Raises UserError for what cannot be done at all, before anything is written.
    """
    check_device(options.device)
    if options.jobs < 0 or options.lanes < 0:
        raise UserError("jobs and lanes must not be below 0")
    if options.keep_models not in ("", *WHICH):
        raise unknown("value for --keep-models", options.keep_models, list(WHICH))
    specs = all_cells(requests)
    shared = common(requests)
    seen = RunReader(folder)
    seen.check(shared)
    held = seen.statuses()
    todo = [s for s in specs if wanted(held.get(s.key, "missing"), options)]
    # Read once here, so that workers find a converted copy and a missing data set stops before any writing.
    data = {name: suites.get(name).load().fingerprint for name in dict.fromkeys(s.suite for s in todo)}
    prepare(todo, options)
    begins = {(s.suite, s.scenario): told(s) for s in reversed(todo) if s.continues}
    run = RunFolder(folder)
    run.open(specs, shared, data, command, options.device)
    set_aside = run.repair()
    for spec in todo if options.force or options.retry_failed else ():
        run.drop(spec.key)
    done = [s for s in specs if held.get(s.key) == "done" and s not in todo]
    without = sum(not SavedModels(folder).tasks(s.key) for s in done) if options.keep_models else 0
    if not options.quiet:
        for words in begins.values():
            to_stderr(words)
        if without:
            to_stderr(f"{without} cells were done without keeping their models: --force runs them again")
    able = []
    for spec in todo:
        reason = unsuitable(spec)
        if reason is None:
            able.append(spec)
        else:
            run.write(spec, {"status": "skipped", "reason": reason})
    groups = list(grouped(able, run, options))
    with Progress(folder, todo, options.quiet) as progress:
        progress.done([s for s in todo if s not in able])
        for keys in _spread(groups, folder, options):
            progress.done([s for s in able if s.key in keys])
    records = {spec.key: run.record(spec.key) for spec in todo}
    counts: dict[str, int] = defaultdict(int)
    failures = []
    for spec in todo:
        record = records[spec.key] or {"status": "missing"}
        counts[record["status"]] += 1
        if record["status"] == "failed":
            failures.append(f"{line(spec)}: {record['error']['kind']}: {record['error']['message']}")
    return Outcome(dict(counts), failures, set_aside)


def prepare(specs: Sequence[CellSpec], options: Options) -> None:
    """See that models can read their suites; pass texts through frozen backbones, once for all workers."""
    seen = []
    for spec in specs:
        asked = spec.suite, spec.model, spec.model_options
        if asked not in seen:
            seen.append(asked)
            said = None if options.quiet else to_stderr
            inputs(suites.get(spec.suite).load(), spec.model, spec.model_options, options.device, said)


def all_cells(requests: Iterable[Request]) -> list[CellSpec]:
    """Return the cells of all requests, each once."""
    return list({spec.key: spec for request in requests for spec in request.cells()}.values())


def common(requests: Iterable[Request]) -> dict[str, dict[str, Any]]:
    """Return what the cells of each suite and scenario share; raises UserError where two tables differ."""
    shared: dict[str, dict[str, Any]] = {}
    for request in requests:
        for name, facts in request.shared().items():
            if shared.setdefault(name, facts) != facts:
                raise UserError(f"{name} is asked for with different settings: use a run folder for each")
    return shared


def wanted(status: str, options: Options) -> bool:
    """Return whether a cell of this status is to be run."""
    return status == "missing" or options.force or (options.retry_failed and status in ("failed", "diverged"))


def unsuitable(spec: CellSpec) -> str | None:
    """Return why a strategy cannot do a cell, as far as that is known without its data, or None."""
    strategy = strategies.get(spec.strategy)(**spec.hyper)
    reason = strategy.unsuitable(spec.scenario, Training(**spec.training))
    return reason or (strategy.cannot_generate() if suites.get(spec.suite).generates else None)


def check_device(device: str) -> None:
    """Raise UserError for a device that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; there are cpu, cuda, cuda:1 ...") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here; leave out --device or use --device cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no {device}; CUDA devices here: {torch.cuda.device_count()}")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r} is not supported; there are cpu and cuda")


def grouped(specs: Sequence[CellSpec], run: RunFolder, options: Options) -> Iterator[Group]:
    """Yield groups of lanes: same program, same number of tasks done, no wider than the rule says."""
    alike: dict[tuple[str, int], Group] = defaultdict(list)
    for spec in specs:
        kept = run.checkpoint_header(spec.key)
        alike[spec.group_key, kept["tasks_done"] if kept else 0].append(spec)
    for group in alike.values():
        # Lanes that share rates side by side: an optimiser moves them together.
        group.sort(key=lambda s: (s.identity, s.seed))
        size = width(group[0], options)
        yield from (group[i : i + size] for i in range(0, len(group), size))


def width(spec: CellSpec, options: Options) -> int:
    """Return how many lanes run in one program: a fixed rule, so that a command always groups alike."""
    most = strategies.get(spec.strategy).max_lanes
    if options.lanes:
        size = options.lanes
    elif torch.device(options.device).type == "cuda":
        size = WIDTH_CUDA
    else:
        data = inputs(suites.get(spec.suite).load(), spec.model, spec.model_options)
        count = parameter_count(
            spec.model, spec.model_options, tuple(data.x_N.shape[1:]), len(data.class_names)
        )
        # One layer is small however many classes it has: ten lanes of 384-150 took 0.65 of ten single runs.
        small = count < SMALL or spec.model_options.get("tune") == "head"
        size = WIDTH_CPU if small else 1
    return min(size, most) if most else size


def _spread(groups: list[Group], folder: Path, options: Options) -> Iterator[set[str]]:
    """Run groups, over processes where there are several; yield the keys of each as it ends."""
    models = SavedModels(folder, options.keep_models)
    cuda = torch.device(options.device).type == "cuda"
    if cuda and torch.device(options.device).index is None:
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    else:
        devices = [options.device]
    jobs = options.jobs or (len(devices) if cuda else os.cpu_count() or 1)
    jobs = min(jobs, len(groups))
    if jobs <= 1:
        for group in groups:
            yield _run_one(group, models, devices[0])
        return
    if cuda:  # one process per device: each takes its share of the groups, one after the other
        shares = [(groups[i::jobs], devices[i % len(devices)]) for i in range(jobs)]
    else:
        shares = [([group], devices[0]) for group in groups]
    while shares:
        try:
            for number, keys in _parallel(shares, models, jobs):
                shares[number] = ([], "")
                yield keys
            return
        except BrokenProcessPool:
            # A worker died: a crash, or memory ran out. Workers take shares in order, so the culprit is among
            # the first that have not ended; each of those gets a process to itself, the rest go on together.
            shares = [share for share in shares if share[0]]
            suspects, shares = shares[:jobs], shares[jobs:]
            for own, device in suspects:
                for group in own:
                    _run_alone(group, models, device)
                    yield {spec.key for spec in group}


def _parallel(
    shares: Sequence[tuple[list[Group], str]], models: SavedModels, jobs: int
) -> Iterator[tuple[int, set[str]]]:
    """Run shares in processes; yield the number and the keys of each as it ends."""
    work = [joblib.delayed(_run_share)(i, own, models, device) for i, (own, device) in enumerate(shares)]
    with warnings.catch_warnings():
        # loky says that it replaced a worker that grew; nothing for the user to do.
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        yield from joblib.Parallel(
            n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1
        )(work)


def _run_share(number: int, groups: list[Group], models: SavedModels, device: str) -> tuple[int, set[str]]:
    return number, set().union(*(_run_one(group, models, device) for group in groups))


def _run_alone(group: Group, models: SavedModels, device: str) -> None:
    """Run one group in a process of its own; should that die, by halves, down to the cell that kills it."""
    pool = ProcessPoolExecutor(max_workers=1)
    try:
        pool.submit(_run_one, group, models, device).result()
        return
    except BrokenProcessPool as error:
        if len(group) == 1:
            RunFolder(models.run).write(group[0], {"status": "failed", "error": _described(error)})
    finally:
        pool.shutdown(wait=True, kill_workers=True)
    for half in halves(group):
        _run_alone(half, models, device)


def halves(group: Group) -> list[Group]:
    """Return a group in two parts, nothing for a single cell."""
    middle = len(group) // 2
    return [group[:middle], group[middle:]] if middle else []


def _run_one(group: Group, models: SavedModels, device: str) -> set[str]:
    """Run one group and write its records; where it fails, by halves, so that only the culprit does.

    Halves and not single lanes: a group that was too wide for the device's memory is not done one by one.
    """
    error = _attempt(group, models, device)
    if error is not None and len(group) == 1:
        RunFolder(models.run).write(group[0], {"status": "failed", "error": error})
    elif error is not None:
        for half in halves(group):
            _run_one(half, models, device)
    return {spec.key for spec in group}


def _attempt(group: Group, models: SavedModels, device: str) -> dict[str, Any] | None:
    """Run one group and write its records; return what went wrong, in words, so that no tensor is held."""
    folder, run = models.run, RunFolder(models.run)
    try:
        with _one_thread(device):
            records = run_group(
                group,
                device=device,
                checkpoints=run,
                models=models,
                warm_start=take_up,
                progress=lambda done, tasks: note(folder, [s.key for s in group], done, tasks),
            )
        for spec, record in zip(group, records, strict=True):
            run.write(spec, record)
    except Unsuitable as error:
        for spec in group:
            run.write(spec, {"status": "skipped", "reason": str(error)})
    except Exception as error:
        return _described(error)
    return None


def _described(error: Exception) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "message": str(error).splitlines()[0] if str(error) else "",
        "traceback": traceback.format_exc(),
    }


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """On a CPU, one torch thread: processes share the cores, and sums round alike with any number of jobs."""
    before = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
