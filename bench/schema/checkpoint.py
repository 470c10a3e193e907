"""Headers of the tensor files in a run: of checkpoints, and of saved models."""

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from bench.schema.fields import CheckedFile, Described, Key
from bench.schema.record import DataSource, Spec


class CheckpointHeader(CheckedFile):
    """``checkpoints/<key>/facts.json``: a cell's state after a task, beside its tensors.

    Version 2 has ``code`` and ``data``.
    """

    VERSION: ClassVar[int] = 2

    key: Key
    """Name of the cell."""
    tensors: str
    """Name of the file with its tensors, in the same folder."""
    tasks_done: Annotated[int, Field(ge=1)]
    """Tasks learned."""
    written: str = ""
    """When it was written, in UTC, as in records; empty in earlier headers."""
    code: str = ""
    """Fingerprint of the code that made it, as in records; a cell only continues with the same code. Empty in
    headers of version 1."""
    data: str = ""
    """Fingerprint of the data set. Empty in headers of version 1."""
    model: str = ""
    """Fingerprint of the pretrained model; empty for others."""
    loss: list[float | None] = []
    """Mean training loss of each task."""
    diverged: str | None = None
    """Why the cell diverged."""
    scores: dict[str, JsonValue] = {}
    """Scores so far, as in the record."""
    clock: dict[str, JsonValue] = {}
    """Seconds, steps, samples and tokens so far."""
    lanes: list[Key] = []
    """The cells that were trained together."""
    strategy: JsonValue = None
    """The state of the strategy, a tree whose tensors are in the other file. Headers of earlier versions have
    none, and their cells cannot continue."""


class TextTasks(Described):
    """What a saved model needs to generate text without its stream."""

    tasks: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Name and prefix of every task, in order."""
    most: Annotated[int, Field(ge=1)]
    """Largest number of generated tokens."""
    tokenizer: str | None
    """The tokenizer that was trained on the data set; none if the model has its own."""


class SavedModelHeader(CheckedFile):
    """``models/<key>/<task>/facts.json``: a trained model of a cell."""

    key: Key
    """Name of the cell."""
    tasks_done: Annotated[int, Field(ge=1)]
    """Tasks learned."""
    spec: Spec
    """The specification of the cell."""
    units: list[str]
    """Name of each unit of the head."""
    tasks: list[list[int]]
    """The units of each task."""
    data: DataSource
    """The data set it was trained on."""
    answers_otherwise: str | None
    """The method, if it predicts with more than the model; else none."""
    writes: TextTasks | bool | None
    """How a model that generates text does so; only true in headers of earlier versions."""
    shape: list[int] | None
    """Shape of an image; none for texts."""
    scale: float
    """Pixels are divided by this."""
    mean: list[float]
    """Mean of each channel after that."""
    std: list[float]
    """Standard deviation of each channel."""
    code: str = ""
    """Fingerprint of the code that trained it, as in records; empty in headers of earlier versions."""
