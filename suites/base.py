"""Suites and their kinds of score, and what other packages import of data sets, streams and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from suites.announce import announced
from suites.bracketed import identity
from suites.description import in_words
from suites.errors import UserError, unknown
from suites.seeds import derive as derive, generator as generator
from suites.task_streams import (
    SCENARIOS as SCENARIOS,
    Data as Data,
    Scenario as Scenario,
    Stream as Stream,
    Task as Task,
)
from suites.training import Training as Training
from suites.values import Value


@dataclass(frozen=True)
class Score:
    """The kind of score in the score matrix R; higher is better. See ``PROPORTION`` and ``BLEU``."""

    name: str
    """Its name, in lower case."""
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""

    @property
    def title(self) -> str:
        """Return the name as reports print it."""
        return _TITLES.get(self.name, self.name)

    @property
    def unit(self) -> str:
        """Return the unit of the numbers in reports, which are 100 (score - low) / (high - low)."""
        if self.low == 0 and self.high in (1, 100):
            return "%" if self.high == 1 else ""
        return f"% of {self.low:g} to {self.high:g}"


_TITLES = {"bleu": "BLEU", "chrf": "chrF"}
PROPORTION = Score("accuracy", 0.0, 1.0)
"""Accuracy: the share of rows that were classified correctly, from 0 to 1."""
BLEU = Score("bleu", 0.0, 100.0)
"""Corpus BLEU of generated texts (Papineni et al. 2002), from 0 to 100, computed by sacrebleu (Post 2018)."""
NOT_STATED = "not stated by its authors"
"""The licence of a data set whose authors name none."""


@dataclass(frozen=True)
class _CheckedLoad:
    """The ``load`` of a suite with a check of its result."""

    suite: str
    of: Callable[[], Data]

    def __call__(self) -> Data:
        from suites.checks import check_data, guarded

        with announced(f"reading the data of {self.suite} ..."):
            data: Data = guarded(f"suite {self.suite}", self.of)
        check_data(self.suite, data)
        return data


@dataclass(frozen=True)
class Suite:
    """A named, versioned recipe for task streams.

    Example:
        ```python
        import lethe


        def load() -> lethe.Data: ...


        MINE = lethe.Suite(
            name="mine",
            version=1,
            summary="my images in five tasks of two classes",
            source="ours",
            load=load,
            split=lethe.by_class(5),
            scenarios=("task", "class"),
            training=lethe.Training(epochs=5, optimiser="adam", lr=1e-3),
        )
        ```

        In a file ``mine.py``: ``lethe run ./mine.py:MINE -s er --seeds 5``.
    """

    name: str
    """Name of the suite."""
    version: int
    """Raised when the same name gives other streams; records of two versions are never averaged."""
    summary: str
    """One line on what is learned."""
    source: str
    """Papers of the suite and of its data, separated by semicolons."""
    licence: str = field(default="", kw_only=True)
    """Licence of the data as its authors state it."""
    load: Callable[[], Data]
    """A function that returns the data set; it raises Unavailable, with what to do, if it cannot be found.
    The suite wraps it in a check, which raises UserError for a data set that cannot be learned from."""
    split: Callable[[Data, Scenario, int, Training], Stream]
    """A function that makes the stream of a data set, scenario and seed, such as ``by_class(5)``."""
    scenarios: tuple[Scenario, ...]
    """Scenarios that it has."""
    model: str = "mlp"
    """Name of the default model."""
    model_options: Mapping[str, int | str] = field(default_factory=dict)
    """Options of the default model that differ from the model's own defaults."""
    training: Training = field(default_factory=Training)
    """Default training settings."""
    score: Score = PROPORTION
    """Kind of the entries of R."""
    needs: str = "nothing beyond the installed packages"
    """Files or packages that the data set needs."""
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Settings of papers by name, ``name[preset=...]``: options of the split, training settings, ``model``
    and options of the model."""
    why_not: Mapping[Scenario, str] = field(default_factory=dict)
    """The reason for each scenario that it does not have, for messages."""

    def __post_init__(self) -> None:
        """Wrap ``load`` in a check, once; ``dataclasses.replace`` passes a function that is wrapped."""
        of = self.load.of if isinstance(self.load, _CheckedLoad) else self.load
        object.__setattr__(self, "load", _CheckedLoad(self.name, of))

    @property
    def options(self) -> Mapping[str, Value]:
        """Options of the split and their values; none if it is a function of the suite's author."""
        from suites.task_rows import OptionsOfSplit

        return self.split.options() if isinstance(self.split, OptionsOfSplit) else {}

    def with_options(self, given: Mapping[str, str]) -> Suite:
        """Return the suite with other options, as in ``split-mnist[tasks=10]``, or with those of a preset.

        Args:
            given: Options of the split, and ``preset``, as text.

        Raises:
            UserError: An option, a value or the preset is unknown or impossible.
        """
        from suites.task_rows import OptionsOfSplit

        if not isinstance(self.split, OptionsOfSplit):
            raise UserError(f"suite {self.name} has no options: its split is a function of its own")
        given, usual, recipe = dict(given), self.options, dict[str, Value]()
        if "preset" in given:
            preset = given.pop("preset")
            if preset not in self.presets:
                raise unknown(f"preset of {self.name}", preset, list(self.presets))
            recipe = dict(self.presets[preset])
        of_split = {k: recipe.pop(k) for k in [*recipe] if k in usual}
        split = self.split.with_options(self.name, of_split | given)
        model = str(recipe.pop("model", self.model))
        known = [f.name for f in fields(Training)]
        training = replace(self.training, **{k: recipe.pop(k) for k in [*recipe] if k in known})  # type: ignore[arg-type]
        differing = {k: v for k, v in split.options().items() if v != usual[k]}
        options: dict[str, Any] = {**(self.model_options if model == self.model else {}), **recipe}
        name = identity(self.name, differing)
        summary = f"{self.summary} (here {in_words(differing)})" if differing else self.summary
        made = replace(self, name=name, summary=summary, split=split)
        return replace(made, training=training, model=model, model_options=options)

    @property
    def generates(self) -> bool:
        """Whether models generate texts; known from the score, before any data is loaded."""
        return self.score == BLEU

    @property
    def usual_scenario(self) -> Scenario:
        """The scenario if none is chosen: class, or the first that the suite has of domain and task."""
        preferred: tuple[Scenario, ...] = ("class", "domain", "task", "online")
        return next(kind for kind in preferred if kind in self.scenarios)

    def check_scenario(self, scenario: str) -> None:
        """Raise UserError for a scenario that is unknown or that the suite does not have."""
        if scenario not in SCENARIOS:
            raise unknown("scenario", scenario, list(SCENARIOS))
        if scenario not in self.scenarios:
            why = f" ({self.why_not[scenario]})" if scenario in self.why_not else ""
            raise UserError(
                f"suite {self.name} has no {scenario} scenario{why}; it has: {', '.join(self.scenarios)}"
            )

    def training_for(self, scenario: Scenario, changes: dict[str, object]) -> Training:
        """Return the training settings of a scenario with changes.

        Args:
            scenario: ``online`` is one pass in batches of ten; all others have the suite's settings.
            changes: New values by name of the field of ``Training``.

        Raises:
            UserError: A name is not a field of ``Training``.
        """
        base = self.training
        if scenario == "online":
            base = replace(base, epochs=1, iterations=0, batch=10)
        known = [f.name for f in fields(Training)]
        for name in changes:
            if name not in known:
                raise unknown("setting", name, known)
        return replace(base, **changes)  # type: ignore[arg-type]

    def stream(self, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed.

        Args:
            data: The data set, from ``load``.
            scenario: ``task``, ``domain``, ``class`` or ``online``.
            seed: Seed of the order of classes or domains, of the held-out rows and of views.
            training: Training settings; ``validation``, ``shots`` and ``rows_per_class`` decide on rows.

        Raises:
            UserError: The suite does not have the scenario, its score does not fit its data, or the data or
                the stream cannot be learned from.
        """
        from suites.checks import check_data, check_stream, guarded

        check_data(self.name, data)
        self.check_scenario(scenario)
        if data.generates != self.generates:
            has = "has targets" if data.generates else "has no targets"
            raise UserError(
                f"suite {self.name} is scored by {self.score.title} and its data {has}: "
                "give both score=BLEU and Data.targets, or neither"
            )
        what = f"suite {self.name}, scenario {scenario}, seed {seed}"
        made: Stream = guarded(what, lambda: self.split(data, scenario, seed, training))
        check_stream(self.name, made, training)
        return made
