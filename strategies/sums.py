"""Names of composed strategies, ``er+lwf``, and of their hyper-parameters."""

import re

_PATH = r"(?:~|\.{0,2}/)"
"""The beginning of a path; what follows, up to ``.py:``, may contain the signs of selectors."""
_OPTIONS = r"(?:\[(?P<options>[^\[\]]*+)\])?"
# No part of a pattern can give back what it matched, so that the time is linear in the length.
_NAMED = re.compile(rf"(?P<part>(?P<name>[^\[\]+]++(?:\+\+)?){_OPTIONS})(?P<joined>\+|\Z)")
_FILE = re.compile(rf"(?P<part>(?P<name>(?>{_PATH}.*?\.py:\w++)){_OPTIONS})(?P<joined>\+|\Z)", re.DOTALL)
_IS_PATH = re.compile(_PATH)


def _parts(selector: str) -> list[re.Match[str]]:
    """Return the parts of a selector, none if it is of another form; der++ ends in the sign that joins."""
    found: list[re.Match[str]] = []
    at, last_file = 0, selector.rfind(".py:")
    while at < len(selector):
        pattern = _FILE if at <= last_file and _IS_PATH.match(selector, at) else _NAMED
        if (match := pattern.match(selector, at)) is None:
            return []
        found.append(match)
        at = match.end()
    return [] if not found or found[-1]["joined"] else found


def split(selector: str) -> list[str]:
    """Return the parts of ``er[buffer=200]+lwf``; a selector of another form is its own only part.

    A path that contains ``+`` or brackets must begin with ``/``, ``./``, ``../`` or ``~``.
    """
    return [match["part"] for match in _parts(selector)] or [selector]


def method_names(selector: str) -> list[str]:
    """Return the names of the parts of a selector, without their settings."""
    return [match["name"] for match in _parts(selector)] or [selector]


def name_and_options(part: str) -> tuple[str, str] | None:
    """Return the name of one part and the text in its brackets; None for any other text."""
    found = _parts(part)
    return (found[0]["name"], found[0]["options"] or "") if len(found) == 1 else None


def field_name(part: str, name: str) -> str:
    """Return what a part's hyper-parameter is called in a composed strategy."""
    return f"{part.replace('+', 'p').replace('-', '_')}_{name}"
