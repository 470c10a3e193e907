"""Input and output files of ``lethe predict``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suites.errors import UserError
from suites.paths import check_is_file
from suites.spreadsheets import safe_cell
from suites.whole_files import new_file

if TYPE_CHECKING:
    import numpy as np

_LONGEST_FIELD = 2**31 - 1


def read_texts(path: Path, column: str) -> list[str]:
    """Return one column of a CSV file, with empty texts.

    Raises:
        UserError: The file is missing, empty or not CSV in UTF-8, or does not have the column.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        check_is_file(path, pipe=True)  # such as <(zcat rows.csv.gz)
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not rows.fieldnames:
                raise UserError(f"{path} is empty: its first line must name the columns")
            if column not in rows.fieldnames:
                has = ", ".join(rows.fieldnames)
                raise UserError(f"{path} has no column {column!r}; it has: {has} (choose with --column)")
            texts = [row[column] or "" for row in rows]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not CSV in UTF-8: {error}") from None
    if not texts:
        raise UserError(f"{path} has no rows below its first line")
    return texts


def read_images(path: Path) -> np.ndarray[Any, Any]:
    """Return the array in a .npy file; raises UserError for any other file."""
    import numpy as np

    if path.suffix != ".npy":
        raise UserError(f"this model reads images: --file must be a .npy array of them, not {path.name}")
    try:
        check_is_file(path)
        images: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise UserError(f"{path} is not an array of numbers") from None
    if images.dtype.kind not in "uif" or not len(images):
        raise UserError(f"{path} must contain images as numbers, not {images.dtype} {images.shape}")
    return images


def write_answers(path: Path, columns: Sequence[str], answers: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, completely or not at all: a row for each input, with its prediction.

    Text that a spreadsheet would run as a formula is written behind an apostrophe.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with new_file(path, newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            rows.writerows(map(safe_cell, answer) for answer in answers)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
