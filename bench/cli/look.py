"""The commands ``list``, ``show`` and ``status``."""

from collections import Counter
from inspect import cleandoc
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer

from bench.cli.app import Json, Trust, app, debugging, end_with, importing, opened
from bench.cli.completion import KINDS, names_of
from bench.cli.output import print_json
from suites import errors
from suites.bracketed import name_of
from suites.description import Description, Option


@app.command("list", epilog="Example: lethe list strategies --json")
def list_(
    kind: Annotated[str, typer.Argument(help="suites, strategies, models or scores; all if omitted.")] = "",
    as_json: Json = False,
) -> None:
    """List suites, strategies, models and scores."""
    from bench.cli.kinds import registries

    known = registries()
    if kind and kind not in known:
        raise errors.unknown("kind", kind, list(known))
    found = {k: known[k].descriptions() for k in ([kind] if kind else known)}
    if as_json:
        rows = {k: [_row(d) for d in ds] for k, ds in found.items()}
        print_json(rows[kind] if kind else rows)
        return
    wide = max(len(d.name) for ds in found.values() for d in ds)
    for k, ds in found.items():
        if not kind:
            print(f"{k}:")
        for d in ds:
            print(f"{'' if kind else '  '}{d.name:<{wide}}  {d.summary}")


def _row(described: Description) -> dict[str, Any]:
    about = {"about": described.about} if described.kind == "strategy" else {}
    return {"name": described.name, "summary": described.summary, **_metadata(described), **about}


def _metadata(described: Description) -> dict[str, Any]:
    """Return the metadata with whole numbers as numbers."""
    return {key: int(text) if text.isdigit() else text for key, text in described.metadata.items()}


def _default(option: Option) -> Any:
    """Return the default of an option as a number or truth value if it is one."""
    if option.type == "true or false":
        return option.default == "true"
    if option.type.startswith(("whole number", "number")):
        number = float(option.default)
        return int(number) if option.type.startswith("whole") else number
    return option.default


@app.command(epilog="Example: lethe show ewc")
def show(
    name: Annotated[
        str, typer.Argument(help="A suite, strategy, model or score.", autocompletion=names_of(*KINDS))
    ],
    as_json: Json = False,
) -> None:
    """Show a suite, strategy, model or score: options with their help, reference, licence, requirements."""
    from bench.cli.kinds import describe

    found = describe(name)
    if as_json:
        kinds = {"options": found.options, "of_name": found.of_name}
        rows = {key: [vars(one) | {"default": _default(one)} for one in of] for key, of in kinds.items()}
        print_json(found.as_json() | {"metadata": _metadata(found)} | rows)
        return
    print(f"{found.name} ({found.kind})\n\n{_plain(found.about or found.summary)}\n")
    for key, value in found.metadata.items():
        if value:
            print(f"{key.replace('_', ' ')}: {value}")
    titles = {"model": "options", "suite": "training (--set key=value)"}
    _print_options(f"options ({name_of(name)}[option=value])", found.of_name)
    _print_options(titles.get(found.kind, "hyper-parameters"), found.options)


def _print_options(title: str, options: tuple[Option, ...]) -> None:
    if options:
        print(f"\n{title}:")
    for option in options:
        tuned = f"; tuned over {option.search}" if option.search else ""
        print(f"  {option.name} = {option.default or '(empty)'}  ({option.type}{tuned})")
        if option.help:
            print(indent(cleandoc(_plain(option.help)), "      "))


def _plain(docstring: str) -> str:
    """Return a docstring without the double backticks of its markup."""
    return docstring.replace("``", "")


@app.command(epilog="Example: lethe status results/runs/first")
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")],
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Show which cells of a run are done, failed, skipped, running, missing or stale (other code or data).

    The data of a suite in a file of yours is only compared with --trust, as the file must be imported.
    """
    from bench.store import cell_states

    run_ = opened(folder)
    cells = run_.manifest_if_readable().cells
    with importing(trust):
        states = cell_states(run_, _data_of_users, debugging())
    counts = Counter(of.status for of in states.values())
    n_stale = sum(of.is_stale for of in states.values())
    if as_json:
        planned = {key: states[key] for key in cells}
        rows = [{"key": k, "cell": cells[k], "state": of.shown, "why": of.why} for k, of in planned.items()]
        print_json({"run": folder, "counts": counts, "stale": n_stale, "cells": rows})
        end_with(run_.unreadable)
        return
    words = [f"{n} {s}" for s, n in sorted(counts.items())] or ["empty"]
    print(f"{folder}: {', '.join(words)}{f'; {n_stale} are stale' if n_stale else ''}")
    alike: dict[tuple[str, str], list[str]] = {}
    for key, title in cells.items():
        alike.setdefault((states[key].shown, states[key].why), []).append(title)
    for (state, why), titles in alike.items():
        if state != "done" or why:
            others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
            print(errors.one_line(f"{state:<9} {titles[0]}{others}{why and f': {why}'}"))
    end_with(run_.unreadable)


def _data_of_users(suite: str) -> str | None:
    """Return the fingerprint of data of the user, which may have changed."""
    import suites

    if not (".py:" in suite or suites.REGISTRY.is_declared(suite)):
        return None
    try:
        return suites.get(suite).load().fingerprint
    except errors.UserError:
        return None
