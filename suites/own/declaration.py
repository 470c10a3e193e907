"""What a user says of a data set: where it is, and what its columns mean."""

import json
import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from suites.values import text_of

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow")
ARRAYS = (".npz", ".safetensors")
BINS = ("year", "quarter", "month", "week", "day")
HUB, MIRROR, FRAME = "hub:", "mirror:", "frame:"
_PLAIN = re.compile(r'[^\s,+"\[\]=\\](?:[^,+"\[\]=\\]*[^\s,+"\[\]=\\])?')


@dataclass(frozen=True)
class Declaration:
    """Where a data set is, and which columns make its rows, tasks and splits."""

    place: str
    """A table (.csv, .tsv, .jsonl, .json, .parquet, .arrow), arrays (.npz, .safetensors), a folder of images
    that ends in ``/``, ``hub:OWNER/NAME@REVISION``, or ``frame:HASH`` of a data frame in the cache."""
    config: str = ""
    """Configuration of a data set of the hub; by default the one named ``default``."""
    text: tuple[str, ...] = ()
    """Column of the text; several are joined by a space."""
    image: str = ""
    """Column of images, of paths relative to the table, or of lists of numbers, which are features; in
    arrays, the array of pixels or features."""
    label: str = ""
    """Column of the class; by default ``label``, in arrays ``y``, and for images the name of their folder."""
    task: str = ""
    """Column whose values are the tasks; without it, tasks are made of classes."""
    bins: str = ""
    """The task column is time, in bins: year, quarter, month, week, day, or a number of equal parts."""
    classes: int = 0
    """Classes per task; 2 without a task column. With one, each of its tasks is divided by classes."""
    sorted: bool = False
    """Tasks of a column are sorted by name, not in order of their first row in the file."""
    split: str = ""
    """Column with the values train and test, and validation for validation rows of your own."""
    test: float = 0.0
    """Share of the rows of each task and class for testing, drawn by test_seed; by default 0.2."""
    test_seed: int = 0
    """Seed that draws the test rows, which are the same for all seeds of a run."""
    test_last: float = 0.0
    """Share of the rows of each task for testing: the last in time."""
    test_from: str = ""
    """Rows from this time on are for testing, earlier ones for training."""
    time: str = ""
    """Column of the time for test_last and test_from; the task column if it has bins."""
    size: int = 0
    """Images are resized to this height and width; 0 if they are equal already."""
    scale: float = 0.0
    """Largest pixel, by which all are divided; by default 255 for bytes and 1 for other numbers."""
    of_split: tuple[tuple[str, str], ...] = ()
    """Further options: those of every suite that is split by class or by domain, such as ``rows=1000``."""

    @cached_property
    def name(self) -> str:
        """The canonical name: options with their default are left out, the others sorted."""
        given = {name: getattr(self, name) for name in OPTIONS}
        own = {k: _written(v) for k, v in given.items() if v != getattr(Declaration, k)}
        words = [f"{k}={v}" for k, v in sorted((own | dict(self.of_split)).items())]
        return f"{self.place}[{','.join(words)}]" if words else self.place

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of images."""
        return self.place.endswith("/") and not self.is_hub

    @property
    def is_hub(self) -> bool:
        """Whether it is a data set of the hub, or of a mirror of it alone."""
        return self.place.startswith((HUB, MIRROR))

    @property
    def repository(self) -> str:
        """OWNER/NAME of a data set of the hub, or the name of one of a mirror alone."""
        name = self.place.partition(":")[2]
        return name.rpartition("@")[0] if self.place.startswith(HUB) else name

    @property
    def revision(self) -> str:
        """The revision of a data set of the hub."""
        return self.place.rpartition("@")[2]

    @property
    def in_mirror(self) -> str:
        """The folder of its files in a mirror."""
        return f"{self.repository}/{self.config or 'default'}"

    @property
    def is_arrays(self) -> bool:
        """Whether it is a file of arrays."""
        return self.place.lower().endswith(ARRAYS)

    @property
    def label_column(self) -> str:
        """The column of the class."""
        return self.label or ("y" if self.is_arrays else "label")

    @property
    def time_column(self) -> str:
        """The column of the time; empty if nothing needs it."""
        return self.time or (self.task if self.bins else "")

    @property
    def short(self) -> str:
        """The last part of the place, for messages."""
        return self.place.rstrip("/").rpartition("/")[2]


OPTIONS = tuple(f.name for f in fields(Declaration) if f.name not in ("place", "of_split"))
"""What the brackets, the command line, ``[dataset]`` and ``lethe.run`` take, besides options of splits."""


def _written(value: Any) -> str:
    """Return the value of an option as names have it: quoted as in JSON if it is not plain."""
    words = value if isinstance(value, tuple) else (value if isinstance(value, str) else text_of(value),)
    return "+".join(w if _PLAIN.fullmatch(w) else json.dumps(w, ensure_ascii=False) for w in words)
