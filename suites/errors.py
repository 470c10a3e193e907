"""Errors that a user sees as one line, with exit code 2."""

import difflib
import re

NOT_FINISHED = "not finished"
"""How the line begins that says why cells have no record, and whose they are."""


class UserError(Exception):
    """A request that is impossible: printed as one line, with exit code 2."""

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class Unavailable(UserError):
    """Data or a model that was not found locally and cannot be downloaded."""


class EnvironmentFault(UserError):
    """The machine failed, not the request: printed as one line, with exit code 1; the same command continues.

    Args:
        words: What happened, and what to repair.
        stops: Whether other cells would meet it too.
    """

    exit_code = 1

    def __init__(self, words: str, stops: bool = False) -> None:
        super().__init__(words)
        self.stops = stops


_MOST = 2000
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Return text in one line, without the control characters that a terminal obeys, and shortened."""
    line = _NOT_SHOWN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return line if len(line) <= _MOST else f"{line[: _MOST // 2]} ... {line[-_MOST // 2 :]}"


def some(words: list[str], most: int) -> str:
    """Return words joined by commas; at most ``most``, then the number of the others."""
    return ", ".join([*words[:most], f"{len(words) - most} more"] if len(words) > most else words)


def unknown(kind: str, name: str, known: list[str]) -> UserError:
    """Return the error for an unknown name, with similar known names."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(sorted(known))}"
    return UserError(f"unknown {kind} {name!r}{hint}")
