"""``lethe.tune``: settings chosen by validation rows, then the results of the chosen ones."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.api.datasets import Columns, suite_or_dataset
from bench.api.experiments import load, request_of, warn_of
from bench.api.notebook import Frames
from bench.checks.before_run import check_before_run, leave_out
from bench.plan import DEFAULT_SEEDS, ResolvedPlan, Value
from bench.results import Trial
from suites import notes_of
from suites.announce import to_stderr

if TYPE_CHECKING:
    import datasets

    from bench.tune import Study


@dataclass(repr=False)
class Tuning:
    """What ``tune`` chose, and the results of it on the reported seeds.

    Example:
        ```python
        tuned = lethe.tune("digits", ["ewc", "er"], trials=12, out="runs/tuned")
        tuned.table()  # a row for each method: validation score of the defaults and of what was chosen
        tuned.chosen["class"]["ewc"]  # 'ewc[lam=4270,lr=0.000587]', a strategy for lethe.run
        tuned.frames.table()  # the results on the reported seeds
        ```
    """

    study: Study
    """The methods with their search spaces and trials."""
    frames: Frames | None = None
    """Results on the reported seeds; None for ``report="none"`` and for a dry run."""
    plan: ResolvedPlan | None = None
    """Of a dry run: the plan of the trials that do not depend on results; printed, a line for each cell."""
    unfinished: list[str] = field(default_factory=list)
    """A line for each fault of the environment, with its cells, which have no record."""

    @property
    def chosen(self) -> dict[str, dict[str, str]]:
        """For each scenario and tuned method the strategy with the chosen settings."""
        found: dict[str, dict[str, str]] = {}
        for of in self.study.methods:
            if of.best is not None:
                found.setdefault(of.scenario, {})[of.selector] = of.best.identity
        return found

    @property
    def trials(self) -> pd.DataFrame:
        """All trials, a row each: number, state, validation score, training steps, and its settings."""
        rows = [
            {"scenario": of.scenario, "strategy": of.selector, "trial": number, "state": t.state}
            | {"validation": _score(t), "steps": t.steps, **t.settings}
            for of in self.study.methods
            for number, t in enumerate(of.trials)
        ]
        return pd.DataFrame(rows, columns=None if rows else ["scenario", "strategy", "trial", "state"])

    def table(self) -> pd.DataFrame:
        """Return a row for each method: its search space, trials, steps, scores, and what was chosen.

        ``defaults`` and ``validation`` are mean final accuracies on validation rows of the tuning seeds, at
        the defaults and as chosen, proportions. ``why`` is the reason why a method was not tuned.
        """
        rows = []
        for of in self.study.methods:
            space = ", ".join(f"{name}={values}" for name, values in of.space.as_text().items())
            scores = [_score(t) for t in (of.trials[0] if of.trials else None, of.best)]
            steps = sum(t.steps for t in of.trials)
            about = (of.suite, of.scenario, of.selector, space, len(of.trials), steps)
            rows.append((*about, *scores, of.best.identity if of.best else "", of.why_not))
        names = "suite scenario strategy space trials steps defaults validation chosen why"
        return pd.DataFrame(rows, columns=names.split())

    def __repr__(self) -> str:
        methods, how = self.study.methods, self.study.how
        n = sum(of.best is not None for of in methods)
        done = "a dry run" if self.plan is not None else f"{n} of {len(methods)} methods tuned"
        named = ", ".join(dict.fromkeys(f"{of.suite} {of.scenario}" for of in methods))
        return f"<Tuning of {named}: {done}, {how.trials} trials each, protocol {how.protocol}>"


def _score(trial: Trial | None) -> float:
    return math.nan if trial is None or trial.score is None else trial.score


def tune(
    suite: str = "",
    strategies: str | Iterable[str] | Mapping[str, Mapping[str, Value | Iterable[Value]] | None] = (),
    *,
    dataset: str | Path | pd.DataFrame | datasets.Dataset | datasets.DatasetDict | None = None,
    columns: Columns | None = None,
    scenarios: str | Iterable[str] = "",
    seeds: int | str | Iterable[int] = DEFAULT_SEEDS,
    out: str | Path | None = None,
    settings: Mapping[str, Value | Iterable[Value]] | None = None,
    budget: Mapping[str, Value] | str | None = None,
    trials: int = 30,
    steps: int = 0,
    protocol: str = "seeds",
    tuning_seeds: int | str | Iterable[int] = "1000-1002",
    sampler: str = "auto",
    sampler_seed: int = 0,
    space: str | Sequence[str] = (),
    report: str = "chosen",
    untuned: bool = False,
    prune: bool = False,
    device: str = "cpu",
    jobs: int = 1,
    lanes: int = 0,
    stale: str = "",
    check: bool = True,
    progress: bool = False,
    dry_run: bool = False,
) -> Tuning:
    """Choose settings by validation rows of tuning seeds, then run the chosen ones, as ``lethe tune`` does.

    Trials are trained together as lanes, on a view of the suite that has no test rows. Called again with the
    same ``out``, it continues and chooses the same.

    Args:
        suite: Name of a suite, or ``./file.py:NAME``.
        strategies: Methods, as in ``run``; settings that are given are not tuned, and a range or several
            values replace the declared ones: ``"ewc[lam=1..1e5:log]"``.
        dataset: A data set of yours instead of a suite, as in ``run``.
        columns: What its columns mean, as in ``run``.
        scenarios: One or several of ``task``, ``domain``, ``class`` and ``online``, as in ``run``.
        seeds: The reported seeds, as in ``run``.
        out: Folder of the results; trials are in its folder ``tuning``. A temporary folder without it.
        settings: Training settings, ``model`` and model options of all methods; one value each.
        budget: What every method may use, as in ``run``: each trial is sized to it.
        trials: Trials of each strategy; the first has its defaults.
        steps: Limit on the training steps of all trials of a strategy; 0 for none.
        protocol: ``seeds``, ``first-tasks=K`` or ``end``.
        tuning_seeds: Seeds that settings are chosen on; none of the reported ones.
        sampler: ``tpe`` (Optuna), ``random``, ``grid``, or ``auto``: tpe if Optuna is installed, else random.
        sampler_seed: Seed of the sampler.
        space: Ranges in place of those declared: ``"ewc[lam=1..1e5:log]"``, or a list of them.
        report: Trials to run on the reported seeds: ``chosen``, ``incumbents`` (best yet), ``all``, ``none``.
        untuned: Run the strategies' defaults on the reported seeds too.
        prune: Stop trials below the median of validation scores, from task 2 on.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        jobs: Processes; 0 for one per core or GPU, as the command line has it.
        lanes: Largest number of cells trained together; 0 to choose by the model.
        stale: ``rerun`` or ``keep`` cells of ``out`` whose code or data changed.
        check: Check a method in a file of yours before its cells run.
        progress: Show trials, cells and steps done, as the command line does.
        dry_run: Run nothing; ``.table()`` has the search spaces and ``.plan`` the first trials.

    Returns:
        What was chosen, and the results of it.

    Raises:
        UserError: A name, range or protocol is unknown or impossible, tuning seeds are reported seeds, or
            ``out`` cannot be used.

    Example:
        ```python
        tuned = lethe.tune("digits", ["finetune", "ewc", "er"], trials=12, out="runs/tuned", progress=True)
        tuned.table()
        frames = lethe.run("digits", list(tuned.chosen["class"].values()), seeds="20-29")
        ```
    """
    from bench.runner import Options, carry_out  # import torch
    from bench.tune import Choosing, Study

    suite = suite_or_dataset(suite, dataset, columns)
    request = request_of(suite, strategies, scenarios, seeds, settings, budget)
    how = Choosing.read(
        tuning_seeds, space, trials=trials, steps=steps, protocol=protocol, sampler=sampler,
        sampler_seed=sampler_seed, report=report, untuned=untuned, prune=prune,
    )  # fmt: skip
    checker = check_before_run if check else leave_out
    options = Options(device, jobs, lanes, stale=stale, quiet=not progress, check_method=checker)
    options.check()
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = Path(scratch) / "run" if out is None else Path(out)
        study = Study(request.alternatives, how, folder, dry_run)
        found = Tuning(study)
        if dry_run:
            found.plan = study.first_plan(options)
            return found
        for words in notes_of(suite):
            warnings.warn(words, stacklevel=2)
        failures: dict[str, str] = {}
        command = f"bench.tune({suite!r}, {list(request.strategies)!r})"
        found.unfinished = study.tune(options, command, to_stderr if progress else lambda words: None)
        if not found.unfinished and (reported := study.reported()):
            outcome = carry_out(reported, folder, options, command)
            failures, found.unfinished = outcome.failures, outcome.unfinished
            found.frames = load(folder)
            found.frames.unfinished = outcome.unfinished
        warn_of(failures, found.unfinished)
        return found
