"""What there is, read from the source without importing torch: for ``lethe list`` and ``lethe show``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

KINDS = ("suites", "strategies", "models", "scores")
_ROOT = Path(__file__).parent.parent


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
    return sorted(readers[kind](), key=lambda e: e.name)


def find(name: str) -> Entry:
    """Return the entry of a name, of whatever kind; raises UserError for an unknown one."""
    from suites.errors import unknown

    known = [entry for kind in KINDS for entry in entries(kind)]
    for entry in known:
        if entry.name == name:
            return entry
    raise unknown("name", name, [e.name for e in known])


def _trees(folder: str) -> Iterator[ast.Module]:
    for path in sorted((_ROOT / folder).glob("*.py")):
        yield ast.parse(path.read_text())


def _suites() -> Iterator[Entry]:
    trees = list(_trees("suites"))
    classes = (n for tree in trees for n in tree.body if isinstance(n, ast.ClassDef))
    training = list(_fields(next(c for c in classes if c.name == "Training")))
    for node in (n for tree in trees for n in ast.walk(tree)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Suite":
            words = _keywords(node)
            shown = ("version", "source", "scenarios", "model", "model_options", "needs")
            facts = {key: _text(words[key]) for key in shown if key in words}
            own = _keywords(_resolved(words.get("training")))
            options = [o | {"default": _text(own.get(o["name"])) or o["default"]} for o in training]
            yield Entry("suite", _text(words["name"]), _text(words["summary"]), facts, options)


def _keywords(node: ast.expr | None) -> dict[str, ast.expr]:
    """Return the keyword arguments of a call, nothing for anything else."""
    return {k.arg: k.value for k in node.keywords if k.arg} if isinstance(node, ast.Call) else {}


def _strategies() -> Iterator[Entry]:
    classes = {
        node.name: node
        for tree in _trees("strategies")
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    for node in classes.values():
        line = list(_line(node, classes))
        own = dict(_class_facts(node))
        if "name" not in own or node.name == "Strategy":
            continue
        facts: dict[str, str] = {}
        options: dict[str, dict[str, str]] = {}
        for ancestor in reversed(line):
            facts |= _class_facts(ancestor)
            options |= {o["name"]: o for o in _fields(ancestor)}
        doc = ast.get_docstring(node) or ""
        yield Entry(
            "strategy", facts.pop("name"), _first(doc), {**facts, "about": doc}, list(options.values())
        )


def _line(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """Yield a class and its ancestors."""
    yield node
    for base in node.bases:
        if getattr(base, "id", "") in classes:
            yield from _line(classes[base.id], classes)  # type: ignore[attr-defined]


def _class_facts(node: ast.ClassDef) -> dict[str, str]:
    wanted = ("name", "family", "paper", "needs", "scenarios", "needs_boundaries")
    return {
        item.target.id: _text(item.value)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
        if item.target.id in wanted
    }


def _fields(node: ast.ClassDef) -> Iterator[dict[str, str]]:
    """Yield a dataclass's fields, with the string under each as its help."""
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or item.value is None or not isinstance(item.target, ast.Name):
            continue
        kind = ast.unparse(item.annotation)
        if kind.startswith("ClassVar"):
            continue
        help_ = _text(after.value) if isinstance(after, ast.Expr) else ""
        yield {"name": item.target.id, "type": _type(kind), "default": _text(item.value), "help": help_}


def _type(annotation: str) -> str:
    """Return an annotation as a user reads it."""
    words = {
        "NotNegative": "number from 0 up",
        "Share": "number from 0 to 1",
        "Count": "whole number from 1 up",
        "CountOrNone": "whole number from 0 up",
        "bool": "true or false",
        "LaneFloat": "number",
    }
    if annotation.startswith("Literal["):
        return " | ".join(_text(e) for e in _elements(ast.parse(annotation, mode="eval").body))
    return words.get(annotation, "number" if annotation.startswith("Annotated[LaneFloat") else annotation)


def _elements(node: Any) -> list[ast.expr]:
    inner = node.slice
    return list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]


def _models() -> Iterator[Entry]:
    for tree in _trees("bench/models"):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                call = node.decorator_list[0]
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register":
                    options = [
                        {"name": a.arg, "type": "whole number from 1 up", "default": _text(d), "help": ""}
                        for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                        if d is not None
                    ]
                    summary = _first(ast.get_docstring(node) or "")
                    yield Entry("model", _text(call.args[0]), summary, {}, options)


def _scores() -> Iterator[Entry]:
    from bench.metrics import SCORES

    for score in SCORES.values():
        better = "higher is better" if score.higher_is_better else "lower is better"
        facts = {"formula": score.formula, "source": score.source, "direction": better}
        yield Entry("score", score.name, score.summary, facts)


@cache
def _constants() -> dict[str, ast.expr]:
    """Return the module-level constants of suites and strategies, which their entries may name."""
    return {
        target.id: node.value
        for folder in ("suites", "strategies")
        for tree in _trees(folder)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _resolved(node: ast.expr | None) -> ast.expr | None:
    """Return what a constant's name stands for, and anything else as it is."""
    return _constants().get(node.id, node) if isinstance(node, ast.Name) else node


def _text(node: ast.expr | None) -> str:
    """Return a literal, or a constant that names one, as text; other expressions as they are written."""
    node = _resolved(node)
    try:
        value = ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError:
        return "" if node is None else ast.unparse(node)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _first(doc: str) -> str:
    return doc.split("\n\n")[0].replace("\n", " ")
