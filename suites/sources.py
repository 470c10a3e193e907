"""The fingerprint of images, and whether the hub can be reached.

Axes: N images.
"""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
from torch import Tensor

NEEDS_HUB = "network access to the Hugging Face hub, or a mirror (LETHE_DATA, --data)"


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
