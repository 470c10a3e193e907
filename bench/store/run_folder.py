"""A run on disk: a manifest, one file per cell, checkpoints of cells under way.

Every file is written whole to a temporary name, flushed and renamed, so any number of processes can write
into one folder and a kill leaves nothing half-written. What does not check out is set aside, never trusted.

    RUN/run.json                  the manifest
    RUN/cells/<key>.json          one cell
    RUN/classes/<key>.json        what it took for what, class by class; see bench.results.per_class
    RUN/checkpoints/<key>/        state after the last finished task, until the cell is done
    RUN/models/<key>/<task>/      trained models, where they are kept; see bench.store.saved_models
    RUN/set-aside/                files that were truncated or foreign
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plan import CellSpec, line
from bench.store.environment import now, where
from bench.store.files import write_json, write_tensors
from suites.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
STATUSES = ("done", "failed", "diverged", "skipped")


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path, *, look_only: bool = False) -> None:
        self.folder, self.look_only = folder, look_only
        self.cells, self.checkpoints = folder / "cells", folder / "checkpoints"
        self.beside = folder / "classes"
        self.set_aside: list[str] = []
        """What was read and not trusted, each with the reason."""
        self.flawed: list[Path] = []
        """The files meant there that still lie where they were, because of ``look_only``."""

    # The manifest.

    def open(
        self,
        specs: Sequence[CellSpec],
        shared: dict[str, dict[str, Any]],
        data: dict[str, str],
        command: str,
        device: str,
    ) -> None:
        """Enter cells into the manifest, making the folder where there is none.

        Strategies, seeds, scenarios and suites may be added to a run at any time. What must stay is
        ``shared``: what all cells of one suite and scenario have in common (version, model, training), and
        ``data``, the fingerprint of each suite's data set. Raises UserError where either differs from what
        the folder holds, and where the folder cannot be written.
        """
        before = self.manifest()
        self._compare(before.get("shared", {}), shared)
        held = {name: {"data": mark} for name, mark in before.get("data", {}).items()}
        self._compare(held, {name: {"data": mark} for name, mark in data.items()})
        facts = {
            "schema": SCHEMA,
            "commands": [*before.get("commands", []), {"command": command, "at": now(), **where(device)}],
            "shared": {**before.get("shared", {}), **shared},
            "data": {**before.get("data", {}), **data},
            "cells": {**before.get("cells", {}), **{s.key: line(s) for s in specs}},
        }
        try:
            for folder in (self.cells, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "run.json", facts)
        except OSError as error:
            raise UserError(f"cannot write into {self.folder}: {error.strerror}") from None

    def check(self, shared: dict[str, dict[str, Any]]) -> None:
        """Raise UserError where a plan contradicts what the folder holds; nothing is written."""
        self._compare(self.manifest().get("shared", {}), shared)

    def _compare(self, before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> None:
        for name in before.keys() & now.keys():
            for key in sorted(before[name].keys() | now[name].keys()):
                was, is_ = before[name].get(key), now[name].get(key)
                if was != is_:
                    raise UserError(
                        f"{self.folder} holds {name} with {key} = {was}, not {is_}: choose another --out"
                    )

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

    def write(self, spec: CellSpec, record: dict[str, Any]) -> None:
        """Write one cell's record and drop its checkpoint; raises UserError where it cannot be written.

        The record's ``classes`` get a file of their own: there are many, and few readers want them.
        """
        path, beside = self.cells / f"{spec.key}.json", self.beside / f"{spec.key}.json"
        name = {"schema": SCHEMA, "key": spec.key}
        facts = {**name, "spec": spec.facts(), "identity": spec.identity, "error": None, "reason": None}
        try:
            if beside.exists():  # a cell that is run again: a kill must not leave the one with the other's
                path.unlink(missing_ok=True)
                beside.unlink()
            if "classes" in record:
                self.beside.mkdir(exist_ok=True)
                write_json(beside, name | record["classes"], indent=None)
            write_json(path, facts | {k: v for k, v in record.items() if k != "classes"})
        except OSError as error:
            raise UserError(f"cannot write into {self.cells}: {error.strerror}") from None
        self.drop(spec.key)

    def status(self, spec: CellSpec) -> str:
        """Return a cell's status, ``missing`` where there is none; sets aside a file that is not a record."""
        record = self.record(self.cells / f"{spec.key}.json")
        return record["status"] if record else "missing"

    def records(self) -> list[dict[str, Any]]:
        """Return all sound records, by file name; sets the others aside."""
        paths = sorted(self.cells.glob("*")) if self.cells.is_dir() else []
        found = [self.record(path) for path in paths if not path.name.startswith(".")]
        return [record for record in found if record is not None]

    def record(self, path: Path) -> dict[str, Any] | None:
        """Return the record in a file, None where there is no file or it was set aside."""
        return self._trusted(path, path.name, flaw)

    def classes(self, key: str) -> dict[str, Any] | None:
        """Return what stands beside a cell's record, None where there is nothing or it was set aside."""
        return self._trusted(self.beside / f"{key}.json", f"classes-{key}.json", _classes_flaw)

    def _trusted(self, path: Path, name: str, check: Callable[[Any, str], str | None]) -> Any:
        """Return what is in a file, None where there is no file or it was set aside, under a name."""
        try:
            facts = json.loads(path.read_text())
            why = check(facts, path.stem)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            facts, why = None, "it is not whole JSON"
        if why is None:
            return facts
        if self.look_only:
            self.flawed.append(path)
            self.set_aside.append(f"{name} is not trusted: {why}")
            return None
        try:
            self._put_aside(path, name)
            self.set_aside.append(f"{name} was set aside: {why}")
        except OSError:  # a run on a medium that cannot be written is still read
            self.set_aside.append(f"{name} was passed over: {why}")
        return None

    def _put_aside(self, path: Path, name: str) -> None:
        aside = self.folder / "set-aside"
        aside.mkdir(exist_ok=True)
        names = [name, *(f"{name}.{n}" for n in range(1, 1000))]
        # What was set aside before stays: it may be all that is left of something.
        path.replace(aside / next((n for n in names if not (aside / n).exists()), name))

    # Checkpoints: tensors as safetensors, the rest as JSON; no pickles.

    def save(self, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep a cell's state after a task; the facts are written last and name the tensors' file."""
        folder = self.checkpoints / key
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{facts['tasks_done']}.safetensors"
        write_tensors(folder / name, tensors)
        write_json(folder / "facts.json", {"schema": SCHEMA, "key": key, "tensors": name, **facts})
        for old in folder.glob("*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return a cell's state, None where there is none or it is not whole."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        facts = self.facts(key)
        try:
            return None if facts is None else (load_file(self.checkpoints / key / facts["tensors"]), facts)
        except (OSError, KeyError, SafetensorError):
            return None

    def facts(self, key: str) -> dict[str, Any] | None:
        """Return what a checkpoint says beside its tensors (``tasks_done`` ...), None where there is none."""
        try:
            found = json.loads((self.checkpoints / key / "facts.json").read_text())
        except (OSError, ValueError):
            return None
        sound = isinstance(found, dict) and (found.get("schema"), found.get("key")) == (SCHEMA, key)
        return found if sound and isinstance(found.get("tasks_done"), int) else None

    def drop(self, key: str) -> None:
        """Forget a cell's state."""
        shutil.rmtree(self.checkpoints / key, ignore_errors=True)


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
