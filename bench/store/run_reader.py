"""A run on disk, read: a manifest, one file per cell, checkpoints of cells under way.

Reading never writes: what does not check out is passed over and listed with the reason.

    RUN/run.json                  the manifest
    RUN/cells/<key>.json          one cell
    RUN/classes/<key>.json        its confusion counts, class by class; see bench.results.per_class
    RUN/checkpoints/<key>/        state after the last finished task, until the cell is done
    RUN/models/<key>/<task>/      trained models, where they are saved; see bench.store.saved_models
    RUN/set-aside/                files that were truncated or foreign
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.plan import CellSpec
from suites.errors import UserError

SCHEMA = 1
STATUSES = ("done", "failed", "diverged", "skipped")


class RunReader:
    """The folder of one run, for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells, self.checkpoints = folder / "cells", folder / "checkpoints"
        self.beside = folder / "classes"
        self.unreadable: list[str] = []
        """A line for each file that could not be read, with the reason."""
        self._damaged: dict[Path, str] = {}
        """The same files, and the name each gets when it is set aside."""

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, empty where there is none; raises UserError for one that is not Lethe's."""
        path = self.folder / "run.json"
        try:
            facts = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise UserError(f"{self.folder} is a file, not a folder, or lies in one") from None
        except (OSError, ValueError):
            raise UserError(f"{path} cannot be read: move it away, or choose another --out") from None
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            raise UserError(f"{path} was not written by this version of Lethe: choose another --out")
        return facts

    # Cells.

    def statuses(self) -> dict[str, str]:
        """Return the status of every cell that has a record, by key."""
        return {record["key"]: record["status"] for record in self.records()}

    def records(self) -> list[dict[str, Any]]:
        """Return all sound records, by key."""
        paths = sorted(self.cells.glob("*")) if self.cells.is_dir() else []
        found = [self._read(path, path.name, flaw) for path in paths if not path.name.startswith(".")]
        return [record for record in found if record is not None]

    def record(self, key: str) -> dict[str, Any] | None:
        """Return one cell's record, None where there is none or it cannot be read."""
        return self._read(self.cells / f"{key}.json", f"{key}.json", flaw)

    def classes(self, key: str) -> dict[str, Any] | None:
        """Return a cell's confusion counts, None where there are none or they cannot be read."""
        return self._read(self.beside / f"{key}.json", f"classes-{key}.json", _classes_flaw)

    def _read(self, path: Path, name: str, check: Callable[[Any, str], str | None]) -> Any:
        """Return a file's content, None where there is no file or it cannot be read."""
        try:
            facts = json.loads(path.read_text())
            why = check(facts, path.stem)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            facts, why = None, "it is not whole JSON"
        if why is None:
            return facts
        if path not in self._damaged:
            self._damaged[path] = name
            self.unreadable.append(f"{name} cannot be read: {why}")
        return None

    # Checkpoints.

    def checkpoint_header(self, key: str) -> dict[str, Any] | None:
        """Return a checkpoint's header (``tasks_done`` ...), None where there is none."""
        try:
            found = json.loads((self.checkpoints / key / "facts.json").read_text())
        except (OSError, ValueError):
            return None
        sound = isinstance(found, dict) and (found.get("schema"), found.get("key")) == (SCHEMA, key)
        return found if sound and isinstance(found.get("tasks_done"), int) else None

    def tasks_done(self) -> dict[str, int]:
        """Return after how many tasks each cell with a checkpoint goes on, by key."""
        headers = {path.name: self.checkpoint_header(path.name) for path in self.checkpoints.glob("*")}
        return {key: header["tasks_done"] for key, header in headers.items() if header}


def flaw(facts: Any, stem: str) -> str | None:
    """Return why a file's content is not the record of the cell it is named after, or None."""
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        return "it is no record of this version"
    if facts.get("key") != stem or facts.get("status") not in STATUSES:
        return "it is not the cell its name says"
    try:
        key = CellSpec(**facts["spec"]).key
    except (KeyError, TypeError):
        return "its spec is not of this version"
    if key != stem:
        return "its spec is not the one it was named after"
    return None if _complete(facts) else f"it lacks what a {facts['status']} cell has"


def _complete(facts: dict[str, Any]) -> bool:
    """Return whether a record holds what its readers rely on for its status."""
    if "error" not in facts or "reason" not in facts or facts.get("identity") != facts["spec"]["identity"]:
        return False
    if facts["status"] == "failed":
        error = facts["error"]
        return isinstance(error, dict) and {"kind", "message"} <= error.keys()
    if facts["status"] in ("skipped", "diverged") and not isinstance(facts["reason"], str):
        return False
    return facts["status"] == "skipped" or all(_is_matrix(facts.get(s)) for s in ("test", "validation"))


def _is_matrix(counts: Any) -> bool:
    """Return whether this is R, (T+1, T): right and total, or the values of another score."""
    try:
        parts = ("value",) if "value" in counts else ("right", "total")
        shapes = {(len(counts[k]), *{len(row) for row in counts[k]}) for k in parts}
    except (KeyError, TypeError):
        return False
    return len(shapes) == 1 and all(len(s) == 2 and s[0] == s[1] + 1 for s in shapes)


def _classes_flaw(facts: Any, stem: str) -> str | None:
    """Return why a file's content is not what stands beside the record of the cell it is named after."""
    if not isinstance(facts, dict) or (facts.get("schema"), facts.get("key")) != (SCHEMA, stem):
        return "it is not of the cell its name says, or not of this version"
    units = facts.get("units")
    if not isinstance(units, list) or not all(isinstance(name, str) for name in units):
        return "it does not name its units"
    whole = all(_are_counts(facts.get(split), len(units)) for split in ("test", "validation"))
    return None if whole else "its counts are not whole"


def _are_counts(rows: Any, n_units: int) -> bool:
    """Return whether these are rows of R, tasks from 1, true units, answers and their counts, five a row."""
    return isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == 5
        and all(isinstance(n, int) and n >= 0 for n in row)
        and max(row[2], row[3]) < n_units
        for row in rows
    )
