"""Data sets of users from Python: files, data frames and ``datasets``, as the suites that they declare."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plan import Value
from suites.declared import declared, suite_named
from suites.errors import UserError, some
from suites.own.columns import used_columns
from suites.own.declaration import FRAME
from suites.own.read import frame_file
from suites.whole_files import new_file

if TYPE_CHECKING:
    import datasets
    import pandas as pd

Columns = Mapping[str, Value | Sequence[str]]
"""What the columns of a data set mean: ``{"text": "review", "label": "stars", "task": "month"}``."""
_CHUNK = 10_000


def suite_or_dataset(suite: str, dataset: Any, columns: Columns | None) -> str:
    """Return the name of the suite of ``run``: ``suite``, or that of a data set instead of it.

    Raises:
        UserError: Both are given, or columns without a data set, or the data set cannot be used.
    """
    if dataset is None:
        if columns:
            raise UserError("columns describe a dataset: give dataset=")
        return suite
    if suite:
        raise UserError(f"give a suite or a dataset, not both: {suite!r}")
    return suite_of(dataset, columns or {})


def suite_of(
    dataset: "str | Path | pd.DataFrame | datasets.Dataset | datasets.DatasetDict", columns: Columns
) -> str:
    """Return the name of the suite of a data set.

    A data frame is written into the cache, under a hash of its used columns, so that other processes and
    later calls with the same data find it.

    Raises:
        UserError: The data set is of another type, or a column is unknown or has values of several types.
    """
    import datasets
    import pandas as pd

    datasets.disable_progress_bars()
    if isinstance(dataset, str | os.PathLike):
        return suite_named(os.fspath(dataset), dict(columns))
    columns = dict(columns)
    if isinstance(dataset, datasets.DatasetDict):
        if "split" in columns:
            raise UserError("a DatasetDict has its own splits: leave out split")
        parts = [of.add_column("split", [name] * len(of)) for name, of in dataset.items()]
        dataset, columns["split"] = datasets.concatenate_datasets(parts), "split"
    d = declared(f"{FRAME}data", columns)
    used = used_columns(d)
    if isinstance(dataset, pd.DataFrame):
        _check_columns(used, [*map(str, dataset.columns)])
        for name in used:
            _check_types(name, dataset[name])
        rows = datasets.Dataset.from_pandas(dataset[used], preserve_index=False)
    elif isinstance(dataset, datasets.Dataset):
        _check_columns(used, dataset.column_names)
        rows = dataset.with_format(None).select_columns(used)
    else:
        raise UserError(
            f"dataset must be a path, a pandas.DataFrame or a datasets.Dataset, not {type(dataset).__name__}"
        )
    mark = _mark(rows)
    path = frame_file(mark)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, "wb", permissions=0o600) as stream:  # as all of the cache: it is the user's data
            rows.to_parquet(stream)
    return declared(f"{FRAME}{mark}", columns).name


def _check_columns(used: list[str], there: list[str]) -> None:
    if missing := [name for name in used if name not in there]:
        raise UserError(f"the data has no column {missing[0]!r}; it has: {', '.join(there)}")


def _check_types(name: str, values: Any) -> None:
    """Raise UserError for a column with text and numbers, with the first row of each."""
    if values.dtype != object:
        return
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not None and value == value:
            first.setdefault("number" if isinstance(value, int | float) else type(value).__name__, row)
    if len(first) > 1:
        words = [f"{kind} in row {row + 1}" for kind, row in first.items()]
        raise UserError(f"column {name!r} has values of several types: {some(words, 3)}: write one type")


def _mark(rows: Any) -> str:
    """Return a hash of the values of all columns, whatever wrote them."""
    digest = hashlib.sha256(repr(sorted(rows.column_names)).encode())
    plain = rows.with_format("arrow")
    for start in range(0, len(rows), _CHUNK):
        part = plain[start : start + _CHUNK]
        for name in sorted(rows.column_names):
            digest.update(repr(part[name].to_pylist()).encode())
    return digest.hexdigest()[:16]
