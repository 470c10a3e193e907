"""Sequence-to-sequence transformers over lanes, tuned whole or by LoRA.

The input of such a model, (L, B, 2, S), contains text and target (teacher forcing): the logits of a token
depend on the text and on the tokens before it. Padding is the tokenizer's in the text and ``IGNORED`` in the
target; see bench.encode.token_pairs.

Axes: L lanes, B batch, R rows of all lanes, S tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.models import pretrained
from bench.models.shared import Shared, attention_mask, real_tokens
from bench.models.tuning import insert_lora
from strategies.core import IGNORED, Generators
from suites.errors import UserError

TINY = "tiny-seq2seq"
VOCABULARY = 2000
"""Size of the small model's vocabulary; its tokenizer is trained on the suite's texts, see bench.encode."""
PADDING, END = 0, 1


class Pair(nn.Module):
    """An encoder and a decoder with the same weights for all rows.

    Always in evaluation mode, because dropout would draw the same numbers for every lane.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.padding = int(transformer.config.pad_token_id)
        self.requires_grad_(False).eval()

    def forward(self, text_RS: Tensor, target_RS: Tensor) -> Tensor:
        """Return the logits of all tokens of the target, shape (R, S, V)."""
        before_RS = self.transformer.prepare_decoder_input_ids_from_labels(labels=target_RS)
        mask = attention_mask(real_tokens(text_RS, self.padding), self.transformer)
        given = {"input_ids": text_RS, "attention_mask": mask}
        out = self.transformer(**given, decoder_input_ids=before_RS, use_cache=False)
        logits_RSV: Tensor = out.logits
        return logits_RSV

    def write(self, text_RS: Tensor, most: int) -> Tensor:
        """Return at most ``most`` tokens generated for each text by greedy decoding, padded, (R, most)."""
        given = {"input_ids": text_RS, "attention_mask": real_tokens(text_RS, self.padding)}
        greedy = {"num_beams": 1, "do_sample": False, "max_new_tokens": most, "max_length": None}
        written_RS: Tensor = self.transformer.generate(**given, **greedy)
        # The first token is the decoder's start token.
        written_RS = written_RS[:, 1:]
        return nn.functional.pad(written_RS, (0, most - written_RS.shape[1]), value=self.padding)


def _width(real_LBS: Tensor) -> int:
    """Return the length of the longest text; on a GPU, which would have to wait for it, the largest one."""
    return real_LBS.shape[2] if real_LBS.is_cuda else max(1, int(real_LBS.sum(2).amax()))


class Seq2Seq(Shared[Pair]):
    """One transformer for all lanes, with separate LoRA parameters for each lane."""

    def lengths(self, x_LB2S: Tensor) -> Tensor:
        """Return the number of tokens of text and target together, without padding, int64 (L, B)."""
        text_LBS, target_LBS = x_LB2S.unbind(2)
        return (text_LBS != self.base.padding).sum(2) + (target_LBS != IGNORED).sum(2)

    def forward(self, x_LB2S: Tensor) -> Tensor:
        """Return the logits of the target, (L, B, S, V); S is at least the length of the longest target."""
        text_LBS, target_LBS = x_LB2S.unbind(2)
        text_LBS = self._narrow(text_LBS)
        target_LBS = target_LBS[:, :, : _width(target_LBS != IGNORED)].long()
        self.count(self.lengths(x_LB2S), text_LBS.numel() + target_LBS.numel())
        return self.forced(text_LBS, target_LBS)

    @torch.no_grad()
    def generate(self, x_LB2S: Tensor) -> Tensor:
        """Return at most S tokens generated for each text by greedy decoding, int64 (L, B, S)."""
        return self.written(self._narrow(x_LB2S[:, :, 0]), x_LB2S.shape[3])

    def _narrow(self, text_LBS: Tensor) -> Tensor:
        """Return texts without the columns that are padding in all of them."""
        return text_LBS[:, :, : _width(text_LBS != self.base.padding)].long()

    def forced(self, text_LBS: Tensor, target_LBS: Tensor) -> Tensor:
        """Return the logits of all lanes; lanes are folded into the rows."""
        logits_RSV = self.base(text_LBS.flatten(0, 1), target_LBS.flatten(0, 1))
        logits_LBSV: Tensor = logits_RSV.unflatten(0, text_LBS.shape[:2])
        return logits_LBSV

    def written(self, text_LBS: Tensor, most: int) -> Tensor:
        """Return the tokens that all lanes generate."""
        token_LBS: Tensor = self.base.write(text_LBS.flatten(0, 1), most).unflatten(0, text_LBS.shape[:2])
        return token_LBS


class Whole(Seq2Seq):
    """All weights are stacked over lanes; lanes are computed one after the other."""

    def __init__(self, bases: Sequence[Pair]) -> None:
        super().__init__(len(bases), bases[0])
        self.stack(bases)

    def forced(self, text_LBS: Tensor, target_LBS: Tensor) -> Tensor:
        """Return the logits, computed lane by lane with the lane's weights."""
        rows = zip(self.weights(), text_LBS, target_LBS, strict=True)
        return torch.stack([functional_call(self.base, weights, (t, y)) for weights, t, y in rows])

    def written(self, text_LBS: Tensor, most: int) -> Tensor:
        """Return the tokens of each lane; its weights are copied once, since decoding takes many calls."""
        found = []
        for weights, text_BS in zip(self.weights(), text_LBS, strict=True):
            for name, parameter in self.base.named_parameters():
                parameter.data = weights[name].data
            found.append(self.base.write(text_BS, most))
        return torch.stack(found)


def seq2seq(name: str, generators: Generators, tune: str, rank: int, alpha: int, targets: str) -> Seq2Seq:
    """Return a sequence-to-sequence model; raises UserError for an unsupported ``tune``."""
    if tune == "full":
        if name == TINY:
            return Whole([Pair(drawn(g)) for g in generators])
        return Whole([Pair(loaded(name))] * len(generators))
    if tune != "lora":
        form = "is not implemented for sequence-to-sequence models"
        raise UserError(f"tune={tune} {form}; choose tune=full or tune=lora")
    base = Pair(drawn(torch.Generator().manual_seed(0)) if name == TINY else loaded(name))
    model = Seq2Seq(len(generators), base)
    insert_lora(base.transformer, model.trained, {}, generators, rank, alpha, targets)
    return model


def loaded(name: str) -> Any:
    """Return a pretrained model from a folder or the hub; raises Unavailable or UserError."""
    from transformers import AutoModelForSeq2SeqLM

    return pretrained.loaded_network(name, AutoModelForSeq2SeqLM.from_pretrained)


def drawn(random: torch.Generator) -> Any:
    """Return the small model, encoder and decoder of two layers, with random weights from a generator."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
    ends: dict[str, Any] = {"pad_token_id": PADDING, "eos_token_id": END, "decoder_start_token_id": PADDING}
    config = T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, **sizes, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=random)))
        return T5ForConditionalGeneration(config)
