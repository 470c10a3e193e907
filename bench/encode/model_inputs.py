"""Inputs of models: images, token numbers, or features of a frozen backbone; see image_features for images.

Features of texts are computed once for all seeds, strategies and runs and saved in a memory-mapped file. Its
name is a hash of everything that they depend on: texts, weights of the backbone, tokenizer, ``max_tokens``,
pooling and code.

Axes: N texts, S tokens, F features, C classes.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench import models
from bench.encode.cached_features import Said, cached
from bench.encode.image_features import normalised, weights_fingerprint, with_features
from bench.encode.token_pairs import padded, pair_tokens, tokenizer_of
from bench.models import ModelRef, Options, Shape, pretrained, seq2seq, shared
from suites.base import Data
from suites.errors import UserError
from suites.syntax import digest_of
from suites.text import fingerprint

_AT_ONCE = 64


def inputs(
    data: Data, model: ModelRef, options: Options, device: str = "cpu", said: Said | None = None
) -> Data:
    """Return a data set with the inputs of a model in ``x_N``.

    Images are unchanged, or become features (N, F) of a frozen network. Texts become tokens (N, S), or
    features (N, F) of a frozen backbone; to generate text, tokens of text and target (N, 2, S).

    Args:
        data: The data set.
        model: The model.
        options: Options of the model that differ from its defaults.
        device: Where a frozen backbone computes features.
        said: Called with messages on the progress of a backbone.

    Raises:
        UserError: The model cannot read the data set.
    """
    _check_reads(data, model)
    options = models.options(model) | options
    if not data.texts:
        data = normalised(data, model, options)
        return with_features(data, model, options, device, said) if options.get("tune") == "head" else data
    if data.generates:
        return replace(data, x_N=pair_tokens(data, model.name, options["max_tokens"]))
    if options["tune"] == "head":
        return replace(data, x_N=features(data.texts, model.name, options, device, said))
    return replace(data, x_N=_tokens_of(data, model.name, options["max_tokens"]))


def input_shape(data: Data, model: ModelRef, options: Options) -> Shape:
    """Return the largest shape of an input row (texts in tokens), without encoding anything.

    Raises:
        UserError: The model cannot read the data set.
    """
    _check_reads(data, model)
    if not data.texts:
        return tuple(data.x_N.shape[1:])
    most = (models.options(model) | options)["max_tokens"]
    return (2, most) if data.generates else (most,)


def _check_reads(data: Data, model: ModelRef) -> None:
    """Raise UserError if a model cannot read a data set."""
    if model.reads_texts != bool(data.texts):
        kind, fitting = ("texts", "minilm") if data.texts else ("images", "mlp")
        raise UserError(f"model {model.name} cannot read {data.name}, a data set of {kind}; use {fitting}")
    if data.generates and not (model.generates or pretrained.writes(model.name)):
        raise UserError(f"model {model.name} cannot generate text, as {data.name} needs; use {seq2seq.TINY}")
    if data.texts and not data.generates and model.generates:
        where = f"{data.name}, which has no target texts"
        raise UserError(f"model {model.name} cannot read {where}; use minilm")


def model_fingerprint(data: Data, model: ModelRef, options: Options) -> str:
    """Return SHA-256 over the weights and the tokenizer that a model starts from.

    It is empty for a network of images with random weights. The small sequence-to-sequence model has random
    weights, and a tokenizer trained on the data set.
    """
    if not data.texts:
        return weights_fingerprint(model, options, tuple(data.x_N.shape[1:]))
    if model.name != seq2seq.TINY:
        return pretrained.fingerprint(model.name)
    tokenizer = pretrained.tokenizer_content(tokenizer_of(data, model.name))
    return hashlib.sha256(tokenizer.encode()).hexdigest()


def name_features(data: Data, model: ModelRef, options: Options, device: str = "cpu") -> Tensor:
    """Return the features of the names of the classes by the frozen backbone, shape (C, F)."""
    names = tuple(name.replace("_", " ") for name in data.class_names)
    return features(names, model.name, models.options(model) | options, device)


def tokens(texts: Sequence[str], tokenizer: Any, most: int) -> Tensor:
    """Return token numbers, int32 (N, S), at most ``most`` per text, padded to the longest."""
    rows = tokenizer(list(texts), truncation=True, max_length=most, return_attention_mask=False)["input_ids"]
    return padded(rows, max(1, *map(len, rows)) if rows else 1, tokenizer.pad_token_id)


_TOKENS: dict[tuple[str, str, int], Tensor] = {}


def _tokens_of(data: Data, model: str, most: int) -> Tensor:
    """Return the tokens of a data set, made once per process."""
    key = data.fingerprint, model, most
    if key not in _TOKENS:
        _TOKENS[key] = tokens(data.texts, pretrained.tokenizer(model), most)
    return _TOKENS[key]


def features(
    texts: tuple[str, ...], model: str, options: Options, device: str = "cpu", said: Said | None = None
) -> Tensor:
    """Return features of texts by the frozen backbone, float32 (N, F), memory-mapped if they are cached."""
    key = _key(texts, model, options["max_tokens"], options["pooling"])
    return cached(key, lambda: _computed(texts, model, options, device, said))


@cache
def _key(texts: tuple[str, ...], model: str, most: int, pooling: str) -> str:
    source = f"{_code()}/{pretrained.fingerprint(model)}/{most}/{pooling}/{fingerprint(texts, len(texts))}"
    return hashlib.sha256(source.encode()).hexdigest()[:32]


@torch.no_grad()
def _computed(texts: tuple[str, ...], model: str, options: Options, device: str, said: Said | None) -> Tensor:
    """Compute features of texts, longest first: parts of similar length have little padding."""
    tokenizer = pretrained.tokenizer(model)
    tokens_NS = tokens(texts, tokenizer, options["max_tokens"])
    base = pretrained.backbone(model, options["pooling"]).to(device)
    pretrained.check_length(base.transformer, model, options["max_tokens"])
    length_N = (tokens_NS != tokenizer.pad_token_id).sum(1)
    order_N = length_N.argsort(descending=True, stable=True)
    features_NF = torch.empty(0)
    began = time.monotonic()
    done = 0
    for part_B in order_N.split(_AT_ONCE):
        width = max(1, int(length_N[part_B].max()))
        out_BF = base(tokens_NS[part_B, :width].to(device)).float().cpu()
        if not len(features_NF):
            features_NF = torch.empty(len(texts), out_BF.shape[1])
        features_NF[part_B] = out_BF
        done += len(part_B)
        if said is not None and time.monotonic() - began > 2:
            began = time.monotonic()
            said(f"features of {len(texts):,} texts by {model}: {done:,} done")
    return features_NF


_FEATURES_FOLLOW_FROM = (
    tokens, padded, _computed, pretrained.Backbone, pretrained.backbone, pretrained.tokenizer,
    shared.real_tokens, shared.attention_mask, shared.takes_mask,
)  # fmt: skip


@cache
def _code() -> str:
    """Return a digest of the code that computes features."""
    return digest_of(*_FEATURES_FOLLOW_FROM)
