"""Headers of tensors in a run: of a cell's state after a task, and of its saved models."""

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from bench.schema.fields import Described, FileModel, Key
from bench.schema.record import DataSource, Spec


class CheckpointHeader(FileModel):
    """``checkpoints/<key>/facts.json``: a cell's state after a task, beside its tensors.

    Version 2 has ``code`` and ``data``.
    """

    VERSION: ClassVar[int] = 2

    key: Key
    """Name of the cell."""
    tensors: str
    """Name of the file of its tensors, in the same folder."""
    tasks_done: Annotated[int, Field(ge=1)]
    """Tasks learned."""
    code: str = ""
    """Fingerprint of the code that made it, as in records; a cell goes on with the same code alone. Empty in
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
    """What was measured, as in the record."""
    clock: dict[str, JsonValue] = {}
    """Seconds, steps, samples and tokens counted."""
    lanes: list[Key] = []
    """The cells that ran side by side."""
    strategy: JsonValue = None
    """The strategy's state, a tree whose tensors are in the other file; none in earlier versions, from which
    no cell can go on."""


class TextTasks(Described):
    """What a saved model that generates text needs to do so by itself."""

    tasks: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Name and prefix of every task, in order."""
    most: Annotated[int, Field(ge=1)]
    """Tokens generated at most."""
    tokenizer: str | None
    """The tokenizer that was trained on the data set; none where the model has its own."""


class SavedModelHeader(FileModel):
    """``models/<key>/<task>/facts.json``: a trained model of a cell."""

    key: Key
    """Name of the cell."""
    tasks_done: Annotated[int, Field(ge=1)]
    """Tasks learned."""
    spec: Spec
    """What the cell is."""
    units: list[str]
    """What each unit of the head is called."""
    tasks: list[list[int]]
    """The units of each task."""
    data: DataSource
    """What it learned from."""
    answers_otherwise: str | None
    """The method that answers with more than the model; none for the model alone."""
    writes: TextTasks | bool | None
    """Of a model that generates text, how; true in headers of earlier versions, which did not say."""
    shape: list[int] | None
    """Shape of an image; none of texts."""
    scale: float
    """What pixels are divided by."""
    mean: list[float]
    """Mean of each channel after that."""
    std: list[float]
    """Standard deviation of each channel."""
    code: str = ""
    """Fingerprint of the code that trained it, as in records; empty in headers of earlier versions."""
