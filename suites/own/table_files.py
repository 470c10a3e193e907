"""Tables of users, opened by ``datasets``: every row is read, or the file is refused with a row's number."""

import csv
import json
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from suites.errors import UserError, some
from suites.own.columns import used_columns
from suites.own.declaration import Declaration
from suites.tracebacks import first_line


@contextmanager
def opened_table(d: Declaration, path: Path) -> Iterator[tuple[Any, Callable[[int], str]]]:
    """Yield the rows of a table, read by ``datasets``, and where each is."""
    import datasets

    datasets.disable_progress_bars()
    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    scan = None
    if suffix in (".csv", ".tsv"):
        separator = "\t" if suffix == ".tsv" else ","
        scan = _scan_csv(d, path, separator)
        features = datasets.Features({name: datasets.Value("string") for name in scan.header})
        options = {"features": features, "sep": separator, "keep_default_na": False, "na_filter": False}
        options |= {"encoding": "utf-8-sig"}
        make: Any = datasets.Dataset.from_csv
    elif suffix == ".parquet":
        make = datasets.Dataset.from_parquet
    elif suffix == ".arrow":
        make = _of_arrow
    else:
        scan = _scan_json(d, path)
        make = datasets.Dataset.from_json
    verbosity = datasets.logging.get_verbosity()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it prints what it raises
            rows = make(str(path), cache_dir=scratch, **options)
        except Exception as error:  # each reader has its own errors
            raise UserError(f"{d.place}: cannot be read: {first_line(error.__cause__ or error)}") from error
        finally:
            datasets.logging.set_verbosity(verbosity)
        if scan is not None and len(rows) != scan.n:
            raise UserError(
                f"{d.place}: {scan.n} rows were found and {len(rows)} read: report this as a fault"
            )
        yield rows, scan.where if scan is not None else lambda row: f"row {row + 1}"


def _of_arrow(path: str, **_: Any) -> Any:
    """Return the rows of an Arrow file or stream, mapped into memory."""
    import datasets
    import pyarrow as pa

    with open(path, "rb") as file:
        if file.read(6) != b"ARROW1":
            return datasets.Dataset.from_file(path)
    with pa.ipc.open_file(pa.memory_map(path)) as reader:
        return datasets.Dataset(datasets.table.InMemoryTable(reader.read_all()))


class _Scan(NamedTuple):
    """What is known of a table before it is read."""

    header: list[str]
    n: int
    lines: Sequence[int]
    """The line on which each row begins; empty for a list in JSON, whose rows need not begin on lines."""

    def where(self, row: int) -> str:
        """Return where a row is."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines else "")


def _scan_csv(d: Declaration, path: Path, separator: str) -> _Scan:
    """Check encoding, header and the number of columns of each row; a blank line is not a row."""
    _check_encoding(d, path)
    most = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next((row for row in reader if row), [])
            begins, lines = reader.line_num + 1, array("q")
            for row in reader:
                if row:
                    lines.append(begins)
                    if len(row) != len(header):
                        where = f"row {len(lines)} (line {begins})"
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
    if not lines:
        raise UserError(f"{d.place} has no rows")
    if len(header) == 1 and ";" in header[0]:
        raise UserError(
            f"{d.place}: columns are separated by ';': write them with commas, or tabs in a .tsv file"
        )
    return _Scan(header, len(lines), lines)


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
    used, n, lines = used_columns(d), 0, array("q")
    for n, (line, row) in enumerate(_json_rows(d, path, whole), 1):
        where = f"row {n}" if whole else f"row {n} (line {line})"
        if not whole:
            lines.append(line)
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
    return _Scan([*kinds], n, lines)


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
