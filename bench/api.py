"""Experiments, reports and exports from Python: ``lethe.run``, ``lethe.report``, ``lethe.compare`` ..."""

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.plan import Request, Value, check_seeds, seeds as read_seeds, text_of
from bench.report import Layout, Spread, make_report
from bench.results import Comparison, Expectation, Frames, compare_runs, load
from suites.errors import UserError


def run(
    suite: str,
    strategies: str | Sequence[str],
    *,
    scenarios: str | Sequence[str] = "class",
    seeds: int | Sequence[int] = 5,
    out: str | Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    lanes: int = 0,
    settings: dict[str, Value] | None = None,
    keep_models: str = "",
    resume_from: str | Path | None = None,
    stale: str = "",
) -> Frames:
    """Run an experiment and return its results as data frames, as ``lethe run`` does.

    Cells that ``out`` already has are not run again. A cell that fails does not stop the others: its record
    contains the error. A fault of the environment (a full disk, missing data) is a warning: its cells have no
    record, and the next call runs them.

    Args:
        suite: Name of a suite, or ``./file.py:NAME``.
        strategies: One selector or several: ``"er[buffer=200]"``, ``"./file.py:Mine"``.
        scenarios: One or several of ``task``, ``domain``, ``class`` and ``online``.
        seeds: How many seeds, counted from 0, or a list of them.
        out: Folder of the run; a temporary folder without it.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; changes no result beyond rounding.
        jobs: Processes; 0 for one per core or GPU. Changes no result.
        lanes: Most cells that are trained together; 0 to choose by the model. Changes no result.
        settings: Training settings, ``model`` and model options by name, as ``--set`` takes them.
        keep_models: ``last`` or ``all`` saves trained models for ``lethe.export``.
        resume_from: Folder of an exported model to continue from.
        stale: ``rerun`` or ``keep`` cells of ``out`` whose code or data changed. Without it, cells are run
            again if only the user's own files changed; any other change is an error.

    Returns:
        The results of the whole folder.

    Raises:
        UserError: A name, selector or setting is unknown or impossible, or ``out`` cannot be used.

    Example:
        ```python
        import lethe

        frames = lethe.run("digits", ["finetune", "er[buffer=200]"], seeds=5, out="runs/first")
        acc = frames.scores[frames.scores["score"] == "acc"]
        acc.groupby("identity")["value"].mean()
        ```
    """
    from bench.runner import Options, carry_out  # imports torch, which a report does not need

    selectors = (strategies,) if isinstance(strategies, str) else tuple(strategies)
    kinds = (scenarios,) if isinstance(scenarios, str) else tuple(scenarios)
    wanted = read_seeds(str(seeds)) if isinstance(seeds, int) else check_seeds(list(seeds), seeds)
    texts = {name: text_of(value) for name, value in (settings or {}).items()}
    request = Request(suite, selectors, kinds, wanted, texts, "" if resume_from is None else str(resume_from))
    options = Options(device=device, jobs=jobs, lanes=lanes, quiet=True, keep_models=keep_models, stale=stale)
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        for words in request.remarks:
            warnings.warn(words, stacklevel=2)
        outcome = carry_out([request], folder, options, f"bench.run({suite!r}, {list(selectors)!r})")
        for words in outcome.unfinished:
            warnings.warn(f"not finished: {words}; the same call runs them", stacklevel=2)
        frames = load(folder)
        frames.unreadable = [*outcome.set_aside, *frames.unreadable]
        return frames


def report(
    folder: str | Path,
    *more: str | Path,
    out: str | Path | None = None,
    scores: Sequence[str] | None = None,
    spread: Spread = "ci",
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
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
    frames = load(folder, *more, prefer=prefer, labels=labels)
    return make_report(frames, target, scores, layout, time.strftime("%Y-%m-%d"))


def compare(
    base: str | Path,
    new: str | Path,
    *,
    scores: Sequence[str] = (),
    margins: Mapping[str, Mapping[str, float]] | None = None,
    expect: Expectation = "not-worse",
) -> Comparison:
    """Compare two runs, cell by cell and paired by seed, as ``lethe compare`` does.

    Args:
        base: Folder or packed file of a run, or the name of one under ``results/reference``.
        new: The run that is judged.
        scores: Names of scores, sizes and times; acc, aia, learning_acc and forgetting without it.
        margins: By suite and score, the largest difference that does not count, in points, or in per cent for
            sizes and times; ``any`` stands for all suites or scores. Without it, those of ``lethe.toml`` in
            the current folder, else 1 point and 5 %.
        expect: ``not-worse`` raises an alarm for what is worse, ``same`` also for what is better, ``equal``
            also for every record that is not equal bit for bit.

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
    return compare_runs(base, new, scores, margins, expect)


def export(run: str | Path, cell: str, out: str | Path, task: int | None = None) -> Path:
    """Export the saved model of a cell, as ``lethe export`` does.

    The folder can be loaded by ``Predictor.load``, and learning can continue from it (``resume_from``).

    Args:
        run: Folder of a run made with ``keep_models``.
        cell: Key of the cell, the beginning of the key, or ``strategy/seed``: ``"er/0"``.
        out: A new folder.
        task: Export the model after this many tasks; the last one saved without it.

    Returns:
        ``out``.

    Raises:
        UserError: The cell is unknown or has no saved model, the model cannot be exported, or ``out`` exists.

    Example:
        ```python
        lethe.run("digits", "er", seeds=1, out="runs/first", keep_models="last")
        lethe.export("runs/first", "er/0", "models/er")
        ```
    """
    from bench.export import find, save, served

    save(served(Path(run), find(Path(run), cell), task), Path(out))
    return Path(out)
