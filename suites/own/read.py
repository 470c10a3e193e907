"""Reading the files of a declaration, whatever their format."""

import os
from pathlib import Path

from suites.cache import cache_folder
from suites.errors import Unavailable, UserError
from suites.own.arrays import array_table
from suites.own.columns import Table
from suites.own.declaration import FRAME, Declaration
from suites.own.folders import files_below, folder_table
from suites.own.hub import hub_identity, opened
from suites.own.rows import of_datasets
from suites.own.table_files import opened_table


def identity(d: Declaration) -> str:
    """Return what changes when the files of a declaration change: names, sizes and times, or the revision.

    Raises:
        UserError: There is no such file.
        Unavailable: The hub's data set is neither in the mirror nor available for download.
    """
    if d.is_hub:
        return hub_identity(d)
    if d.place.startswith(FRAME):
        _frame_file(d)
        return d.place
    path = Path(d.place)
    if not (os.path.isdir(path) if d.is_folder else os.path.isfile(path)):  # false for a name too long
        raise UserError(f"no such {'folder' if d.is_folder else 'file'}: {d.place}")
    below = files_below(path) if d.is_folder else [path]
    stats = [(f.relative_to(path).as_posix(), f.stat().st_size, f.stat().st_mtime_ns) for f in below]
    return f"{path.resolve()}/{stats}"


def read(d: Declaration) -> Table:
    """Read the columns of a declaration; raises UserError for rows that cannot be read."""
    if d.is_arrays:
        return array_table(d)
    if d.is_folder:
        return folder_table(d)
    if d.is_hub:
        with opened(d) as splits:
            return of_datasets(d, splits, lambda split, row: f"row {row + 1} of its {split} split")
    path = _frame_file(d) if d.place.startswith(FRAME) else Path(d.place)
    with opened_table(d, path) as (rows, where):
        return of_datasets(d, {"": rows}, lambda _, row: where(row), path.parent)


def _frame_file(d: Declaration) -> Path:
    path = frame_file(d.place.removeprefix(FRAME))
    if not path.is_file():
        raise Unavailable(
            f"{d.place} is not in the cache: call lethe.run(dataset=...) with the data frame again"
        )
    return path


def frame_file(mark: str) -> Path:
    """Return where the cache has a data frame."""
    return cache_folder() / "frames" / f"{mark}.parquet"
