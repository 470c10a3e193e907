"""A run on disk, read: a folder, or one packed file of the same records.

Reading never writes. What cannot be read is passed over and listed with the reason.

    RUN/run.json                  the manifest
    RUN/cells/*.jsonl             records, a line each; of several of one cell the latest is used
    RUN/classes/*.jsonl           confusion counts of cells, class by class; see bench.results.per_class
    RUN/checkpoints/<key>/        state after the last finished task; see bench.store.checkpoints
    RUN/claims/                   which command runs which cells now; see bench.store.claims
    RUN/models/<key>/<task>/      trained models, where they are saved; see bench.store.saved_models
    RUN/tensorboard/              event files, with ``--track tensorboard``; see bench.report.trackers
    RUN/set-aside/                what could not be read
    RUN/superseded/*.jsonl        records and confusion counts of cells that were run again since
    RUN/superseded/models/        trained models that were saved by other code

Earlier versions wrote a file for each record, ``cells/<key>.json``; these are read and continued.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TypeVar

from bench.schema import CellRecord, ClassCounts, Fields, FileModel, Manifest, Unreadable, is_intact
from bench.store.checkpoints import CheckpointReader
from bench.store.lines import HEAD, PACK_SUFFIX, SUFFIX, Piece, lines, opened, pieces
from suites.errors import UserError, one_line
from suites.paths import read_file, resolved

T = TypeVar("T")
_CLASSES_OF = re.compile(rb'\{"schema":\d+,"key":"(\w+)","written":"([^"]*)","units"')


class RunReader:
    """A run for reading: its folder, or a packed file.

    A path without the suffix of a packed run finds the one beside it, where there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        # "." has no name, and is a folder.
        beside = folder.with_name(folder.name + PACK_SUFFIX) if folder.name else folder
        # Not Path.exists, which raises for a name that is too long.
        self.folder = beside if os.path.isfile(beside) and not os.path.exists(folder) else folder
        self.packed = self.folder.name.endswith(".gz") and os.path.isfile(self.folder)
        self.cells, self.beside = self.folder / "cells", self.folder / "classes"
        self.checkpoints = CheckpointReader(self.folder)
        self.unreadable: list[str] = []
        """A line for each record that could not be read, with the reason."""
        self._damaged: dict[str, Piece] = {}
        self._written: dict[str, str] | None = None
        self._ends: dict[str, int] = {}
        """End of the last complete record that was read of each file of lines, by name."""
        self._classes: dict[tuple[str, str], tuple[Path, int | None]] | None = None
        self._checked_classes: set[tuple[str, str]] = set()
        self._pack: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """Name of the folder, or of the packed file without its suffix."""
        return resolved(self.folder).name.removesuffix(PACK_SUFFIX)

    # The manifest.

    def manifest(self) -> Manifest:
        """Return the manifest, an empty one if the folder has none.

        Raises:
            UserError: for a manifest that is damaged or not Lethe's.
        """
        path = self.folder if self.packed else self.folder / "run.json"
        try:
            content = next((p.content for p in lines(path)), b"") if self.packed else read_file(path)
            return Manifest.read(content)[0]
        except FileNotFoundError:
            return Manifest.empty()
        except NotADirectoryError:
            raise UserError(f"{self.folder} is a file or is in one; a folder is needed") from None
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            raise UserError(f"{path} {why}; move it away, or choose another --out") from None
        except Unreadable as error:
            why = f"was not written by this version of Lethe: {error}"
            raise UserError(f"{path} {why}; choose another --out") from None

    def if_readable(self, read: Callable[[], T], otherwise: T) -> T:
        """Return what a function reads; after a UserError, listed in ``unreadable``, ``otherwise``."""
        try:
            return read()
        except UserError as error:
            if str(error) not in self.unreadable:
                self.unreadable.append(str(error))
            return otherwise

    def manifest_if_readable(self) -> Manifest:
        """Return the manifest, an empty one with a line in ``unreadable`` if it cannot be read.

        Raises:
            UserError: There is no such folder.
        """
        if not self.packed and not os.path.isdir(self.folder):
            return self.manifest()
        return self.if_readable(self.manifest, Manifest.empty())

    # Cells.

    def records(self) -> list[Fields]:
        """Return the record of every cell, by key."""
        return list(self.each(lambda record: record).values())

    def statuses(self) -> dict[str, str]:
        """Return the status of every cell that has a record, by key."""
        return self.each(lambda record: str(record["status"]))

    def each(self, of: Callable[[Fields], T], only: Collection[str] | None = None) -> dict[str, T]:
        """Return the result of a function on the record of each cell, by key; the records are freed.

        With ``only``, on those of some cells: lines of others are not parsed.
        """
        found: dict[str, T] = {}
        written: dict[str, str] = {}
        for piece in self._pieces(self.cells):
            if only is not None and (head := HEAD.match(piece.content)) and head[1].decode() not in only:
                continue
            record = self._read(CellRecord, piece)
            if piece.offset is not None:
                self._ends[piece.path.name] = piece.offset + len(piece.content)
            if record is not None and written.get(record["key"], "") <= record["written"]:
                found[record["key"]], written[record["key"]] = of(record), record["written"]
        if only is None:
            self._written = written
        return dict(sorted(found.items()))

    def lines_of_records(self) -> tuple[bytes, bytes]:
        """Return the lines of all records, and those of their confusion counts, as they are on disk."""
        first, second = (
            b"".join(path.read_bytes() for path in sorted(folder.glob(f"[!.]*{SUFFIX}")))
            for folder in (self.cells, self.beside)
        )
        return first, second

    def written(self) -> dict[str, str]:
        """Return when the record of each cell was written, as of the last time that records were read."""
        if self._written is None:
            self.statuses()
        assert self._written is not None
        return self._written

    def classes(self, key: str, written: str | None = None) -> Fields | None:
        """Return the confusion counts of a cell, None if it has none or they cannot be read.

        ``written`` is when its record was written; without it, all records are read to know.
        """
        if self._classes is None:
            self._classes = self._index_classes()
        if not self._classes:  # no record has to be read to know that there are none
            return None
        if written is None:
            written = self.written().get(key, "")
        place = self._classes.get((key, written))
        return None if place is None else self._read(ClassCounts, self._piece(*place))

    def has_classes(self, key: str, written: str) -> bool:
        """Return whether there are intact confusion counts of a record."""
        if self._classes is None:
            self._classes = self._index_classes()
        return (key, written) in self._checked_classes

    def _index_classes(self) -> dict[tuple[str, str], tuple[Path, int | None]]:
        """Return the places of confusion counts, which are large, by cell and time of writing."""
        found: dict[tuple[str, str], tuple[Path, int | None]] = {}
        for piece in self._pieces(self.beside):
            match = _CLASSES_OF.match(piece.content)
            if piece.fault:
                self._read(ClassCounts, piece)
            elif match and is_intact(piece.content):
                of = match[1].decode(), match[2].decode()
                found[of] = piece.path, piece.offset
                # Without a checksum, they are of an earlier version, or the checksum itself is damaged.
                self._checked_classes |= {of} if is_intact(piece.content, required=True) else set()
            elif piece.offset is None:
                found[piece.path.stem, ""] = piece.path, None
            else:
                self._read(ClassCounts, piece)
        return found

    def _piece(self, path: Path, offset: int | None) -> Piece:
        try:
            if offset is None:
                return Piece(path, read_file(path))
            # One stream for the whole pack: moving forward is free, and keys are read in order.
            self._pack = self._pack or (opened(path) if self.packed else None)
            with nullcontext(self._pack) if self._pack else path.open("rb") as stream:
                stream.seek(offset)
                return Piece(path, stream.readline(), offset)
        except OSError as error:  # it was there a moment ago
            return Piece(path, b"", offset, fault=f"{error.strerror}")

    def _pieces(self, folder: Path) -> Iterator[Piece]:
        """Yield the records in a folder, or of one kind in a packed run."""
        if not self.packed:
            yield from pieces(folder)
            return
        for number, piece in enumerate(lines(self.folder)):
            if number and (folder == self.beside) == bool(_CLASSES_OF.match(piece.content)):
                yield piece

    def _read(self, model: type[FileModel], piece: Piece) -> Fields | None:
        """Return a valid record; None for an invalid one, which is listed once in ``unreadable``."""
        try:
            if piece.fault:
                raise Unreadable(piece.fault)
            found, content = model.read(piece.content)
            if piece.offset is None and found.key != piece.path.stem:  # type: ignore[attr-defined]
                raise Unreadable("it is not the cell its name says")
            return content
        except Unreadable as error:
            aside = piece.offset is not None and (self.folder / "set-aside" / piece.name).exists()
            if not aside and piece.name not in self._damaged:
                self._damaged[piece.name] = piece
                self.unreadable.append(one_line(f"{piece.name} cannot be read: {error}"))
            return None

    def state(self) -> str:
        """Return text that changes whenever a cell is written."""
        paths = [self.folder] if self.packed else self.cells.glob("[!.]*")
        sizes = [(path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths]
        return f"{len(sizes)} {sum(s for s, _ in sizes)} {max((t for _, t in sizes), default=0)}"
