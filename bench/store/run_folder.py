"""A run on disk, written: every file whole to a temporary name, flushed, then renamed.

So any number of processes can write into one folder, and a kill leaves nothing half-written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.plan import CellSpec, check_agreement, check_same_data
from bench.schema import Metadata
from bench.store.environment import now, where
from bench.store.files import write_json, write_tensors
from bench.store.run_reader import SCHEMA, RunReader
from suites.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class RunFolder(RunReader):
    """The folder of one run, for reading and writing."""

    def open(
        self,
        specs: Sequence[CellSpec],
        shared: Mapping[str, Mapping[str, Any]],
        data: Mapping[str, str],
        command: str,
        device: str,
        described: Mapping[str, Mapping[str, Metadata]] | None = None,
    ) -> None:
        """Enter cells into the manifest, making the folder where there is none.

        Strategies, seeds, scenarios and suites may be added to a run at any time. What must stay is
        ``shared``: what all cells of one suite and scenario have in common (version, model, training), and
        ``data``, the fingerprint of each suite's data set. ``described`` is what strategies, suites and
        models say of themselves, so that a reader need not import them. Raises UserError where what must stay
        differs from what the folder holds, and where the folder cannot be written.
        """
        before = self.manifest()
        check_agreement(self.folder, before.get("shared", {}), shared)
        check_same_data(self.folder, before.get("data", {}), data)
        facts = {
            "schema": SCHEMA,
            "commands": [*before.get("commands", []), {"command": command, "at": now(), **where(device)}],
            "shared": {**before.get("shared", {}), **shared},
            "data": {**before.get("data", {}), **data},
            "cells": {**before.get("cells", {}), **{s.key: s.title for s in specs}},
            **{kind: {**before.get(kind, {}), **of_kind} for kind, of_kind in (described or {}).items()},
        }
        try:
            for folder in (self.cells, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "run.json", facts)
        except OSError as error:
            raise UserError(f"cannot write into {self.folder}: {error.strerror}") from None

    def write(self, spec: CellSpec, record: dict[str, Any]) -> None:
        """Write one cell's record and drop its checkpoint; raises UserError where it cannot be written.

        The record's ``classes`` get a file of their own: there are many, and few readers want them.
        """
        path, beside = self.cells / f"{spec.key}.json", self.beside / f"{spec.key}.json"
        name = {"schema": SCHEMA, "key": spec.key}
        facts = {**name, "spec": spec.as_record(), "identity": spec.identity, "error": None, "reason": None}
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

    def repair(self) -> list[str]:
        """Set aside every file that cannot be read, so that its cell is run again; return a line for each.

        What was set aside before stays: it may be all that is left of something.
        """
        self.records()
        for path in sorted(self.beside.glob("*.json")):
            self.classes(path.stem)
        aside = self.folder / "set-aside"
        words = []
        for (path, name), why in zip(self._damaged.items(), self.unreadable, strict=True):
            names = [name, *(f"{name}.{n}" for n in range(1, 1000))]
            try:
                aside.mkdir(exist_ok=True)
                path.replace(aside / next((n for n in names if not (aside / n).exists()), name))
            except FileNotFoundError:  # another process was first
                continue
            except OSError as error:
                raise UserError(f"cannot write into {self.folder}: {error.strerror}") from None
            words.append(f"{why}; it was moved to {aside}")
        self.unreadable, self._damaged = [], {}
        return words

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

        facts = self.checkpoint_header(key)
        try:
            return None if facts is None else (load_file(self.checkpoints / key / facts["tensors"]), facts)
        except (OSError, KeyError, SafetensorError):
            return None

    def drop(self, key: str) -> None:
        """Forget a cell's state."""
        shutil.rmtree(self.checkpoints / key, ignore_errors=True)
