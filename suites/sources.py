"""Data sets of images: from scikit-learn, or from parquet files of the hub or of a local mirror of it.

A data set is read once, converted to contiguous uint8 tensors, and cached under a hash of its revision or,
for a mirror, of the sizes and times of its files.

Axes: N images.
"""

import glob
import hashlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
import torch
from torch import Tensor

from suites.base import Data
from suites.cache import cache_folder, read_cached, write_cached
from suites.errors import Unavailable, UserError

NEEDS_HUB = "network access to the Hugging Face hub, or a mirror (LETHE_DATA, --data)"
Files = tuple[tuple[str, str], ...]
"""The parquet files of a mirror: pairs of split and path."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Location of a data set: on the Hugging Face hub, pinned to a revision, or in a mirror of it."""

    repository: str
    config: str
    revision: str
    only_mirror: bool = False
    """Whether the hub has no copy."""


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """A data set of images."""

    image: str
    """Column of the images."""
    label: str
    """Column of the labels, whole numbers."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def fingerprint(x_N: Tensor, y_N: Tensor, n_train: int) -> str:
    """Return the fingerprint of a data set of images: SHA-256 over shape, split, pixels and labels.

    Records store it, so that results over different data are never averaged.

    Args:
        x_N: Pixels, shape (N, channels, height, width).
        y_N: Raw classes, int64, shape (N,).
        n_train: Number of rows for training.

    Returns:
        64 hexadecimal digits.
    """
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
    """Return a data set from the mirror in LETHE_DATA; without a mirror from the cache or the hub.

    Raises:
        Unavailable: None of them has it; the message says what to do.
    """
    files = mirror_files(hub)
    if files is None:
        return _cached(hub, f"{hub.repository}/{hub.config}/{hub.revision}", None)
    return _cached(hub, f"{Path(files[0][1]).parent}/{facts(files)}", files)


def mirror_files(source: Source) -> Files | None:
    """Return the files of the mirror in LETHE_DATA; None if it is not set, and the hub should be used.

    Raises:
        Unavailable: The mirror does not have the data set, or it is needed and LETHE_DATA is not set.
    """
    mirror = os.environ.get("LETHE_DATA")
    if not mirror:
        if source.only_mirror:
            raise Unavailable(
                f"the hub has no copy of {source.repository} that Lethe can load: set LETHE_DATA or --data "
                f"to a folder that has {source.repository}/{source.config}/train.parquet and test.parquet"
            )
        return None
    folder = (Path(mirror) / source.repository / source.config).resolve()
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    for path in files.values():
        if not path.is_file():
            instead = "use a mirror that has it:" if source.only_mirror else "to use the hub, unset"
            raise Unavailable(f"the mirror has no {path}; {instead} LETHE_DATA (or --data)")
    return tuple((split, str(path)) for split, path in files.items())


def facts(files: Files) -> list[tuple[str, int, int]]:
    """Return name, size and modification time of each file, so that changed files are read again."""
    stats = [(Path(path).name, Path(path).stat()) for _, path in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


@cache
def _cached(hub: Hub, identity: str, files: Files | None) -> Data:
    """Return the converted data set, from the cache if it has an intact copy."""
    from safetensors.torch import load, save

    name = hashlib.sha256(f"v1/{identity}/{hub}".encode()).hexdigest()[:24]
    path = cache_folder() / f"{hub.repository.replace('/', '--')}-{name}.safetensors"
    content = read_cached(path)
    tensors = load(content) if content else _convert(hub, files)
    if not content:
        write_cached(path, lambda file: file.write(save(tensors)))
    x_N, y_N, n_train = tensors["x"], tensors["y"], int(tensors["n_train"])
    mark = fingerprint(x_N, y_N, n_train)
    return Data(hub.repository, x_N, y_N, n_train, hub.class_names, 255.0, mark, hub.mean, hub.std)


def _convert(hub: Hub, files: Files | None) -> dict[str, Tensor]:
    """Read the rows of both splits and turn the images into bytes (N, channels, height, width)."""
    pixels, labels = [], []
    with opened(hub, files) as splits:
        for split in ("train", "test"):
            rows = splits[split]
            require_columns(hub, rows, hub.image, hub.label)
            arrays = [np.asarray(image, dtype=np.uint8) for image in rows[hub.image]]
            x = torch.from_numpy(np.stack(arrays))
            pixels.append(x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2))
            labels.append(torch.tensor(rows[hub.label], dtype=torch.int64))
    n_train = torch.tensor(len(labels[0]))
    return {"x": torch.cat(pixels).contiguous(), "y": torch.cat(labels), "n_train": n_train}


def require_columns(source: Source, rows: Any, *columns: str) -> None:
    """Raise UserError if a split does not have a column."""
    for column in columns:
        if column not in rows.column_names:
            raise UserError(
                f"{source.repository} has no column {column!r}; it has: {', '.join(rows.column_names)}"
            )


@contextmanager
def opened(source: Source, files: Files | None) -> Iterator[Any]:
    """Yield the splits, loaded by ``datasets`` from parquet files of a mirror or from the hub.

    Read them inside the context: a mirror's files are converted in a temporary folder.

    Raises:
        Unavailable: The hub cannot be reached; the message says what to do.
    """
    import datasets

    datasets.disable_progress_bars()
    if files is None:
        if (cached := _from_hub_cache(source)) is not None:
            yield cached
            return
        why = hub_in_reach()
        if why is not None:
            raise _out_of_reach(source, why)
        try:
            splits = datasets.load_dataset(source.repository, source.config, revision=source.revision)
        except (OSError, ConnectionError, datasets.exceptions.DatasetsError) as error:
            raise _out_of_reach(source, type(error).__name__) from error
        yield splits
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield {name: datasets.Dataset.from_parquet(path, cache_dir=scratch) for name, path in files}


def _from_hub_cache(source: Source) -> dict[str, Any] | None:
    """Return the splits that ``datasets`` downloaded earlier in exactly this revision, None if it did not.

    Asking the hub first would fail offline, and would then accept any revision in the cache.
    """
    import datasets

    owner, _, name = source.repository.rpartition("/")
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)).lower()
    place = Path(datasets.config.HF_DATASETS_CACHE) / (f"{owner}___{words}" if owner else words)
    if not source.revision:
        return None
    for folder in sorted(place.glob(f"{glob.escape(source.config)}/*/{glob.escape(source.revision)}")):
        parts = {split: sorted(folder.glob(f"*-{split}*.arrow")) for split in ("train", "test")}
        with suppress(OSError, ValueError):  # a damaged file is downloaded again
            if all(parts.values()):
                read = datasets.Dataset.from_file
                return {
                    k: datasets.concatenate_datasets([read(str(p)) for p in of]) for k, of in parts.items()
                }
    return None


_HUB_IS_OPEN = True


@contextmanager
def without_hub() -> Iterator[None]:
    """Forbid downloads inside: data that is neither in a mirror nor in the cache is Unavailable."""
    global _HUB_IS_OPEN
    before, _HUB_IS_OPEN = _HUB_IS_OPEN, False
    try:
        yield
    finally:
        _HUB_IS_OPEN = before


def hub_in_reach() -> str | None:
    """Return why the hub cannot be reached, None if it can. Its own client would retry for half a minute."""
    from huggingface_hub import constants

    if not _HUB_IS_OPEN:
        return "downloads are off"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    host = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    if (proxies.get(host.scheme) or proxies.get("all")) and not proxy_bypass(host.hostname or ""):
        return None  # the proxy looks up names; this machine may be unable to
    try:
        socket.getaddrinfo(host.hostname, 443)
    except OSError:
        return "no network"
    return None


def _out_of_reach(source: Source, why: str) -> Unavailable:
    return Unavailable(
        f"cannot download {source.repository} from the Hugging Face hub ({why}): connect to the network, or "
        f"set LETHE_DATA or --data to a folder that has {source.repository}/{source.config}/train.parquet "
        "and test.parquet"
    )
