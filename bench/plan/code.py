"""The source files that the numbers of a cell depend on, and their fingerprint."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import strategies
import suites
from bench import models
from bench.plan.cell import CellSpec
from bench.plan.source_files import LETHE, files_behind
from bench.schema import Exported, digest
from suites.errors import UserError
from suites.paths import check_is_file

_TRAINING = "bench.train.group"


@dataclass(frozen=True)
class Code:
    """The source files that a cell's numbers depend on."""

    files: Mapping[str, str]
    """Digest of each file, by name; see bench.plan.source_files."""

    @cached_property
    def fingerprint(self) -> str:
        """One hash of all files, 20 hexadecimal digits."""
        return digest(dict(self.files))


def code_of(spec: Mapping[str, Any]) -> Code:
    """Return the current code of a cell, without importing it.

    Args:
        spec: ``CellSpec.as_record()``, or the ``spec`` of a record.

    Raises:
        UserError: A strategy, suite or model is unknown, or a user's file cannot be read.
    """
    roots, weights = tuple(_roots(spec)), weights_of(spec)
    if weights or any(isinstance(root, Path) for root in roots):  # users may edit them at any time
        own = {Path(weights).name: _content(weights)} if weights else {}
        return Code({**_files(roots), **own})
    return _code_of_modules(roots)


def codes_of(specs: Iterable[CellSpec]) -> dict[str, Code]:
    """Return the code of many cells, by key; see ``code_of``."""
    known: dict[tuple[str, ...], Code] = {}
    found = {}
    for spec in specs:
        asked = spec.strategy, spec.suite, spec.model, spec.continues, weights_of(vars(spec))
        if asked not in known:  # thousands of cells have few methods, whose files are read each time
            known[asked] = code_of(vars(spec))
        found[spec.key] = known[asked]
    return found


def weights_of(spec: Mapping[str, Any]) -> str:
    """Return the file with the initial weights of a user's network, empty for none."""
    weights = spec.get("model_options", {}).get("weights", "")
    return "" if weights == models.PRETRAINED else str(weights)


def _content(file: str) -> str:
    """Return a hash of a file's content, computed once for each state of it."""
    try:
        check_is_file(file)
        stat = Path(file).stat()
        return _hashed(file, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read the weights in {file}: {error.strerror}") from None


@cache
def _hashed(file: str, _size: int, _modified: int) -> str:
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:20]


@cache
def _code_of_modules(roots: tuple[str | Path, ...]) -> Code:
    return Code(_files(roots))


def _files(roots: Iterable[str | Path]) -> dict[str, str]:
    return {name: mark for root in roots for name, mark in files_behind(root).items()}


def _roots(spec: Mapping[str, Any]) -> Iterator[str | Path]:
    """Yield the modules and users' files that a cell starts from; their imports are added later."""
    yield _TRAINING
    parts = strategies.split(spec["strategy"])
    for part in parts:
        yield strategies.REGISTRY.defined_in(part)
    if len(parts) > 1:
        yield "strategies.core.compose"
    yield suites.REGISTRY.defined_in(spec["suite"])
    if suites.name_and_view(spec["suite"])[1]:
        yield "suites.views"
    if spec.get("continues"):
        yield "bench.export.warm_start"
    model = _model_root(spec["model"])
    if isinstance(model, Path):  # it may define a network that is not a model yet
        yield models.NETWORKS
    yield model


def _model_root(name: str) -> str | Path:
    """Return where a model, or the architecture of an exported model, is defined."""
    if not models.REGISTRY.knows(name) and (exported := Exported.named(name)) is not None:
        name = "" if exported.reads_texts else exported.header.model
    return models.REGISTRY.defined_in(name) if models.REGISTRY.knows(name) else "bench.models.transformer"


def is_users(file: str) -> bool:
    """Return whether a file belongs to the user, not to Lethe."""
    return file.partition("/")[0] not in LETHE
