"""Data sets, tasks, streams and suites, and the registry of suites.

Axes: N images or texts of the data set, T tasks, C raw classes, U units of the head, K taps, D pixels.

A row number identifies one image or text as one task sees it: ``row = task * N + index``. The index selects
the image or text, the task selects the view (permutation, rotation) and the label, so a replay memory only
stores row numbers.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_type_hints

from suites.announce import announced
from suites.bracketed import identity, name_of, take_apart
from suites.description import Description, Option, field_help, in_words, search_in_words, type_in_words
from suites.errors import UserError, unknown
from suites.registry import Registry
from suites.training import Training as Training  # suites and strategies import it from here
from suites.values import Value

if TYPE_CHECKING:  # reports need a suite's score but no tensors, and torch takes seconds to import
    import torch
    from torch import Tensor

    from suites.declared import Declared
    from suites.mapped_file import MappedFile

Scenario = Literal["task", "domain", "class", "online"]
SCENARIOS: tuple[Scenario, ...] = ("task", "domain", "class", "online")


@dataclass(frozen=True)
class Data:
    """A data set in memory. The first ``n_train`` rows are for training, the others for testing.

    ``Suite.load`` checks it: a data set that cannot be learned from is refused with the reason in one line.

    Example:
        ```python
        n_train = 800
        data = lethe.Data(
            name="mine",
            x_N=x_N,  # uint8, (1000, 1, 28, 28)
            y_N=y_N,  # int64, (1000,)
            n_train=n_train,
            class_names=("cat", "dog"),
            scale=255.0,
            fingerprint=lethe.fingerprint(x_N, y_N, n_train),
        )
        ```
    """

    name: str
    """Name of the data set, for messages and records."""
    x_N: Tensor
    """Pixels, uint8, shape (N, channels, height, width), contiguous. For texts shape (N, 0): bench.encode
    replaces it by token numbers, or by the features of a frozen model."""
    y_N: Tensor
    """Raw classes, int64, shape (N,); -1 for a row of no class, which is only used for testing."""
    n_train: int
    """Number of rows for training; they come first."""
    class_names: tuple[str, ...]
    """Names of the C raw classes: class c is ``class_names[c]``."""
    scale: float
    """Pixels are divided by this, so that they lie in [0, 1]."""
    fingerprint: str
    """SHA-256 over shape, pixels or texts, labels and split, in hexadecimal; see ``lethe.fingerprint``."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, subtracted after scaling; empty for none."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, a divisor after that; empty for none."""
    texts: tuple[str, ...] = ()
    """The N texts of a data set of texts; empty for images."""
    targets: tuple[str, ...] = ()
    """The N target texts of a sequence-to-sequence data set, whose rows all have class 0; else empty."""
    domain_N: Tensor | None = None
    """Domain of each row, int64, shape (N,); None if the data set has no domains."""
    domain_names: tuple[str, ...] = ()
    """Names of the domains: domain d is ``domain_names[d]``."""
    prefixes: tuple[str, ...] = ()
    """The beginning of every text of each domain, which tells the model what to generate; empty for none."""
    for_tuning: bool = False
    """Whether its test rows were removed; see suites.views."""
    validation_N: Tensor | None = None
    """Which training rows are for validation, bool, shape (N,); None if the seed draws them. With
    ``validation=0`` they are neither learned nor scored."""
    file: MappedFile | None = None
    """The file that ``x_N`` is a view of, for a data set larger than memory; None if ``x_N`` is in memory."""

    def index_of(self, rows: Tensor) -> Tensor:
        """Return the index of the image or text of each row number, from 0 to N - 1.

        Args:
            rows: Row numbers, int64, any shape.
        """
        return rows % self.x_N.shape[0]

    def task_of(self, rows: Tensor) -> Tensor:
        """Return the task of each row number, counted from 0.

        Args:
            rows: Row numbers, int64, any shape.
        """
        return rows // self.x_N.shape[0]

    @property
    def generates(self) -> bool:
        """Whether the data set is sequence to sequence: models generate a text for each row, not a class."""
        return bool(self.targets)


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


def _no_rows() -> Tensor:
    import torch

    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Task:
    """One task of one seed: its rows, its classes and their units of the head."""

    classes: tuple[int, ...]
    """Raw classes of the task."""
    units: tuple[int, ...]
    """Unit of the head for each of ``classes``."""
    train_rows: Tensor
    """Row numbers for training, int64, in a fixed order; the engine draws the batches."""
    validation_rows: Tensor
    """Row numbers for validation, int64; held out from training."""
    test_rows: Tensor
    """Row numbers for testing, int64."""
    wrong_rows: Tensor = field(default_factory=_no_rows)
    """Row numbers of training and validation rows with a wrong label, int64: label noise."""
    wrong_units: Tensor = field(default_factory=_no_rows)
    """The unit of the wrong label of each of ``wrong_rows``, int64."""
    also_units: tuple[int, ...] = ()
    """Units of other tasks' classes that ``train_rows`` has too, in a stream without clear boundaries."""


@dataclass(frozen=True)
class Stream:
    """The ordered tasks of one suite for one seed. ``by_class`` and the other splits make it."""

    seed: int
    """The seed that it was drawn with."""
    scenario: Scenario
    """``task``, ``domain``, ``class`` or ``online``."""
    data: Data
    """The data set that row numbers refer to."""
    tasks: tuple[Task, ...]
    """The T tasks, in order."""
    n_units: int
    """Number of units of the head."""
    unit_TC: Tensor
    """Unit of the head for each raw class in each task, int64; -1 if the task does not have the class."""
    tap_TKD: Tensor | None = None
    """A view of the pixels, int64: pixel d of task t is the sum over k of weight[t,k,d] * x[tap[t,k,d]].
    None if all tasks see the pixels unchanged."""
    weight_TKD: Tensor | None = None
    """Weights of the view, float."""
    outside_rows: Tensor = field(default_factory=_no_rows)
    """Row numbers, int64, of rows of no class; a model should distinguish them from those of the tasks."""
    in_order: bool = False
    """Whether the rows of a task are learned in the order of ``train_rows``, not in one drawn by the seed."""

    def unit_names(self) -> list[str]:
        """Return the name of each unit of the head: its classes, and the task if names would be equal."""
        classes: list[list[str]] = [[] for _ in range(self.n_units)]
        first: dict[int, int] = {}
        for task, units in enumerate(self.unit_TC.tolist()):
            for name, unit in zip(self.data.class_names, units, strict=True):
                if unit >= 0:
                    first.setdefault(unit, task)
                    classes[unit] += [name] if name not in classes[unit] else []
        names = ["/".join(of) for of in classes]
        times = Counter(names)
        return [
            f"{n} (task {first[u] + 1})" if times[n] > 1 and u in first else n for u, n in enumerate(names)
        ]


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


class SuiteRegistry(Registry[Suite]):
    """All suites; the modules of this package add theirs with ``register``."""

    kind, plural, package, group = "suite", "suites", "suites", "lethe.suites"

    def __init__(self, *sources: Path) -> None:
        super().__init__(*sources)
        self._varied: dict[str, tuple[Suite, Suite]] = {}
        self.declared: Declared | None = None
        """suites.declared.Declared, set by the package, as no cell of a built-in suite depends on it."""

    def is_one(self, value: object) -> TypeGuard[Suite]:
        """Return whether a value is a suite."""
        return isinstance(value, Suite)

    def is_declared(self, name: str) -> bool:
        """Return whether a name is a data set of the user, or a view of one; no file is opened."""
        return self.declared is not None and self.declared.knows(name_and_view(name)[0])

    # A name may have options in brackets, and a view after @: they change the suite, not where it is defined.

    def get(self, name: str) -> Suite:
        """Return a suite, ``digits[tasks=2]`` with options, or a view of one, ``digits@tuning``.

        Raises:
            UserError: As ``Registry.get``, and for options and views that are unknown or impossible.
        """
        suite, view = name_and_view(name)
        if view:
            # Not an import statement: the code of a cell without a view does not depend on views.
            seen: Suite = importlib.import_module("suites.views").view_of(self.get(suite), view)
            return seen
        if self.declared and self.declared.knows(name):
            return self.declared.get(name)
        plain, given = take_apart(name)
        made = super().get(plain)
        if not given:
            return made
        if name not in self._varied or self._varied[name][0] is not made:
            self._varied[name] = made, made.with_options(given)
        return self._varied[name][1]

    def spelled(self, name: str) -> str:
        """Return the canonical spelling of a name: options that differ from the suite's own, sorted."""
        suite, view = name_and_view(name)
        if self.declared and self.declared.knows(suite):
            return self.declared.spelled(suite) + (f"@{view}" if view else "")
        plain, given = take_apart(suite)
        usual, options = (super().get(plain).options, self.get(suite).options) if given else ({}, {})
        differing = {k: v for k, v in options.items() if v != usual[k]}
        return identity(super().spelled(plain), differing) + (f"@{view}" if view else "")

    def has(self, name: str) -> bool:
        """Return whether a name is that of a suite, also with options or of a view of one."""
        return self.is_declared(name) or super().has(plain_name(name))

    def knows(self, name: str) -> bool:
        """Return whether a name is that of a suite, also with options, or refers to a file."""
        return self.is_declared(name) or super().knows(plain_name(name))

    def defined_in(self, name: str) -> str | Path:
        """Return the module or file that defines a suite."""
        if self.declared and self.is_declared(name):
            return self.declared.module
        return super().defined_in(plain_name(name))

    def describe_value(self, name: str, value: Suite) -> Description:
        """Return the description of a suite, with its training settings as options."""
        said = {key: getattr(value, key) for key in ("version", "source", "licence", "scenarios", "model")}
        if not value.licence:
            del said["licence"]
        if value.model_options:
            said["model_options"] = value.model_options
        if value.needs != Suite.needs:
            said["needs"] = value.needs
        if value.presets:
            said["presets"] = value.presets
        metadata = {k: in_words(v) for k, v in said.items()}
        hints, help_ = get_type_hints(Training, include_extras=True), field_help(Training)
        options = tuple(
            Option(k, type_in_words(hints[k]), in_words(v), help_.get(k, ""), search_in_words(hints[k]))
            for k, v in asdict(value.training).items()
        )
        of_split: tuple[Option, ...] = getattr(value.split, "described", tuple)()
        return Description(self.kind, name, value.summary, "", metadata, options, of_split)


def name_and_view(name: str) -> tuple[str, str]:
    """Return the names of suite and view in ``digits@tuning``; the view is empty for a whole suite."""
    suite, at, view = name.rpartition("@")
    return (suite, view) if at and not {*"/.:]"} & {*view} else (name, "")


def plain_name(name: str) -> str:
    """Return the name of a suite without options and view: ``digits[tasks=2]@tuning`` is ``digits``."""
    return name_of(name_and_view(name)[0])


REGISTRY = SuiteRegistry(Path(__file__).parent)
SUITES = REGISTRY.entered


def register(suite: Suite) -> Suite:
    """Add a suite to the registry under its name and return it."""
    # A suite does not know its module, which decides whether it is built in: the caller's is taken.
    REGISTRY.enter(suite.name, suite, sys._getframe(1).f_globals["__name__"])
    return suite


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator for one random axis of one seed.

    Args:
        seed: The seed of the stream.
        name: Name of the axis: ``"classes"``, ``"validation"`` ...; equal names draw equal numbers.
    """
    import torch

    return torch.Generator().manual_seed(derive(seed, name))


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed from a seed and the name of an axis, so that axes are independent."""
    import hashlib

    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
