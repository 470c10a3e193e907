"""Arrays of .npz and safetensors files.

Axes: N rows, D features.
"""

from pathlib import Path
from typing import Any

import numpy as np

from suites.errors import UserError, unknown
from suites.mapped_file import blocks, empty, is_large
from suites.own.columns import Column, Table, as_word, recoded
from suites.own.declaration import Declaration
from suites.tracebacks import first_line


def array_table(d: Declaration) -> Table:
    """Return the arrays of a file; ``x_train`` and ``x_test`` are one array with a split."""
    arrays = _read_arrays(d)
    splits = {}
    names = {"image": d.image or "x", "label": d.label_column, "task": d.task, "split": d.split}
    names |= {"time": d.time_column}
    if names["image"] not in arrays and f"{names['image']}_train" in arrays:
        for split in ("train", "test"):
            splits[split] = {k: f"{name}_{split}" for k, name in names.items() if name}
    else:
        splits[""] = {k: name for k, name in names.items() if name}
    for of in splits.values():
        for name in of.values():
            if name not in arrays:
                raise unknown(f"array of {d.place}", name, [*arrays])
    x = [_features(d, of["image"], arrays[of["image"]]) for of in splits.values()]
    sizes = [len(a) for a in x]
    if len({a.shape[1:] for a in x}) > 1:
        raise UserError(
            f"{d.place}: x_train and x_test differ in shape: {x[0].shape[1:]} and {x[1].shape[1:]}"
        )
    table = Table({}, x_N=_joined(x))
    if len(splits) > 1:
        table.given = Column(np.repeat(np.arange(2), sizes), ["train", "test"])
    assert table.x_N is not None
    if table.x_N.dtype != np.uint8:
        wrong = ~finite_rows(table.x_N)
        table.refuse(d, wrong, f"{names['image']} has NaN or infinite values: correct them")
    for kind in ("label", "task", "split", "time"):
        if not names[kind]:
            continue
        for of, size in zip(splits.values(), sizes, strict=True):
            if arrays[of[kind]].shape != (size,):
                got = arrays[of[kind]].shape
                raise UserError(
                    f"{d.place}: {of[kind]} has shape {got} for {size} rows: write one value for each"
                )
        joined = np.concatenate([arrays[of[kind]] for of in splits.values()])
        values, first, of_N = np.unique(joined, return_index=True, return_inverse=True)
        if kind == "label" and values.dtype.kind == "f":
            wrong = values != np.round(values)
            table.refuse(d, wrong[of_N], f"{names[kind]} is not a whole number")
        order = np.argsort(first)  # of appearance
        words = [as_word(v.item()) for v in values[order]]
        table.columns[names[kind]] = recoded(np.argsort(order)[of_N], words)
    return table


def _features(d: Declaration, name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return pixels (N, channels, height, width), or features as (N, 1, 1, D)."""
    if x.dtype != np.uint8 and x.dtype.kind not in "fiu":
        raise UserError(f"{d.place}: {name} contains {x.dtype}, not numbers")
    if x.ndim not in (2, 3, 4):
        raise UserError(f"{d.place}: {name} has shape {x.shape}: write (N, D), (N, H, W) or (N, C, H, W)")
    if x.ndim < 4:
        x = x[:, None] if x.ndim == 3 else x[:, None, None]
    elif x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    dtype = np.dtype(np.uint8 if x.dtype == np.uint8 else np.float32)
    if x.dtype == dtype and x.flags.c_contiguous:
        return x
    found = empty(x.shape, dtype)
    with np.errstate(over="ignore"):  # infinite values are refused
        for part in blocks(found):
            found[part] = x[part]
    return found


def _joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return arrays one after the other."""
    if len(parts) == 1:
        return parts[0]
    found = empty((sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts))
    at = 0
    for x in parts:
        for part in blocks(x):
            found[at : at + len(x)][part] = x[part]
        at += len(x)
    return found


def finite_rows(x_N: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return which rows have neither NaN nor infinite values, bool (N,)."""
    parts = [np.isfinite(x_N[part].reshape(len(x_N[part]), -1)).all(1) for part in blocks(x_N)]
    return np.concatenate(parts) if parts else np.ones(0, dtype=bool)


def _read_arrays(d: Declaration) -> dict[str, np.ndarray[Any, Any]]:
    try:
        if d.place.lower().endswith(".npz"):
            if is_large(Path(d.place).stat().st_size):
                raise UserError("it is larger than memory, and .npz is read whole: save it as .safetensors")
            # NumPy leaves a damaged file open that it opened itself.
            with open(d.place, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                # A member that is not an array is bytes, which the checks of its type refuse.
                return {name: np.asarray(file[name]) for name in file.files}
        from safetensors.torch import load_file  # maps the file, unlike that of numpy

        return {name: tensor.numpy() for name, tensor in load_file(d.place).items()}
    except Exception as error:  # damaged zip files, pickles and headers raise errors of many kinds
        raise UserError(f"{d.place}: cannot be read: {first_line(error.__cause__ or error)}") from error
