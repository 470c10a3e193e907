"""An experiment file: what to run, in TOML."""

from typing import Annotated

from pydantic import Field

from bench.schema.fields import Count, Described, FileModel, Value

DEFAULT_SEEDS = 10
"""Number of seeds of a run that names none: with it a table of 25 strategies can show differences."""

StrategyTable = dict[str, dict[str, Value | list[Value]]]
"""Settings by strategy."""


class RunTable(Described):
    """A ``[[run]]`` table: one suite with strategies, scenarios, seeds and settings."""

    suite: str = ""
    """Name of a suite; the data set of ``[dataset]`` if omitted."""
    strategies: Annotated[list[str | StrategyTable] | StrategyTable, Field(min_length=1)]
    """Selectors: ``er[buffer=200]``, ``ewc[lam=1|10]``; or tables of settings by strategy, where a list is a
    grid: ``{ ewc = { lam = [1, 10] } }``."""
    scenarios: Annotated[list[str], Field(min_length=1)] = [""]
    """task, domain, class, online; if omitted, class, or domain for a suite without it."""
    seeds: int | str | list[int] = DEFAULT_SEEDS
    """How many, counted from 0; or text as on the command line; or a list."""
    settings: Annotated[dict[str, Value | list[Value]], Field(alias="set")] = {}
    """Training settings, ``model``, and options of the model; a list is a grid of every strategy."""
    budget: dict[str, Value] = {}
    """What every method may use: ``memory = "2MB"``, ``compute = 1.5``."""


class TuneTable(Described):
    """A ``[tune]`` table: how the settings of every strategy are chosen before the runs."""

    trials: Annotated[int, Field(ge=1)] = 30
    """Number of trials of each strategy on each suite and scenario, its defaults included."""
    steps: Count = 0
    """Largest number of training steps of these trials together; 0 for no limit."""
    protocol: str = "seeds"
    """seeds, first-tasks=k or end."""
    seeds: int | str | list[int] = "1000-1002"
    """The tuning seeds, which are not seeds of a ``[[run]]`` table."""
    sampler: str = "auto"
    """tpe, random, grid, or auto: tpe where Optuna is installed, else random."""
    sampler_seed: Count = 0
    """Seed of the sampler."""
    space: list[str] = []
    """Search spaces in place of the declared ones: ``ewc[lam=1..1e5:log]``."""
    report: str = "chosen"
    """Which settings are run on the reported seeds: chosen, incumbents, all or none."""
    untuned: bool = False
    """Whether the strategies' defaults are run on the reported seeds too."""
    prune: bool = False
    """Whether a trial stops after a task, from the second on, if its validation score is below the median."""


class Experiment(FileModel):
    """An experiment file. ``schema = 1`` can be omitted."""

    out: str | None = None
    """Folder of the run, if ``--out`` is not given."""
    dataset: dict[str, Value | list[str]] = {}
    """A data set of yours: ``path``, relative to this file, and the options of ``lethe run`` for it:
    ``text``, ``label``, ``task`` ..."""
    runs: Annotated[list[RunTable], Field(alias="run", min_length=1)]
    """The tables of what to run."""
    track: list[str] = []
    """Trackers, with a place: ``["tensorboard:runs/events", "mlflow"]``, if ``--track`` is not given."""
    tune: TuneTable | None = None
    """How settings are chosen first; none for the settings as they are."""
