"""What is tried next: a grid, random values, or what Optuna's tree of Parzen estimators suggests.

Every sampler is a deterministic function of its seed and of the finished trials, so that tuning that was
stopped goes on as if it had not been. Trial 0 is the method's defaults; no sampler is asked for it.
"""

from __future__ import annotations

import random
import warnings
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol

from bench.tune.space import Axis, Settings, Space
from suites.base import derive
from suites.errors import UserError, unknown

SAMPLERS = ("auto", "tpe", "random", "grid")
AT_ONCE = 8
"""Number of trials that tpe is asked for at once, before their scores are known; the first are random."""


class Sampler(Protocol):
    """Asked for the settings of trials 1, 2 ... in order, and told their scores."""

    name: str
    at_once: int
    """Number of trials that can be asked for at once without a difference; 0 for all."""

    def ask(self, number: int) -> Settings | None:
        """Return the settings of a trial; None if there are no more."""

    def tell(self, number: int, score: float | None, pruned: bool = False) -> None:
        """Tell the score of a trial, from 0 to 1; None if it failed or was stopped."""


def sampler_name(wanted: str) -> str:
    """Return the sampler that is used: ``auto`` is tpe where Optuna is installed, else random.

    Raises:
        UserError: It is unknown, or Optuna is not installed.
    """
    if wanted not in SAMPLERS:
        raise unknown("sampler", wanted, list(SAMPLERS))
    if wanted in ("random", "grid"):
        return wanted
    try:
        import optuna  # noqa: F401
    except ImportError:
        if wanted == "auto":
            return "random"
        why = "the sampler tpe is Optuna's, which is not installed: pip install 'lethe-bench[tune]'"
        raise UserError(f"{why}, or choose --sampler random") from None
    return "tpe"


def make_sampler(
    kind: str, space: Space, trials: int, seed: int, name: str, journal: Path, dry_run: bool = False
) -> Sampler:
    """Return a sampler.

    Args:
        kind: tpe, random or grid.
        space: What is searched.
        trials: Number of trials, with trial 0.
        seed: The seed of the sampler.
        name: Name of what is tuned; samplers of other names draw other numbers.
        journal: File in which Optuna stores trials; its folder is made.
        dry_run: Whether the file is only read.
    """
    if kind == "grid":
        return _Grid(space, trials, derive(seed, name))
    if kind == "random":
        return _Random(space, seed, name)
    return _OptunaSampler(space, seed, name, journal, dry_run)


class _Random:
    """Every value is drawn from its range, independently."""

    name, at_once = "random", 0

    def __init__(self, space: Space, seed: int, name: str) -> None:
        self.space, self.seed, self.of = space, seed, name

    def ask(self, number: int) -> Settings | None:
        """Return the settings of a trial, which depend on its number alone."""
        draws = random.Random(derive(self.seed, f"{self.of}/{number}"))
        return {name: axis.at(draws.random()) for name, axis in self.space.axes.items()}

    def tell(self, number: int, score: float | None, pruned: bool = False) -> None:
        """Do nothing: draws do not depend on scores."""


class _Grid:
    """The points of a grid with as many values of each range as the budget allows, at least two.

    Of a grid with more points than trials, some are drawn.
    """

    name, at_once = "grid", 0

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        def size(n: int) -> int:
            return prod(len(axis.points(n)) for axis in space.axes.values())

        n = 2
        while n < trials and size(n) < size(n + 1) < trials:
            n += 1
        points = [axis.points(n) for axis in space.axes.values()]
        found = [dict(zip(space.axes, values, strict=True)) for values in product(*points)]
        if len(found) >= trials:
            chosen = random.Random(seed).sample(range(len(found)), trials - 1)
            found = [found[i] for i in sorted(chosen)]
        self.found = found

    def ask(self, number: int) -> Settings | None:
        """Return a point of the grid."""
        return self.found[number - 1] if number <= len(self.found) else None

    def tell(self, number: int, score: float | None, pruned: bool = False) -> None:
        """Do nothing: a grid does not depend on scores."""


class _OptunaSampler:
    """Optuna's TPE. Its storage is read back: trials that it suggested before are suggested again.

    Trial n is trial n - 1 of Optuna's study. A sampler of its own for each trial, with a seed of its own,
    makes suggestions that depend on the stored trials and not on how many were asked for in this process.
    """

    at_once = AT_ONCE

    def __init__(self, space: Space, seed: int, name: str, journal: Path, dry_run: bool) -> None:
        import optuna
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.name = f"tpe (optuna {optuna.__version__})"
        self.optuna: Any = optuna
        self.space, self.seed, self.of = space, seed, name
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # Another space or seed is another study.
        words = f"{name} {space.as_text()} seed {seed}"
        stored: Any = InMemoryStorage()
        if journal.exists() or not dry_run:
            journal.parent.mkdir(parents=True, exist_ok=True)
            in_file = JournalStorage(JournalFileBackend(str(journal)))
            if not dry_run:
                stored = in_file
            elif words in optuna.get_all_study_names(in_file):
                optuna.copy_study(from_study_name=words, from_storage=in_file, to_storage=stored)
        self.study = optuna.create_study(
            study_name=words, storage=stored, direction="maximize", load_if_exists=True
        )
        self.ranges = {key: self._distribution(axis) for key, axis in space.axes.items()}

    def _distribution(self, axis: Axis) -> Any:
        of = self.optuna.distributions
        if axis.values:
            return of.CategoricalDistribution(axis.values)
        if axis.whole:
            return of.IntDistribution(round(axis.low), round(axis.high), log=axis.log)
        return of.FloatDistribution(axis.low, axis.high, log=axis.log)

    def ask(self, number: int) -> Settings | None:
        """Return the settings of a trial: those in the storage, or new ones."""
        stored = self.study.get_trials(deepcopy=False)
        if number <= len(stored):
            params = stored[number - 1].params
        else:
            seed = derive(self.seed, f"{self.of}/{number}") % 2**32
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constant_liar may still be called experimental
                self.study.sampler = self.optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=AT_ONCE, constant_liar=True
                )
            params = self.study.ask(self.ranges).params
        axes = self.space.axes
        return {
            name: value if axes[name].values else axes[name].rounded(value) for name, value in params.items()
        }

    def tell(self, number: int, score: float | None, pruned: bool = False) -> None:
        """Store the score of a trial, unless it is stored."""
        if self.study.get_trials(deepcopy=False)[number - 1].state.is_finished():
            return
        if score is None:
            states = self.optuna.trial.TrialState
            self.study.tell(number - 1, state=states.PRUNED if pruned else states.FAIL)
        else:
            self.study.tell(number - 1, score)
