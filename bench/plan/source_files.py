"""The source files that a module depends on, with a digest of each.

Files are read, never imported. A digest is made of the syntax tree without comments, docstrings and layout,
so that only changes of code change it. A name imported through the ``__init__`` of a package is
followed to the module that defines it. Imports under ``TYPE_CHECKING`` and by ``importlib`` are not followed.
"""

import ast
import hashlib
import importlib.util
import json
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from suites.aliases import ALIASES
from suites.cache import cache_folder, read_cached, write_cached
from suites.errors import UserError
from suites.paths import read_file, resolved
from suites.registry import neighbour
from suites.syntax import digest_of_tree

ROOT = Path(__file__).parents[2]
LETHE = ("bench", "lethe", "strategies", "suites")
"""Our packages, all in ``ROOT``."""
_CHANGE_NO_NUMBER = {
    "bench.api", "bench.checks", "bench.cli", "bench.models.by_reference", "bench.models.model_registry",
    "bench.models.reference", "bench.plan", "bench.report", "bench.results", "bench.runner", "bench.schema",
    "bench.stats", "bench.store", "bench.train.clock",
    "strategies.presets", "strategies.sums",
    "suites.aliases", "suites.cache", "suites.declared", "suites.description", "suites.errors",
    "suites.own.declaration", "suites.paths", "suites.registry", "suites.syntax", "suites.tracebacks",
    "suites.whole_files",
}  # fmt: skip
"""What makes and names cells, hands them out, keeps time, writes and reads records, and words messages. A
record holds the cell itself; these decide no number in it."""
_NAMED_BY_CELL = ("bench.encode.", "bench.export.", "bench.train.")
"""Rooms that get the model from the cell: their imports of bench.models are not followed, only the cell's own
model is."""
_NO_SOURCE = uuid.uuid4().hex
"""The digest of code typed into an interpreter, which cannot be compared with anything."""

Import = tuple[str, str, str]
"""Module, with leading dots if it is relative; imported name, empty for the module itself; and the name that
it gets."""


@dataclass(frozen=True)
class Source:
    """Digest and imports of one file."""

    digest: str
    """Digest of the syntax tree."""
    imports: tuple[Import, ...]

    def bound(self, name: str) -> Import | None:
        """Return the import that binds a name."""
        return next((found for found in self.imports if found[2] == name), None)


class _Sources:
    """Files by content, parsed once and stored in the cache folder."""

    _MOST = 3000

    def __init__(self) -> None:
        self.used: dict[str, Source] = {}
        self.new = False

    @cached_property
    def saved(self) -> dict[str, Any]:
        """Entries of earlier processes."""
        try:
            found = json.loads(read_cached(self._path) or b"")
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    @property
    def _path(self) -> Path:
        return cache_folder() / "source-files-3.json"

    def of(self, content: bytes) -> Source:
        """Return digest and imports of a file; one that cannot be parsed has no imports."""
        key = hashlib.sha256(content).hexdigest()[:32]
        if key not in self.used:
            try:
                digest, imports = self.saved[key]
                self.used[key] = Source(str(digest), tuple((str(m), str(n), str(a)) for m, n, a in imports))
            except (KeyError, TypeError, ValueError):
                self.used[key], self.new = _parsed(content), True
        return self.used[key]

    def save(self) -> None:
        """Write new entries to the cache; the oldest are dropped if there are too many."""
        if not self.new:
            return
        found = self.saved | {key: [s.digest, s.imports] for key, s in self.used.items()}
        kept = dict([*found.items()][-self._MOST :])
        write_cached(self._path, lambda file: file.write(json.dumps(kept).encode()))
        self.new = False


_SOURCES = _Sources()


def _parsed(content: bytes) -> Source:
    try:
        tree = ast.parse(content)
        return Source(digest_of_tree(tree), tuple(dict.fromkeys(_imports(tree))))
    except (SyntaxError, ValueError, RecursionError):  # a tree can be deeper than Python's stack
        return Source(hashlib.sha256(content).hexdigest()[:20], ())


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Yield the imports of a file, and the attributes used of Lethe's packages that are imported whole."""
    whole: dict[str, str] = {}
    nodes = [tree]
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield alias.name, "", bound
                if alias.name.partition(".")[0] in LETHE and (alias.asname or bound == alias.name):
                    whole[bound] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "." * node.level + (node.module or ""), alias.name, alias.asname or alias.name
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)
    for node in nodes if whole else ():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            yield whole[node.value.id], node.attr, ""


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def files_behind(root: str | Path) -> dict[str, str]:
    """Return the digests of all files that a module or a user's file depends on, by name.

    Files of Lethe are named by their path in the project, others by the path of their module. A module is
    read once per process, as Python does; a file given by its path is read each time.
    """
    return _Walk(root).files if isinstance(root, Path) else _files_of_module(root)


@cache
def _files_of_module(root: str) -> dict[str, str]:
    return _Walk(root).files


class _Walk:
    """The files that one root depends on."""

    def __init__(self, root: str | Path) -> None:
        self.files: dict[str, str] = {}
        self._taken: set[tuple[str, str, bool]] = set()
        # A root among what changes no number in a cell is asked about for itself.
        self._left = {m for m in _CHANGE_NO_NUMBER if not f"{root}.".startswith(f"{m}.")}
        self._own = "" if isinstance(root, Path) else root.partition(".")[0]
        self._folder = resolved(root).parent if isinstance(root, Path) else None
        if isinstance(root, Path):
            self._enter("", root.name, _SOURCES.of(_content(root)))
        elif (path := self._file(root)) is None:
            self.files[f"{root.replace('.', '/')}.py"] = _NO_SOURCE
        else:
            self._enter(root, _name(root, path), _source(path))
        _SOURCES.save()

    def _enter(self, module: str, name: str, source: Source) -> None:
        """Add a file and everything that it imports."""
        if name not in self.files:
            self.files[name] = source.digest
            self._follow(module, source)

    def _follow(self, importer: str, source: Source) -> None:
        for module, name, _ in source.imports:
            self._take(importer, self._absolute(importer, module), name)

    def _take(self, importer: str, module: str, name: str) -> None:
        """Add the file of an imported module, or the file that defines an imported name of a package."""
        module = ALIASES.get(module, module)
        by_cell = importer.startswith(_NAMED_BY_CELL)
        if (module, name, by_cell) in self._taken:
            return
        self._taken.add((module, name, by_cell))
        if name and self._file(f"{module}.{name}") is not None:
            module, name = f"{module}.{name}", ""
        path = None if self._left_out(module, by_cell) else self._file(module)
        if path is None:
            return
        source, of_user = _source(path), module.partition(".")[0] not in LETHE
        if path.stem != "__init__":
            self._enter(module, _name(module, path), source)
        elif name not in ("", "*"):
            if (found := source.bound(name)) is not None:
                self._take(module, self._absolute(module, found[0]), found[1])
            elif of_user:  # defined in __init__ itself
                self._enter(module, _name(module, path), source)
        elif of_user:
            self._enter(module, _name(module, path), source)
        elif module not in LETHE:  # these look up objects by name: importing one adds no file
            self._follow(module, source)

    def _left_out(self, module: str, by_cell: bool) -> bool:
        parts = module.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        return not self._left.isdisjoint(above) or (by_cell and "bench.models" in above)

    def _absolute(self, importer: str, module: str) -> str:
        name = module.lstrip(".")
        up = len(module) - len(name)
        if not up:
            return module
        path = self._file(importer) if importer else None
        up -= path is not None and path.stem == "__init__"
        package = importer.rsplit(".", up)[0] if up else importer
        return f"{package}.{name}" if name else package

    def _file(self, module: str) -> Path | None:
        """Return the file of a module of Lethe, of the user, or of the root's package; None for any other."""
        top, _, rest = module.partition(".")
        base = ROOT / top if top in LETHE else _place_of_users(top, top == self._own)
        if base is None and self._folder is not None and not _is_known(top):
            base = neighbour(self._folder, top)
        if base is None or base.suffix == ".py":
            return None if rest else base
        at = base.joinpath(*rest.split(".")) if rest else base
        # The package lethe lists its names in a stub.
        init = at / ("__init__.pyi" if module == "lethe" else "__init__.py")
        return next((path for path in (init, at.with_suffix(".py")) if _is_file(path)), None)


@cache
def _is_known(name: str) -> bool:
    """Return whether Python finds a module by itself, so that none of a user's folder takes its place."""
    try:
        return name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@cache
def _is_file(path: Path) -> bool:
    return path.is_file()


@cache
def _place_of_users(name: str, installed_too: bool) -> Path | None:
    """Return the file or folder of a user's module; None for the standard library and installed packages."""
    if name in sys.stdlib_module_names:
        return None
    loaded = sys.modules.get(name)
    try:
        spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = places[0] if places else (spec and spec.origin) or getattr(loaded, "__file__", None)
    path = None if found is None else Path(found)
    if path is None or (path.suffix != ".py" and not places):
        return None
    # An environment can see the packages of another, which sysconfig does not name.
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    installed |= path.is_relative_to(sysconfig.get_path("stdlib"))
    return path if installed_too or not installed else None


def _name(module: str, path: Path) -> str:
    at = module.replace(".", "/")
    return f"{at}/{path.name}" if path.stem == "__init__" else f"{at}.py"


@cache
def _source(path: Path) -> Source:
    return _SOURCES.of(_content(path))


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
