"""Data sets of texts with classes, from parquet files of the hub or of a local mirror of it.

Classes are identified by name, never by number, because copies of a data set number them differently. The
hub's validation split is not used: Lethe splits validation rows from the training rows by the seed.

Axes: N texts, R texts of one split.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from suites.base import Data, Training, generator
from suites.errors import UserError
from suites.sources import Files, Source, facts, mirror_files, opened, require_columns

HEAD_TRAINING = Training(epochs=10, batch=32, optimiser="adam", lr=1e-3)
"""Enough for a head on the features of a frozen model."""


@dataclass(frozen=True, kw_only=True)
class Texts(Source):
    """A data set of texts."""

    text: tuple[str, ...]
    """Columns of the text, joined by a space; missing values are left out, and a text may be empty."""
    label: str
    """Column of the labels, of type ClassLabel or with the names as text."""
    class_names: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    """Names of the classes in the column, in the order of ``class_names``; empty if they are the same."""
    outside: str = ""
    """Label of rows of no class: training rows are left out, test rows get class -1."""
    train_rows: int = 0
    """Number of training rows, drawn once for all seeds; 0 for all."""
    test_rows: int = 0
    """Number of test rows, drawn once for all seeds; 0 for all."""
    clean: Callable[[list[str]], list[str]] | None = None
    """A function applied to the texts of a split, which makes copies of a data set equal."""


def hub_texts(source: Texts) -> Data:
    """Return a data set of texts from the mirror in LETHE_DATA, or without it from the hub.

    ``x_N`` has shape (N, 0).

    Raises:
        Unavailable: Neither has it; the message says what to do.
        UserError: A column is missing or has another type, a label is unknown, or a class has no training
            row.
    """
    files = mirror_files(source)
    return _read(source, files, str(facts(files)) if files else "")


def hub_domains(name: str, sources: tuple[tuple[str, Texts], ...]) -> Data:
    """Return several data sets as one, each a domain; classes with the same name are the same class."""
    return _joined(name, sources, tuple(hub_texts(source).fingerprint for _, source in sources))


def data_of_texts(
    name: str,
    texts: list[str],
    y_N: Tensor,
    n_train: int,
    class_names: tuple[str, ...],
    domain_N: Tensor | None = None,
    domain_names: tuple[str, ...] = (),
) -> Data:
    """Return a data set of texts and their classes, with its fingerprint."""
    return Data(
        name,
        x_N=torch.empty(len(texts), 0, dtype=torch.uint8),
        y_N=y_N,
        n_train=n_train,
        class_names=class_names,
        scale=1.0,
        fingerprint=fingerprint(texts, n_train, y_N, *([] if domain_N is None else [domain_N])),
        texts=tuple(texts),
        domain_N=domain_N,
        domain_names=domain_names,
    )


def fingerprint(texts: Sequence[str], n_train: int, *labels_N: Tensor) -> str:
    """Return SHA-256 over split, texts, labels and domains."""
    digest = hashlib.sha256(f"{len(texts)}/{n_train}".encode())
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    for y_N in labels_N:
        digest.update(y_N.numpy().tobytes())
    return digest.hexdigest()


@cache
def _joined(name: str, sources: tuple[tuple[str, Texts], ...], _fingerprints: tuple[str, ...]) -> Data:
    """Join domains, all training rows first; ``_fingerprints`` make changed data be joined again."""
    parts = [hub_texts(source) for _, source in sources]
    class_names = tuple(dict.fromkeys(c for part in parts for c in part.class_names))
    texts: list[str] = []
    y, domains = [], []
    for half in ("train", "test"):
        for domain, part in enumerate(parts):
            rows = slice(part.n_train) if half == "train" else slice(part.n_train, None)
            # The last entry maps -1, rows of no class, to -1.
            class_C = torch.tensor([*(class_names.index(c) for c in part.class_names), -1])
            texts += part.texts[rows]
            y.append(class_C[part.y_N[rows]])
            domains.append(torch.full_like(y[-1], domain))
    n_train, names = sum(part.n_train for part in parts), tuple(domain for domain, _ in sources)
    return data_of_texts(name, texts, torch.cat(y), n_train, class_names, torch.cat(domains), names)


@cache
def _read(source: Texts, files: Files | None, _facts: str) -> Data:
    """Read both splits; ``_facts`` make changed files be read again."""
    texts: list[str] = []
    y, sizes = [], []
    with opened(source, files) as splits:
        for split, most in (("train", source.train_rows), ("test", source.test_rows)):
            rows = splits[split]
            require_columns(source, rows, *source.text, source.label)
            rows = drawn_rows(rows, most, f"{source.repository}/{split}")
            texts_R, y_R = _texts(source, rows), _classes(source, rows, split)
            if split == "train":
                texts_R = [text for text, c in zip(texts_R, y_R, strict=True) if c >= 0]
                y_R = [c for c in y_R if c >= 0]
            texts += texts_R
            y += y_R
            sizes.append(len(y_R))
    lacking = sorted(set(range(len(source.class_names))) - set(y[: sizes[0]]))
    if lacking:
        some = ", ".join(repr(source.class_names[c]) for c in lacking[:3])
        raise UserError(f"{source.repository} has no training row of {len(lacking)} classes: {some}")
    return data_of_texts(source.repository, texts, torch.tensor(y), sizes[0], source.class_names)


def drawn_rows(rows: Any, most: int, axis: str) -> Any:
    """Return at most ``most`` rows of a split, in their order, the same for all seeds; 0 for all."""
    if not 0 < most < len(rows):
        return rows
    drawn = torch.randperm(len(rows), generator=generator(0, axis))
    return rows.select(drawn[:most].sort().values.tolist())


def text_column(source: Source, rows: Any, column: str) -> list[str | None]:
    """Return a column of texts, None for missing values; raises UserError if it does not contain text."""
    kind = getattr(rows.features[column], "dtype", "something else")
    if kind not in ("string", "large_string"):
        raise UserError(f"column {column!r} of {source.repository} contains {kind}, not text")
    texts: list[str | None] = rows[column][:]
    return texts


def _texts(source: Texts, rows: Any) -> list[str]:
    """Return the texts of a split, its columns joined."""
    parts = zip(*(text_column(source, rows, column) for column in source.text), strict=True)
    texts = [" ".join(part for part in row if part) for row in parts]
    return source.clean(texts) if source.clean else texts


def _classes(source: Texts, rows: Any, split: str) -> list[int]:
    """Return the class of each row of a split, -1 for rows of no class."""
    of_name = {name: c for c, name in enumerate(source.label_names or source.class_names)}
    if source.outside:
        of_name[source.outside] = -1
    names = getattr(rows.features[source.label], "names", None)
    labels = [
        str(label) if names is None or label is None or label < 0 else names[label]
        for label in rows[source.label][:]
    ]
    unknown = sorted(set(labels) - set(of_name))
    if unknown:
        some = ", ".join(repr(label) for label in unknown[:3])
        raise UserError(
            f"{source.repository} has unknown labels in column {source.label!r} of its {split} split: "
            f"{some}; known are {', '.join(list(of_name)[:5])} ..."
        )
    return [of_name[label] for label in labels]
