"""How the settings of a run were chosen: part of the manifest."""

from typing import Literal

from bench.schema.fields import Count, Described, Name, Value


class Trial(Described):
    """One setting that was tried."""

    settings: dict[str, Value]
    """The value of every tuned setting, by its name in the selector; empty if there is none to tune."""
    identity: Name
    """The canonical selector of the setting."""
    state: Literal["done", "failed", "pruned"]
    """Failed: a seed failed or diverged. Pruned: stopped before the last task."""
    score: float | None = None
    """Mean over the tuning seeds of the final average accuracy on validation rows; none unless done."""
    after_tasks: list[float] = []
    """The same after each task that was learned, over the tasks so far."""
    steps: Count
    """Training steps of one seed, multiplied by the number of seeds."""


class Tuned(Described):
    """How the settings of one method on one suite and scenario were chosen, by validation rows alone."""

    suite: Name
    """The suite of the results that the settings were chosen for."""
    scenario: Name
    """task, domain, class or online."""
    selector: Name
    """The method as it was asked for; settings in its brackets were not tuned."""
    protocol: Name
    """seeds, first-tasks=k, or end: see docs/tuning.md."""
    view: Name
    """The view of the suite that trials were trained on; it has no test rows."""
    seeds: list[Count]
    """The tuning seeds."""
    sampler: Name
    """grid, random, or tpe with the version of Optuna."""
    sampler_seed: Count
    """Seed of the sampler."""
    most_trials: Count
    """The largest number of trials."""
    most_steps: Count = 0
    """The largest number of training steps of all trials; 0 for no limit."""
    space: dict[str, str]
    """The values that could be tried, in the notation of search spaces."""
    trials: list[Trial]
    """The trials, in the order in which they were asked for; the first is the method's defaults."""
    chosen: Count | None = None
    """Number of the chosen trial, from 0; none if every trial failed."""

    @property
    def best(self) -> Trial | None:
        """The chosen trial."""
        return None if self.chosen is None else self.trials[self.chosen]
