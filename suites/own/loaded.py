"""From the columns of a declaration to a data set: classes, tasks, training and test rows; cached.

Axes: N rows, in the order of the files until ``_assembled`` puts training rows first.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suites.errors import UserError, some
from suites.mapped_file import blocks, gathered, is_large
from suites.own.columns import SPLITS, Column, Table
from suites.own.declaration import Declaration
from suites.own.in_cache import FORMAT, Stored, store, stored
from suites.own.portrait import portrait
from suites.own.read import identity, read
from suites.own.times import binned, tested_by_time, times_of
from suites.seeds import generator
from suites.sources import fingerprint
from suites.task_streams import Data
from suites.text import data_of_texts

SHARE = 0.2
"""The share of test rows if nothing else divides the rows."""
Numbers = np.ndarray[Any, Any]


def loaded(d: Declaration) -> Stored:
    """Return the data set of a declaration, from the cache if its files have not changed.

    Raises:
        UserError: A row, a column or an option cannot be used; the message names the row.
    """
    plain = replace(d, of_split=())
    return _loaded(plain, hashlib.sha256(f"{FORMAT}/{identity(d)}/{plain.name}".encode()).hexdigest()[:32])


@lru_cache(maxsize=1)  # the next one is loaded beside it, and data sets are large
def _loaded(d: Declaration, key: str) -> Stored:
    if (found := stored(key)) is not None:
        return found
    made = _made(d, read(d))
    store(key, made)
    mapped = stored(key) if is_large(made.data.x_N.nbytes) else None
    return mapped or made


def _made(d: Declaration, table: Table) -> Stored:
    """Return the data set of a table; every rule that refuses rows names them."""
    label = table.columns[d.label_column]
    table.refuse(d, label.of_N < 0, "the label is missing: write it, or leave the row out of the file")
    class_names, y_N = _sorted(label)
    if len(class_names) < 2:
        raise UserError(f"{d.place}: all rows have the class {class_names[0]!r}: two are needed")
    times = times_of(d, table) if d.time_column else None
    task = _tasks(d, table, times)
    is_test, is_held = _split(d, table, y_N, task, times)
    is_learned = ~is_test if is_held is None else ~is_test & ~is_held
    _check_unseen(d, table, y_N, is_learned, class_names)
    if task is not None and d.classes:
        task = _by_classes(d, y_N, task, class_names)
    if task is not None:
        _check_sizes(d, table, task, is_learned, is_test, is_held)
    data = _assembled(d, table, y_N, class_names, task, is_test, is_held, times)
    return Stored(data, tuple(_notes(data)))


def _sorted(column: Column) -> tuple[tuple[str, ...], Numbers]:
    """Return the words of a column in its own order, or sorted (numbers as numbers), and each row's index."""
    whole = all(re.fullmatch(r"-?(0|[1-9]\d*)", word) for word in column.words)
    own = {word: n for n, word in enumerate(column.own_order or ())}

    def place(n: int) -> int | str:
        word = column.words[n]
        return own[word] if own else int(word) if whole else word

    order = sorted(range(len(column.words)), key=place)
    return tuple(column.words[n] for n in order), np.argsort(order)[column.of_N]


def _tasks(d: Declaration, table: Table, times: Numbers | None) -> Column | None:
    """Return the task of each row in the order of tasks; None if tasks are made of classes."""
    if not d.task:
        return None
    column = table.columns[d.task]
    table.refuse(d, column.of_N < 0, f"{d.task} is missing, so that the row is in no task")
    if d.bins:
        assert times is not None
        return binned(d, column, times)
    if d.sorted:
        words, of_N = _sorted(column)
        return Column(of_N, list(words))
    return column


def _split(
    d: Declaration, table: Table, y_N: Numbers, task: Column | None, times: Numbers | None
) -> tuple[Numbers, Numbers | None]:
    """Return which rows are for testing, and which are for validation; None if the seed draws these."""
    column = table.columns[d.split] if d.split else table.given
    if d.test_last or d.test_from:
        assert times is not None
        return tested_by_time(d, times, task), None
    if column is not None and not d.test:
        known = [SPLITS.get(word.lower()) for word in column.words]
        unread = [n for n, split in enumerate(known) if split is None]
        what = f"the split {column.words[unread[0]]!r} is none of {', '.join(SPLITS)}" if unread else ""
        table.refuse(d, column.of_N < 0, f"{d.split} is missing, so that the row is in no split")
        table.refuse(d, np.isin(column.of_N, unread), what)
        is_test, is_held = (
            np.array([split == kind for split in known])[column.of_N] for kind in ("test", "validation")
        )
        if "test" in known and "train" in known:
            return is_test, is_held if is_held.any() else None
        if d.split or "train" not in known or "validation" in known:
            only = " and ".join(dict.fromkeys(map(str, known)))
            raise UserError(f"{d.place}: all rows are in the split {only}: write test=0.2 instead of split")
    share = d.test or SHARE
    strata = torch.from_numpy(y_N if task is None else task.of_N * (int(y_N.max()) + 1) + y_N)
    return drawn_test_rows(strata, share, d.test_seed).numpy(), None


def drawn_test_rows(stratum_N: Tensor, share: float, seed: int) -> Tensor:
    """Return which rows are for testing: of each stratum this share, rounded, drawn by a seed.

    A stratum of two rows or more has at least one for testing and one for training; a single row is for
    training.
    """
    _, of_N, counts = stratum_N.unique(return_inverse=True, return_counts=True)
    take = (counts * share).round().long().clamp(min=1).minimum(counts - 1)
    drawn = torch.randperm(len(of_N), generator=generator(seed, "test"))
    order = drawn[of_N[drawn].argsort(stable=True)]
    nth = torch.arange(len(of_N)) - (counts.cumsum(0) - counts)[of_N[order]]
    is_test = torch.zeros(len(of_N), dtype=torch.bool)
    is_test[order] = nth < take[of_N[order]]
    return is_test


def _check_unseen(
    d: Declaration, table: Table, y_N: Numbers, is_learned: Numbers, names: Sequence[str]
) -> None:
    """Refuse classes without a training row."""
    unseen = np.setdiff1d(y_N, y_N[is_learned])
    if len(unseen):
        words = some([repr(names[c]) for c in unseen], 3)
        what = f"no training row has the label {words}: correct it, or move rows to the training split"
        table.refuse(d, np.isin(y_N, unseen), what)


def _by_classes(d: Declaration, y_N: Numbers, task: Column, names: Sequence[str]) -> Column:
    """Divide each task into tasks of ``classes`` classes, in the order of the classes."""
    words: list[str] = []
    of_N = np.empty(len(y_N), dtype=np.int64)
    for t, name in enumerate(task.words):
        classes = np.unique(y_N[task.of_N == t])
        if len(classes) % d.classes:
            raise UserError(
                f"{d.place}: task {name!r} has {len(classes)} classes, which cannot be divided by {d.classes}"
            )
        for start in range(0, len(classes), d.classes):
            own = classes[start : start + d.classes]
            of_N[(task.of_N == t) & np.isin(y_N, own)] = len(words)
            words.append(f"{name}: {some([names[c] for c in own], 3)}")
    return Column(of_N, words)


def _check_sizes(
    d: Declaration,
    table: Table,
    task: Column,
    is_learned: Numbers,
    is_test: Numbers,
    is_held: Numbers | None,
) -> None:
    """Refuse tasks without test rows or validation rows, or without a training row besides these."""
    if len(task.words) < 2:
        raise UserError(f"{d.place}: all rows are in the task {task.words[0]!r}: two are needed")
    n_train, n_test, n_held = (
        np.bincount(task.of_N[rows], minlength=len(task.words))
        for rows in (is_learned, is_test, is_test if is_held is None else is_held)
    )
    for t, name in enumerate(task.words):
        rows = np.flatnonzero(task.of_N == t)
        what = f"task {name!r} of {len(rows)} row{'s' * (len(rows) > 1)}"
        table.refuse(d, rows if not n_test[t] else [], f"{what} has no test row: add rows, or join tasks")
        table.refuse(d, rows if not n_held[t] else [], f"{what} has no validation row: add some")
        if n_train[t] < (2 if is_held is None else 1):
            held = ", and one is held out for validation" * (is_held is None)
            table.refuse(d, rows, f"{what} has {n_train[t]} training rows{held}: add rows, or join tasks")


def _assembled(
    d: Declaration,
    table: Table,
    y_N: Numbers,
    class_names: tuple[str, ...],
    task: Column | None,
    is_test: Numbers,
    is_held: Numbers | None,
    times: Numbers | None,
) -> Data:
    """Return the data set: training rows first, each in the order of time, else in that of the files."""
    order = np.argsort(is_test, kind="stable") if times is None else np.lexsort((times, is_test))
    y, n_train = torch.from_numpy(y_N[order]), int((~is_test).sum())
    domains = None if task is None else torch.from_numpy(task.of_N[order])
    held = None if is_held is None else torch.from_numpy(is_held[order])
    domain_names = () if task is None else tuple(task.words)
    if table.x_N is None:
        texts = [table.texts[n] for n in order.tolist()]
        data = data_of_texts(d.short, texts, y, n_train, class_names, domains, domain_names)
        further: tuple[Tensor | None, ...] = (held,)
    else:
        x, scale = _reduced(d, torch.from_numpy(gathered(table.x_N, order)))
        mark, further = fingerprint(x, y, n_train), (domains, held)
        data = Data(
            d.short, x, y, n_train, class_names, scale, mark, domain_N=domains, domain_names=domain_names
        )
    mark = data.fingerprint
    for tensor in further:
        if tensor is not None:
            mark = hashlib.sha256(mark.encode() + tensor.numpy().tobytes()).hexdigest()
    return replace(data, fingerprint=mark, validation_N=held)


def _reduced(d: Declaration, x_N: Tensor) -> tuple[Tensor, float]:
    """Return pixels and scale without their common divisor, which changes no quotient."""
    if x_N.dtype != torch.uint8:
        return x_N, d.scale or 1.0
    scale = d.scale or 255.0
    if not scale.is_integer():
        return x_N, scale
    parts = [*blocks(x_N.numpy())]
    count = sum(torch.bincount(x_N[part].flatten(), minlength=256) for part in parts)
    divisor = math.gcd(int(scale), *torch.as_tensor(count).nonzero().flatten().tolist())
    for part in parts if divisor > 1 else ():
        x_N[part] //= divisor
    return x_N, scale / divisor


def _notes(data: Data) -> list[str]:
    """Return a line for each thing that a user should know before trusting a number."""
    found = []
    near: dict[str, list[str]] = {}
    for name in data.class_names:
        near.setdefault(" ".join(name.lower().split()), []).append(name)
    for names in near.values():
        if len(names) > 1:
            found.append(f"the classes {' and '.join(map(repr, names))} differ only in case or spaces")
    return found + portrait(data).warnings
