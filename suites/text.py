"""Data sets of texts in memory, and their fingerprint.

Axes: N texts.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from suites.task_streams import Data
from suites.training import Training

HEAD_TRAINING = Training(epochs=10, batch=32, optimiser="adam", lr=1e-3)
"""Enough for a head on the features of a frozen model."""


def data_of_texts(
    name: str,
    texts: list[str],
    y_N: Tensor,
    n_train: int,
    class_names: tuple[str, ...],
    domain_N: Tensor | None = None,
    domain_names: tuple[str, ...] = (),
    targets: Sequence[str] = (),
    prefixes: tuple[str, ...] = (),
) -> Data:
    """Return a data set of texts and their classes or target texts, with its fingerprint."""
    labels = (None if targets else y_N, domain_N)
    return Data(
        name,
        x_N=torch.empty(len(texts), 0, dtype=torch.uint8),
        y_N=y_N,
        n_train=n_train,
        class_names=class_names,
        scale=1.0,
        fingerprint=fingerprint([*texts, *targets], n_train, *(of for of in labels if of is not None)),
        texts=tuple(texts),
        targets=tuple(targets),
        domain_N=domain_N,
        domain_names=domain_names,
        prefixes=prefixes,
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
