"""Made-up records and runs, with accuracies as real ones have them, for tests of reports and figures.

For example, a run of two strategies whose final accuracy is known::

    cells = {("er", seed): record([[50, 40], [90, 45], [60 + seed, 80]]) for seed in range(5)}
    frames = lethe.load(toy_run(folder, cells))
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.plan import CellSpec, identity
from bench.results import Frames, load, outcomes, tidy
from bench.schema import Fields
from bench.store import RunFolder
from lethe.testing.toy_suites import toy_cell

_NAMES = (
    "finetune", "joint", "er", "ewc", "der++", "lwf", "si", "agem", "er+lwf", "er-ace", "cumulative",
    "mir", "gdumb", "icarl", "packnet", "hat", "l2p", "gss", "mas", "rwalk",
)  # fmt: skip


def _strategies(n: int) -> list[tuple[str, Fields]]:
    """Return n strategies with their settings: short names first, then long selectors."""
    found: list[tuple[str, Fields]] = [(name, {}) for name in _NAMES[:n]]
    for i in range(n - len(found)):
        more = {} if i % 4 else {"write": "per-class", "balance": "tasks"}
        found.append((_NAMES[2 + i % 4], {"buffer": 50 * (i + 1)} | more))
    return found


def made_cell(name: str, options: Fields, seed: int, suite: str = "toy", scenario: str = "class") -> CellSpec:
    """Return the spec of a made-up cell; neither options nor suite need exist."""
    cell = replace(toy_cell("finetune", seed, scenario), suite=suite, strategy=name)
    return replace(cell, hyper=dict(options), identity=identity(name, options))


Names = tuple[str, ...]


def made_up(
    n: int, *, n_tasks: int = 5, seeds: int = 5, suites: Names = ("toy",), scenarios: Names = ("class",),
    curves: bool = False,
) -> list[Fields]:  # fmt: skip
    """Return the records of n strategies on each suite, scenario and seed, with realistic accuracies.

    Args:
        n: The number of strategies; beyond twenty, with settings.
        n_tasks: The number of tasks of each suite.
        seeds: The number of seeds, from 0.
        suites: Names of suites; they need not exist.
        scenarios: task, domain, class or online.
        curves: Whether records have scores within tasks.
    """
    records = []
    cells = itertools.product(suites, scenarios, enumerate(_strategies(n)), range(seeds))
    for suite, scenario, (place, (name, options)), seed in cells:
        cell = made_cell(name, options, seed, suite, scenario)
        draws = np.random.default_rng([place, seed, len(suite), len(scenario), n_tasks])
        records.append(_drawn(cell, (place * 7 % n) / n, n_tasks, draws, curves))
    return records


def _drawn(cell: CellSpec, kept: float, n_tasks: int, draws: Any, curves: bool) -> Fields:
    """Return the record of a strategy that retains a share of what it learned."""
    i, j = np.indices((n_tasks + 1, n_tasks))
    age = i - (j + 1)
    share = np.where(age < 0, 0.1, 0.05 + 0.92 * (0.3 + 0.7 * kept) ** np.maximum(age, 0))
    share = np.clip(share + draws.normal(0, 0.02, share.shape), 0, 1)
    right = np.round(200 * share).astype(int)
    rows: list[list[int | None]] = right.tolist()
    if cell.strategy == "joint":
        rows[1:-1] = [[None] * n_tasks for _ in rows[1:-1]]
    remembers = cell.strategy not in ("finetune", "joint", "ewc", "lwf", "si")
    slots = int(cell.hyper.get("buffer", 200)) if remembers else 0
    places = itertools.product(range(n_tasks), range(5, 105, 5)) if curves else ()
    steps = [_step(right, task, step, draws) for task, step in places]
    made = record(
        rows, rows_per_task=200, curves=steps if cell.strategy != "joint" else [], notes={},
        timings=timings(samples_per_second=float(10 ** draws.normal(4 + kept, 0.02))),
        resources={"parameters": 100, "memory_samples": slots, "memory_bytes": 65 * slots},
    )  # fmt: skip
    return of_cell(cell, made)


def record(right: Any, status: str = "done", rows_per_task: int = 100, **more: Any) -> Fields:
    """Return what a run measures of a cell.

    Args:
        right: The rows predicted correctly, (tasks + 1, tasks), None where they were not counted.
        status: done, diverged, failed or skipped; the last two have no numbers.
        rows_per_task: The number of test rows of each task.
        **more: Other fields of the record, in place of the usual ones.
    """
    if status in ("failed", "skipped"):
        return {"status": status, **more}
    counts = {"right": right, "total": [[None if r is None else rows_per_task for r in row] for row in right]}
    resources = {"parameters": 10, "memory_samples": 0, "memory_bytes": 0}
    return {"status": status, "test": counts, "validation": counts, "curves": [], "timings": timings(),
            "resources": resources, **more}  # fmt: skip


def of_cell(cell: CellSpec, measured: Fields) -> Fields:
    """Return a record as it is read from a run: with key, spec and identity."""
    named = {"schema": 2, "key": cell.key, "written": "", "identity": cell.identity}
    return named | {"spec": cell.as_record(), "error": None, "reason": None} | measured


def timings(**changes: Any) -> Fields:
    """Return made-up timings."""
    found = {
        "train_seconds": 1.0, "evaluation_seconds": 0.5, "first_steps_seconds": 0.25, "steps": 100,
        "samples_per_second": 5000.0, "seconds_per_seed": 0.5, "lanes": 2, "device": "cpu",
        "peak_bytes": 10**8,
    }  # fmt: skip
    return found | changes


def _step(right: Any, task: int, step: int, draws: Any) -> Fields:
    """Return scores within a task: they fall at its beginning and recover."""
    before, after = right[task], right[task + 1]
    way = 1 - np.exp(-step / 25)
    gap = np.where(np.arange(len(before)) < task, 40 * np.exp(-step / 10), 0)
    now = np.clip(before + (after - before) * way - gap + draws.normal(0, 2, len(before)), 0, 200)
    return {"task": task + 1, "step": step, "right": now.astype(int).tolist(), "total": [200] * len(before)}


def write_run(
    folder: Path,
    cells: list[tuple[CellSpec, Fields]],
    command: str = "made up",
    selectors: dict[str, dict[str, list[str]]] | None = None,
) -> Path:
    """Write cells with their records into a run and return its folder.

    ``selectors`` are the settings of each selector, by suite/scenario: grids.
    """
    run = RunFolder(folder)
    specs = [spec for spec, _ in cells]
    run.open(specs, {}, {spec.suite: "fingerprint" for spec in specs}, command, "cpu", selectors=selectors)
    run.write_group(cells)
    return folder


def toy_run(folder: Path, records: dict[tuple[str, int], Fields], scenario: str = "class") -> Path:
    """Write a run of the toy suite and return its folder.

    Args:
        folder: The folder, new or of an earlier run, which then has the new cells too.
        records: (strategy, seed) -> what ``record`` returns.
        scenario: task, domain, class or online.
    """
    return write_run(folder, [(toy_cell(*key, scenario), measured) for key, measured in records.items()])


def with_classes(
    records: list[Fields], folder: Path, names: Sequence[str], per_task: int, seeds_alike: bool = True
) -> Frames:
    """Write a run with made-up confusions: wrong answers are the latest class or another one."""
    n_tasks, whole = len(names) // per_task, []
    for made in records:
        seed = made["spec"]["seed"]
        draws = np.random.default_rng([seed, len(names)])
        order = np.random.default_rng(0 if seeds_alike else seed).permutation(len(names))
        rows = []
        for i, j in itertools.product(range(n_tasks + 1), range(n_tasks)):
            for true in sorted(order[j * per_task : (j + 1) * per_task]):
                given = draws.choice([true, true, order[max(0, i * per_task - 1)], order[0]], 8)
                counts = Counter(given.tolist())
                rows += [[i, j + 1, int(true), answer, counts[answer]] for answer in sorted(counts)]
        classes = {"units": list(names), "test": rows, "validation": rows[: len(rows) // 2]}
        whole.append((CellSpec(**made["spec"]), made | {"classes": classes}))
    return load(write_run(folder, whole))


def not_done(cell: CellSpec, status: str) -> Fields:
    """Return the record of a cell that did not finish."""
    error = {"kind": "RuntimeError", "message": "no", "traceback": ""} if status == "failed" else None
    return of_cell(cell, {"status": status, "error": error, "reason": "made up"})


def frames_of(records: list[Fields]) -> Frames:
    """Return the frames of records without writing a folder."""
    return tidy(list(map(outcomes(), records)))
