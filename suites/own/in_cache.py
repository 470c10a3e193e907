"""Data sets in the cache folder, with what a user should know of them.

One whose rows are larger than memory is an Arrow file, which is mapped and not read; see mapped_file.
"""

import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from suites.cache import LENGTH_OF_END, cache_folder, is_cached, read_cached, write_cached
from suites.mapped_file import MappedFile, is_large
from suites.task_streams import Data

FORMAT = 3
"""Part of the keys. Raise it with every change of what is read, such as of a cleaning step."""
_PLAIN = (
    "name", "n_train", "class_names", "scale", "fingerprint", "mean", "std", "domain_names", "prefixes"
)  # fmt: skip
_TENSORS = ("x_N", "y_N", "domain_N", "validation_N")
_TEXTS = ("texts", "targets")


class Stored(NamedTuple):
    """A data set and the notes on it."""

    data: Data
    notes: tuple[str, ...] = ()
    """A line for each thing in the data that a user should know before trusting a number."""


def store(key: str, made: Stored) -> None:
    """Write a data set and the notes on it into the cache."""
    from safetensors.torch import save

    data, notes = made
    about = {name: getattr(data, name) for name in _PLAIN} | {"notes": notes}
    if is_large(data.x_N.nbytes):
        write_cached(_path(key, "arrow"), lambda file: _write_arrow(file, data, about))
        return
    tensors = {"about": _bytes(json.dumps(about).encode())}
    tensors |= {name: of for name in _TENSORS if (of := getattr(data, name)) is not None}
    for name in _TEXTS:
        if lines := [text.encode() for text in getattr(data, name)]:
            lengths = torch.tensor([len(line) for line in lines])
            tensors |= {name: _bytes(b"".join(lines)), f"{name}_lengths": lengths}
    write_cached(_path(key), lambda file: file.write(save(tensors)))


def stored(key: str) -> Stored | None:
    """Return a data set of the cache, None if there is no intact copy."""
    from safetensors.torch import load

    if is_cached(arrow := _path(key, "arrow")):
        return _read_arrow(arrow)
    content = read_cached(_path(key))
    if content is None:
        return None
    tensors = load(content)
    del content
    fields, notes = _plain(tensors["about"].numpy().tobytes())
    fields |= {name: tensors[name] for name in _TENSORS if name in tensors}
    for name in _TEXTS:
        joined, at, texts = tensors[name].numpy().tobytes() if name in tensors else b"", 0, []
        for length in tensors[f"{name}_lengths"].tolist() if name in tensors else ():
            texts.append(joined[at : at + length].decode())
            at += length
        fields[name] = tuple(texts)
    return Stored(Data(**fields), notes)


def _plain(about: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a data set that are no tensors, and the notes on it."""
    fields = {name: tuple(of) if isinstance(of, list) else of for name, of in json.loads(about).items()}
    return fields, fields.pop("notes")


def _write_arrow(file: BinaryIO, data: Data, about: dict[str, Any]) -> None:
    """Write rows without texts as one batch, so that all of them are one array in the file."""
    import pyarrow as pa

    x_N = np.ascontiguousarray(data.x_N.numpy())
    values = pa.Array.from_buffers(pa.from_numpy_dtype(x_N.dtype), x_N.size, [None, pa.py_buffer(x_N)])
    columns = {"x_N": pa.FixedSizeListArray.from_arrays(values, x_N[0].size)}
    columns |= {n: pa.array(of.numpy()) for n in _TENSORS[1:] if (of := getattr(data, n)) is not None}
    batch = pa.record_batch(columns)
    more = {"about": json.dumps(about), "shape": json.dumps(x_N.shape)}
    with pa.ipc.new_file(file, schema := batch.schema.with_metadata(more)) as writer:
        writer.write_batch(batch.cast(schema))


def _read_arrow(path: Path) -> Stored:
    """Return a data set whose rows are mapped, or read if they are not large by now."""
    import pyarrow as pa

    file = MappedFile(path)
    whole = pa.py_buffer(file.content)
    with pa.ipc.open_file(whole[:-LENGTH_OF_END]) as reader:
        batch, more = reader.get_batch(0), reader.schema.metadata
    fields, notes = _plain(more[b"about"])
    values = batch.column("x_N").values
    # Not from the buffer of Arrow, which torch would call read-only.
    at, dtype = values.buffers()[1].address - whole.address, values.type.to_pandas_dtype()
    array = np.frombuffer(file.content, dtype, len(values), at)
    x_N = array.reshape(json.loads(more[b"shape"]))
    if is_large(x_N.nbytes):
        fields["file"] = file
    else:
        x_N = x_N.copy()
    for name in batch.schema.names[1:]:
        fields[name] = torch.from_numpy(batch.column(name).to_numpy(zero_copy_only=False).copy())
    return Stored(Data(x_N=torch.from_numpy(x_N), **fields), notes)


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content or b" "), dtype=torch.uint8)


def _path(key: str, kind: str = "safetensors") -> Path:
    return cache_folder() / "declared" / f"{key}.{kind}"
