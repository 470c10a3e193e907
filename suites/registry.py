"""Registries of strategies, suites, models and scores by name.

A name refers to a built-in object (registered by a module of the kind's package), an entry point of another
distribution (groups ``lethe.strategies``, ``lethe.suites``, ``lethe.models``), or ``./file.py:Name``.

Descriptions of built-ins are in an index in the cache folder, so that lists import nothing. It is rebuilt
when a source file has changed.
"""

import ast
import hashlib
import importlib
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeGuard, TypeVar

from suites.cache import cache_folder, read_cached, write_cached
from suites.description import Description
from suites.errors import UserError, unknown
from suites.paths import read_file, resolved
from suites.tracebacks import kind_and_message
from suites.values import spelled

Named = TypeVar("Named")


class Registry(Generic[Named]):
    """All strategies, suites, models or scores."""

    kind: str
    plural: str
    package: str
    """Its modules register the built-ins; they are imported on first use."""
    group: str = ""
    """Group of its entry points; empty if other distributions cannot add any."""

    def __init__(self, *sources: Path) -> None:
        """``sources`` are the files and folders that the descriptions of the built-ins depend on."""
        self.entered: dict[str, Named] = {}
        self._entered_by: dict[str, str] = {}
        self._sources = (*sources, Path(__file__).parent)
        self._of_name: dict[str, tuple[Named, Named]] = {}

    # Differs between the kinds.

    def is_one(self, value: object) -> TypeGuard[Named]:
        """Return whether an object from a file or an entry point is of this kind."""
        raise NotImplementedError

    def prepared(self, name: str, value: Named) -> Named:
        """Prepare an object from a file or an entry point; raises UserError if it cannot be used."""
        return value

    def describe_value(self, name: str, value: Named) -> Description:
        """Return the description of an object."""
        raise NotImplementedError

    def collect(self, module: ModuleType) -> None:
        """Register the objects of a module that does not do so itself."""

    # The same for all kinds.

    def enter(self, name: str, value: Named, module: str) -> None:
        """Register an object under a name; ``module`` is where it is defined."""
        self.entered[name] = value
        self._entered_by[name] = module

    def names(self) -> list[str]:
        """Return the names of all built-in and installed objects, sorted."""
        self._import_built_in()
        return sorted({*self.entered, *self._installed()})

    def get(self, name: str) -> Named:
        """Return the object with a name.

        Raises:
            UserError: The name is unknown, or a file or entry point cannot be imported or has another kind.
        """
        if ".py:" in name:
            return self._from_file(name)
        self._import_built_in()
        if name in self.entered:
            return self.entered[name]
        if name in self._installed():
            return self._from_entry_point(self._installed()[name])
        raise unknown(self.kind, name, self.names())

    def has(self, name: str) -> bool:
        """Return whether a name is of this kind; raises UserError for a file that cannot be imported."""
        if ".py:" in name:
            path, _, attribute = name.rpartition(":")
            return self.is_one(getattr(import_file(path), attribute, None))
        return self.knows(name)

    def spelled(self, name: str) -> str:
        """Return the canonical spelling of a name; for a file it is ``./mine.py:M``."""
        path, _, attribute = name.rpartition(":")
        return f"{spelled(path)}:{attribute}" if ".py:" in name else name

    def describe(self, name: str) -> Description:
        """Return the description of a name; raises UserError as ``get`` does."""
        return self._described_entered().get(name) or self.describe_value(name, self.get(name))

    def descriptions(self) -> list[Description]:
        """Return all descriptions, sorted by name; installed objects are not imported."""
        found = self._described_entered()
        for name, point in self._installed().items():
            package = point.dist.name if point.dist else "another package"
            metadata = {"defined_in": point.value}
            found.setdefault(name, Description(self.kind, name, f"from {package}", metadata=metadata))
        return [found[name] for name in sorted(found)]

    def knows(self, name: str) -> bool:
        """Return whether a name is of this kind, or refers to a file, which is not opened."""
        return ".py:" in name or name in self.entered or name in self._index or name in self._installed()

    def defined_in(self, name: str) -> str | Path:
        """Return the module or file that defines a name; imports nothing if the index is current.

        Raises:
            UserError: The name is unknown.
        """
        if ".py:" in name:
            return Path(name.rpartition(":")[0])
        if name in self.entered and not self._is_built_in(name):
            return self._entered_by[name]
        if name in self._index:
            return self._index[name][1]
        if name in self._installed():
            return self._installed()[name].module
        raise unknown(self.kind, name, sorted({*self.entered, *self._index, *self._installed()}))

    def _described_entered(self) -> dict[str, Description]:
        """Return descriptions of the built-ins and of objects registered by this process."""
        own = {n: self.describe_value(n, v) for n, v in self.entered.items() if not self._is_built_in(n)}
        return {name: described for name, (described, _) in self._index.items()} | own

    def _is_built_in(self, name: str) -> bool:
        return f"{self._entered_by[name]}.".startswith(f"{self.package}.")

    @cache  # noqa: B019  # registries live as long as the process
    def _import_built_in(self) -> None:
        package = importlib.import_module(self.package)
        below = pkgutil.walk_packages(getattr(package, "__path__", ()), f"{self.package}.")
        for name in [self.package, *(module.name for module in below)]:
            self.collect(importlib.import_module(name))

    @cache  # noqa: B019
    def _installed(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)} if self.group else {}

    def _from_entry_point(self, point: EntryPoint) -> Named:
        where = f"{point.value} of {point.dist.name}" if point.dist else point.value
        try:
            value = point.load()
        except Exception as error:
            why = f"{self.kind} {point.name} ({where}) cannot be imported: {kind_and_message(error)}"
            raise UserError(why) from error
        if not self.is_one(value):
            raise UserError(f"{point.name} ({where}) is not a {self.kind}")
        return self.once(point.name, value, partial(self.prepared, point.name))

    def _from_file(self, name: str) -> Named:
        path, _, attribute = name.rpartition(":")
        module = import_file(path)
        value = getattr(module, attribute, None)
        if self.is_one(value):
            return self.once(name, value, partial(self.prepared, name))
        # Without classes that the file only imports.
        others = [
            n
            for n, v in vars(module).items()
            if self.is_one(v) and (not isinstance(v, type) or v.__module__ == module.__name__)
        ]
        has = f"; it has: {', '.join(others)}" if others else ""
        raise UserError(f"{path} has no {self.kind} {attribute!r}{has}")

    def once(self, name: str, value: Named, make: Callable[[Named], Named]) -> Named:
        """Return what is made of an object under a name; once, as plans ask for it thousands of times."""
        if name not in self._of_name or self._of_name[name][0] is not value:
            self._of_name[name] = value, make(value)
        return self._of_name[name][1]

    # The index.

    @cached_property
    def _index(self) -> dict[str, tuple[Description, str]]:
        """Descriptions and modules of the built-ins by name, from the cache if it is current."""
        here = hashlib.sha256(str(self._sources[0].resolve()).encode()).hexdigest()[:16]
        path, fingerprint = cache_folder() / f"index-{self.plural}-{here}.json", _fingerprint(self._sources)
        try:
            saved = json.loads(read_cached(path) or b"")
            if saved["fingerprint"] == fingerprint:
                return {d["name"]: (Description.of_json(d), module) for d, module in saved["described"]}
        except (ValueError, KeyError, TypeError):
            pass  # missing, or of another version: it is rebuilt
        self._import_built_in()
        found = {
            name: (self.describe_value(name, value), self._entered_by[name])
            for name, value in self.entered.items()
            if self._is_built_in(name)
        }
        made = {"fingerprint": fingerprint, "described": [(d.as_json(), m) for d, m in found.values()]}
        write_cached(path, lambda file: file.write(json.dumps(made).encode()))
        return found


def _fingerprint(sources: Sequence[Path]) -> str:
    """Return a hash of name, size and time of each source file, and of Python's version."""
    digest = hashlib.sha256(repr(sys.version_info).encode())
    for source in sources:
        found = [*source.rglob("*.py"), *source.rglob("*.toml")] if source.is_dir() else [source]
        for path in sorted(found):
            stat = path.stat()
            digest.update(f"{path}/{stat.st_size}/{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class NotImported(UserError):
    """A user's file would have to be imported, and only something that was read names it."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} is not imported, because the command line does not name it: add --trust")
        self.file = file


_TRUSTED: set[Path] | None = None
"""The only files that may be imported; None for all."""


@contextmanager
def only_files(named: Iterable[str] = ()) -> Iterator[None]:
    """Refuse to import users' files inside, with NotImported, except those in the names given.

    A file that this process has imported already is not refused.
    """
    global _TRUSTED
    before = _TRUSTED
    _TRUSTED = {resolved(name.rpartition(":")[0]) for name in named if ".py:" in name}
    try:
        yield
    finally:
        _TRUSTED = before


_FOLDERS: list[Path] = []
"""The folders of users' files that this process imported. Their modules can be imported, after all others."""


def _make_neighbours_importable(folder: Path, tree: ast.AST) -> None:
    """Add the folder of a user's file to the end of the path, so that it hides no installed module.

    Raises:
        ImportError: The file imports a module of its folder that another folder in use has, too.
    """
    for module in _imported(tree):
        for other in _FOLDERS:
            if other != folder and neighbour(folder, module) and neighbour(other, module):
                raise ImportError(f"{folder} and {other} both have a module {module}: rename one of them")
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _imported(tree: ast.AST) -> set[str]:
    """Return the first names of the modules that a file imports."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def neighbour(folder: Path, module: str) -> Path | None:
    """Return the file or folder of a module that lies in a folder, None if there is none."""
    places = folder / module, folder / f"{module}.py"
    return next((at for at in places if (at.is_file() if at.suffix else at.is_dir())), None)


def import_file(path: str) -> ModuleType:
    """Import a user's file; in each process once for each content. It can import modules in its folder.

    Raises:
        UserError: The file does not exist or cannot be imported; the message has file, line and error.
        NotImported: The file must not be imported; see ``only_files``.
    """
    try:
        source = read_file(path)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    place = str(resolved(path))
    # Under a unique name, so that no installed module is hidden; in sys.modules, where dataclasses and type
    # hints look up annotations.
    name = f"{Path(path).stem}_{hashlib.sha256(place.encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    if _TRUSTED is not None and resolved(path) not in _TRUSTED:
        raise NotImported(path)
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = place
    try:
        # Not by importlib, which caches bytecode by size and second and writes it beside the user's file.
        tree = ast.parse(source, place)
        _make_neighbours_importable(Path(place).parent, tree)
        exec(compile(tree, place, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == place]
        if isinstance(error, SyntaxError) and error.filename == place:
            lines.append(error.lineno)
        where = f"{path}, line {lines[-1]}" if lines else path
        raise UserError(f"{where} cannot be imported: {kind_and_message(error)}") from error
    return module
