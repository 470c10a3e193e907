"""An exported model on disk: the header beside its weights, and the hash of all of it.

    DIR/lethe.json          model and options, labels or tasks of generated text, format of inputs, origin
    DIR/model.safetensors   images: all weights; texts: weights of the transformer, with its config.json
    DIR/head.safetensors    classifiers of texts: weight (labels, features) and bias of the head, and trained
                            parameters that cannot be merged
    DIR/README.md           how to load it

bench.export makes such a folder, predicts with it and continues training from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bench.schema.fields import CheckedFile, Count, Described, Key, Unreadable, Value
from bench.schema.record import DataSource
from suites.cache import file_crc32
from suites.errors import UserError
from suites.paths import check_is_file, folder_named, read_file
from suites.values import spelled

HEADER, WEIGHTS, HEAD, README = "lethe.json", "model.safetensors", "head.safetensors", "README.md"
BESIDE = {"adapter": "width", "prompt": "prompts"}
"""Ways to tune that cannot be merged into the weights of a transformer, and the option of their size."""


class ExportOrigin(Described):
    """The cell that an exported model is from."""

    cell: str
    """Title of the cell."""
    key: Key
    """Key of the cell."""
    tasks_done: Count
    """Tasks learned."""
    tasks: Count
    """Tasks of the stream."""
    data: DataSource
    """The data set it was trained on."""


class ExportedTexts(Described):
    """The tasks for which an exported model generates text."""

    tasks: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Name and prefix of every task."""
    most: Annotated[int, Field(ge=1)]
    """Largest number of generated tokens."""


class ExportHeader(CheckedFile):
    """``lethe.json`` in the folder of an exported model."""

    reads: Literal["texts", "images"]
    """Kind of its inputs."""
    model: str
    """Name of the model it was trained as."""
    options: dict[str, Value]
    """Options of that model."""
    labels: list[str]
    """Names of the classes that it predicts, in the order of the head; empty if it generates text."""
    origin: Annotated[ExportOrigin, Field(alias="from")]
    """The cell it is from."""
    writes: ExportedTexts | None = None
    """Tasks of a model that generates text."""
    shape: list[Annotated[int, Field(ge=1)]] = []
    """Shape of an image."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Pixels are divided by this."""
    mean: list[float] = []
    """Mean of each channel after that."""
    std: list[Annotated[float, Field(gt=0)]] = []
    """Standard deviation of each channel."""
    files: dict[str, str] = {}
    """CRC-32 of each file beside it except the README; empty in headers of earlier versions, whose files are
    read without this check."""

    @model_validator(mode="after")
    def _check(self) -> ExportHeader:
        if self.reads == "images" and not {"shape", "scale", "mean", "std"} <= self.model_fields_set:
            raise ValueError("a model that reads images must have shape, scale, mean and std")
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, *self.shape[:1]):
            raise ValueError("mean and std must have a number for each channel, or none")
        return self

    @property
    def tasks(self) -> dict[str, str]:
        """Names of the tasks of generated text, with the prefix of their texts."""
        return dict(self.writes.tasks) if self.writes else {}


@dataclass(frozen=True)
class Exported:
    """A folder with the contents of its lethe.json."""

    folder: Path
    header: ExportHeader

    @classmethod
    def at(cls, folder: str | Path) -> Exported:
        """Read a folder and verify its files; raises UserError if it is not an exported model, or damaged."""
        path = folder_named(str(folder)) or Path(folder)
        try:
            found = cls(path, ExportHeader.read(read_file(path / HEADER))[0])
        except FileNotFoundError:
            raise UserError(f"{folder} is not an exported model: it has no {HEADER}") from None
        except OSError as error:
            why = f"its {HEADER} cannot be read: {error.strerror}"
            raise UserError(f"{folder} is not an exported model: {why}") from None
        except Unreadable as error:
            raise UserError(f"{folder} was not exported by this version of Lethe: {error}") from None
        if why := found._damage():
            raise UserError(f"{folder} is damaged: {why}; export it again, or use another copy")
        return found

    def _damage(self) -> str:
        """Return what is wrong with the files, empty for nothing."""
        for name, stated in self.header.files.items():
            path = self.folder / name
            try:
                check_is_file(path)
                stat = path.stat()
                if _checksum(path, stat.st_size, stat.st_mtime_ns) != stated:
                    return f"{name} has changed since it was written"
            except OSError as error:
                return f"{name} cannot be read: {error.strerror}"
        return "it has no tokenizer" if self.reads_texts and not self._has_tokenizer() else ""

    def _has_tokenizer(self) -> bool:
        """Return whether there is a tokenizer, without which transformers would make an empty one."""
        try:
            name = json.loads(read_file(self.folder / "tokenizer_config.json")).get("tokenizer_class")
        except (OSError, ValueError, AttributeError, RecursionError):
            return False
        of_bytes = name == "ByT5Tokenizer"  # it has no vocabulary
        return of_bytes or any(any(self.folder.glob(p)) for p in ("tokenizer.json", "vocab.*", "*.model"))

    @classmethod
    def named(cls, name: str) -> Exported | None:
        """Return the exported model in the folder ``name``, None if it is not one."""
        folder = folder_named(name)
        return cls.at(name) if folder and (folder / HEADER).exists() else None

    @property
    def name(self) -> str:
        """The folder, as the name of a model."""
        return spelled(str(self.folder))

    @property
    def reads_texts(self) -> bool:
        """Whether it reads texts, not images."""
        return self.header.reads == "texts"

    @property
    def writes(self) -> bool:
        """Whether it generates text and has no labels."""
        return self.header.writes is not None

    @property
    def options(self) -> dict[str, Any]:
        """The options of the model it was trained as."""
        return dict(self.header.options)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes its predictions, in hexadecimal."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and path.name != README and not path.name.startswith("."):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.name}/{content}\n".encode())
        return digest.hexdigest()

    def check(self, options: dict[str, Any]) -> None:
        """Raise UserError for options with which its weights cannot be used."""
        if self.writes:
            return
        if self.reads_texts:
            tune = self.options["tune"]
            fixed = ["pooling", *(["tune", BESIDE[tune]] if tune in BESIDE else [])]
        else:
            fixed = list(self.options)
        for name in fixed:
            if options[name] != self.options[name]:
                raise UserError(
                    f"{self.folder} was trained with {name}={self.options[name]}: "
                    f"continuing with {name}={options[name]} would lose what it learned"
                )


@cache
def _checksum(path: Path, _size: int, _modified: int) -> str:
    """Return the checksum of a file, computed once for each state of it."""
    with path.open("rb") as file:
        return f"{file_crc32(file):08x}"
