"""Where published data sets are: parquet files of the hub, or of a local mirror of it.

Axes: N images.
"""

import glob
import hashlib
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
from torch import Tensor

from suites.errors import Unavailable

NEEDS_HUB = "network access to the Hugging Face hub, or a mirror (LETHE_DATA, --data)"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Location of a data set: on the Hugging Face hub, pinned to a revision, or in a mirror of it."""

    repository: str
    config: str
    revision: str
    only_mirror: bool = False
    """Whether the hub has no copy."""


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
    for tensor in (x_N, y_N):  # without a copy: x_N can be larger than memory
        digest.update(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def mirror_files(source: Source) -> dict[str, Path] | None:
    """Return the file of each split in the mirror in LETHE_DATA; None without one: the hub should be used.

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
            hub = "" if source.only_mirror else ", or leave both out to use the hub"
            raise Unavailable(f"the mirror has no {path}; use a mirror (LETHE_DATA, --data) that has it{hub}")
    return files


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """Yield the splits, loaded by ``datasets`` from parquet files of a mirror or from the hub.

    Read them inside the context: a mirror's files are converted in a temporary folder.

    Raises:
        Unavailable: As ``mirror_files``, or the hub cannot be reached; the message says what to do.
    """
    import datasets

    datasets.disable_progress_bars()
    files = mirror_files(source)
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
            read = datasets.Dataset.from_parquet
            yield {split: read(str(path), cache_dir=scratch) for split, path in files.items()}


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
        with suppress(OSError, ValueError, KeyError):  # a damaged file is downloaded again
            splits = json.loads((folder / "dataset_info.json").read_bytes())["splits"]
            ends = {split: (f"*-{split}.arrow", f"*-{split}-*-of-*.arrow") for split in splits}
            parts = {split: sorted(p for end in of for p in folder.glob(end)) for split, of in ends.items()}
            if parts and all(parts.values()):
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
