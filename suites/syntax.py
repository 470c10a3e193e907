"""Digests of source code, in which comments, docstrings and layout make no difference."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


def digest_of_tree(tree: ast.AST) -> str:
    """Return a hash of a syntax tree, 20 hexadecimal digits."""
    return hashlib.sha256("".join(_words(tree)).encode()).hexdigest()[:20]


def digest_of(*things: Callable[..., Any]) -> str:
    """Return one hash of the source of functions and classes; names of cached files contain it."""
    sources = (textwrap.dedent(inspect.getsource(thing)) for thing in things)
    return digest_of_tree(ast.parse("\n".join(sources)))


def assigned_names(module: ModuleType) -> list[str]:
    """Return the names that statements of a module assign outside of functions, without imported ones."""
    tree = ast.parse(inspect.getsource(module))
    own = [n for n in tree.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    nodes = [node for statement in own for node in ast.walk(statement)]
    names = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return [name for name in dict.fromkeys(names) if hasattr(module, name)]


_METADATA = ("summary", "source", "licence", "needs")
"""Arguments of ``Suite`` that change no number."""


def _words(node: object) -> Iterator[str]:
    """Yield the content of a syntax tree; equal for every version of Python, which ``ast.dump`` is not.

    Absent and empty fields are left out, because newer versions add fields. Statements that do nothing
    (docstrings, other strings by themselves, ``pass``) and the metadata of suites are left out, too.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("ctx", "kind", "type_comment", "type_ignores"):
                continue
            if name == "keywords" and _makes_suite(node):
                value = [keyword for keyword in value if keyword.arg not in _METADATA]
            yield f" {name}="
            yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not _does_nothing(item):
                yield from _words(item)
        yield "]"
    else:
        yield repr(node)


def _makes_suite(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Suite"


def _does_nothing(node: object) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)
