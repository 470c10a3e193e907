"""The result of the check of a user's method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Checked:
    """The result of the check of a method before its cells run."""

    words: str
    """For the records: which check was made, and its result."""
    fault: str = ""
    """Why its cells fail without being run; empty if the method passed."""
