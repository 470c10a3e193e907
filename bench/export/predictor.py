"""Answers of an exported model, labels or texts: ``lethe predict``, and ``lethe.Predictor`` from Python.

    model = lethe.Predictor.load("DIR")
    model.answers(["a sentence"])   # [("label", 0.93)]; of images: an array (N, channels, height, width)
    model.written(["a sentence"])   # ["what it writes"], of a model that writes

Axes: L lanes (one), N rows, S tokens, F features, U units that were learned; X the axes of one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench import models
from bench.encode import tokens, words
from bench.models import merging, pretrained, seq2seq
from bench.plan import exported_reference
from bench.schema import BESIDE, HEAD, WEIGHTS, Exported, ExportHeader
from strategies.core import LaneModel, eval_mode
from suites.base import generator
from suites.errors import UserError, unknown

_AT_ONCE, _WRITTEN_AT_ONCE = 500, 200

Texts = Sequence[str]
Images = np.ndarray[Any, Any]


@dataclass
class Predictor:
    """A model of one lane, its head cut to the units that were learned, and how its inputs are read.

    ``answers`` are for one that knows labels, ``written`` for one that writes.
    """

    model: LaneModel
    header: ExportHeader
    """The contents of lethe.json."""
    tokenizer: Any = None

    @classmethod
    def load(cls, folder: str | Path) -> "Predictor":
        """Return the model in a folder that ``lethe export`` made; raises UserError where there is none."""
        exported = Exported.at(folder)
        try:
            return _texts(exported) if exported.reads_texts else _images(exported)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"{folder} is damaged: {said[0]}") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can answer, in the order of the head."""
        return tuple(self.header.labels)

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that it reads at most."""
        return int(self.header.options["max_tokens"])

    def read(self, given: Texts | Images) -> Tensor:
        """Return what the model reads, (N, S) or (N, C, H, W); raises UserError for what it cannot read."""
        if self.tokenizer is not None:
            return tokens(list(given), self.tokenizer, self.max_tokens)
        shape, mean, std = tuple(self.header.shape), self.header.mean, self.header.std
        if getattr(given, "shape", (0,))[1:] != shape:
            has = getattr(given, "shape", "no array")
            raise UserError(f"this model reads images of shape (N, {', '.join(map(str, shape))}), not {has}")
        x_NX = torch.from_numpy(np.ascontiguousarray(given)).to(torch.float32) * (1 / self.header.scale)
        if mean:
            x_NX = (x_NX - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
        return x_NX

    @torch.no_grad()
    def logits(self, given: Texts | Images) -> Tensor:
        """Return the scores of all labels, shape (N, U); raises UserError for a model that writes."""
        if isinstance(self.model, seq2seq.Seq2Seq):
            raise UserError("this model generates text: it has no labels")
        if not len(given):
            return torch.empty(0, len(self.labels))
        with eval_mode(self.model):
            parts = [self.model(x_NX.unsqueeze(0))[0] for x_NX in self.read(given).split(_AT_ONCE)]
        return torch.cat(parts)

    def answers(self, given: Texts | Images) -> list[tuple[str, float]]:
        """Return the likeliest label of each row and its softmax probability."""
        best = self.logits(given).double().softmax(1).max(1)
        return [(self.labels[u], p) for u, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def asked(self, texts: Texts, task: str = "") -> list[str]:
        """Return texts with what says the task before them, where one is named.

        Raises UserError for a task that was not learned, and for a text that says none where it must.
        """
        tasks = self.header.tasks
        if task and not tasks:
            raise UserError("this model answers with labels: there is no task to choose")
        if task and task not in tasks:
            raise unknown("task", task, list(tasks))
        prefixes = tuple(filter(None, tasks.values()))
        if not task and prefixes and not all(text.startswith(prefixes) for text in texts):
            raise UserError(f"this model needs the task: choose --task {', '.join(tasks)}")
        return [tasks.get(task, "") + text for text in texts]

    @torch.no_grad()
    def written(self, texts: Texts, task: str = "") -> list[str]:
        """Return what is written for texts, token by token the likeliest; see ``asked``."""
        if not isinstance(self.model, seq2seq.Seq2Seq) or self.header.writes is None:
            raise UserError("this model answers with labels: it writes no texts")
        asked, most, found = self.asked(texts, task), self.header.writes.most, []
        with eval_mode(self.model):
            for start in range(0, len(asked), _WRITTEN_AT_ONCE):
                tokens_NS = self.read(asked[start : start + _WRITTEN_AT_ONCE]).long()
                found += words(self.model.written(tokens_NS.unsqueeze(0), most)[0], self.tokenizer)
        return found

    def cut(self, texts: Texts) -> int:
        """Return how many texts are longer than the model reads."""
        most = self.max_tokens
        # Only those that fill what is read can be longer: most texts are not taken apart twice.
        full = self.tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
        longest = [text for text, row in zip(texts, full, strict=True) if len(row) >= most]
        return sum(len(row) > most for row in self.tokenizer(longest)["input_ids"]) if longest else 0


def _images(exported: Exported) -> Predictor:
    shape, units = tuple(exported.header.shape), len(exported.labels)
    reference = exported_reference(exported)
    model = models.build(reference, exported.options, shape, units, [generator(0, "model")])
    model.load_state_dict({k: t.unsqueeze(0) for k, t in load_file(exported.folder / WEIGHTS).items()})
    return Predictor(model, exported.header)


def _texts(exported: Exported) -> Predictor:
    options, units = exported.options, len(exported.labels)
    if exported.writes:
        tokenizer = pretrained.tokenizer(exported.name)
        pair = seq2seq.Pair(seq2seq.loaded(exported.name))
        return Predictor(seq2seq.Seq2Seq(1, pair), exported.header, tokenizer)
    if options["tune"] in BESIDE:
        reference, shape = exported_reference(exported), (options["max_tokens"],)
        model = models.build(reference, options, shape, units, [generator(0, "model")])
    else:
        model = merging.with_head(pretrained.backbone(exported.name, options["pooling"]), units)
    model.load_state_dict(head_state(exported))
    return Predictor(model, exported.header, pretrained.tokenizer(exported.name))


def head_state(exported: Exported) -> dict[str, Tensor]:
    """Return what is beside the transformer of a text export, as the state of a model of one lane."""
    found = load_file(exported.folder / HEAD)
    head = {"head.weight": found.pop("weight").T, "head.bias": found.pop("bias")}
    return {k: t.unsqueeze(0) for k, t in {**head, **found}.items()}


load = Predictor.load
"""As documents of 0.1.0 write it."""
