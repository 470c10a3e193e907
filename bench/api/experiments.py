"""Experiments and reports: ``lethe.run``, ``lethe.load``, ``lethe.report``, ``lethe.compare``."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import results
from bench.api.datasets import Columns, suite_or_dataset
from bench.api.notebook import Frames
from bench.checks.before_run import check_before_run, leave_out
from bench.plan import DEFAULT_SEEDS, Request, Value, seeds_of, worded_request
from bench.report import Layout, Spread, check_trackers, make_report, tracking
from bench.results import Comparison, Expectation, compare_runs
from suites import notes_of
from suites.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pandas as pd


def run(
    suite: str = "",
    strategies: str | Iterable[str] | Mapping[str, Mapping[str, Value | Iterable[Value]] | None] = (),
    *,
    dataset: str | Path | pd.DataFrame | datasets.Dataset | datasets.DatasetDict | None = None,
    columns: Columns | None = None,
    scenarios: str | Iterable[str] = "",
    seeds: int | str | Iterable[int] = DEFAULT_SEEDS,
    out: str | Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    per_device: int = 0,
    lanes: int = 0,
    on: str = "local",
    settings: Mapping[str, Value | Iterable[Value]] | None = None,
    keep_models: str = "",
    checkpoint_every: float = 1.0,
    graph: bool = True,
    resume_from: str | Path | None = None,
    budget: Mapping[str, Value] | str | None = None,
    track: str | Iterable[str] = (),
    stale: str = "",
    force: bool = False,
    retry_failed: bool = False,
    check: bool = True,
    progress: bool = False,
    dry_run: bool = False,
) -> Frames:
    """Run an experiment and return its results as data frames, as ``lethe run`` does.

    Cells that ``out`` already has are not run again. A cell that fails does not stop the others: it is a
    warning and a row of ``frames.failed``. A fault of the environment (a full disk, missing data) is a
    warning and a line of ``frames.unfinished``: its cells have no record, and the next call runs them.

    Args:
        suite: Name of a suite, or ``./file.py:NAME``.
        strategies: One selector, several, or options by strategy: ``"er[buffer=200]"``, ``["er", "ewc"]``,
            ``{"er": {"buffer": 200}}``, ``"./file.py:Mine"``. Several values of a setting are a grid:
            ``"er[buffer=200|500]"``, ``{"er": {"buffer": [200, 500]}}``.
        dataset: A data set of yours instead of a suite: a path, a data frame, or a ``datasets.Dataset``.
        columns: What its columns mean, as the options of ``lethe run``:
            ``{"text": "review", "label": "stars", "task": "month"}``.
        scenarios: One or several of ``task``, ``domain``, ``class`` and ``online``; without it class, or
            domain for a suite that has no class scenario.
        seeds: How many seeds, counted from 0, a list of them, or text as on the command line: ``"2-6"``.
        out: Folder of the run; a temporary folder without it.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; changes no result beyond rounding.
        jobs: Processes; 0 for one per core or GPU. Changes no result.
        per_device: Groups that a GPU runs at once, as far as its memory allows; with ``jobs=0``.
        lanes: Largest number of cells trained together; 0 to choose by the model. Changes no result
            beyond rounding.
        on: ``local``, ``dask://HOST:PORT`` or ``ray://HOST:PORT``: where groups of lanes run.
        settings: Training settings, ``model`` and model options by name, as ``--set`` takes them; a list is a
            grid of every strategy.
        keep_models: ``last`` or ``all`` saves trained models for ``lethe.export``.
        checkpoint_every: Seconds between two checkpoints of a group at least; 0 for one after every task.
        graph: Whether steps that are alike are captured once and replayed, on a GPU. Changes no result.
        resume_from: Folder of an exported model to continue from.
        budget: What every method may use, ``{"memory": "2MB", "compute": 1.5}`` or ``"memory=2MB"``: methods
            are sized to it, or skipped with the reason.
        track: Trackers that scores are sent to, with a place: ``"tensorboard:runs/events"``, ``"mlflow"``,
            ``["wandb:my-project", "trackio"]``. Their failures are warnings and never errors.
        stale: ``rerun`` or ``keep`` cells of ``out`` whose code or data changed. Without it, cells are run
            again if only the user's own files changed; any other change is an error.
        force: Run every cell again.
        retry_failed: Run failed and diverged cells again.
        check: Check a method in a file of yours, once for each content of it, before its cells run.
        progress: Show cells and steps done and the time left, as the command line does.
        dry_run: Run nothing; ``print(frames.plan)`` lists the cells.

    Returns:
        The results of the whole folder; with ``dry_run`` those that it already has.

    Raises:
        UserError: A name, selector or setting is unknown or impossible, or ``out`` cannot be used.

    Example:
        ```python
        import lethe

        frames = lethe.run("digits", ["finetune", "er[buffer=200]"], out="runs/first", progress=True)
        frames.table()
        frames.failed  # empty

        columns = {"text": "review", "label": "stars", "task": "month"}
        frames = lethe.run(dataset=reviews, columns=columns, strategies=["finetune", "er"])
        ```
    """
    from bench.runner import Options, carry_out_plan, resolve_for  # imports torch; a report needs none

    suite = suite_or_dataset(suite, dataset, columns)
    request = request_of(suite, strategies, scenarios, seeds, settings, budget, resume_from)
    options = Options(
        device=device,
        jobs=jobs,
        per_device=per_device,
        lanes=lanes,
        on=on,
        quiet=not progress,
        keep_models=keep_models,
        checkpoint_every=checkpoint_every,
        graph=graph,
        stale=stale,
        force=force,
        retry_failed=retry_failed,
        check_method=check_before_run if check else leave_out,
    )
    options.check()
    named = None if out is None else Path(out)
    trackers = check_trackers(track, named)
    if dry_run:
        there = named if named and named.exists() else None
        frames = load(there) if there else Frames.of(results.tidy([]))
        frames.plan = resolve_for(request.alternatives, there, replace(options, quiet=True), download=False)
        return frames
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = named or Path(scratch) / "run"
        remarks = notes_of(suite)  # it downloads the data set, on which the scenarios depend
        plan = resolve_for(request.alternatives, folder, options)
        for words in [*plan.remarks, *remarks]:
            warnings.warn(words, stacklevel=2)
        command = f"bench.run({suite!r}, {list(request.strategies)!r})"
        faults: list[str] = []
        with tracking(trackers, faults.append) as on_record:
            options = replace(options, on_record=on_record)
            outcome = carry_out_plan(replace(plan, remarks=()), folder, options, command)
        for words in faults:
            warnings.warn(words, stacklevel=2)
        warn_of(outcome.failures, outcome.unfinished)
        frames = load(folder)
        frames.unreadable = [*outcome.set_aside, *frames.unreadable]
        frames.unfinished, frames.plan = outcome.unfinished, plan
        return frames


def warn_of(failures: Iterable[str], unfinished: Iterable[str]) -> None:
    """Warn of the cells of ``run`` or ``tune`` that failed or have no record."""
    for words in failures:
        warnings.warn(f"failed: {words}", stacklevel=3)
    for words in unfinished:
        warnings.warn(f"not finished: {words}; the same call runs them", stacklevel=3)


def request_of(
    suite: object,
    strategies: object,
    scenarios: str | Iterable[str],
    seeds: int | str | Iterable[int],
    settings: object,
    budget: object,
    resume_from: str | Path | None = None,
) -> Request:
    """Return the request of ``run`` or ``tune``; raises UserError for arguments of another type."""
    if not isinstance(suite, str) or not suite:
        raise UserError(f"a suite is a name like 'digits' or './file.py:NAME', not {suite!r}")
    if not isinstance(settings, Mapping | None):
        raise UserError(f"settings must be a dictionary like {{'epochs': 5}}, not {settings!r}")
    if not isinstance(budget, Mapping | str | None):
        raise UserError(f"a budget is a dictionary like {{'memory': '2MB'}}, not {budget!r}")
    return worded_request(suite, strategies, scenarios, seeds, settings or {}, budget or (), resume_from)


def load(
    folder: str | Path | Sequence[str | Path],
    *more: str | Path,
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
    split: str = "test",
) -> Frames:
    """Read the records of one or several runs.

    The order of the runs does not matter, and a cell that several runs have is used once. Records of other
    code, data, suite versions or pretrained weights are never averaged with the rest: they are listed in
    ``left_out``.

    Args:
        folder: Folder or packed file (``.lethe.gz``) of a run, or a list of them.
        more: More runs.
        prefer: The run that is used where runs contradict each other.
        labels: Labels by folder. The cells of these runs are compared with those of the others: the label is
            appended to their ``identity``.
        split: The rows of the scores: ``test`` or ``validation``.

    Returns:
        The results as data frames.

    Raises:
        UserError: A folder is not a run, or runs contradict each other: the same cell has different results,
            or a suite has different data or versions; or no validation rows were held out.

    Example:
        ```python
        frames = lethe.load("runs/first")
        both = lethe.load("runs/old", "runs/new", labels={"runs/old": "old", "runs/new": "new"})
        ```
    """
    return Frames.of(results.load(folder, *more, prefer=prefer, labels=labels).on(split))


def report(
    folder: str | Path,
    *more: str | Path,
    out: str | Path | None = None,
    scores: Sequence[str] | None = None,
    spread: Spread = "ci",
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
    split: str = "test",
    history: Sequence[str | Path] = (),
) -> Path:
    """Write the page, tables and figures of one or several runs, as ``lethe report`` does.

    Args:
        folder: Folder or packed file of a run.
        more: More runs, reported together with it.
        out: Folder of the report; ``folder``/report without it.
        scores: Columns of the tables, by name; acc, forgetting, bwt, fwt, aia and learning_acc without it.
        spread: ``ci`` (95 % t interval), ``bca`` (bootstrap interval), ``sd`` or ``sem``.
        prefer: The run that is used where runs contradict each other; see ``load``.
        labels: Labels by folder of runs that are compared with each other.
        split: The rows of the scores: ``test`` or ``validation``.
        history: Earlier runs, or one packed run that git tracks, for scores over revisions.

    Returns:
        The folder of the report, which contains index.html.

    Raises:
        UserError: A folder is not a run, a score is unknown, or several runs are given without ``out``.

    Example:
        ```python
        lethe.report("runs/first", scores=["acc", "forgetting"])
        ```
    """
    if out is None and more:
        raise UserError("a report on several runs needs a folder of its own: give out=")
    target = Path(folder) / "report" if out is None else Path(out)
    layout = Layout(spread, marks=True, origin=True)
    frames = load(folder, *more, prefer=prefer, labels=labels, split=split)
    lines = results.history(history, tuple(scores or ("acc",))) if history else ()
    make_report(results.folded(frames), target, scores, layout, time.strftime("%Y-%m-%d"), history=lines)
    return target


def compare(
    base: str | Path,
    new: str | Path,
    *,
    scores: Sequence[str] = (),
    margins: Mapping[str, Mapping[str, float]] | None = None,
    expect: Expectation = "not-worse",
    seeds: int | Sequence[int] = (),
) -> Comparison:
    """Compare two runs, cell by cell and paired by seed, as ``lethe compare`` does.

    Args:
        base: Folder or packed file of a run, or the name of one under ``results/reference``.
        new: The run that is judged.
        scores: Names of scores, sizes and times; acc, aia, learning_acc and forgetting without it.
        margins: By suite and score, the largest difference that does not count, in points, or in percent for
            sizes and times; ``any`` means all suites or scores. Without it, those of ``lethe.toml`` in
            the current folder, else 1 point and 5 %.
        expect: ``not-worse`` raises an alarm for what is worse, ``same`` also for what is better, ``equal``
            also for every record that is not equal bit for bit.
        seeds: How many seeds are compared, counted from 0, or a list; all that both runs have without it.

    Returns:
        The verdicts (``scores``), everything else that differs (``setup``), ``alarms`` and ``exit_code``.

    Raises:
        UserError: A run cannot be read, a score is unknown, or the runs have nothing in common.

    Example:
        ```python
        comparison = lethe.compare("digits", "runs/new", margins={"digits": {"acc": 0.5}})
        assert not comparison.alarms, comparison.alarms
        ```
    """
    chosen = seeds_of(seeds) if isinstance(seeds, int) else seeds
    return compare_runs(base, new, scores, margins, expect, chosen)
