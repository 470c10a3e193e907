"""Names of composed strategies, ``er+lwf``, and of their hyper-parameters."""

import re

_PART = re.compile(r"(?P<part>[^\[\]+]+(?:\+\+)?(?:\[[^\[\]]*\])?)(?:\+|$)")
"""One part of a composed selector; der++ ends in the sign that joins."""


def split(selector: str) -> list[str]:
    """Return the parts of ``er[buffer=200]+lwf``; a selector of another form is its own only part."""
    found = list(_PART.finditer(selector))
    whole = "".join(match[0] for match in found)
    if whole != selector or not found or found[-1][0] != found[-1]["part"]:
        return [selector]
    return [match["part"] for match in found]


def field_name(part: str, name: str) -> str:
    """Return what a part's hyper-parameter is called in a composed strategy."""
    return f"{part.replace('+', 'p').replace('-', '_')}_{name}"
