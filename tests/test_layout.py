"""What the folders promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "suites": {"suites"},
    "strategies": {"suites", "strategies"},
    "bench": {"suites", "strategies", "bench"},
}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_dependencies_point_one_way(folder: str) -> None:
    """bench -> strategies -> suites, and no other way."""
    ours = set(MAY_IMPORT)
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {n.split(".")[0] for n in names} & ours
            assert tops <= MAY_IMPORT[folder], f"{path} imports {tops}"


@pytest.mark.parametrize("path", sorted((ROOT / "strategies").rglob("*.py")), ids=lambda p: p.name)
def test_no_host_copies_in_strategies(path: Path) -> None:
    """The inner loop never waits for the device; what copies at a boundary says so by being listed here."""
    at_boundaries = {
        "optimisers.py",
        "gem.py",  # at every step: its quadratic programme is solved on the host, and it says that it waits
        "packnet.py",  # the step at which each lane is pruned
        "supsup.py",  # at the start: the share of the weights that each lane keeps
    }
    found = re.findall(r"\.item\(\)|\.tolist\(\)|\.cpu\(\)|\.numpy\(\)", path.read_text())
    assert not found or path.name in at_boundaries


def test_changelog_has_the_version() -> None:
    from bench.version import VERSION

    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
