"""A run in one file: its manifest and records as compressed lines, sorted by key.

    RUN.lethe.gz    line 1 is the manifest; then, for each cell, its record and its confusion counts

The same run packs to the same bytes. Checkpoints, saved models and superseded records are left out.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

from bench.store.files import new_folder, write_checked
from bench.store.lines import PACK_SUFFIX, SUFFIX, as_line
from bench.store.run_reader import RunReader
from suites.errors import UserError
from suites.whole_files import new_file

REFERENCE = Path("results") / "reference"
"""Where a checkout has its committed runs, packed."""


def pack_run(run: Path, file: Path | None = None) -> Path:
    """Pack a run into one file.

    Args:
        run: The run's folder.
        file: Where to; beside the folder, under its name, without it.

    Returns:
        The file.

    Raises:
        UserError: for a folder that is not a run or has records that cannot be read, and where the file
            cannot be written.
    """
    reader = RunReader(run)
    if reader.packed:
        raise UserError(f"{reader.folder} is packed already")
    manifest = reader.manifest()
    if not manifest.commands:
        raise UserError(f"{run} is not a run's folder: it has no run.json")
    run = run.resolve()
    named = run if run.name else run.absolute()
    target = file or named.with_name(named.name + PACK_SUFFIX)
    if not target.name.endswith(PACK_SUFFIX):
        raise UserError(f"the name of a packed run must end in {PACK_SUFFIX}: {target}{PACK_SUFFIX}")
    try:
        # No time and no name, so that equal runs are equal files.
        with new_file(target, "wb") as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
            packed.write(as_line(manifest.model_dump(by_alias=True, exclude_none=True)))
            packed.writelines(_records(reader))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    return target


def packed_runs(folder: Path) -> list[Path]:
    """Return the packed runs in a folder, sorted by name; none if the folder does not exist."""
    return sorted(folder.glob(f"*{PACK_SUFFIX}"))


def _records(reader: RunReader) -> Iterator[bytes]:
    """Yield the lines of a run's records; raises UserError for one that cannot be read."""
    for key, line in reader.each(as_line).items():
        yield line
        classes = reader.classes(key)
        if classes is not None:
            yield as_line(classes)
    if reader.unreadable:
        raise UserError(
            f"{reader.unreadable[0]} ({len(reader.unreadable)} in all): "
            "lethe run sets it aside and runs its cell again"
        )


def unpack_run(file: Path, folder: Path | None = None) -> Path:
    """Unpack a run into a folder, which ``lethe run`` can continue.

    Args:
        file: The packed run; its suffix may be left out.
        folder: Where to; beside the file, under its name, without it.

    Returns:
        The folder.

    Raises:
        UserError: for a file that is not a packed run or has records that cannot be read, and for a folder
            that exists already or cannot be written.
    """
    reader = RunReader(file)
    if not reader.packed:
        raise UserError(f"{file} is not a packed run, a file that ends in {PACK_SUFFIX}")
    target = folder or reader.folder.with_name(reader.folder.name.removesuffix(PACK_SUFFIX))
    manifest, records = reader.manifest(), reader.each(as_line)
    with new_folder(target) as scratch:
        (scratch / "cells").mkdir()
        (scratch / "checkpoints").mkdir()
        with (scratch / "cells" / f"unpacked{SUFFIX}").open("wb") as stream:
            stream.writelines(records.values())
        _write_classes(reader, list(records), scratch)
        if reader.unreadable:
            raise UserError(f"{file} is damaged: {reader.unreadable[0]}; use another copy of it")
        write_checked(scratch / "run.json", manifest.model_dump(by_alias=True, exclude_none=True))
    return target


def _write_classes(reader: RunReader, keys: list[str], folder: Path) -> None:
    found = filter(None, (reader.classes(key) for key in keys))
    first = next(found, None)
    if first is not None:
        (folder / "classes").mkdir()
        with (folder / "classes" / f"unpacked{SUFFIX}").open("wb") as stream:
            stream.write(as_line(first))
            stream.writelines(map(as_line, found))
