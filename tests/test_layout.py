"""Imports between packages and rooms: which may import which, by which door, and how many there are.

A room is a folder with a door: its ``__init__``, which names what other rooms may import. A place is a room,
or a module that is in none. An arrow is an import of one place by another, anywhere in a file.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ["suites", "strategies", "bench", "lethe"]
"""A package imports itself and those before it only: bench -> strategies -> suites."""
ROOMS = {
    "models": set(),
    "stats": set(),
    "schema": set(),
    "plan": {"schema", "models"},
    "encode": {"models"},
    "store": {"schema", "plan"},
    "train": {"plan", "models", "encode"},
    "export": {"schema", "plan", "models", "encode", "store"},
    "engines": set(),
    "runner": {"schema", "plan", "train", "store", "export", "engines"},
    "results": {"schema", "plan", "store", "stats"},
    "report": {"results", "stats"},
    "tune": {"schema", "plan", "runner", "store", "results"},
}
"""What each room of bench may import of bench; ``api``, ``checks`` and ``cli`` may import all of them."""
DOORS = {*(f"bench.{room}" for room in ROOMS), "strategies.core", "strategies.parts"}
PLACES = {*DOORS, "bench.api", "bench.checks", "bench.cli"}
MOST = {"bench": (10, 53), "strategies": (float("inf"), 120)}
"""The largest allowed numbers of levels and arrows; circular imports have no number of levels."""


def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted names."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the dotted names that a file imports; ``from a import b`` is ``a.b``."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    start = {node: f"{node.module}." if isinstance(node, ast.ImportFrom) else "" for node in nodes}
    return tuple(start[node] + alias.name for node in nodes for alias in node.names)


def place(module: str) -> str:
    """Return the place of a module, or of a name imported from one."""
    parts = module.split(".")
    return next((found for found in (".".join(parts[:n]) for n in (2, 3)) if found in PLACES), module)


def file_arrows(package: str) -> set[tuple[str, str]]:
    """Return the imports between the files of a package, those for annotations and in functions included."""
    known = modules(package)
    named = [(module, name) for module, path in known.items() for name in imports(path)]
    own = {(a, b if b in known else b.rpartition(".")[0]) for a, b in named if b.split(".")[0] == package}
    return {(a, b) for a, b in own if a != b}


def arrows(package: str) -> set[tuple[str, str]]:
    """Return the arrows between the places of a package."""
    return {(place(a), place(b)) for a, b in file_arrows(package) if place(a) != place(b)}


def circle(edges: set[tuple[str, str]]) -> list[str]:
    """Return the places of a circle of arrows, the first one twice; an empty list if there is none."""
    try:
        levels(edges)
    except CycleError as error:
        return list(error.args[1])
    return []


def levels(edges: set[tuple[str, str]]) -> int:
    """Return the number of places on the longest chain of arrows; raises CycleError for a circle."""
    below = {a: {b for of, b in edges if of == a} for a, _ in edges}
    level: dict[str, int] = {}
    for at in TopologicalSorter(below).static_order():
        level[at] = 1 + max((level[b] for b in below.get(at, ())), default=0)
    return max(level.values(), default=1)


def picture(edges: set[tuple[str, str]]) -> str:
    """Return the arrows of bench as a Mermaid graph, without those that follow from others."""
    reach = closure(edges)
    shown = {(a, b) for a, b in edges if not any((a, c) in edges and (c, b) in reach for c in PLACES | {b})}
    lines = [f"    {short(a)} --> {short(b)}" for a, b in sorted(shown)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def closure(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return all pairs of places of which the first imports the second, directly or indirectly."""
    found = set(edges)
    while more := {(a, d) for a, b in found for c, d in edges if b == c} - found:
        found |= more
    return found


def table(edges: set[tuple[str, str]]) -> str:
    """Return a Markdown table of the places of bench that each place imports."""
    rows = [f"| {short(a)} | {', '.join(sorted(short(b) for x, b in edges if x == a))} |" for a, _ in edges]
    return "\n".join(["| room | imports |", "| --- | --- |", *sorted(set(rows))])


def counts() -> str:
    """Return a Markdown table of the structure before the rooms, when they were introduced, and today."""
    edges = {package: arrows(package) for package in ("bench", "strategies")}
    places = {package: len({place(m) for m in modules(package)}) for package in edges}
    loop = (ROOT / "bench" / "train" / "loop.py").read_text()
    rows = [
        ("places of bench", 35, 16, places["bench"]),
        ("levels of bench", 11, 7, levels(edges["bench"])),
        ("arrows between places of bench", 100, 45, len(edges["bench"])),
        ("places of strategies", 82, 59, places["strategies"]),
        ("arrows between places of strategies", 287, 111, len(edges["strategies"])),
        ("lines of the main loop's file", 346, 138, loop.count("\n")),
    ]
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(["| | before | rooms introduced | today |", "| --- | ---: | ---: | ---: |", *lines])


def short(module: str) -> str:
    """Return the name of a place of bench without the package."""
    return module.removeprefix("bench.").strip("_") or "bench"


def architecture_page(page: str) -> str:
    """Return docs/architecture.md with its generated parts as they are now."""
    edges = arrows("bench")
    for name, block in (("picture", picture(edges)), ("imports", table(edges)), ("counts", counts())):
        parts = re.split(rf"(<!-- {name} -->\n\n|\n\n<!-- /{name} -->)", page)
        page = "".join([*parts[:2], block, *parts[3:]])
    return page


def other_rooms(room: str) -> Iterator[tuple[Path, str, str]]:
    """Yield each import from another room of bench by the files of a room: file, room, dotted name."""
    for path in (ROOT / "bench" / room).rglob("*.py"):
        for name in imports(path):
            package, _, rest = name.partition(".")
            if package == "bench" and rest.split(".")[0] not in ("", room):
                yield path, rest.split(".")[0], name


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    for path in modules(package).values():
        tops = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
        assert tops <= set(PACKAGES[: PACKAGES.index(package) + 1]), f"{path} imports {tops}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_rooms_they_may(room: str) -> None:
    for path, other, name in other_rooms(room):
        assert other in ROOMS[room], f"{path} imports {name}"


@pytest.mark.parametrize("package", ["bench", "strategies"])
def test_rooms_import_other_rooms_by_their_doors(package: str) -> None:
    known = {**modules("bench"), **modules("strategies")}
    for module, path in {**modules(package), **modules("lethe")}.items():
        for name in imports(path):
            target = name if name in known else name.rpartition(".")[0]
            entered = place(target)
            by_door = entered in (name, name.rpartition(".")[0], place(module)) or entered not in DOORS
            assert by_door, f"{path} imports {name}, past the door of {entered}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    assert circle(file_arrows(package)) == []


@pytest.mark.parametrize(("package", "most"), MOST.items())
def test_levels_and_arrows_stay_within_their_limits(package: str, most: tuple[float, int]) -> None:
    edges = arrows(package)
    assert levels(edges) <= most[0]
    assert len(edges) <= most[1], sorted(edges)


def test_no_two_modules_have_the_same_name() -> None:
    """The file name in a traceback should be enough to find the module."""
    stems = Counter(path.stem for package in PACKAGES for path in modules(package).values())
    assert not {stem: n for stem, n in stems.items() if n > 1 and not stem.startswith("__")}


def test_text_files_are_utf_8_in_any_locale() -> None:
    calls = re.compile(r"\.(?:read_text|write_text|open)\((?P<given>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)")
    for package in PACKAGES:
        for path in modules(package).values():
            for call in calls.finditer(path.read_text(encoding="utf-8")):
                is_text = not re.search(r'\.open\((?!"w")', call[0])
                assert not is_text or "encoding=" in call["given"], f"{path}: {call[0]}"


def test_the_architecture_page_is_current() -> None:
    """If this fails: ``python tests/test_layout.py`` writes the page again."""
    page = PAGE.read_text()
    assert page == architecture_page(page)


def test_the_code_walk_names_existing_files_once_each() -> None:
    walk = PAGE.read_text().split("## One run")[1].split("\n## ")[0]
    linked = re.findall(r"\[`([^`]+)`\]\(\.\./([^)]+)\)", walk)
    assert [name for name, link in linked if name != link or not (ROOT / link).is_file()] == []
    counts = Counter(name for name, _ in linked)
    assert {name for name, times in counts.items() if times > 1} <= {"bench/train/loop.py"}


def test_the_changelog_has_the_version() -> None:
    from suites.version import VERSION

    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()


if __name__ == "__main__":
    PAGE.write_text(architecture_page(PAGE.read_text()))
