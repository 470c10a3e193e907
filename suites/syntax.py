"""Digests of source as it is run: comments, docstrings and layout count for nothing."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any


def digest_of_tree(tree: ast.AST) -> str:
    """Return a hash of a syntax tree, 20 hexadecimal digits."""
    return hashlib.sha256("".join(_words(tree)).encode()).hexdigest()[:20]


def digest_of(*things: Callable[..., Any]) -> str:
    """Return one hash of the source of functions and classes, for the name of what is cached of them."""
    sources = (textwrap.dedent(inspect.getsource(thing)) for thing in things)
    return digest_of_tree(ast.parse("\n".join(sources)))


def _words(node: object) -> Iterator[str]:
    """Yield what a syntax tree says; equal for every version of Python, which ``ast.dump`` is not.

    What is absent or empty is left out, as newer versions add fields; so are statements that do nothing:
    docstrings, other strings by themselves, and ``pass``.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("ctx", "kind", "type_comment", "type_ignores"):
                continue
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


def _does_nothing(node: object) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)
