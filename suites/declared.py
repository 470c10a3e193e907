"""Data sets of users, declared by a file and what its columns mean: ``./reviews.csv[text=review]``.

A declaration is the name of a suite, so that a cell's identity holds all of it, worker processes can read
the data again, and readers of records need no file. ``lethe run reviews.csv --text review``, the table
``[dataset]`` of an experiment file and ``lethe.run(dataset=...)`` make the same name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suites.errors import UserError
from suites.values import convert, spelled, text_of

if TYPE_CHECKING:
    from suites.base import Suite

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow")
ARRAYS = (".npz", ".safetensors")
BINS = ("year", "quarter", "month", "week", "day")
HUB, MIRROR, FRAME = "hub:", "mirror:", "frame:"
_SUFFIXES = "|".join(re.escape(suffix) for suffix in (*TABLES, *ARRAYS))
_NAME = re.compile(
    rf"(?P<place>(?:{HUB}|{FRAME})[^\[\]]+|.+?(?:{_SUFFIXES}|/))(?:\[(?P<options>.*)\])?", re.S | re.I
)
_OPTION = re.compile(r'\s*(\w+)\s*=\s*((?:"(?:[^"\\]|\\.)*"|[^",])*)(?:,|$)')
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^+"]+')
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


def is_declared(name: str) -> bool:
    """Return whether the name of a suite is a declaration."""
    return _NAME.fullmatch(name) is not None


def parsed(name: str) -> Declaration:
    """Return the declaration of a name; raises UserError for an option that is unknown or impossible."""
    return declared(*_place_and_options(name))


def _place_and_options(name: str) -> tuple[str, dict[str, Any]]:
    """Return the file in a name, and the options in its brackets as lists of words."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UserError(
            f"{name} is not a data set: a table ends in {', '.join(TABLES)}, arrays in "
            f"{' or '.join(ARRAYS)}, a folder of images in /, and the hub's are {HUB}OWNER/NAME@REVISION"
        )
    options: dict[str, Any] = {}
    text, at = found["options"] or "", 0
    while at < len(text):
        option = _OPTION.match(text, at)
        if option is None:
            raise UserError(f"cannot read {text[at:]!r} in {name}; write options like label=stars")
        if option[1] in options:
            raise UserError(f"{option[1]} is given twice in {name}")
        options[option[1]] = [_read(part, name) for part in _PART.findall(option[2])]
        at = option.end()
    return found["place"], options


def declared(place: str, options: Mapping[str, Any]) -> Declaration:
    """Return the declaration of a file with options, whose values are text, numbers or lists of them.

    Raises:
        UserError: An option is unknown, or options contradict each other.
    """
    made: dict[str, Any] = {"place": place if place.startswith((HUB, FRAME)) else _spelled(place)}
    what = f"data set {place}"
    of_split: dict[str, str] = {}
    for key, value in options.items():
        words = [str(v) if isinstance(v, str) else text_of(v) for v in _listed(value)]
        if not words or not all(words):
            raise UserError(f"{what}: {key} is empty")
        if key not in OPTIONS:
            of_split[key] = "+".join(words)
        elif key == "text":
            made[key] = tuple(words)
        elif len(words) > 1:
            raise UserError(f"{what}: {key} takes one value, not {', '.join(words)}")
        else:
            made[key] = convert(f"{what}: {key}", words[0], type(getattr(Declaration, key)))
    found = Declaration(**made, of_split=tuple(sorted(of_split.items())))
    _check(found, what)
    usual: dict[str, Any] = {"config": "default", "label": replace(found, label="").label_column}
    usual |= {"time": found.task if found.bins else ""}
    same: dict[str, Any] = {k: "" for k, v in usual.items() if getattr(found, k) == v}
    return replace(found, **same)


def suite_named(given: str, options: Mapping[str, Any], folder: Path = Path()) -> str:
    """Return the name of the suite for what a user wrote: the name of a suite, or of a file with options.

    Args:
        given: ``digits``, ``reviews.csv``, ``photos``, ``hub:OWNER/NAME@REVISION``.
        options: Fields of ``Declaration`` by name.
        folder: Relative paths start here.

    Raises:
        UserError: ``given`` is not a data set and options are given, or options contradict each other.
    """
    hub = given.startswith((HUB, FRAME))
    place = (
        given if hub or not options else str(folder / Path(given).expanduser()) + "/" * given.endswith("/")
    )
    if not hub and not is_declared(place) and "[" not in place and os.path.isdir(place):
        place += "/"
    if options and not is_declared(place):
        kinds = (
            f"a table ({', '.join(TABLES)}), arrays ({', '.join(ARRAYS)}), a folder of images or {HUB}NAME"
        )
        raise UserError(f"{', '.join(options)} describe a data set, and {given} is not one: {kinds}")
    if not options:
        return place
    place, bracketed = _place_and_options(place)
    if twice := sorted(bracketed.keys() & options.keys()):
        raise UserError(f"{twice[0]} is given twice for {given}")
    return declared(place, bracketed | dict(options)).name


def _check(d: Declaration, what: str) -> None:
    """Raise UserError for options that contradict each other."""
    splits = [k for k in ("split", "test", "test_last", "test_from") if getattr(d, k)]
    faults = {
        "give text or image, not both": d.text and d.image,
        "say which column is read: --text COLUMN or --image COLUMN": not (
            d.text or d.image or d.is_folder or d.is_arrays
        ),
        "bins divide a time: add --task COLUMN": d.bins and not d.task,
        f"bins must be {', '.join(BINS)} or a number of parts from 2 up, not {d.bins}": d.bins
        and d.bins not in BINS
        and not (d.bins.isdigit() and int(d.bins) > 1),
        "bins are in order of time: leave out sorted": d.bins and d.sorted,
        "sorted is of the tasks of a column: add --task COLUMN": d.sorted and not d.task,
        f"choose one of {' and '.join(splits)}": len(splits) > 1,
        f"test shares are between 0 and 1, not {d.test or d.test_last}": not 0 <= max(d.test, d.test_last) < 1
        or min(d.test, d.test_last) < 0,
        "test_last and test_from need a time: add --time COLUMN": (d.test_last or d.test_from)
        and not d.time_column,
        "nothing uses the time: leave it out, or add test_last or test_from": d.time
        and not (d.test_last or d.test_from),
        "classes, size and scale must not be below 0": min(d.classes, d.size, d.scale) < 0,
        "size and scale are of images: leave them out": d.text and (d.size or d.scale),
        "config is of a data set of the hub: leave it out": d.config and not d.is_hub,
        f"name its revision, so that the data cannot change: {d.place}@REVISION": d.is_hub
        and not all(d.place.rpartition("@")[::2]),
    }
    for words, wrong in faults.items():
        if wrong:
            raise UserError(f"{what}: {words}")


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _spelled(place: str) -> str:
    return spelled(place) + "/" * place.endswith("/")


def _written(value: Any) -> str:
    """Return the value of an option as names have it: quoted as in JSON if it is not plain."""
    words = value if isinstance(value, tuple) else (value if isinstance(value, str) else text_of(value),)
    return "+".join(w if _PLAIN.fullmatch(w) else json.dumps(w, ensure_ascii=False) for w in words)


def _read(part: str, name: str) -> str:
    if not part.startswith('"'):
        return part.strip()
    try:
        return str(json.loads(part))
    except ValueError:
        raise UserError(f"cannot read {part} in {name}; quotes are as in JSON") from None


def notes_of(name: str) -> list[str]:
    """Return what a user should know of the data of a declared suite; nothing for others."""
    if not is_declared(name):
        return []
    from suites.own.suite import notes

    return notes(parsed(name))


class Declared:
    """The suites that are declared, for the registry."""

    module = "suites.own.suite"
    """What the numbers of their cells depend on."""

    @staticmethod
    def knows(name: str) -> bool:
        """Return whether a name is a declaration."""
        return is_declared(name)

    @staticmethod
    def spelled(name: str) -> str:
        """Return the canonical name; options of the split need the data."""
        found = parsed(name)
        if not found.of_split:
            return found.name
        from suites.own.suite import spelled_with_options

        return spelled_with_options(found)

    @staticmethod
    def get(name: str) -> Suite:
        """Return the suite; raises UserError if its data cannot be learned from."""
        from suites.own.suite import suite_of

        return suite_of(parsed(name))
