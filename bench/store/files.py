"""Atomic writing of files and folders: completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.schema import Fields, Unreadable, checked_json, checksum
from suites.cache import file_crc32
from suites.errors import UserError
from suites.whole_files import new_file, sync_folder

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise UserError, which names the folder, for errors of writing into it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name beside it, then rename it.

    Raises:
        UserError: The folder exists, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: choose another, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            yield scratch
            scratch.chmod(0o755)
            os.replace(scratch, folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; see ``new_file``."""
    with new_file(path) as stream:
        stream.write(json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_checked(path: Path, content: Fields) -> None:
    """Write a JSON file with its checksum atomically; see ``bench.schema.checked_json``."""
    with new_file(path, "wb") as stream:
        stream.write(checked_json(content, indent=1) + b"\n")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file atomically, see ``new_file``; return its CRC-32."""
    from safetensors.torch import save

    content = save(tensors)
    with new_file(path, "wb") as stream:
        stream.write(content)
    return checksum(content)


def read_tensors(path: Path, crc32: str) -> dict[str, Tensor]:
    """Return the tensors of a file that ``write_tensors`` wrote.

    Args:
        path: The file.
        crc32: Its checksum; empty for a file of an earlier version, which is not checked.

    Raises:
        Unreadable: It is damaged.
        OSError: It cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as stream:
        if crc32 and f"{file_crc32(stream):08x}" != crc32:
            raise Unreadable("its checksum differs: it has changed since it was written")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise Unreadable(f"it is not a complete safetensors file: {error}") from None


def write_at(path: Path, offset: int, content: bytes) -> None:
    """Write bytes at an offset of a file, in place of all that follows, and flush them to disk."""
    handle = os.open(path, os.O_WRONLY | (0 if offset else os.O_CREAT), 0o644)
    try:
        os.ftruncate(handle, offset)
        os.lseek(handle, offset, os.SEEK_SET)
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, if it does not exist, and flush its name to disk."""
    with suppress(FileExistsError):
        folder.mkdir()
        sync_folder(folder.parent)


def unused(path: Path) -> Path:
    """Return the path, with a number if it exists."""
    names = [path.name, *(f"{path.name}.{n}" for n in range(1, 1000))]
    return path.with_name(next((name for name in names if not path.with_name(name).exists()), path.name))
