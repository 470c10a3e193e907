"""What is in a data set: rows, lengths, duplicates, classes that a task never trains on, drift of labels.

Axes: T tasks, C classes, 2 splits (train, test), N rows.
"""

from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suites.errors import some
from suites.mapped_file import blocks, is_large
from suites.task_streams import Data

_SHOWN = 3


@dataclass(frozen=True)
class Portrait:
    """Counts of a data set. Tasks are its domains; a data set that is split by class has one entry."""

    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    rows_TC2: Tensor
    """Rows of each task, class and split (train, test)."""
    lengths: dict[str, float]
    """Of texts, in characters: smallest, median, mean, largest; empty for images."""
    shape: tuple[int, ...]
    """Of an image: channels, height, width; empty for texts."""
    duplicates: dict[str, int]
    """Rows with the same input as an earlier row within ``train`` and within ``test``; test rows with the
    input of a training row (``between``); and rows whose input has several classes (``contradicting``)."""
    untrained: tuple[tuple[str, str, int], ...]
    """Task, class and test rows, where the task has no training row of the class."""
    validation: int | None
    """Rows for validation that the data set itself names; None if the seed draws them."""
    empty: int
    """Rows whose text is missing or blank; they are used as empty texts."""
    rare: tuple[tuple[str, str], ...]
    """Task and class with one training row, which may be held out for validation."""

    @property
    def drift(self) -> list[float]:
        """The distance of the label shares of each task's training rows from those of the task before.

        Half the sum of absolute differences: 0 for equal shares, 1 for no common class.
        """
        rows_TC = self.rows_TC2[:, :, 0].double()
        share_TC = rows_TC / rows_TC.sum(1, keepdim=True).clamp(min=1)
        return [
            round(float((a - b).abs().sum() / 2), 4) for a, b in zip(share_TC[1:], share_TC, strict=False)
        ]

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that makes numbers misleading."""
        found = []
        n_test = int(self.rows_TC2[:, :, 1].sum())
        if n := self.duplicates["between"]:
            found.append(f"{n:,} of {n_test:,} test rows have the same input as a training row")
        if n := self.duplicates["contradicting"]:
            found.append(f"{n:,} rows have the same input as a row of another class")
        if self.empty:
            found.append(f"rows without a text, used as empty texts: {self.empty:,}")
        if self.untrained:
            n = sum(rows for _, _, rows in self.untrained)
            pairs = some([f"{c!r} in {t}" if t else repr(c) for t, c, _ in self.untrained], _SHOWN)
            found.append(f"test rows of classes that their task never trains on: {n:,} ({pairs})")
        if self.rare:
            pairs = some([f"{c!r} in {t}" if t else repr(c) for t, c in self.rare], _SHOWN)
            found.append(f"classes with one training row, which may be held out for validation: {pairs}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        rows = [
            {"task": task, "class": name, "train": n_train, "test": n_test}
            for task, of_C2 in zip(self.tasks, self.rows_TC2.tolist(), strict=True)
            for name, (n_train, n_test) in zip(self.classes, of_C2, strict=True)
            if n_train or n_test
        ]
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows_TC2"}
        return own | {"rows": rows, "drift": self.drift, "warnings": self.warnings}


def portrait(data: Data) -> Portrait:
    """Return the counts of a data set."""
    C, T = len(data.class_names), max(1, len(data.domain_names))
    task_N = torch.zeros_like(data.y_N) if data.domain_N is None else data.domain_N
    tasks = data.domain_names or ("",)
    is_test_N = torch.arange(len(data.y_N)) >= data.n_train
    known = data.y_N >= 0
    at = (task_N[known] * C + data.y_N[known]) * 2 + is_test_N[known]
    rows_TC2 = at.bincount(minlength=T * C * 2).view(T, C, 2)
    untrained = (rows_TC2[:, :, 0] == 0) & (rows_TC2[:, :, 1] > 0)
    pairs = [(tasks[t], data.class_names[c]) for t, c in untrained.nonzero().tolist()]
    rare = [(tasks[t], data.class_names[c]) for t, c in (rows_TC2[:, :, 0] == 1).nonzero().tolist()]
    sizes = [len(text) for text in data.texts]
    lengths = {"smallest": min(sizes), "median": median(sizes), "mean": round(sum(sizes) / len(sizes), 1),
               "largest": max(sizes)} if sizes else {}  # fmt: skip
    return Portrait(
        tasks,
        data.class_names,
        rows_TC2,
        lengths,
        () if sizes else tuple(data.x_N.shape[1:]),
        _duplicates(data),
        tuple((*pair, int(n)) for pair, n in zip(pairs, rows_TC2[:, :, 1][untrained].tolist(), strict=True)),
        None if data.validation_N is None else int(data.validation_N.sum()),
        sum(not text.strip() for text in data.texts),
        tuple(rare),
    )


def _duplicates(data: Data) -> dict[str, int]:
    input_N, y_N = _numbered(data), data.y_N.numpy()
    trained, tested = input_N[: data.n_train], input_N[data.n_train :]
    n = int(input_N.max(initial=-1)) + 1
    lowest, highest = np.full(n, np.iinfo(np.int64).max), np.full(n, -2)
    np.minimum.at(lowest, input_N, y_N)
    np.maximum.at(highest, input_N, y_N)
    in_training = np.zeros(n, dtype=bool)
    in_training[trained] = True
    return {
        "train": len(trained) - len(np.unique(trained)),
        "test": len(tested) - len(np.unique(tested)),
        "between": int(in_training[tested].sum()),
        "contradicting": int((lowest != highest)[input_N].sum()),
    }


def _numbered(data: Data) -> np.ndarray[Any, Any]:
    """Return a number for the input of each row; equal inputs have equal numbers."""
    if is_large(data.x_N.nbytes):
        return np.unique(_hashes(data.x_N.numpy()), return_inverse=True)[1]
    first: dict[Any, int] = {}
    inputs = data.texts or (row.tobytes() for row in data.x_N.numpy())
    return np.array([first.setdefault(key, len(first)) for key in inputs], dtype=np.int64)


def _hashes(x_N: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a hash of 64 bits of each row; among 10 million, two are equal by chance once in 370,000 times.

    Each word of a row is mixed with its place as by splitmix64, and the words are added.
    """
    found = np.empty(len(x_N), dtype=np.uint64)
    for part in blocks(x_N):
        rows = x_N[part].reshape(len(x_N[part]), -1).view(np.uint8)
        words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
        words += np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
        found[part] = (words ^ (words >> np.uint64(31))).sum(1, dtype=np.uint64)
    return found
