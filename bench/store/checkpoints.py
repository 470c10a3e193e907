"""Checkpoints: the state of a cell after its last finished task, until the cell is done.

RUN/checkpoints/<key>/facts.json           the header, written last: with it, the others are complete
RUN/checkpoints/<key>/<task>-*.safetensors tensors; there are no pickles
RUN/checkpoints/<key>/*.jsonl              losses and scores so far
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.schema import CheckpointHeader, CheckpointRows, Fields, Unreadable
from bench.store.environment import moment
from bench.store.files import make_folder, read_tensors, unused, write_at, write_checked, write_tensors
from bench.store.lines import SUFFIX, valid_line
from suites.announce import to_stderr
from suites.paths import read_file

if TYPE_CHECKING:
    from torch import Tensor


class CheckpointReader:
    """The checkpoints of a run, for reading."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"

    def header(self, key: str) -> CheckpointHeader | None:
        """Return the header of a cell's checkpoint, None if there is none that can be read."""
        try:
            return self._header(key)
        except (OSError, Unreadable):
            return None

    def headers(self) -> dict[str, CheckpointHeader]:
        """Return the header of every checkpoint that can be read, by key."""
        headers = {path.name: self.header(path.name) for path in self.folder.glob("*")}
        return {key: header for key, header in headers.items() if header}

    def rows(self, key: str) -> list[Fields]:
        """Return losses and scores of a cell, see ``CheckpointRows``; none if they cannot be read."""
        try:
            return self._rows(self._header(key))
        except (OSError, Unreadable):
            return []

    def _header(self, key: str) -> CheckpointHeader:
        """Return a header; raises OSError if there is none, Unreadable if it is damaged."""
        header, _ = CheckpointHeader.read(read_file(self.folder / key / "facts.json"))
        if header.key != key:
            raise Unreadable("it is another cell's")
        return header

    def _rows(self, header: CheckpointHeader) -> list[Fields]:
        """Return losses and scores, none in a checkpoint of an earlier version; raises as ``_header``."""
        if not header.rows:
            return []
        content = read_file(self.folder / header.key / header.rows)[: header.rows_bytes]
        rows = [CheckpointRows.read(line)[1] for line in content.splitlines()]
        if len(content) < header.rows_bytes or {of["key"] for of in rows} != {header.key}:
            raise Unreadable(f"{header.rows} is not complete")
        return rows


class Checkpoints(CheckpointReader):
    """The checkpoints of a run, for reading and writing."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self._own = uuid.uuid4().hex[:12]
        self._written: dict[str, tuple[str, int]] = {}
        """Name and size of the file of rows that this object writes for each cell."""

    def save(self, key: str, tensors: dict[str, Tensor], header: Fields, rows: Fields) -> None:
        """Save a cell's state after a task; the header is written last and names the files of the others.

        Rows are appended to those of earlier tasks, so that a long stream does not write them again after
        each task. What a kill leaves at the end of their file lies beyond the size in the header.

        Raises:
            OSError: They cannot be written, or another process has removed the checkpoint.
        """
        folder, known = self.folder / key, self._written[key] if rows["first"] else None
        for new in (self.folder, folder):  # the run's folder is not made again if it was removed
            make_folder(new)
        # No name is used twice: until the new header is written, the old one's files are as they were.
        name = f"{header['tasks_done']}-{self._own}.safetensors"
        crc32 = write_tensors(folder / name, tensors)
        name_of_rows, size = known or (f"{uuid.uuid4().hex[:12]}{SUFFIX}", 0)
        line = valid_line(CheckpointRows, {"key": key, **rows})
        write_at(folder / name_of_rows, size, line)
        self._written[key] = name_of_rows, size + len(line)
        named = {"schema": CheckpointHeader.VERSION, "key": key, "written": moment()}
        named["crc32_of_tensors"] = crc32
        files = {"tensors": name, "rows": name_of_rows, "rows_bytes": size + len(line)}
        write_checked(folder / "facts.json", named | files | header)
        for old in folder.iterdir():
            if old.name not in (name, name_of_rows, "facts.json"):
                old.unlink(missing_ok=True)

    def load(self, key: str) -> tuple[dict[str, Tensor], Fields, list[Fields]] | None:
        """Return tensors, header and rows of a cell's state, None if there is none or it is incomplete.

        A damaged one is set aside, and a line on stderr names it: the cell begins again.
        """
        try:
            header = self._header(key)
            if not (rows := self._rows(header)):
                return None
            tensors = read_tensors(self.folder / key / header.tensors, header.crc32_of_tensors)
            return tensors, header.model_dump(), rows
        except OSError:  # none, or another process removes it
            return None
        except Unreadable as error:
            to_stderr(self._set_aside(key, error))
            return None

    def repair(self) -> list[str]:
        """Set aside every checkpoint whose header cannot be read; return a line for each."""
        words = []
        for path in self.folder.glob("*"):
            try:
                self._header(path.name)
            except OSError:  # killed before it was written
                continue
            except Unreadable as error:
                words.append(self._set_aside(path.name, error))
        return words

    def _set_aside(self, key: str, why: Unreadable) -> str:
        """Move a damaged checkpoint to ``set-aside/``; return a line that says so."""
        aside = self.folder.parent / "set-aside"
        with suppress(OSError):  # another process was first, or the folder cannot be written: it is not used
            aside.mkdir(exist_ok=True)
            (self.folder / key).replace(unused(aside / f"checkpoint-{key}"))
        return f"checkpoint {key} cannot be read: {why}; it is in {aside} now, and its cell begins again"

    def drop(self, key: str) -> None:
        """Delete the state of a cell."""
        shutil.rmtree(self.folder / key, ignore_errors=True)
