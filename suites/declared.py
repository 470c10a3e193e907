"""Data sets of users, declared by a file and what its columns mean: ``./reviews.csv[text=review]``.

A declaration is the name of a suite, so that a cell's identity holds all of it, worker processes can read
the data again, and readers of records need no file. ``lethe run reviews.csv --text review``, the table
``[dataset]`` of an experiment file and ``lethe.run(dataset=...)`` make the same name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from suites.errors import UserError
from suites.own.declaration import ARRAYS, BINS, FRAME, HUB, OPTIONS, TABLES, Declaration
from suites.values import convert, spelled, text_of

_SUFFIXES = "|".join(re.escape(suffix) for suffix in (*TABLES, *ARRAYS))
_NAME = re.compile(
    rf"(?P<place>(?:{HUB}|{FRAME})[^\[\]]+|.+?(?:{_SUFFIXES}|/))(?:\[(?P<options>.*)\])?", re.S | re.I
)
_OPTION = re.compile(r'\s*(\w+)\s*=\s*((?:"(?:[^"\\]|\\.)*"|[^",])*)(?:,|$)')
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^+"]+')


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
    local = not place.startswith((HUB, FRAME))
    made: dict[str, Any] = {"place": spelled(place) + "/" * place.endswith("/") if local else place}
    what = f"data set {place}"
    of_split: dict[str, str] = {}
    for key, value in options.items():
        words = [text_of(v) for v in (value if isinstance(value, list | tuple) else [value])]
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


def _read(part: str, name: str) -> str:
    if not part.startswith('"'):
        return part.strip()
    try:
        return str(json.loads(part))
    except ValueError:
        raise UserError(f"cannot read {part} in {name}; quotes are as in JSON") from None
