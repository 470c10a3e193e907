"""Older records of cells that were run again, so that no measurement is lost.

    RUN/superseded/*.jsonl    a file for each command: records and confusion counts, as in a packed run

They are copied there before their cells are run again. Until its new record is written, a cell's old one
is used. Old records that equal the new ones are removed again at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from bench.schema import Fields, differing_fields
from bench.store.files import writing
from bench.store.lines import HEAD, SUFFIX, as_line, lines
from bench.store.run_reader import RunReader
from suites.whole_files import new_file

if TYPE_CHECKING:
    from pathlib import Path

_Record = tuple[Fields, Fields | None]
"""A record and its confusion counts."""


class Superseded:
    """The records replaced by one command."""

    def __init__(self, folder: Path) -> None:
        self.run = folder
        self.folder = folder / "superseded"
        self.path = self.folder / f"{uuid.uuid4().hex[:12]}{SUFFIX}"
        self.records: dict[str, _Record] = {}

    def add(self, keys: Collection[str]) -> None:
        """Copy the records of these cells, except those already copied by an earlier command.

        Raises:
            UserError: Where they cannot be written.
        """
        there = {(m[1].decode(), m[2].decode()) for m in map(HEAD.match, _lines(self.folder)) if m}
        found = _of_run(self.run, keys)
        self.records = {k: r for k, r in found.items() if (k, r[0]["written"]) not in there}
        self._write()

    def keep_differing(self) -> None:
        """Remove the records of cells whose new record is equal."""
        now = _of_run(self.run, self.records)
        equal = {
            key for key, old in self.records.items() if key in now and not _differ(old, now[key])
            and old[0]["written"] != now[key][0]["written"]  # else its cell was not run again
        }  # fmt: skip
        kept = {key: old for key, old in self.records.items() if key not in equal}
        if len(kept) < len(self.records):
            self.records = kept
            self._write()

    def _write(self) -> None:
        with writing(self.folder):
            if not self.records:
                self.path.unlink(missing_ok=True)
                return
            self.folder.mkdir(exist_ok=True)
            with new_file(self.path, "wb") as stream:
                for record in self.records.values():
                    stream.writelines(as_line(content) for content in record if content is not None)


def n_superseded(folder: Path) -> int:
    """Return the number of superseded records of a run."""
    return sum(b',"units":[' not in line[:200] for line in _lines(folder / "superseded"))


def _lines(folder: Path) -> list[bytes]:
    found: list[bytes] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(OSError):  # what cannot be read counts as not there: a record is copied once more
            found += [piece.content for piece in lines(path)]
    return found


def _of_run(folder: Path, keys: Collection[str]) -> dict[str, _Record]:
    """Return the records of some cells."""
    if not keys:
        return {}
    run = RunReader(folder)
    found = run.each(lambda record: record, set(keys))
    return {key: (record, run.classes(key, record["written"])) for key, record in found.items()}


def _differ(old: _Record, new: _Record) -> bool:
    return any(differing_fields(a or {}, b or {}) for a, b in zip(old, new, strict=True))
