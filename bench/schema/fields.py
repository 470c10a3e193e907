"""Base classes of the file models: strict fields, and errors in one line.

A model describes the newest version of a file; its ``upgrade`` converts older versions. Readers return the
model, except for records, where they return the validated dictionary: ten thousand models take 60 % more
memory.
"""

import difflib
import json
import re
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from suites.errors import UserError
from suites.paths import read_file
from suites.values import Value as Value

Fields = dict[str, Any]
"""Content of a file, or a part of it, by field name: plain JSON, which a file model describes."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""A name that is shown: in one line, and without characters that a terminal obeys."""
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$")]
"""The key of a cell: a hash of everything that changes its result."""


AnyFile = TypeVar("AnyFile", bound="FileModel")


class Unreadable(ValueError):
    """A file does not match its model; the message is one line."""


class Damaged(Unreadable):
    """A file is not what was written: it is not complete JSON, or its checksum differs."""


class Described(BaseModel):
    """A part of a file: fields are typed, finite and documented; other fields are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class FileModel(Described):
    """A whole file with the version it was written in."""

    VERSION: ClassVar[int] = 1

    schema_version: int = Field(alias="schema")
    """Version of the format of the file."""

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Return the content of an older version converted to the newest version."""
        return content | {"schema": cls.VERSION}

    @classmethod
    def read(cls, content: Any) -> tuple[Self, Fields]:
        """Validate a file's content.

        Args:
            content: JSON as text or bytes, or already parsed.

        Returns:
            The model and the dictionary it was made from, both in the newest version.

        Raises:
            Unreadable: The content is incomplete, does not match the model, or has an unknown version.
        """
        if isinstance(content, str | bytes):
            try:
                # Equal strings are one object: a hundred thousand records share most of theirs.
                content = from_json(content, allow_inf_nan=False, cache_strings="all")
            except ValueError:
                raise Damaged("it is not complete JSON") from None
        if not isinstance(content, dict):
            raise Unreadable("it is not a JSON object")
        version = content.get("schema")
        if not isinstance(version, int) or not 1 <= version <= cls.VERSION:
            known = "1" if cls.VERSION == 1 else f"1 to {cls.VERSION}"
            raise Unreadable(f"its version is {version}, and this Lethe reads {known}")
        try:
            if version < cls.VERSION:
                content = cls.upgrade(content)
            return cls.model_validate(content), content
        except ValidationError as error:
            raise Unreadable(explain(error, cls)) from None
        except (KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"it cannot be read as version {version}: {error!r}") from None


_CRC32 = re.compile(rb'"crc32": ?"([0-9a-f]{8})"\s*\}\s*\Z')


class CheckedFile(FileModel):
    """A file that Lethe writes, with a checksum of its text as its last field."""

    crc32: Annotated[str, Field(exclude=True)] = ""
    """CRC-32 of the text before this field, which is the last; absent in files of earlier versions, which are
    read without this check."""

    @classmethod
    def read(cls, content: Any) -> tuple[Self, Fields]:
        """Validate a file's content and its checksum, which is not in the returned dictionary.

        Raises:
            Unreadable: As FileModel.read, or the checksum differs.
        """
        text = content.encode() if isinstance(content, str) else content
        end = _CRC32.search(text, max(0, len(text) - 48)) if isinstance(text, bytes) else None
        before = text[: end.start()] if end else b""
        changed = end is not None and end[1] != checksum(before).encode()
        try:
            model, fields = super().read(before.rstrip().removesuffix(b",") + b"}" if end else content)
        except Unreadable as error:  # which says more than that the checksum differs
            raise Damaged(str(error)) if changed else error from None
        # A checksum that is not the last field is none of ours.
        if changed or fields.pop("crc32", None):
            raise Damaged("its checksum differs: it has changed since it was written")
        return model, fields


def checksum(content: bytes) -> str:
    """Return the CRC-32 of some bytes, 8 hexadecimal digits.

    It finds every changed bit and every burst of up to 32 bits, and misses one in 4 billion other faults. It
    does not protect against someone who changes a file on purpose.
    """
    return f"{zlib.crc32(content):08x}"


def checked_json(content: Fields, indent: int | None = None) -> bytes:
    """Return JSON with its checksum as the last field, as ``CheckedFile`` reads it."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(content | {"crc32": "0" * 8}, indent=indent, separators=separators, allow_nan=False)
    before, name, after = text.rpartition('"crc32"')
    return f"{before}{name}{after.replace('0' * 8, checksum(before.encode()), 1)}".encode()


def has_checksum(content: bytes) -> bool:
    """Return whether the text of a ``CheckedFile`` has a checksum; earlier versions wrote none."""
    return _CRC32.search(content, max(0, len(content) - 48)) is not None


def is_intact(content: bytes, required: bool = False) -> bool:
    """Return whether the checksum in the text of a ``CheckedFile`` is right, or missing and not required."""
    end = _CRC32.search(content, max(0, len(content) - 48))
    return not required if end is None else end[1] == checksum(content[: end.start()]).encode()


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first error in one line: the field, and what is wrong with it."""
    errors = error.errors(include_url=False)
    # A misspelled name explains the missing one.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = _place(first["loc"])
    kind = first["type"]
    if kind == "extra_forbidden":
        *parent, name = _place(first["loc"]).rsplit(".", 1)
        close = difflib.get_close_matches(name, sorted(set(_names(model))), 1)
        words = f"unknown field {name!r}{f' in {parent[0]}' if parent else ''}"
        words += f"; did you mean {close[0]}?" if close else ""
    elif kind == "missing":
        words = f"{place} is missing"
    else:
        reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
        given = first["input"]
        if isinstance(given, bool | int | float | str) and len(repr(given)) < 60:
            reason += f", not {given!r}"
        joint = " " if reason.startswith("must be") else ": "
        words = f"{place}{joint if place else ''}{reason}"
    return words + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def _place(loc: tuple[int | str, ...]) -> str:
    """Return the path of a field, such as ``run[0].seeds``, without the names of members of a union."""
    words = ""
    for part in loc:
        if isinstance(part, int):
            words += f"[{part}]"
        elif part not in ("bool", "int", "float", "str") and not set(part) & set("[]()"):
            words += f".{part}"
    return words.removeprefix(".")


def _names(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of the fields of a model, at all levels."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        kinds = [field.annotation]
        while kinds:
            kind = kinds.pop()
            kinds += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind)


def read_toml(model: type[AnyFile], path: Path) -> AnyFile:
    """Return a validated TOML file.

    Raises:
        UserError: The file is missing or does not match the model.
    """
    try:
        content = tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    try:
        return model.read({"schema": 1} | content)[0]
    except Unreadable as error:
        raise UserError(f"{path}: {error}") from None
