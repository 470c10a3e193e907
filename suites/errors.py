"""Errors that a user sees as one line, with exit code 2."""

import difflib


class UserError(Exception):
    """A request that is impossible: printed as one line, with exit code 2."""

    exit_code = 2


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


def some(words: list[str], most: int) -> str:
    """Return words joined by commas; at most ``most``, then the number of the others."""
    return ", ".join([*words[:most], f"{len(words) - most} more"] if len(words) > most else words)


def unknown(kind: str, name: str, known: list[str]) -> UserError:
    """Return the error for an unknown name, with similar known names."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(sorted(known))}"
    return UserError(f"unknown {kind} {name!r}{hint}")
