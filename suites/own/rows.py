"""From rows of ``datasets`` to the columns of a declaration, for data sets of users and published ones.

Axes: N rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from suites.errors import UserError, unknown
from suites.mapped_file import empty
from suites.own.arrays import finite_rows
from suites.own.columns import Column, Table, as_word, in_parts, recoded, used_columns
from suites.own.declaration import Declaration
from suites.own.images import images_of, pixels

_ROWS_AT_ONCE = 50_000


def of_datasets(
    d: Declaration, splits: Mapping[str, Any], where: Callable[[str, int], str], folder: Path | None = None
) -> Table:
    """Return the columns of the splits of a data set, one after the other."""
    import datasets

    names = [name for name in splits if len(splits[name])]
    sizes = [len(splits[name]) for name in names]
    part_of = in_parts(sizes)

    def place(row: int) -> str:
        part, own = part_of(row)
        return where(names[part], own)

    if not names:
        raise UserError(f"{d.place} has no rows")
    for name in used_columns(d):
        if name not in splits[names[0]].column_names:
            raise unknown(f"column of {d.place}", name, splits[names[0]].column_names)
    used = [splits[name].select_columns(used_columns(d)) for name in names]
    rows = datasets.concatenate_datasets(used) if len(used) > 1 else used[0]
    table = Table({}, where=place)
    if len(names) > 1 or names[0]:
        table.given = Column(np.repeat(np.arange(len(names)), sizes), names)
    for name in used_columns(d):
        _check_utf8(d, table, rows, name)
    for name in dict.fromkeys(filter(None, (d.label_column, d.task, d.split, d.time_column))):
        table.columns[name] = column_of(d, table, rows, name)
    if d.image and hasattr(rows.features[d.image], "feature"):
        table.x_N = _numbers(d, table, rows, d.image)
    elif d.image:
        table.x_N = pixels(d, images_of(d, table, rows, folder), table)
    else:
        parts = zip(*(texts_of(d, rows, name) for name in d.text), strict=True)
        table.texts = [" ".join(filter(None, row)) for row in parts]
    return table


def _numbers(d: Declaration, table: Table, rows: Any, name: str) -> np.ndarray[Any, Any]:
    """Return a column of lists of numbers as features (N, 1, 1, D): float32, or bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size, at, found = 0, 0, np.empty((0, 1, 1, 0))
    for batch in rows.with_format("arrow").iter(_ROWS_AT_ONCE):
        chunk = batch[name].combine_chunks()
        values = chunk.flatten()
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            raise UserError(f"{d.place}: column {name!r} contains lists of {values.type}, not of numbers")
        lengths = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
        if not at:
            size = int(lengths[0])
            found = empty((len(rows), 1, 1, size), np.uint8 if values.type == pa.uint8() else np.float32)
        wrong = at + np.flatnonzero((lengths != size) | (lengths == 0))
        table.refuse(d, wrong, f"{name} has not {size or 1} numbers, as the first row")
        if values.null_count:
            first = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0] // size
            table.refuse(d, [at + int(first)], f"{name} has a missing number")
        with np.errstate(over="ignore"):  # infinite values are refused
            found[at : at + len(lengths), 0, 0] = values.to_numpy().reshape(-1, size)
        at += len(lengths)
    if found.dtype != np.uint8:
        table.refuse(d, ~finite_rows(found), f"{name} has NaN or infinite values: correct them")
    return found


def _check_utf8(d: Declaration, table: Table, rows: Any, name: str) -> None:
    """Refuse text that is not UTF-8, which a Parquet file may contain."""
    import pyarrow as pa

    column = rows.data.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        wrong = []
        for row, content in enumerate(column.cast(pa.large_binary()).to_pylist()):
            try:
                (content or b"").decode()
            except UnicodeDecodeError:
                wrong.append(row)
        table.refuse(d, wrong, f"{name} is not UTF-8")


def texts_of(d: Declaration, rows: Any, name: str) -> list[str | None]:
    """Return a column of texts, None for missing values; nothing for no column."""
    if not name:
        return []
    if name not in rows.column_names:
        raise unknown(f"column of {d.place}", name, rows.column_names)
    kind = getattr(rows.features[name], "dtype", "something else")
    if kind not in ("string", "large_string"):
        raise UserError(f"{d.place}: column {name!r} contains {kind}, not text")
    found: list[str | None] = rows.data.column(name).to_pylist() if rows._indices is None else rows[name][:]
    return found


def column_of(d: Declaration, table: Table, rows: Any, name: str) -> Column:
    """Return a column as words; a missing value, an empty text and the label -1 of the hub have none."""
    import pyarrow as pa

    feature = rows.features[name]
    column = rows.with_format("arrow")[name][:] if rows._indices is not None else rows.data.column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    kinds = ("string", "large_string", "integer", "floating", "boolean", "temporal", "null")
    if not any(getattr(pa.types, f"is_{kind}")(array.type) for kind in kinds):
        raise UserError(f"{d.place}: column {name!r} contains {array.type}, not words or numbers")
    coded = array.dictionary_encode()
    values = coded.dictionary.to_pylist()
    of_N = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    of_names = getattr(feature, "names", None)
    if of_names is not None:
        values = [None if v < 0 else of_names[v] for v in values]
    if name == d.label_column:
        decimal = [n for n, v in enumerate(values) if isinstance(v, float) and not v.is_integer()]
        if decimal:
            what = f"{name} is {values[decimal[0]]}: a class is a word or a whole number"
            table.refuse(d, np.isin(of_N, decimal), what)
    return replace(recoded(of_N, [as_word(v) for v in values]), own_order=of_names)
