"""Rules that a method must follow while it runs; errors name the file, the line and what to write instead."""

from __future__ import annotations

import inspect
import os
import traceback
from pathlib import Path


class ContractBroken(Exception):
    """A method breaks a rule that every method must follow; the message says where, and what to write."""


def defined_at(method: type, hook: str) -> str:
    """Return the file and line where the hook of a method's class begins."""
    code = inspect.unwrap(getattr(method, hook)).__code__
    return f"{shown(code.co_filename)}, line {code.co_firstlineno}"


def mentioned_at(method: type, attribute: str) -> str:
    """Return the file and line where ``self.attribute`` first occurs in a method's class, else ""."""
    for cls in method.__mro__:
        try:
            lines, first = inspect.getsourcelines(cls)
        except (OSError, TypeError):
            continue  # a composed class has no source
        for number, line in enumerate(lines, first):
            if f"self.{attribute}" in line:
                return f"{shown(inspect.getfile(cls))}, line {number}"
    return ""


def shown(path: str) -> str:
    """Return a path for a message: relative to the working folder if that is shorter."""
    try:
        return min(os.path.relpath(path), path, key=len)
    except ValueError:  # another drive
        return path


def python_if(error: Exception) -> str:
    """Return a message if the error is from using a tensor of several values as one, else an empty text."""
    asked = (
        "Boolean value of Tensor with more than one",
        "converted to Scalar",
        "converted to Python scalars",
    )
    if not any(words in str(error) for words in asked):
        return ""
    package = str(Path(__file__).parents[1])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    frame = next((f for f in reversed(frames) if not f.filename.startswith(package)), frames[-1])
    return (
        f"{shown(frame.filename)}, line {frame.lineno}: Python decides once for all lanes in "
        f"{(frame.line or '').strip()!r}, but lanes may differ: write torch.where(condition_L, a_L, b_L)"
    )
