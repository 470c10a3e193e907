"""The code that makes a cell's numbers: its files, and one fingerprint of them all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import strategies
import suites
from bench import models
from bench.plan.cell import CellSpec
from bench.plan.source_files import LETHE, files_behind
from bench.schema import Exported, digest

_LOOP = "bench.train.loop"


@dataclass(frozen=True)
class Code:
    """The source files that a cell's numbers depend on."""

    files: Mapping[str, str]
    """A digest of each, by name; see bench.plan.source_files."""

    @cached_property
    def fingerprint(self) -> str:
        """One hash of all of them, 20 hexadecimal digits."""
        return digest(dict(self.files))


_CODES: dict[tuple[str, ...], Code] = {}


def code_of(spec: Mapping[str, Any]) -> Code:
    """Return the code behind a cell as it is now; imports nothing of it.

    Args:
        spec: The cell as records hold it: ``CellSpec.as_record()``, or the ``spec`` of a record.

    Raises:
        UserError: Where a strategy, suite or model is not known here, or a file of the user's cannot be read.
    """
    roots = tuple(_roots(spec))
    if any(isinstance(root, Path) for root in roots):  # which the user may edit at any time
        return _code(roots)
    if roots not in _CODES:
        _CODES[roots] = _code(roots)  # type: ignore[index]
    return _CODES[roots]  # type: ignore[index]


def codes_of(specs: Iterable[CellSpec]) -> dict[str, Code]:
    """Return the code behind each of many cells, by key; see ``code_of``."""
    known: dict[tuple[str, str, str, str], Code] = {}
    found = {}
    for spec in specs:
        asked = spec.strategy, spec.suite, spec.model, spec.continues
        if asked not in known:  # thousands of cells have few methods, whose files are read each time
            known[asked] = code_of(vars(spec))
        found[spec.key] = known[asked]
    return found


def _code(roots: tuple[str | Path, ...]) -> Code:
    return Code({name: mark for root in roots for name, mark in files_behind(root).items()})


def _roots(spec: Mapping[str, Any]) -> Iterator[str | Path]:
    """Yield the modules, and files of the user's, that a cell begins from; what they import follows."""
    yield _LOOP
    parts = strategies.split(spec["strategy"])
    for part in parts:
        yield strategies.REGISTRY.defined_in(part)
    if len(parts) > 1:
        yield "strategies.core.compose"
    yield suites.REGISTRY.defined_in(spec["suite"])
    if spec.get("continues"):
        yield "bench.export.warm_start"
    yield _model_root(spec["model"])


def _model_root(name: str) -> str | Path:
    """Return where a model is defined: its architecture, of one that is exported; transformers share one."""
    if not models.REGISTRY.knows(name) and (exported := Exported.named(name)) is not None:
        name = "" if exported.reads_texts else exported.header.model
    return models.REGISTRY.defined_in(name) if models.REGISTRY.knows(name) else "bench.models.transformer"


def is_users(file: str) -> bool:
    """Return whether a file of a ``Code`` is the user's own, not Lethe's."""
    return file.partition("/")[0] not in LETHE
