"""Data sets of input and target texts, from parquet files with a column for each.

Axes: N rows, R rows of one split.
"""

from dataclasses import dataclass
from functools import cache

import torch

from suites.base import Data
from suites.sources import Files, Source, facts, mirror_files, opened, require_columns
from suites.text import drawn_rows, fingerprint, text_column


@dataclass(frozen=True, kw_only=True)
class Pairs(Source):
    """A data set of texts and target texts; one task of a suite."""

    text: str
    """Column of the input texts."""
    target: str
    """Column of the target texts."""
    prefix: str = ""
    """Put before every input text, to identify the task if tasks share their texts."""
    test_rows: int = 0
    """Number of test rows, drawn once for all seeds; 0 for all."""


def hub_pairs(name: str, sources: tuple[tuple[str, Pairs], ...]) -> Data:
    """Return several data sets of pairs as one, each a domain, from the mirror in LETHE_DATA or the hub.

    ``x_N`` has shape (N, 0), and all rows have class 0.

    Args:
        name: Name of the joint data set.
        sources: Name and source of each domain.

    Raises:
        Unavailable: Neither has it; the message says what to do.
        UserError: A column is missing or does not contain text.
    """
    found = [mirror_files(source) for _, source in sources]
    return _joined(name, sources, tuple(found), tuple(str(facts(files)) if files else "" for files in found))


@cache
def _joined(
    name: str,
    sources: tuple[tuple[str, Pairs], ...],
    files: tuple[Files | None, ...],
    _facts: tuple[str, ...],
) -> Data:
    """Join domains, all training rows first; ``_facts`` make changed files be read again."""
    splits = [_read(source, of) for (_, source), of in zip(sources, files, strict=True)]
    texts: list[str] = []
    targets: list[str] = []
    domains: list[int] = []
    for half in ("train", "test"):
        for domain, of in enumerate(splits):
            texts += of[half][0]
            targets += of[half][1]
            domains += [domain] * len(of[half][0])
    n_train = sum(len(of["train"][0]) for of in splits)
    domain_N = torch.tensor(domains)
    return Data(
        name,
        x_N=torch.empty(len(texts), 0, dtype=torch.uint8),
        y_N=torch.zeros(len(texts), dtype=torch.int64),
        n_train=n_train,
        class_names=("written",),
        scale=1.0,
        fingerprint=fingerprint([*texts, *targets], n_train, domain_N),
        texts=tuple(texts),
        targets=tuple(targets),
        domain_N=domain_N,
        domain_names=tuple(domain for domain, _ in sources),
        prefixes=tuple(source.prefix for _, source in sources),
    )


def _read(source: Pairs, files: Files | None) -> dict[str, tuple[list[str], list[str]]]:
    """Return input and target texts of both splits."""
    found = {}
    with opened(source, files) as splits:
        for split in ("train", "test"):
            rows = splits[split]
            require_columns(source, rows, source.text, source.target)
            if split == "test":
                rows = drawn_rows(rows, source.test_rows, f"{source.repository}/{source.config}/test")
            read, written = (
                [text or "" for text in text_column(source, rows, c)] for c in (source.text, source.target)
            )
            found[split] = [source.prefix + text for text in read], written
    return found
