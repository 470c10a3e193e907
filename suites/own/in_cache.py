"""Data sets in the cache folder, with what a user should know of them.

Each is an Arrow file; rows that are larger than memory are mapped and not read, see mapped_file.
"""

import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from suites.cache import LENGTH_OF_END, cache_folder, is_cached, write_cached
from suites.mapped_file import MappedFile, is_large
from suites.task_streams import Data

FORMAT = 4
"""Part of the keys. Raise it with every change of what is read, such as of a cleaning step."""
_PLAIN = (
    "name", "n_train", "class_names", "scale", "fingerprint", "mean", "std", "domain_names", "prefixes"
)  # fmt: skip
_OF_ROWS = ("y_N", "domain_N", "validation_N")
_TEXTS = ("texts", "targets")


class Stored(NamedTuple):
    """A data set and the notes on it."""

    data: Data
    notes: tuple[str, ...] = ()
    """A line for each thing in the data that a user should know before trusting a number."""


def store(key: str, made: Stored) -> None:
    """Write a data set and the notes on it into the cache."""
    write_cached(_path(key), lambda file: _write(file, made))


def _write(file: BinaryIO, made: Stored) -> None:
    """Write one batch, so that all rows are one array in the file."""
    import pyarrow as pa

    data, notes = made
    x_N = np.ascontiguousarray(data.x_N.numpy())
    columns = {n: pa.array(of.numpy()) for n in _OF_ROWS if (of := getattr(data, n)) is not None}
    columns |= {n: pa.array(of, pa.large_string()) for n in _TEXTS if (of := getattr(data, n))}
    if x_N.size:
        values = pa.Array.from_buffers(pa.from_numpy_dtype(x_N.dtype), x_N.size, [None, pa.py_buffer(x_N)])
        columns |= {"x_N": pa.FixedSizeListArray.from_arrays(values, x_N[0].size)}
    about = {name: getattr(data, name) for name in _PLAIN} | {"notes": notes}
    batch = pa.record_batch(columns)
    more = {"about": json.dumps(about), "shape": json.dumps(x_N.shape)}
    with pa.ipc.new_file(file, schema := batch.schema.with_metadata(more)) as writer:
        writer.write_batch(batch.cast(schema))


def stored(key: str) -> Stored | None:
    """Return a data set of the cache, None if there is no intact copy; rows are mapped if they are large."""
    import pyarrow as pa

    if not is_cached(path := _path(key)):
        return None
    file = MappedFile(path)
    whole = pa.py_buffer(file.content)
    with pa.ipc.open_file(whole[:-LENGTH_OF_END]) as reader:
        batch, more = reader.get_batch(0), reader.schema.metadata
    about, columns = json.loads(more[b"about"]), dict(zip(batch.schema.names, batch.columns, strict=True))
    fields: dict[str, Any] = {n: tuple(of) if isinstance(of, list) else of for n, of in about.items()}
    notes = fields.pop("notes")
    arrays = {n: columns[n].to_numpy(zero_copy_only=False) for n in _OF_ROWS if n in columns}
    fields |= {n: torch.from_numpy(array.copy()) for n, array in arrays.items()}
    fields |= {n: tuple(columns[n].to_pylist()) for n in _TEXTS if n in columns}
    x_N: np.ndarray[Any, Any] = np.empty(0, np.uint8)
    if "x_N" in columns:
        values = columns["x_N"].values
        # Not from the buffer of Arrow, which torch would call read-only.
        at, dtype = values.buffers()[1].address - whole.address, values.type.to_pandas_dtype()
        x_N = np.frombuffer(file.content, dtype, len(values), at)
    if is_large(x_N.nbytes):
        fields["file"] = file
    else:
        x_N = x_N.copy()
    return Stored(Data(x_N=torch.from_numpy(x_N.reshape(json.loads(more[b"shape"]))), **fields), notes)


def _path(key: str) -> Path:
    return cache_folder() / "declared" / f"{key}.arrow"
