"""Where rows come from: scikit-learn, or parquet files of a hub or of a local mirror of it.

A data set is read once, turned into contiguous uint8 tensors, and kept in a cache under a name made of its
revision or, for a mirror, of its files' sizes and times.

Axes: N images.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from suites.base import Data
from suites.errors import Unavailable, UserError


@dataclass(frozen=True)
class Hub:
    """A data set of images on the Hugging Face hub, pinned to a revision."""

    repository: str
    config: str
    revision: str
    image: str
    """Column of the images."""
    label: str
    """Column of the labels, whole numbers."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    only_mirror: bool = False
    """Whether there is no copy on the hub."""


def fingerprint(x_N: Tensor, y_N: Tensor, n_train: int) -> str:
    """Return SHA-256 over shape, split, pixels and labels."""
    digest = hashlib.sha256(f"{tuple(x_N.shape)}/{n_train}".encode())
    digest.update(x_N.numpy().tobytes())
    digest.update(y_N.numpy().tobytes())
    return digest.hexdigest()


@cache
def digits() -> Data:
    """Return scikit-learn's 1,797 handwritten digits; every fifth image of each class is for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x_N = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    y_N = torch.from_numpy(bunch.target.astype(np.int64))
    # The n-th image of its class, for every image.
    nth_N = torch.nn.functional.one_hot(y_N, 10).cumsum(0).gather(1, y_N.unsqueeze(1)).squeeze(1)
    test_N = nth_N % 5 == 0
    order = torch.cat([(~test_N).nonzero().flatten(), test_N.nonzero().flatten()])
    x_N, y_N, n_train = x_N[order].contiguous(), y_N[order].contiguous(), int((~test_N).sum())
    names = tuple(str(d) for d in range(10))
    return Data("digits", x_N, y_N, n_train, names, 16.0, fingerprint(x_N, y_N, n_train))


def hub_images(hub: Hub) -> Data:
    """Return a data set from the mirror named by LETHE_DATA, else from the cache, else from the hub.

    Raises Unavailable, saying what to do, where none of them has it.
    """
    mirror = os.environ.get("LETHE_DATA")
    if mirror:
        return _from_mirror(hub, mirror)
    if hub.only_mirror:
        raise Unavailable(
            f"{hub.repository} is on no hub: name a local mirror that has it with LETHE_DATA or --data"
        )
    return _cached(hub, f"{hub.repository}/{hub.config}/{hub.revision}", None)


def _from_mirror(hub: Hub, mirror: str) -> Data:
    folder = Path(mirror) / hub.repository / hub.config
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    for path in files.values():
        if not path.is_file():
            raise Unavailable(
                f"the mirror has no {path}; unset LETHE_DATA (or --data) to use the hub instead"
            )
    facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files.values()]
    return _cached(hub, f"{folder.resolve()}/{facts}", tuple((k, str(v)) for k, v in files.items()))


@cache
def _cached(hub: Hub, identity: str, files: tuple[tuple[str, str], ...] | None) -> Data:
    """Return the converted data set, from the cache where a sound copy is there."""
    name = hashlib.sha256(f"v1/{identity}/{hub}".encode()).hexdigest()[:24]
    path = cache_folder() / f"{hub.repository.replace('/', '--')}-{name}.safetensors"
    tensors = _read(path)
    if tensors is None:
        tensors = _convert(hub, files)
        _write(path, tensors)
    x_N, y_N, n_train = tensors["x"], tensors["y"], int(tensors["n_train"])
    mark = fingerprint(x_N, y_N, n_train)
    return Data(hub.repository, x_N, y_N, n_train, hub.class_names, 255.0, mark, hub.mean, hub.std)


def cache_folder() -> Path:
    """Return where converted data sets are kept."""
    named = os.environ.get("LETHE_CACHE")
    return (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lethe"
    )


def _read(path: Path) -> dict[str, Tensor] | None:
    """Return a cached data set; one that is truncated or foreign is moved aside and not trusted."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        mark = hashlib.sha256(tensors["x"].numpy().tobytes() + tensors["y"].numpy().tobytes()).digest()
        if bytes(tensors["mark"].tolist()) == mark:
            return tensors
    except (OSError, SafetensorError, KeyError):
        pass
    path.replace(path.with_suffix(".damaged"))
    return None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write whole to a temporary name, then rename; a cache that cannot be written is done without."""
    from safetensors.torch import save_file

    mark = hashlib.sha256(tensors["x"].numpy().tobytes() + tensors["y"].numpy().tobytes()).digest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        save_file({**tensors, "mark": torch.tensor(list(mark), dtype=torch.uint8)}, temporary)
        os.replace(temporary, path)
    except OSError:
        return


def _convert(hub: Hub, files: tuple[tuple[str, str], ...] | None) -> dict[str, Tensor]:
    """Read the rows of both splits and turn the images into bytes (N, channels, height, width)."""
    splits = _load(hub, files)
    pixels, labels = [], []
    for split in ("train", "test"):
        rows = splits[split]
        for column in (hub.image, hub.label):
            if column not in rows.column_names:
                raise UserError(
                    f"{hub.repository} has no column {column!r}; it has: {', '.join(rows.column_names)}"
                )
        arrays = [np.asarray(image, dtype=np.uint8) for image in rows[hub.image]]
        x = torch.from_numpy(np.stack(arrays))
        pixels.append(x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2))
        labels.append(torch.tensor(rows[hub.label], dtype=torch.int64))
    n_train = torch.tensor(len(labels[0]))
    return {"x": torch.cat(pixels).contiguous(), "y": torch.cat(labels), "n_train": n_train}


def _load(hub: Hub, files: tuple[tuple[str, str], ...] | None) -> Any:
    """Return the splits by ``datasets``: parquet files of a mirror, or the hub at the pinned revision."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        if files is not None:
            loaded = {name: datasets.Dataset.from_parquet(path, cache_dir=scratch) for name, path in files}
            # Rows are read while the scratch copy is there.
            return {name: _InMemory(rows) for name, rows in loaded.items()}
        why = hub_in_reach()
        if why is not None:
            raise _out_of_reach(hub, why)
        try:
            return datasets.load_dataset(hub.repository, hub.config, revision=hub.revision)
        except (OSError, ConnectionError, datasets.exceptions.DatasetsError) as error:
            raise _out_of_reach(hub, type(error).__name__) from error


def hub_in_reach() -> str | None:
    """Return why the hub cannot be asked, None where it can: its own client would try for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return "no network"
    return None


def _out_of_reach(hub: Hub, why: str) -> Unavailable:
    return Unavailable(
        f"cannot fetch {hub.repository} from the Hugging Face hub ({why}): connect to the network, or name "
        f"with LETHE_DATA or --data a folder that holds {hub.repository}/{hub.config}/train.parquet and "
        "test.parquet"
    )


class _InMemory:
    """The columns of a split, decoded, after its files are gone."""

    def __init__(self, rows: Any) -> None:
        self.column_names: list[str] = rows.column_names
        self._columns = {name: list(rows[name]) for name in self.column_names}

    def __getitem__(self, column: str) -> list[Any]:
        return self._columns[column]
