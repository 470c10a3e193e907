"""Data sets in the cache folder, with what a user should know of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suites.base import Data
from suites.cache import cache_folder, read_cached, write_cached

FORMAT = 3
"""Part of the keys. Raise it with every change of what is read, such as of a cleaning step."""
_PLAIN = (
    "name", "n_train", "class_names", "scale", "fingerprint", "mean", "std", "domain_names", "prefixes"
)  # fmt: skip
_TENSORS = ("x_N", "y_N", "domain_N", "validation_N")
_TEXTS = ("texts", "targets")


def store(key: str, data: Data, notes: Sequence[str] = ()) -> None:
    """Write a data set and notes on it into the cache."""
    from safetensors.torch import save

    about = {name: getattr(data, name) for name in _PLAIN} | {"notes": list(notes)}
    tensors = {"about": _bytes(json.dumps(about).encode())}
    tensors |= {name: of for name in _TENSORS if (of := getattr(data, name)) is not None}
    for name in _TEXTS:
        if lines := [text.encode() for text in getattr(data, name)]:
            lengths = torch.tensor([len(line) for line in lines])
            tensors |= {name: _bytes(b"".join(lines)), f"{name}_lengths": lengths}
    write_cached(_path(key), lambda file: file.write(save(tensors)))


def stored(key: str) -> tuple[Data, tuple[str, ...]] | None:
    """Return a data set of the cache and the notes on it, None if there is no intact copy."""
    from safetensors.torch import load

    content = read_cached(_path(key))
    if content is None:
        return None
    tensors = load(content)
    del content
    about = json.loads(tensors["about"].numpy().tobytes())
    notes = tuple(about.pop("notes"))
    fields: dict[str, Any] = {name: tuple(of) if isinstance(of, list) else of for name, of in about.items()}
    fields |= {name: tensors[name] for name in _TENSORS if name in tensors}
    for name in _TEXTS:
        joined, at, texts = tensors[name].numpy().tobytes() if name in tensors else b"", 0, []
        for length in tensors[f"{name}_lengths"].tolist() if name in tensors else ():
            texts.append(joined[at : at + length].decode())
            at += length
        fields[name] = tuple(texts)
    return Data(**fields), notes


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content or b" "), dtype=torch.uint8)


def _path(key: str) -> Path:
    return cache_folder() / "declared" / f"{key}.safetensors"
