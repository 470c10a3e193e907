"""Suite, stream and task: what is learned, in which order, and the registry of suites.

Axes: N images or texts of the data set, T tasks, C raw classes, U units of the head, K taps, D pixels.

A row number names one image or text as one task sees it: ``row = task * N + index``. The index says which
one, the task says through which view (permutation, rotation) and with which label, so a replay memory need
hold nothing but row numbers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeGuard, get_type_hints

from suites.description import Description, Option, field_help, in_words, type_in_words
from suites.errors import UserError, unknown
from suites.registry import Registry
from suites.values import only_if, unless

if TYPE_CHECKING:  # reports need a suite's score but no tensors, and torch takes seconds to import
    import torch
    from torch import Tensor

Scenario = Literal["task", "domain", "class", "online"]
SCENARIOS: tuple[Scenario, ...] = ("task", "domain", "class", "online")


@dataclass(frozen=True)
class Data:
    """A data set in memory. The first ``n_train`` rows are for training, the others for testing."""

    name: str
    x_N: Tensor
    """Pixels, uint8, shape (N, channels, height, width), contiguous. Of texts, shape (N, 0) as a suite loads
    them; a model's tokenizer makes token numbers of them, or a frozen model features, see bench.encode."""
    y_N: Tensor
    """Raw classes, int64, shape (N,); -1 for a row of no class, which is only ever tested on."""
    n_train: int
    class_names: tuple[str, ...]
    scale: float
    """Grey values are divided by this, to lie in [0, 1]."""
    fingerprint: str
    """SHA-256 over shape, pixels or texts, labels and the split, in hexadecimal."""
    mean: tuple[float, ...] = ()
    """Per channel, subtracted after scaling; empty for none."""
    std: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    """The texts of a data set of texts, N of them; empty for images."""
    targets: tuple[str, ...] = ()
    """The target text of each input, N of them, where the data set is sequence to sequence: then all
    rows are of the one class 0."""
    domain_N: Tensor | None = None
    """Which domain a row comes from, int64, where the data set has domains."""
    domain_names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    """What every text of a domain begins with, which says what to generate for it; empty for none."""

    def index_of(self, rows: Tensor) -> Tensor:
        """Return which image or text each row number names."""
        return rows % self.x_N.shape[0]

    def task_of(self, rows: Tensor) -> Tensor:
        """Return as which task's row each row number names it."""
        return rows // self.x_N.shape[0]

    @property
    def generates(self) -> bool:
        """Whether it is sequence to sequence: a model generates a text for each row and answers no class."""
        return bool(self.targets)


@dataclass(frozen=True)
class Score:
    """What an entry of R is: its name and its bounds; higher is better."""

    name: str
    low: float
    high: float

    @property
    def title(self) -> str:
        """Return the name as it is written in a text."""
        return _TITLES.get(self.name, self.name)

    @property
    def unit(self) -> str:
        """Return the unit of 100 times where a score lies between its bounds, as reports print it."""
        if self.low == 0 and self.high in (1, 100):
            return "%" if self.high == 1 else ""
        return f"% of {self.low:g} to {self.high:g}"


_TITLES = {"bleu": "BLEU", "chrf": "chrF"}
PROPORTION = Score("accuracy", 0.0, 1.0)
"""The share of rows that were answered rightly."""
BLEU = Score("bleu", 0.0, 100.0)
"""Corpus BLEU of what was written (Papineni et al. 2002), as sacrebleu computes it (Post 2018)."""


@dataclass(frozen=True)
class Training:
    """How long and with what a task is learned. Every field can be set with ``--set``."""

    epochs: Annotated[int, unless("one_pass", True), only_if("iterations", 0)] = 1
    """Passes over a task's training rows; used while ``iterations`` is 0."""
    iterations: Annotated[int, unless("one_pass", True)] = 0
    """Steps per task; when set, epochs are repeated, with incomplete last batches dropped."""
    batch: int = 32
    """Rows of the current task in one step."""
    optimiser: Literal["sgd", "momentum", "adam", "adamw"] = "sgd"
    """Update rule: sgd, momentum (SGD with momentum 0.9), adam or adamw."""
    lr: float = 0.1
    """Learning rate; the optimiser's only rate, and one lane can differ from the next."""
    weight_decay: float = 0.0
    """L2 added to the gradient (sgd, momentum, adam) or decoupled (adamw)."""
    reset_optimiser: bool = False
    """Start every task with a fresh optimiser."""
    active: Literal["all", "seen"] = "all"
    """Class-incremental heads: all units from the start, or only those of classes seen so far."""
    boundaries: Literal["shown", "hidden"] = "shown"
    """Whether strategies see when a task begins and ends."""
    augment: bool = False
    """Random crops (4 pixels of padding) and horizontal flips, for colour images."""
    raw_replay: Annotated[bool, only_if("augment", True)] = False
    """Replayed rows are learned as they are stored, not augmented again at each read as new ones are."""
    validation: float = 0.1
    """Share of a task's training rows held out, drawn by the seed."""
    shots: int = 0
    """Training rows of each class of a task, drawn by the seed; 0 for all."""
    rows_per_class: int = 0
    """Rows of each class of a task at most, of the training and of the test rows alike; 0 for all."""
    score_every: int = 0
    """Score all tasks' validation rows every so many steps; 0 for never."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass: bfloat16 is autocast."""
    compile: bool = False
    """Compile the model with torch.compile."""

    def steps(self, rows: int, tasks: int = 1) -> tuple[int, int]:
        """Return the steps of one pass over so many rows, and of all training on them.

        Counted in iterations (of so many tasks), a batch that a pass leaves incomplete is not learned, unless
        the rows fill none.
        """
        if self.iterations and rows >= self.batch:
            steps = self.iterations * tasks
            return min(rows // self.batch, steps), steps
        per_pass = -(-rows // self.batch)
        return per_pass, per_pass * (self.iterations * tasks or self.epochs)


@dataclass(frozen=True)
class Task:
    """One task of one seed: which rows, and which classes on which units of the head."""

    classes: tuple[int, ...]
    units: tuple[int, ...]
    train_rows: Tensor
    """Row numbers, int64, in a fixed order; batches are drawn by the engine."""
    validation_rows: Tensor
    test_rows: Tensor


def _no_rows() -> Tensor:
    import torch

    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Stream:
    """The ordered tasks of one suite for one seed."""

    seed: int
    scenario: Scenario
    data: Data
    tasks: tuple[Task, ...]
    n_units: int
    unit_TC: Tensor
    """Unit of the head for each raw class in each task, int64; -1 where the task lacks the class."""
    tap_TKD: Tensor | None = None
    """A view of the pixels: value d of task t is the sum over k of weight[t,k,d] * x[tap[t,k,d]]. int64."""
    weight_TKD: Tensor | None = None
    outside_rows: Tensor = field(default_factory=_no_rows)
    """Row numbers, int64, of rows of no class, which no task has: a model should distinguish them."""

    def unit_names(self) -> list[str]:
        """Return the name of each unit of the head: its classes, and its task where names would be equal."""
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
    """A suite's ``load``, whose data set is checked once."""

    suite: str
    of: Callable[[], Data]

    def __call__(self) -> Data:
        from suites.checks import check_data, guarded

        data: Data = guarded(f"suite {self.suite}", self.of)
        check_data(self.suite, data)
        return data


@dataclass(frozen=True)
class Suite:
    """A named, versioned recipe for a task stream."""

    name: str
    version: int
    summary: str
    """One line."""
    source: str
    """The paper or place that defines the suite."""
    load: Callable[[], Data]
    """Fetch the data set; raises Unavailable with what to do. Asked of a suite, it raises UserError for a
    data set that cannot be learned from, see suites.checks."""
    split: Callable[[Data, Scenario, int, Training], Stream]
    """Make the stream of one scenario and seed."""
    scenarios: tuple[Scenario, ...]
    model: str = "mlp"
    model_options: Mapping[str, int | str] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    score: Score = PROPORTION
    """What the entries of R are."""
    needs: str = "nothing beyond the installed packages"
    """What the data set needs: files or packages."""

    def __post_init__(self) -> None:
        """Have what ``load`` returns checked; a changed copy of a suite brings a function that is."""
        of = self.load.of if isinstance(self.load, _CheckedLoad) else self.load
        object.__setattr__(self, "load", _CheckedLoad(self.name, of))

    @property
    def generates(self) -> bool:
        """Whether models generate texts, as its score says before any data is loaded; see Data.generates."""
        return self.score == BLEU

    def training_for(self, scenario: Scenario, changes: dict[str, object]) -> Training:
        """Return the training settings of a scenario with the user's changes.

        ``online`` is one pass in batches of ten.
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

        Raises UserError for a scenario the suite cannot do, where its score does not fit its data, and for
        data and streams that cannot be learned from, see suites.checks.
        """
        from suites.checks import check_data, check_stream, guarded

        check_data(self.name, data)
        if scenario not in self.scenarios:
            raise UserError(
                f"suite {self.name} has no {scenario} scenario; it has: {', '.join(self.scenarios)}"
            )
        if data.generates != self.generates:
            has = "has targets" if data.generates else "has no targets"
            raise UserError(
                f"suite {self.name} is scored by {self.score.title} and its data {has}: "
                "score=BLEU and Data.targets go together"
            )
        what = f"suite {self.name}, scenario {scenario}, seed {seed}"
        made: Stream = guarded(what, lambda: self.split(data, scenario, seed, training))
        check_stream(self.name, made, training)
        return made


class SuiteRegistry(Registry[Suite]):
    """All suites; the modules of this package enter theirs with ``register``."""

    kind, plural, package, group = "suite", "suites", "suites", "lethe.suites"

    def is_one(self, value: object) -> TypeGuard[Suite]:
        """Return whether it is a suite."""
        return isinstance(value, Suite)

    def describe_value(self, name: str, value: Suite) -> Description:
        """Return what a suite says of itself, and its training settings as options."""
        said = {key: getattr(value, key) for key in ("version", "source", "scenarios", "model")}
        if value.model_options:
            said["model_options"] = value.model_options
        if value.needs != Suite.needs:
            said["needs"] = value.needs
        metadata = {k: in_words(v) for k, v in said.items()}
        hints, help_ = get_type_hints(Training), field_help(Training)
        options = tuple(
            Option(k, type_in_words(hints[k]), in_words(v), help_.get(k, ""))
            for k, v in asdict(value.training).items()
        )
        return Description(self.kind, name, value.summary, "", metadata, options)


REGISTRY = SuiteRegistry(Path(__file__).parent)
SUITES = REGISTRY.entered


def register(suite: Suite) -> Suite:
    """Add a suite to the registry under its name."""
    # The caller's module says whether it is one of ours: a suite has no module of its own.
    REGISTRY.enter(suite.name, suite, sys._getframe(1).f_globals["__name__"])
    return suite


def generator(seed: int, name: str) -> torch.Generator:
    """Return the CPU generator of one random axis (``"classes"``, ``"validation"`` ...) of one seed."""
    import torch

    return torch.Generator().manual_seed(derive(seed, name))


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed from a seed and an axis name, so that axes are independent of each other."""
    import hashlib

    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
