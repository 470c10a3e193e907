"""Token numbers of input and target texts, and texts of token numbers.

The tokenizer of the small model is trained on the suite's training rows, byte-pair encoding over bytes
(Sennrich, Haddow & Birch 2016), so that it can encode any text. It is cached under a hash of the data.

Axes: N rows, S tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.models import pretrained, seq2seq
from strategies.core import IGNORED
from suites.base import Data, Stream
from suites.cache import cache_folder, read_cached, write_cached
from suites.syntax import digest_of

_TOKENIZERS: dict[tuple[str, str], Any] = {}
_TOKENS: dict[tuple[str, str, int], Tensor] = {}


def pair_tokens(data: Data, model: str, most: int) -> Tensor:
    """Return the tokens of texts and targets of a data set, int32 (N, 2, S), made once per process.

    Each has at most ``most`` tokens and is padded to the longest: texts with the tokenizer's padding, targets
    with ``IGNORED``.
    """
    key = data.fingerprint, model, most
    if key not in _TOKENS:
        tokenizer = tokenizer_of(data, model)
        cut = {"truncation": True, "max_length": most, "return_attention_mask": False}
        read = tokenizer(list(data.texts), **cut)["input_ids"]
        written = tokenizer(text_target=list(data.targets), **cut)["input_ids"]
        width = max(1, *map(len, read), *map(len, written))
        parts = [padded(read, width, tokenizer.pad_token_id), padded(written, width, IGNORED)]
        _TOKENS[key] = torch.stack(parts, 1)
    return _TOKENS[key]


def padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    """Return token numbers of rows, int32 (N, ``width``), padded with ``value``."""
    length_N = torch.tensor([len(row) for row in rows])
    tokens_NS = torch.full((len(rows), width), value, dtype=torch.int32)
    numbers = torch.tensor([number for row in rows for number in row], dtype=torch.int32)
    tokens_NS[torch.arange(width) < length_N.unsqueeze(1)] = numbers
    return tokens_NS


def tokenizer_of(data: Data, model: str) -> Any:
    """Return the tokenizer of a model: its own, or for the small model one trained on the data set."""
    if model != seq2seq.TINY:
        return pretrained.tokenizer(model)
    key = data.fingerprint, model
    if key not in _TOKENIZERS:
        _TOKENIZERS[key] = _trained(data)
    return _TOKENIZERS[key]


def words(tokens_NS: Tensor, tokenizer: Any) -> list[str]:
    """Return the texts of tokens, without special tokens."""
    decoded: list[str] = tokenizer.batch_decode(
        tokens_NS, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [text.strip() for text in decoded]


def generation_header(stream: Stream, model: str) -> dict[str, Any] | None:
    """Return what a saved model needs to generate text without its stream; None for other models.

    ``tasks``: name and prefix of every task, in order. ``most``: largest number of generated tokens.
    ``tokenizer``: the one trained on the data set, as text; None if the model has its own.
    """
    data = stream.data
    if not data.generates:
        return None
    tasks = []
    for number, task in enumerate(stream.tasks, 1):
        name, prefix = f"task {number}", ""
        if data.domain_N is not None:
            row = int(data.index_of(torch.cat([task.train_rows, task.test_rows])[0]))
            domain = int(data.domain_N[row])
            name, prefix = data.domain_names[domain], data.prefixes[domain] if data.prefixes else ""
        tasks.append((name, prefix))
    own = tokenizer_of(data, model).backend_tokenizer.to_str() if model == seq2seq.TINY else None
    return {"tasks": tasks, "most": data.x_N.shape[-1], "tokenizer": own}


def tokenizer_from_text(text: str) -> Any:
    """Return a tokenizer from the text in ``generation_header``."""
    from tokenizers import Tokenizer

    return _whole(Tokenizer.from_str(text))


def _trained(data: Data) -> Any:
    """Return a tokenizer trained on the training rows, from the cache if it has an intact one."""
    from tokenizers import Tokenizer

    path = cache_folder() / f"tokenizer-{digest_of(_train)}-{seq2seq.VOCABULARY}-{data.fingerprint[:32]}.json"
    content = read_cached(path)
    backend = Tokenizer.from_str(content.decode()) if content else _train(data)
    if not content:
        write_cached(path, lambda file: file.write(backend.to_str().encode()))
    return _whole(backend)


def _whole(backend: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def _train(data: Data) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=seq2seq.VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Each text once: several tasks may have the same one.
    rows = dict.fromkeys([*data.texts[: data.n_train], *data.targets[: data.n_train]])
    backend.train_from_iterator(rows, trainer)
    assert [backend.token_to_id(token) for token in special] == [seq2seq.PADDING, seq2seq.END]
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", seq2seq.END)]
    )
    return backend
