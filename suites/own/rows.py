"""Rows of tables, read by ``datasets``: every row is read, or the file is refused with the number of the row.

Axes: N rows.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from suites.declared import Declaration
from suites.errors import UserError, some, unknown
from suites.own.columns import Column, Table, as_word, first_line, in_parts, recoded, used_columns
from suites.own.images import images_of, pixels


@contextmanager
def opened_table(d: Declaration, path: Path) -> Iterator[tuple[Any, Callable[[int], str]]]:
    """Yield the rows of a table, read by ``datasets``, and where each is."""
    import datasets

    datasets.disable_progress_bars()
    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    scan = None
    if suffix in (".csv", ".tsv"):
        scan = _scan_csv(d, path, "\t" if suffix == ".tsv" else ",")
        features = datasets.Features({name: datasets.Value("string") for name in scan.header})
        options = {"features": features, "sep": scan.separator, "keep_default_na": False, "na_filter": False}
        options |= {"encoding": "utf-8-sig"}
        make: Any = datasets.Dataset.from_csv
    elif suffix == ".parquet":
        make = datasets.Dataset.from_parquet
    else:
        scan = _scan_json(d, path)
        make = datasets.Dataset.from_json
    verbosity = datasets.logging.get_verbosity()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it prints what it raises
            rows = make(str(path), cache_dir=scratch, **options)
        except Exception as error:  # each reader has its own errors
            raise UserError(f"{d.place}: cannot be read: {first_line(error)}") from error
        finally:
            datasets.logging.set_verbosity(verbosity)
        if scan is not None and len(rows) != scan.n:
            raise UserError(
                f"{d.place}: {scan.n} rows were found and {len(rows)} read: report this as a fault"
            )
        yield rows, scan.where if scan is not None else lambda row: f"row {row + 1}"


@dataclass
class _Scan:
    """What is known of a table before it is read."""

    header: list[str]
    n: int
    lines: list[int] = field(default_factory=list)
    """The line on which each row begins; empty if rows are lines."""
    first: int = 1
    """The line of the first row."""
    separator: str = ","

    def where(self, row: int) -> str:
        """Return where a row is."""
        return f"row {row + 1} (line {self.lines[row] if self.lines else row + self.first})"


def _scan_csv(d: Declaration, path: Path, separator: str) -> _Scan:
    """Check encoding, header and the number of columns of each row; a blank line is no row."""
    _check_encoding(d, path)
    most = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next((row for row in reader if row), [])
            n, begins, lines = 0, reader.line_num + 1, []
            for row in reader:
                if row:
                    n += 1
                    lines.append(begins)
                    if len(row) != len(header):
                        where = f"row {n} (line {begins})"
                        hint = "; text with a separator must be in double quotes" * (len(row) > len(header))
                        raise UserError(
                            f"{d.place}: {where} has {len(row)} columns, the header {len(header)}{hint}"
                        )
                begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{d.place}: the row that begins on line {begins}: {error}") from None
    finally:
        csv.field_size_limit(most)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{d.place}: the header has {some([repr(name) for name in twice], 3)} twice")
    if not n:
        raise UserError(f"{d.place} has no rows")
    if len(header) == 1 and ";" in header[0]:
        raise UserError(
            f"{d.place}: columns are separated by ';': write them with commas, or tabs in a .tsv file"
        )
    plain = lines[-1] - lines[0] == n - 1
    return _Scan(header, n, [] if plain else lines, lines[0], separator)


def _check_encoding(d: Declaration, path: Path) -> None:
    """Raise UserError for the first line that is not UTF-8 or has a null character."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{d.place}: line {number} is not UTF-8 (byte {error.start + 1} of the line): "
                    "save the file as UTF-8"
                ) from None
            if b"\0" in line:
                raise UserError(f"{d.place}: line {number} has a null character: save the file as UTF-8 text")


def _scan_json(d: Declaration, path: Path) -> _Scan:
    """Check that rows are objects, and that each column has one type."""
    _check_encoding(d, path)
    with path.open("rb") as file:
        whole = file.read(64).lstrip().startswith(b"[")
    kinds: dict[str, tuple[type, int, Any]] = {}
    used, n, lines = used_columns(d), 0, []
    for line, row in _json_rows(d, path, whole):
        n += 1
        lines.append(line)
        where = f"row {n}" if whole else f"row {n} (line {line})"
        if not isinstance(row, dict):
            raise UserError(f'{d.place}: {where} is not an object like {{"label": "a"}}')
        for name in used:
            value = row.get(name)
            if value is None:
                continue
            kind, first, example = kinds.setdefault(name, (_kind(value), n, value))
            if _kind(value) is not kind:
                raise UserError(
                    f"{d.place}: {where}: {name} is {json.dumps(value)}, and {json.dumps(example)} in row "
                    f"{first}: write numbers or text, not both"
                )
    if not n:
        raise UserError(f"{d.place} has no rows")
    plain = whole or lines[-1] - lines[0] == n - 1
    return _Scan([*kinds], n, [] if plain else lines, 1 if whole else lines[0])


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name is twice in {', '.join(name for name, _ in pairs)}")
    return found


def _json_rows(d: Declaration, path: Path, whole: bool) -> Iterator[tuple[int, Any]]:
    """Yield the line and the value of each row; rows of a list have their number instead."""
    line = 0
    with path.open(encoding="utf-8-sig") as file:
        try:
            if whole:
                yield from enumerate(json.load(file, object_pairs_hook=_once), 1)
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, json.loads(text, object_pairs_hook=_once)
        except ValueError as error:
            line = error.lineno if whole and isinstance(error, json.JSONDecodeError) else line
            raise UserError(
                f"{d.place}:{f' line {line}' * (line > 0)} is not JSON: {getattr(error, 'msg', error)}"
            ) from None


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
    if d.image:
        table.x_N = pixels(d, images_of(d, table, rows, folder), table)
    else:
        parts = zip(*(_texts(d, rows, name) for name in d.text), strict=True)
        table.texts = [" ".join(filter(None, row)) for row in parts]
    return table


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


def _texts(d: Declaration, rows: Any, name: str) -> list[str | None]:
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
