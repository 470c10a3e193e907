"""What there is, read from the source without importing torch: for ``lethe list`` and ``lethe show``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeGuard

from strategies import field_name, split

KINDS = ("suites", "strategies", "models", "scores")
_ROOT = Path(__file__).parents[2]


@dataclass
class Entry:
    """One thing that can be named."""

    kind: str
    name: str
    summary: str
    facts: dict[str, str] = field(default_factory=dict)
    """What is said of it: family, paper, needs ..."""
    options: list[dict[str, str]] = field(default_factory=list)
    """Hyper-parameters: name, type, default, help."""


def entries(kind: str) -> list[Entry]:
    """Return all entries of a kind, sorted by name."""
    readers = {"suites": _suites, "strategies": _strategies, "models": _models, "scores": _scores}
    return sorted([*readers[kind](), *_installed(kind)], key=lambda e: e.name)


def find(name: str) -> Entry:
    """Return the entry of a name, of whatever kind, or of ``./file.py:Class``.

    Raises UserError for an unknown one.
    """
    from suites.errors import unknown

    if ".py:" in name:
        return _from_file(name)
    if len(split(name)) > 1:
        return _sum([find(part) for part in split(name)], name)
    known = [entry for kind in KINDS for entry in entries(kind)]
    for entry in known:
        if entry.name == name:
            return entry
    raise unknown("name", name, [e.name for e in known])


def _sum(parts: list[Entry], name: str) -> Entry:
    """Return a composed strategy's entry: its parts' hyper-parameters, under the names of the whole."""
    facts = {key: "; ".join(p.facts[key] for p in parts if p.facts.get(key)) for key in ("paper", "needs")}
    options = [o | {"name": field_name(p.name, o["name"])} for p in parts for o in p.options]
    summary = f"The sum of {' and '.join(p.name for p in parts)}."
    return Entry("strategy", name, summary, {"family": "composed", **facts}, options)


def _installed(kind: str) -> Iterator[Entry]:
    """Yield what other packages bring; they are named, not read: that would import them."""
    one = {"suites": "suite", "strategies": "strategy"}
    for point in entry_points(group=f"lethe.{kind}") if kind in one else ():
        package = point.dist.name if point.dist else "another package"
        yield Entry(one[kind], point.name, f"from {package}", {"defined_in": point.value})


def _from_file(name: str) -> Entry:
    """Return the strategy or suite of a user's file, read like our own and not run."""
    from suites.errors import UserError

    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise UserError(f"no such file: {path}")
    try:
        tree = ast.parse(Path(path).read_text())
    except (ValueError, SyntaxError) as error:
        raise UserError(f"{path} is not Python: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            classes = _classes(*_trees("strategies"), tree)
            return _strategy(node, classes, name)
        if isinstance(node, ast.Assign) and attribute in [getattr(t, "id", "") for t in node.targets]:
            for call in (n for n in ast.walk(node) if _is_suite(n)):
                return _suite(call, name)
    raise UserError(f"{path} has no strategy or suite {attribute!r}")


@cache
def _trees(folder: str) -> tuple[ast.Module, ...]:
    """Return the sources of a folder, parsed once, without what functions do."""
    return tuple(_outline(path.read_text()) for path in sorted((_ROOT / folder).rglob("*.py")))


def _outline(source: str) -> ast.Module:
    """Return a module whose functions keep their docstrings alone.

    Nobody here reads what they do, and it is most of a tree: kept, it costs as much time again, in which the
    garbage collector walks through it.
    """
    tree = ast.parse(source)
    for node in (n for top in tree.body for n in (top, *getattr(top, "body", ()))):
        if isinstance(node, ast.FunctionDef):
            del node.body[1:]
    return tree


def _classes(*trees: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _suites() -> Iterator[Entry]:
    for node in (n for tree in _trees("suites") for n in ast.walk(tree) if _is_suite(n)):
        yield _suite(node, _text(_keywords(node)["name"]))


def _is_suite(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Suite"


@cache
def _training() -> tuple[dict[str, str], ...]:
    return tuple(_fields(_classes(*_trees("suites"))["Training"]))


def _suite(node: ast.Call, name: str) -> Entry:
    words = _keywords(node)
    shown = ("version", "source", "scenarios", "model", "model_options", "needs")
    facts = {key: _text(words[key]) for key in shown if key in words}
    own = _keywords(_resolved(words.get("training")))
    options = [o | {"default": _text(own.get(o["name"])) or o["default"]} for o in _training()]
    return Entry("suite", name, _text(words.get("summary")), facts, options)


def _keywords(node: ast.expr | None) -> dict[str, ast.expr]:
    """Return the keyword arguments of a call, nothing for anything else."""
    return {k.arg: k.value for k in node.keywords if k.arg} if isinstance(node, ast.Call) else {}


def _strategies() -> Iterator[Entry]:
    classes = _classes(*_trees("strategies"))
    for node in classes.values():
        own = _class_facts(node)
        if "name" in own and node.name != "Strategy":
            yield _strategy(node, classes, own["name"])


def _strategy(node: ast.ClassDef, classes: dict[str, ast.ClassDef], name: str) -> Entry:
    facts: dict[str, str] = {}
    options: dict[str, dict[str, str]] = {}
    for ancestor in reversed(list(_line(node, classes))):
        facts |= _class_facts(ancestor)
        options |= {o["name"]: o for o in _fields(ancestor)}
    facts.pop("name", None)
    doc = ast.get_docstring(node) or ""
    return Entry("strategy", name, _first(doc), {**facts, "about": doc}, list(options.values()))


def _line(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """Yield a class and its ancestors."""
    yield node
    for base in node.bases:
        if getattr(base, "id", "") in classes:
            yield from _line(classes[base.id], classes)  # type: ignore[attr-defined]


def _class_facts(node: ast.ClassDef) -> dict[str, str]:
    wanted = ("name", "family", "paper", "needs", "scenarios", "needs_boundaries", "trains_on", "presets")
    return {
        target.id: _text(item.value)
        for item in node.body
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None
        for target in (item.targets if isinstance(item, ast.Assign) else [item.target])
        if isinstance(target, ast.Name) and target.id in wanted
    }


def _fields(node: ast.ClassDef) -> Iterator[dict[str, str]]:
    """Yield a dataclass's fields, with the string under each as its help."""
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or item.value is None or not isinstance(item.target, ast.Name):
            continue
        if getattr(getattr(item.annotation, "value", None), "id", "") == "ClassVar":
            continue
        help_ = _text(after.value) if isinstance(after, ast.Expr) else ""
        kind = _type(item.annotation)
        yield {"name": item.target.id, "type": kind, "default": _text(item.value), "help": help_}


def _type(node: ast.expr) -> str:
    """Return an annotation as a user reads it: ``Annotated[int, Bounds(1)]`` is a whole number from 1 up."""
    node = _resolved(node) or node
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return " | ".join(_text(e) for e in inner)
        if node.value.id == "Annotated":
            return _type(inner[0]) + _range(inner[1])
    words = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}
    kind = ast.unparse(node)
    return words.get(kind, kind)


def _range(bounds: ast.expr) -> str:
    """Return ``Bounds(low, high)`` in words."""
    given = dict(zip(("low", "high"), getattr(bounds, "args", ()), strict=False)) | _keywords(bounds)
    values = {key: ast.literal_eval(value) for key, value in given.items()}
    low, high = values.get("low"), values.get("high")
    if low is None:
        return "" if high is None else f" up to {high:g}"
    return f" from {low:g} {'up' if high is None else f'to {high:g}'}"


def _models() -> Iterator[Entry]:
    for tree in _trees("bench/models"):
        for node, call in _decorated(tree, "register"):
            options = [
                {"name": a.arg, "type": _option_type(a.annotation), "default": _text(d), "help": ""}
                for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                if d is not None
            ]
            summary = _first(ast.get_docstring(node) or "")
            yield Entry("model", _text(call.args[0]), summary, {}, options)


def _option_type(node: ast.expr | None) -> str:
    kind = "" if node is None else _type(node)
    return "whole number from 1 up" if kind == "whole number" else kind


def _scores() -> Iterator[Entry]:
    # Read like all else: bench.stats.scores imports numpy, which takes longer than the whole list.
    for _, call in _decorated(_outline((_ROOT / "bench/stats/scores.py").read_text()), "_score"):
        name, summary, formula, source = map(_text, call.args)
        lower = _text(_keywords(call).get("higher")) == "false"
        better = "lower is better" if lower else "higher is better"
        yield Entry("score", name, summary, {"formula": formula, "source": source, "direction": better})


def _decorated(tree: ast.Module, decorator: str) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    """Yield the functions that a module enters into a registry, each with the call that enters it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                    yield node, call


@cache
def _constants() -> dict[str, ast.expr]:
    """Return the module-level constants of suites and strategies, which their entries may name."""
    return {
        target.id: node.value
        for folder in ("suites", "strategies", "bench/models")
        for tree in _trees(folder)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _resolved(node: ast.expr | None) -> ast.expr | None:
    """Return what a constant's name stands for, and anything else as it is."""
    while isinstance(node, ast.Name) and node.id in _constants():
        node = _constants()[node.id]
    return node


def _text(node: ast.expr | None) -> str:
    """Return a literal, or a constant that names one, as text; other expressions as they are written."""
    node = _resolved(node)
    try:
        value = ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError:
        return "" if node is None else ast.unparse(node)
    return _words(value)


def _words(value: object) -> str:
    """Return a value as a user writes it: ``true``; ``hidden=100, layers=2``; ``preset (buffer=100)``."""
    if isinstance(value, dict):
        return ", ".join(
            f"{k} ({_words(v)})" if isinstance(v, dict) else f"{k}={_words(v)}" for k, v in value.items()
        )
    if isinstance(value, tuple):
        return ", ".join(map(_words, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first(doc: str) -> str:
    return doc.split("\n\n")[0].replace("\n", " ")
