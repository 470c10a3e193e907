"""Headers of the tensor files in a run: of checkpoints, and of saved models."""

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from bench.schema.fields import CheckedFile, Count, Described, Fields, Key
from bench.schema.record import DataSource, Spec


class CheckpointHeader(CheckedFile):
    """``checkpoints/<key>/facts.json``: a cell's state after a task, beside its tensors and rows.

    It is written last: with it, the other two are complete. Version 3 has ``rows``, in place of all losses
    and scores so far; cells with an earlier header begin again. Version 2 has ``code`` and ``data``.
    """

    VERSION: ClassVar[int] = 3

    key: Key
    """Name of the cell."""
    tensors: str
    """Name of the file with its tensors, in the same folder."""
    crc32_of_tensors: str = ""
    """CRC-32 of that file; empty in earlier headers."""
    rows: str = ""
    """Name of the file with losses and scores so far, ``CheckpointRows``, in the same folder; empty in
    earlier headers."""
    rows_bytes: Count = 0
    """Size of that file up to this task. What follows was written later, and is not used."""
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
    diverged: str | None = None
    """Why the cell diverged."""
    clock: dict[str, JsonValue] = {}
    """Seconds, steps, samples and tokens so far."""
    lanes: list[Key] = []
    """The cells that were trained together."""
    strategy: JsonValue = None
    """The state of the strategy, a tree whose tensors are in the file of tensors."""

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Convert versions 1 and 2, which have all losses and scores."""
        left_out = ("loss", "scores")
        return super().upgrade({name: value for name, value in content.items() if name not in left_out})


class CheckpointRows(CheckedFile):
    """A line of ``checkpoints/<key>/*.jsonl``: what a cell's tasks since its last checkpoint added."""

    key: Key
    """Name of the cell."""
    first: Count
    """Number of the first row of R in this line."""
    loss: list[float | None]
    """Mean training loss of each of the tasks."""
    own_term: list[float | None] = []
    """Share of the method's own term in the gradient in each of the tasks; empty in earlier lines, which are
    of other code and not continued."""
    scores: dict[str, JsonValue]
    """Rows of R of each split, and what was measured beside them."""


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
    crc32_of_tensors: str = ""
    """CRC-32 of the file beside it; empty in headers of earlier versions, whose tensors are read without this
    check."""
