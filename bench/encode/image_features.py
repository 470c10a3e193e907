"""Features of images by a frozen network, computed once for all seeds, strategies and runs.

They are saved in a memory-mapped file. Its name is a hash of everything that they depend on: images, their
normalisation, weights of the network, code, and the features of the first images, which also change if the
code of a user's network does.

Axes: N images, B images at once, F features.
"""

import hashlib
import time
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench import models
from bench.encode.cached_features import Said, cached
from bench.models import ModelRef, Options, Shape
from strategies.core import LaneModel, eval_mode
from suites.base import Data, generator
from suites.errors import UserError
from suites.syntax import digest_of

_AT_ONCE, _FIRST = 50, 8


def normalised(data: Data, model: ModelRef, options: Options) -> Data:
    """Return images with the normalisation that a network was trained with, if it states one."""
    stated = models.normalisation(model, options)
    if stated is None:
        return data
    channels = data.x_N.shape[1]
    mean, std = (of if len(of) == channels else (sum(of) / len(of),) * channels for of in stated)
    return replace(data, mean=mean, std=std)


def with_features(data: Data, model: ModelRef, options: Options, device: str, said: Said | None) -> Data:
    """Return a data set with features (N, F) in place of its images; raises UserError as ``models.build``."""
    if data.file is not None:
        raise UserError(
            f"{data.name} is larger than memory, and tune=head computes features in memory: use tune=full"
        )
    shape, build = tuple(data.x_N.shape[1:]), models.REGISTRY.get(model.architecture)
    asked = build, tuple(sorted(options.items())), data.fingerprint
    if asked not in _FEATURES:
        _FEATURES[asked] = _found(data, model, options, shape, device, said)
    return replace(data, x_N=_FEATURES[asked], scale=1.0, mean=(), std=())


_FEATURES: dict[Any, Tensor] = {}


def _found(
    data: Data, model: ModelRef, options: Options, shape: Shape, device: str, said: Said | None
) -> Tensor:
    # Not by one_lane: these weights may be random, and their seed is code that the numbers depend on.
    network = models.build(model, options, shape, 1, [generator(0, "model")]).to(device)
    weights = weights_fingerprint(model, options, shape)
    settings = f"{digest_of(_computed, normalised)}/{weights}/{data.mean}/{data.std}/{data.fingerprint}"
    first_BF = _computed(data, network, slice(_FIRST))
    key = hashlib.sha256(settings.encode() + first_BF.numpy().tobytes()).hexdigest()[:32]

    def compute() -> Tensor:
        parts, n, began = [], len(data.x_N), time.monotonic()
        for start in range(0, n, _AT_ONCE):
            parts.append(_computed(data, network, slice(start, start + _AT_ONCE)))
            if said is not None and time.monotonic() - began > 2:
                began = time.monotonic()
                said(f"features of {n:,} images by {model.name}: {min(n, start + _AT_ONCE):,} done")
        return torch.cat(parts)

    return cached(key, compute)


@torch.no_grad()
def _computed(data: Data, network: LaneModel, rows: slice) -> Tensor:
    """Return the features of some images, float32 (B, F)."""
    device = network.head.weight.device
    x_BCHW = data.x_N[rows].to(device, torch.float32) / data.scale
    if data.mean:
        mean, std = (torch.tensor(of, device=device).view(-1, 1, 1) for of in (data.mean, data.std))
        x_BCHW = (x_BCHW - mean) / std
    with eval_mode(network):
        return network.features(x_BCHW.unsqueeze(0))[0].float().cpu()


def weights_fingerprint(model: ModelRef, options: Options, shape: Shape) -> str:
    """Return SHA-256 over the weights that a network of images starts from; empty if they are random."""
    if model.reads_texts or not (models.options(model) | options).get("weights"):
        return ""
    return _weights_fingerprint(model, tuple(sorted(options.items())), shape)


@cache
def _weights_fingerprint(model: ModelRef, options: tuple[tuple[str, int | str], ...], shape: Shape) -> str:
    digest = hashlib.sha256()
    for name, t in sorted(models.one_lane(model, dict(options), shape, 1).state_dict().items()):
        if not name.startswith("head."):
            digest.update(f"{name}/{tuple(t.shape)}/{t.dtype}".encode() + t.contiguous().numpy().tobytes())
    return digest.hexdigest()
