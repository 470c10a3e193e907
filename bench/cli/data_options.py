"""The options of commands that take a data set of the user: the fields of ``Declaration``."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from suites.description import field_help
from suites.own.declaration import OPTIONS, Declaration


def takes_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a declaration; it gets those that are given as ``columns``, by name."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        columns = {name: value for name in OPTIONS if (value := given.pop(name))}
        command(columns=columns, **given)

    own, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    kept = [p.replace(annotation=hints[p.name]) for p in own.parameters.values() if p.name != "columns"]
    added = [_option(name) for name in OPTIONS]
    vars(with_options)["__signature__"] = own.replace(parameters=[*kept, *added])
    with_options.__annotations__ = {p.name: p.annotation for p in (*kept, *added)}
    del with_options.__wrapped__
    return with_options


def _option(name: str) -> inspect.Parameter:
    """Return the option of a field: lists can be repeated, and an empty value means that it is not given."""
    default = getattr(Declaration, name)
    kind = list[str] | None if isinstance(default, tuple) else type(default)
    words = " ".join(field_help(Declaration)[name].replace("``", "").split())
    option = typer.Option("--" + name.replace("_", "-"), help=words, show_default=False)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if isinstance(default, tuple) else default,
        annotation=Annotated[kind, option],
    )
