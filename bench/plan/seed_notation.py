"""The notation of seeds, in experiment files, on the command line and in Python."""

from collections.abc import Iterable, Sequence
from numbers import Integral

from suites.errors import UserError

_MOST = 10_000


def seeds_of(given: object) -> tuple[int, ...]:
    """Return the seeds that are given as a number of seeds, as text or as a list.

    ``5`` means 0 to 4, ``"2-6"`` means 2 to 6, ``"1,4"`` means these two.

    Raises:
        UserError: They are of another type, or not distinct and not negative.
    """
    if isinstance(given, str | Integral):
        return _read(str(given))
    if not isinstance(given, Iterable):
        raise UserError(f"seeds must be a number of seeds, a list of them or text like '2-6', not {given!r}")
    listed = list(given)
    return _checked(listed, listed)


def _read(text: str) -> tuple[int, ...]:
    found: list[int] = []
    try:
        parts = [f"0-{int(text) - 1}"] if text.isdigit() else text.split(",")
        for part in parts:
            first, dash, last = part.strip().partition("-")
            start, stop = int(first), int(last if dash else first) + 1
            if stop - start > _MOST:  # such as --seeds 20260101, which meant one seed
                raise UserError(f"seeds {text} are too many: {stop - start:,}; write a single seed as 7-7")
            found += range(start, stop)
    except ValueError:
        found = []
    return _checked(found, text)


def _checked(found: Sequence[int], text: object) -> tuple[int, ...]:
    """Return seeds, which must be distinct and not negative; else raise UserError, which quotes ``text``."""
    whole = [int(s) for s in found if isinstance(s, Integral) and not isinstance(s, bool) and s >= 0]
    if not found or len(set(whole)) != len(found):
        raise UserError(f"cannot read seeds {str(text)!r}; write 5 (0 to 4), 2-6 or 1,4")
    return tuple(whole)
