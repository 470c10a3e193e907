"""The notes of a release, from CHANGELOG.md: ``python -m tests.release_notes v0.2.0``.

The version must be that of the package, and its section must be there and not be marked as unreleased: else
the release stops with a line that says what to edit.
"""

import re
import sys
from pathlib import Path

import bench

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes(tag: str, changelog: str, package: str) -> str:
    """Return the section of a version; raises SystemExit with what must be edited first."""
    version = tag.removeprefix("v")
    if version != package:
        raise SystemExit(f"the tag is {tag} and the package {package}: set the version in pyproject.toml")
    sections = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)[1:]
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    if f"{version} (unreleased)" in found:
        raise SystemExit(f"CHANGELOG.md: remove (unreleased) from the heading of {version}")
    text = found.get(version, "").strip()
    if not text:
        raise SystemExit(f"CHANGELOG.md has no changes under a heading ## {version}")
    return f"{text}\n"


if __name__ == "__main__":
    print(notes(sys.argv[1], CHANGELOG.read_text(encoding="utf-8"), bench.__version__), end="")
