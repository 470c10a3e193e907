"""Predictions of exported models: ``lethe predict``, and ``lethe.Predictor`` from Python.

Axes: L lanes (one), N rows, S tokens, F features, U units that were learned; X the axes of one row.
"""

from collections.abc import Sequence
from contextlib import nullcontext
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
from suites.errors import UserError, unknown
from suites.registry import only_files
from suites.tracebacks import first_line

_OF_DAMAGE = OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError
"""What torch raises for sizes and weights that no model has."""
_AT_ONCE, _WRITTEN_AT_ONCE = 500, 200

Texts = Sequence[str]
Images = np.ndarray[Any, Any]


@dataclass
class Predictor:
    """An exported model, ready to predict. ``answers`` is for classifiers, ``written`` for generated text.

    Example:
        ```python
        model = lethe.Predictor.load("models/base")
        model.answers(["wake me at seven"])  # [("alarm", 0.93)]
        lethe.Predictor.load("models/digits").answers(images)  # an array (N, 1, 8, 8)
        lethe.Predictor.load("models/m30k").written(["a dog"], task="en-de")  # ["ein hund"]
        ```
    """

    model: LaneModel
    """The network, with one lane; its head has the units of the classes that were learned."""
    header: ExportHeader
    """The contents of lethe.json."""
    tokenizer: Any = None
    """The tokenizer of a model of texts; None for images."""

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool = False) -> "Predictor":
        """Load an exported model. No code of the folder is run.

        Args:
            folder: A folder that ``lethe export`` made.
            trust: Import the user's file that defines the network, if the folder names one.

        Raises:
            UserError: The folder is not an exported model, is damaged, or needs ``trust``.
        """
        exported = Exported.at(folder)
        try:
            with nullcontext() if trust else only_files():
                return _texts(exported) if exported.reads_texts else _images(exported)
        except (*_OF_DAMAGE, SafetensorError) as error:
            raise UserError(f"{folder} is damaged: {first_line(error)}") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that it predicts, in the order of the head; empty if it generates text."""
        return tuple(self.header.labels)

    @property
    def max_tokens(self) -> int:
        """Longest text that it reads, in tokens; longer ones are cut."""
        return int(self.header.options["max_tokens"])

    def read(self, given: Texts | Images) -> Tensor:
        """Return the inputs as the network takes them.

        Args:
            given: N texts, or an array of images (N, channels, height, width) with values from 0 to
                ``header.scale``.

        Returns:
            Token numbers (N, S), or scaled and normalised images (N, channels, height, width).

        Raises:
            UserError: Images have another shape.
        """
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
        """Return the logits of all classes.

        Args:
            given: N texts, or an array of images; see ``read``.

        Returns:
            Logits in the order of ``labels``, float, shape (N, U).

        Raises:
            UserError: The model generates text, or images have another shape.
        """
        if isinstance(self.model, seq2seq.Seq2Seq):
            raise UserError("this model generates text: it has no labels; use written")
        if not len(given):
            return torch.empty(0, len(self.labels))
        with eval_mode(self.model):
            parts = [self.model(x_NX.unsqueeze(0))[0] for x_NX in self.read(given).split(_AT_ONCE)]
        return torch.cat(parts)

    def answers(self, given: Texts | Images) -> list[tuple[str, float]]:
        """Return the predicted class of each row and its softmax probability.

        Args:
            given: N texts, or an array of images; see ``read``.

        Returns:
            N pairs of label and probability.

        Raises:
            UserError: As ``logits``.
        """
        best = self.logits(given).double().softmax(1).max(1)
        return [(self.labels[u], p) for u, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def asked(self, texts: Texts, task: str = "") -> list[str]:
        """Return texts with the prefix of a task before each of them.

        Args:
            texts: The texts.
            task: Name of a task that was learned; without it, texts must begin with the prefix of one.

        Raises:
            UserError: The task is unknown, or missing, or the model predicts classes.
        """
        tasks = self.header.tasks
        if task and not tasks:
            raise UserError("this model predicts classes: there is no task to choose")
        if task and task not in tasks:
            raise unknown("task", task, list(tasks))
        prefixes = tuple(filter(None, tasks.values()))
        if not task and prefixes and not all(text.startswith(prefixes) for text in texts):
            raise UserError(f"this model needs the task: choose --task {', '.join(tasks)}")
        return [tasks.get(task, "") + text for text in texts]

    @torch.no_grad()
    def written(self, texts: Texts, task: str = "") -> list[str]:
        """Return the text generated for each text, by greedy decoding.

        Args:
            texts: N texts.
            task: Name of the task; needed if its texts begin with a prefix.

        Returns:
            N generated texts.

        Raises:
            UserError: The model predicts classes, or ``task`` is unknown or missing.
        """
        if not isinstance(self.model, seq2seq.Seq2Seq) or self.header.writes is None:
            raise UserError("this model predicts classes: it generates no text; use answers")
        asked, most, found = self.asked(texts, task), self.header.writes.most, []
        with eval_mode(self.model):
            for start in range(0, len(asked), _WRITTEN_AT_ONCE):
                tokens_NS = self.read(asked[start : start + _WRITTEN_AT_ONCE]).long()
                found += words(self.model.written(tokens_NS.unsqueeze(0), most)[0], self.tokenizer)
        return found

    def cut(self, texts: Texts) -> int:
        """Return how many of the texts are longer than ``max_tokens`` and are cut."""
        most = self.max_tokens
        # Only texts that fill max_tokens can be longer, so most texts are tokenized once.
        full = self.tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
        longest = [text for text, row in zip(texts, full, strict=True) if len(row) >= most]
        return sum(len(row) > most for row in self.tokenizer(longest)["input_ids"]) if longest else 0


def _images(exported: Exported) -> Predictor:
    shape, units = tuple(exported.header.shape), len(exported.header.labels)
    reference = exported_reference(exported)
    model = models.one_lane(reference, exported.options, shape, units)
    model.load_state_dict({k: t.unsqueeze(0) for k, t in load_file(exported.folder / WEIGHTS).items()})
    return Predictor(model, exported.header)


def _texts(exported: Exported) -> Predictor:
    options, units = exported.options, len(exported.header.labels)
    if exported.writes:
        tokenizer = pretrained.tokenizer(exported.name)
        pair = seq2seq.Pair(seq2seq.loaded(exported.name))
        return Predictor(seq2seq.Seq2Seq(1, pair), exported.header, tokenizer)
    if options["tune"] in BESIDE:
        reference, shape = exported_reference(exported), (options["max_tokens"],)
        model = models.one_lane(reference, options, shape, units)
    else:
        model = merging.with_head(pretrained.backbone(exported.name, options["pooling"]), units)
    model.load_state_dict(head_state(exported))
    return Predictor(model, exported.header, pretrained.tokenizer(exported.name))


def head_state(exported: Exported) -> dict[str, Tensor]:
    """Return the tensors of head.safetensors as the state of a model with one lane."""
    found = load_file(exported.folder / HEAD)
    head = {"head.weight": found.pop("weight").T, "head.bias": found.pop("bias")}
    return {k: t.unsqueeze(0) for k, t in {**head, **found}.items()}


load = Predictor.load
"""The name in documents of 0.1.0."""
