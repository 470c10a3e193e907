"""Append-only files of JSON lines.

Each process appends whole lines to a file of its own, so any number of them write at once, without locks. A
kill can leave the start of a line at the end of a file: readers pass over it.
"""

import gzip
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from bench.schema import Fields, FileModel, checked_json
from bench.store.files import make_folder
from suites.errors import UserError
from suites.paths import check_is_file, read_file
from suites.whole_files import sync_folder

SUFFIX = ".jsonl"
PACK_SUFFIX = ".lethe.gz"
HEAD = re.compile(rb'\{"schema":\d+,"key":"(\w+)","written":"([^"]*)"')
"""The start of a record's line, with its key and when it was written."""

_name_of_process: dict[int, str] = {}
"""By process, so that a forked process gets its own."""


@dataclass(frozen=True)
class Piece:
    """A record in a file: a line, or the whole file."""

    path: Path
    content: bytes
    offset: int | None = None
    """Offset of the line; none for a whole file."""
    fault: str = ""
    """Why it could not be opened."""

    @property
    def name(self) -> str:
        """Its name in messages, and the name of its file if it is set aside."""
        name = f"classes-{self.path.name}" if self.path.parent.name == "classes" else self.path.name
        return name if self.offset is None else f"{name}@{self.offset}"


def append(folder: Path, lines: bytes) -> None:
    """Append complete lines to this process's own file in a folder, and flush them to disk once."""
    make_folder(folder)
    own = _name_of_process.setdefault(os.getpid(), uuid.uuid4().hex[:12])
    handle = os.open(folder / f"{own}{SUFFIX}", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if not size:
            sync_folder(folder)
        if size and os.pread(handle, 1, size - 1) != b"\n":  # the disk was full in the middle of a line
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(handle, lines) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def as_line(content: Fields) -> bytes:
    """Return a record as a line: its key is first, so that readers find it without parsing."""
    first = {name: content[name] for name in ("schema", "key", "written") if name in content}
    return checked_json(first | content) + b"\n"


def valid_line(model: type[FileModel], content: Fields) -> bytes:
    """Return a valid record as a line; raises Unreadable for an invalid one."""
    line = as_line({"schema": model.VERSION, **content})
    model.read(line)
    return line


def pieces(folder: Path) -> Iterator[Piece]:
    """Yield every record in a folder, from files of lines and from the single files of earlier versions."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        yield Piece(folder, b"", fault=f"{error.strerror}")
        return
    for path in paths:
        if path.name.startswith("."):  # another process is writing it
            continue
        try:
            if path.suffix == SUFFIX:
                yield from lines(path)
            else:
                yield Piece(path, read_file(path))
        except FileNotFoundError:  # another process set it aside
            continue
        except OSError as error:
            yield Piece(path, b"", fault=f"{error.strerror}")


def lines(path: Path) -> Iterator[Piece]:
    """Yield the complete lines of a file, packed or not, with their offsets.

    Raises:
        OSError: It cannot be opened.
        UserError: A packed file is damaged.
    """
    offset = 0
    try:
        with opened(path) as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield Piece(path, line, offset)
                offset += len(line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or not a packed run: {error}; use another copy of it") from None


def opened(path: Path) -> IO[bytes]:
    """Open a file of lines for reading; packed ones are decompressed. Raises OSError if it is not a file."""
    check_is_file(path)
    return cast(IO[bytes], gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")
