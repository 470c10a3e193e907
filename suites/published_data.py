"""Published data sets, declared as users declare theirs: a source, its columns, and rules with names.

They are read by the same code. What only a published data set needs is a field of ``Published``: the names
of its classes, rows of no class, draws of rows, a cleaning step. The hub's validation split is not used:
Lethe splits validation rows from the training rows by the seed. Which classes are a task is the suite's
split, such as ``by_class``; permutations and rotations are streams over a declared data set.

Axes: N images or texts, C classes.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from suites.errors import UserError, some
from suites.own.cleaning import STEPS
from suites.own.columns import Table
from suites.own.declaration import Declaration
from suites.own.hub import hub_identity, opened
from suites.own.in_cache import FORMAT, Stored, store, stored
from suites.own.rows import of_datasets, texts_of
from suites.seeds import generator
from suites.sources import fingerprint
from suites.task_streams import Data
from suites.text import data_of_texts


@dataclass(frozen=True)
class Published(Declaration):
    """A declaration of a published data set, ``hub:OWNER/NAME@REVISION`` or ``mirror:NAME``."""

    class_names: tuple[str, ...] = ()
    """Names of the classes, in order. Copies of a data set number them differently."""
    label_names: tuple[str, ...] = ()
    """The classes as the label column names them; empty if it has ``class_names``."""
    numbered: bool = False
    """Whether labels are the numbers of the classes, however a copy names them."""
    outside: str = ""
    """Label of rows of no class: training rows are left out, test rows get class -1."""
    train_rows: int = 0
    """Number of training rows, drawn once for all seeds; 0 for all."""
    test_rows: int = 0
    """Number of test rows, drawn once for all seeds; 0 for all."""
    clean: str = ""
    """Name of a step in ``suites.own.cleaning``, applied to the texts of each split."""
    target: str = ""
    """Column of the target text of a sequence-to-sequence data set, which has no classes."""
    prefix: str = ""
    """Put before every text, to identify the task if tasks share their texts."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def label_column(self) -> str:
        """The column of the class, empty if there are target texts instead."""
        return "" if self.target else super().label_column

    @property
    def short(self) -> str:
        """The repository."""
        return self.repository

    def draw(self, split: str) -> str:
        """The axis that rows of a split are drawn on."""
        return f"{self.short}/{self.config}/{split}" if self.target else f"{self.short}/{split}"


def load(d: Published) -> Data:
    """Return a data set from the mirror in LETHE_DATA; without a mirror from the cache or the hub.

    Raises:
        Unavailable: None of them has it; the message says what to do.
        UserError: A column is missing or has another type, a label is unknown, or a class has no training
            row.
    """
    return _loaded(d, hub_identity(d))


def load_joined(name: str, parts: tuple[tuple[str, Published], ...]) -> Data:
    """Return several data sets as one, each a domain; classes with the same name are the same class."""
    return _joined(name, parts, tuple(hub_identity(d) for _, d in parts))


@cache
def _loaded(d: Published, identity: str) -> Data:
    key = hashlib.sha256(f"{FORMAT}/{identity}/{d}".encode()).hexdigest()[:32]
    if (found := stored(key)) is None:
        found = Stored(_read(d))
        store(key, found)
    return found.data


def _read(d: Published) -> Data:
    """Read both splits, training rows first."""
    most = {"train": d.train_rows, "test": d.test_rows}
    with opened(d) as splits:
        parts = {split: drawn_rows(splits[split], n, d.draw(split)) for split, n in most.items()}
        n_train = len(parts["train"])
        table = of_datasets(d, parts, lambda split, row: f"row {row + 1} of its {split} split")
        targets = [text or "" for rows in parts.values() for text in texts_of(d, rows, d.target)]
    y_N = torch.from_numpy(_classes(d, table, n_train))
    if table.x_N is not None:
        x_N = torch.from_numpy(table.x_N)
        mark = fingerprint(x_N, y_N, n_train)
        return Data(d.short, x_N, y_N, n_train, d.class_names, 255.0, mark, d.mean, d.std)
    step = STEPS[d.clean]
    texts = [d.prefix + text for text in step(table.texts[:n_train]) + step(table.texts[n_train:])]
    if d.target:
        return data_of_texts(d.short, texts, y_N, n_train, ("written",), None, (), targets, (d.prefix,))
    learned = y_N[:n_train] >= 0
    kept = torch.cat([learned, torch.ones(len(y_N) - n_train, dtype=torch.bool)])
    texts = [text for text, keep in zip(texts, kept.tolist(), strict=True) if keep]
    return data_of_texts(d.short, texts, y_N[kept], int(learned.sum()), d.class_names)


def _classes(d: Published, table: Table, n_train: int) -> np.ndarray[Any, Any]:
    """Return the class of each row, -1 for rows of no class; raises UserError for an unknown label."""
    if d.target:
        return np.zeros(len(table), dtype=np.int64)
    label = table.columns[d.label_column]
    known = list(d.label_names or d.class_names)
    if d.numbered:
        known = label.own_order or [str(n) for n in range(len(d.class_names))]
    class_of = {word: n for n, word in enumerate(known)} | ({d.outside: -1} if d.outside else {})
    some_known = f"{d.label_column} are {', '.join(known[:5])} ..."
    for n, word in enumerate(label.words):
        wrong = label.of_N == n if word not in class_of else []
        table.refuse(d, wrong, f"the label {word!r} is unknown; known values of {some_known}")
    table.refuse(d, label.of_N < 0, f"the label is missing; known values of {some_known}")
    y_N: np.ndarray[Any, Any] = np.array([class_of[word] for word in label.words])[label.of_N]
    if missing := sorted({*range(len(d.class_names))} - {*y_N[:n_train].tolist()}):
        words = some([repr(d.class_names[c]) for c in missing], 3)
        raise UserError(f"{d.place} has no training row of {len(missing)} classes: {words}")
    return y_N


@cache
def _joined(name: str, parts: tuple[tuple[str, Published], ...], _identities: tuple[str, ...]) -> Data:
    """Join domains, all training rows first; ``_identities`` make changed data be joined again."""
    found = [load(d) for _, d in parts]
    class_names = tuple(dict.fromkeys(c for data in found for c in data.class_names))
    texts: list[str] = []
    targets: list[str] = []
    y, domains = [], []
    for half in ("train", "test"):
        for domain, data in enumerate(found):
            rows = slice(data.n_train) if half == "train" else slice(data.n_train, None)
            # The last entry maps -1, rows of no class, to -1.
            class_C = torch.tensor([*(class_names.index(c) for c in data.class_names), -1])
            texts += data.texts[rows]
            targets += data.targets[rows]
            y.append(class_C[data.y_N[rows]])
            domains.append(torch.full_like(y[-1], domain))
    n_train, names = sum(data.n_train for data in found), tuple(domain for domain, _ in parts)
    prefixes = tuple(d.prefix for _, d in parts if targets)
    return data_of_texts(
        name, texts, torch.cat(y), n_train, class_names, torch.cat(domains), names, targets, prefixes
    )


def drawn_rows(rows: Any, most: int, axis: str) -> Any:
    """Return at most ``most`` rows of a split, in their order, the same for all seeds; 0 for all."""
    if not 0 < most < len(rows):
        return rows
    drawn = torch.randperm(len(rows), generator=generator(0, axis))
    return rows.select(drawn[:most].sort().values.tolist())
