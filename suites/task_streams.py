"""Data sets, tasks and streams.

Axes: N images or texts of the data set, T tasks, C raw classes, U units of the head, K taps, D pixels.

A row number identifies one image or text as one task sees it: ``row = task * N + index``. The index selects
the image or text, the task selects the view (permutation, rotation) and the label, so a replay memory only
stores row numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # reports need the names of scenarios but no tensors, and torch takes seconds to import
    from torch import Tensor

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
