"""What is told to a user in one line, with exit code 2."""

from __future__ import annotations

import difflib


class UserError(Exception):
    """Something the user asked for cannot be: told in one line, with exit code 2."""


class Unavailable(UserError):
    """Data that is neither at hand nor to be had from here."""


def unknown(kind: str, name: str, known: list[str]) -> UserError:
    """Return the error for a name that is not known, with the nearest names that are."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(sorted(known))}"
    return UserError(f"unknown {kind} {name!r}{hint}")
