"""A run on disk, written.

Records are lines that each process appends to a file of its own; every other file is written whole to a
temporary name, flushed and renamed. So any number of processes can write into one folder, and a kill at any
moment loses at most the task under way, the checkpoint that is being written, and a second of work. Which
command runs which cells is decided by bench.store.claims.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.plan import CellSpec, check_agreement
from bench.schema import (
    Again,
    CellRecord,
    ClassCounts,
    Damaged,
    Fields,
    Manifest,
    Metadata,
    Tuned,
    Unreadable,
    has_checksum,
    is_intact,
)
from bench.store.checkpoints import Checkpoints
from bench.store.environment import Maker, moment, now, where
from bench.store.files import unused, write_checked, writing
from bench.store.lines import HEAD, SUFFIX, append, valid_line
from bench.store.run_reader import RunReader
from suites.errors import UserError
from suites.paths import read_file
from suites.whole_files import PART


class RunFolder(RunReader):
    """The folder of one run, for reading and writing.

    Raises:
        UserError: for a packed run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._new: set[str] = set()
        if self.packed:
            first = f"lethe unpack {self.folder} first"
            raise UserError(f"{self.folder} is a packed run, which cannot be changed: {first}")
        self.checkpoints: Checkpoints = Checkpoints(self.folder)

    def open(
        self,
        specs: Sequence[CellSpec],
        shared: Mapping[str, Mapping[str, Any]],
        data: Mapping[str, str],
        command: str,
        device: str,
        described: Mapping[str, Mapping[str, Metadata]] | None = None,
        code: Mapping[str, Mapping[str, str]] | None = None,
        again: Again | None = None,
        selectors: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ) -> Maker:
        """Add cells to the manifest; create the folder if it does not exist.

        Strategies, seeds, scenarios, suites and settings may be added to a run at any time. ``shared`` are
        the settings of the first command for each suite and scenario; identities name what differs.
        ``data`` is the fingerprint of each suite's data set. ``described`` are the descriptions of
        strategies, suites and models, by kind and name, so that a reader imports none. ``code`` are the
        files behind each fingerprint of code. ``again`` is what is run again by --force or --retry-failed.
        ``selectors`` are the identities that each selector expands to, by suite/scenario.

        Returns:
            What records of this command say of how they were made.

        Raises:
            UserError: where a suite has another version than in the folder, and where the folder
                cannot be written.
        """
        before = self.manifest()
        check_agreement(self.folder, before.shared, shared)
        entry = {"command": command, "at": now(), **where(device)}
        if again is not None:
            entry["again"] = again.model_dump()
        manifest = {
            "schema": Manifest.VERSION,
            "commands": [*(c.model_dump(exclude_none=True) for c in before.commands), entry],
            "shared": {**shared, **before.shared},
            "data": {**before.data, **data},
            "cells": {**before.cells, **{s.key: s.title for s in specs}},
            "code": {**before.code, **(code or {})},
            "selectors": {
                **before.selectors,
                **{part: {**before.selectors.get(part, {}), **of} for part, of in (selectors or {}).items()},
            },
        }
        if before.tuning:
            manifest["tuning"] = _plain(before.tuning)
        for kind in ("strategies", "suites", "models"):
            manifest[kind] = {**getattr(before, kind), **(described or {}).get(kind, {})}
        with writing(self.folder):
            for folder in (self.cells, self.checkpoints.folder):
                folder.mkdir(parents=True, exist_ok=True)
            write_checked(self.folder / "run.json", manifest)
        return Maker.of(entry)

    def add_tuning(self, tuned: Mapping[str, Tuned]) -> None:
        """Add to the manifest how settings were chosen; create the folder if it does not exist.

        Raises:
            UserError: The folder cannot be written.
        """
        before = self.manifest()
        manifest = before.model_dump(by_alias=True, exclude_none=True)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_checked(self.folder / "run.json", manifest | {"tuning": _plain({**before.tuning, **tuned})})

    def repair_manifest(self) -> str:
        """Make a damaged manifest again from the records, if there are any; return a line that says so.

        Titles of cells and fingerprints of data are those of the records; commands and metadata of strategies
        are lost, and later commands enter theirs. The damaged file is in ``set-aside/``.

        Raises:
            UserError: The folder cannot be written.
        """
        path = self.folder / "run.json"
        try:
            Manifest.read(read_file(path))
            return ""
        except Damaged as error:
            why = error
        except (OSError, Unreadable):  # none, or not ours: manifest() says what is wrong
            return ""
        cells, data = {}, {}
        for record in self.records():
            spec = CellSpec(**record["spec"])
            cells[spec.key] = spec.title
            if found := record.get("data"):
                data[spec.suite] = found["fingerprint"]
        if not cells:
            return ""
        aside = self.folder / "set-aside"
        with writing(self.folder):
            aside.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another command was first
                path.replace(unused(aside / "run.json"))
            content = Manifest.empty().model_dump(by_alias=True) | {"cells": cells, "data": data}
            write_checked(path, content)
        return f"{path} was damaged: {why}; it is in {aside} now, and is made again from {len(cells)} records"

    def write(self, spec: CellSpec, record: Fields) -> None:
        """Write the record of a cell and delete its checkpoint; see ``write_group``."""
        self.write_group([(spec, record)])

    def write_group(self, cells: Iterable[tuple[CellSpec, Fields]]) -> None:
        """Write the records of cells that ended together and flush them once; delete their checkpoints.

        A record's ``classes`` are written apart: they are many, and few readers want them.

        Raises:
            UserError: where they cannot be written.
            Unreadable: for a record that readers would refuse; none is written then.
        """
        written = moment()
        records, classes, keys = [], [], []
        for spec, record in cells:
            named = {"key": spec.key, "written": written}
            cell = named | {"spec": spec.as_record(), "identity": spec.identity}
            content: Fields = {"error": None, "reason": None} | record
            if (counts := content.pop("classes", None)) is not None:
                classes.append(valid_line(ClassCounts, named | counts))
                content["has_classes"] = True
            records.append(valid_line(CellRecord, cell | content | cell))
            keys.append(spec.key)
        with writing(self.cells):
            self.append_lines(b"".join(records), b"".join(classes))
        for key in keys:
            self.checkpoints.drop(key)

    def append_lines(self, records: bytes, classes: bytes) -> None:
        """Write lines of records, as ``lines_of_records`` returns those of another folder.

        Raises:
            OSError: They cannot be written.
        """
        if classes:  # first: with its record, the cell is done
            append(self.beside, classes)
        if records:
            append(self.cells, records)

    def repair(self) -> list[str]:
        """Set aside every file that cannot be read, so that its cell is run again; return a line for each.

        What was set aside before stays: it may be all that is left of something.
        """
        self.statuses()
        for path, offset in self._index_classes().values():
            piece = self._piece(path, offset)
            if not has_checksum(piece.content):  # else it was verified, and it is large
                self._read(ClassCounts, piece)
        aside, words = self.folder / "set-aside", self.checkpoints.repair()
        for (name, piece), why in zip(self._damaged.items(), self.unreadable, strict=True):
            try:
                aside.mkdir(exist_ok=True)
                if piece.offset is None:
                    piece.path.replace(unused(aside / name))
                else:  # another process may write its file: the line is copied, and passed over from now on
                    (aside / name).write_bytes(piece.content)
            except FileNotFoundError:  # another process was first
                continue
            except OSError as error:
                raise UserError(f"cannot write into {self.folder}: {error.strerror}") from None
            words.append(f"{why}; it is in {aside} now")
        self.unreadable, self._damaged = [], {}
        return words

    def note_new(self, keys: Iterable[str]) -> None:
        """Count cells as having a new record; see ``new_records``."""
        self._new |= set(keys)

    def new_records(self) -> set[str]:
        """Return the cells with a record that any process wrote since the last call.

        The first call returns those written since the records were read. Only what was appended is read.
        """
        self._new |= {key for key, _ in self.appended()}
        found, self._new = self._new, set()
        return found

    def appended(self) -> Iterator[tuple[str, bytes]]:
        """Yield the intact records, as key and line, that any process appended since the last reading."""
        for path in self.cells.glob(f"[!.]*{SUFFIX}"):
            with path.open("rb") as stream:
                start = self._ends.get(path.name, 0)
                if os.fstat(stream.fileno()).st_size <= start:
                    continue
                stream.seek(start)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._ends[path.name] = self._ends.get(path.name, 0) + len(line)
                    if (head := HEAD.match(line)) and is_intact(line):
                        yield head[1].decode(), line

    def second_reader(self) -> RunFolder:
        """Return another object on the folder; what is new is counted on its own, from the same place on."""
        other = RunFolder(self.folder)
        other._ends = dict(self._ends)
        return other

    def remove_litter(self, keys: Iterable[str]) -> int:
        """Remove what killed commands left: temporary files, and checkpoints of cells with a later record.

        Only while no other command runs. Returns the number of temporary files, which readers ignore.

        Args:
            keys: The cells to run, whose models may have been written.
        """
        written = self.written()
        for key, header in self.checkpoints.headers().items():
            if written.get(key, "") > header.written:
                self.checkpoints.drop(key)
        folders = [self.folder, self.cells, self.beside, self.folder / "superseded"]
        folders += self.checkpoints.folder.glob("*")
        if (models := self.folder / "models").is_dir():
            folders += [folder for key in keys for folder in (models / key).glob("*")]
        found = [path for folder in folders for path in folder.glob(f".*{PART}")]
        for path in found:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "progress", ignore_errors=True)
        for path in (self.folder / "claims").glob("*.attempt"):
            path.unlink(missing_ok=True)
        return len(found)


def _plain(tuned: Mapping[str, Tuned]) -> Fields:
    return {name: of.model_dump(exclude_none=True) for name, of in tuned.items()}
