"""Folders of images: a folder for each class, or a metadata file.

Axes: N images.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from suites.errors import UserError
from suites.own.columns import SPLITS, Table, as_word, in_parts, recoded
from suites.own.declaration import Declaration
from suites.own.images import pixels
from suites.own.rows import of_datasets
from suites.own.table_files import opened_table

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, without hidden ones, sorted."""
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(at, name) for name in names if not name.startswith(".")]
    return sorted(found)


def folder_table(d: Declaration) -> Table:
    """Return the images of a folder with a metadata file, or with a folder for each class."""
    folder = Path(d.place)
    files = files_below(folder)
    tops = {f.relative_to(folder).parts[0] for f in files if len(f.relative_to(folder).parts) > 1}
    divided = bool(tops) and tops <= {*SPLITS} and "train" in {SPLITS[t] for t in tops}
    images = [f for f in files if f.suffix.lower() in IMAGES]
    tables = [f for f in files if f.name in _METADATA]
    if not images:
        raise UserError(f"{d.place} has no images: their names end in {', '.join(IMAGES)}")
    if tables:
        return _by_metadata(d, folder, images, tables, divided)
    depth = 3 if divided else 2
    wrong = [f for f in images if len(f.relative_to(folder).parts) != depth]
    if wrong:
        layout = "SPLIT/CLASS/IMAGE" if divided else "CLASS/IMAGE"
        raise UserError(
            f"{wrong[0]} is not at {d.place}{layout}: put all images so, or write {d.place}metadata.csv with "
            "the columns file_name and label"
        )
    return _by_folders(d, images, divided)


def _by_folders(d: Declaration, images: list[Path], divided: bool) -> Table:
    """Return images whose folder is their class, in order of their names."""
    columns = {"label": d.label, "task": d.task, "split": d.split, "time": d.time_column}
    for name, used in columns.items():
        if used:
            raise UserError(
                f"{d.place}: a folder for each class has no {name} column: write {d.place}metadata.csv"
            )
    images = sorted(images, key=lambda f: (f.name, f))
    table = Table({}, where=lambda row: f"row {row + 1} ({images[row]})")
    table.columns["label"] = recoded(np.arange(len(images)), [as_word(f.parent.name) for f in images])
    table.x_N = pixels(d, enumerate(images), table)
    if divided:
        tops = [SPLITS[f.parts[-3]] for f in images]
        table.given = recoded(np.arange(len(tops)), list(tops))
    return table


def _by_metadata(
    d: Declaration, folder: Path, images: list[Path], tables: list[Path], divided: bool
) -> Table:
    """Return the images that the metadata files of a folder, or of its splits, list."""
    of = replace(d, image="file_name")
    parts = []
    named: set[Path] = set()
    for path in tables:
        with opened_table(d, path) as (rows, where):
            for row, name in enumerate(rows["file_name"] if "file_name" in rows.column_names else ()):
                if not name or not (path.parent / name).is_file():
                    raise UserError(f"{path}: {where(row)}: no such image: {name}")
                named.add((path.parent / name).resolve())
            place = partial(_place, f"{path.relative_to(folder).as_posix()}, ", where)
            parts.append((path, of_datasets(of, {"": rows}, place, path.parent)))
    left = [f for f in images if f.resolve() not in named]
    if left:
        more = f" ({len(left) - 1} more)" if len(left) > 1 else ""
        raise UserError(f"{left[0]} is in no metadata file: add a row, or move it{more}")
    return _joined(d, parts, divided)


def _place(file: str, where: Callable[[int], str], _split: str, row: int) -> str:
    return file + where(row)


def _joined(d: Declaration, parts: list[tuple[Path, Table]], divided: bool) -> Table:
    """Return several tables as one."""
    part_of = in_parts(len(table) for _, table in parts)

    def where(row: int) -> str:
        part, own = part_of(row)
        return parts[part][1].where(own)

    pixels = [table.x_N for _, table in parts if table.x_N is not None]
    if len({x.shape[1:] for x in pixels}) > 1:
        raise UserError(
            f"{d.place}: images of its splits differ in size or colours: add --size, or convert them"
        )
    joined = Table({}, x_N=np.concatenate(pixels), where=where)
    for name in parts[0][1].columns:
        words = [[*(t.columns[name].words), None] for _, t in parts]
        offsets = np.cumsum([0, *(len(w) for w in words)])
        of_N = [
            np.where(t.columns[name].of_N < 0, len(w) - 1, t.columns[name].of_N) + offset
            for (_, t), w, offset in zip(parts, words, offsets, strict=False)
        ]
        joined.columns[name] = recoded(np.concatenate(of_N), [w for ws in words for w in ws])
    if divided:
        tops = [SPLITS[path.parent.name] for path, table in parts for _ in range(len(table))]
        joined.given = recoded(np.arange(len(tops)), list(tops))
    return joined
