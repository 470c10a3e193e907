"""The commands ``list``, ``show`` and ``status``."""

from inspect import cleandoc
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import Json, Trust, app, debugging, end_with, importing, opened
from bench.cli.completion import KINDS, names_of
from bench.cli.output import print_json
from suites import errors
from suites.bracketed import name_of
from suites.description import Description, Option

if TYPE_CHECKING:
    from bench.plan import Change
    from bench.store import RunReader


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
    from bench.store import running, staleness_of

    run_, cells = opened(folder)
    staleness = staleness_of(run_, _data_of_users)
    with importing(trust):
        found = run_.each(lambda record: (record["status"], _why(record), staleness.of_record(record)))
    claimed = {key: by for key, by in running(run_.folder).items() if key in cells}
    counts: dict[str, int] = {}
    for key in cells | found.keys():
        state = "running" if key in claimed else found[key][0] if key in found else "missing"
        counts[state] = counts.get(state, 0) + 1
    n_stale = sum(change is not None for _, _, change in found.values())
    if as_json:
        states = {key: _state(run_, key, found.get(key), claimed.get(key)) for key in cells}
        rows = [
            {"key": k, "cell": cells[k], "state": state, "why": why} for k, (state, why) in states.items()
        ]
        print_json({"run": folder, "counts": counts, "stale": n_stale, "cells": rows})
        end_with(run_.unreadable)
        return
    words = [f"{n} {s}" for s, n in sorted(counts.items())] or ["empty"]
    print(f"{folder}: {', '.join(words)}{f'; {n_stale} are stale' if n_stale else ''}")
    alike: dict[tuple[str, str], list[str]] = {}
    for key, title in cells.items():
        alike.setdefault(_state(run_, key, found.get(key), claimed.get(key)), []).append(title)
    for (state, why), titles in alike.items():
        if state != "done" or why:
            others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
            print(errors.one_line(f"{state:<9} {titles[0]}{others}{why and f': {why}'}"))
    end_with(run_.unreadable)


def _state(
    run_: "RunReader", key: str, found: "tuple[str, str, Change | None] | None", claimed_by: str | None
) -> tuple[str, str]:
    """Return the state of a cell, and why it has it; cells with the same answer are shown in one line."""
    if claimed_by is not None or found is None:
        under_way = run_.checkpoint_header(key)
        tasks = f"{under_way.tasks_done} tasks are done" if under_way else ""
        if claimed_by is not None:
            return "running", ", ".join(filter(None, [f"by {claimed_by}", tasks]))
        return "missing", tasks
    state, why, change = found
    if change is not None:
        why, _, trace = why.partition("\n")
        why = "; ".join(filter(None, [why, f"stale, {change.reason}" if why else change.reason]))
        why += trace and f"\n{trace}"
    return "stale" if state == "done" and change is not None else state, why


def _data_of_users(suite: str) -> str | None:
    """Return the fingerprint of data of the user, which may have changed."""
    import suites

    if not (".py:" in suite or suites.REGISTRY.is_declared(suite)):
        return None
    try:
        return suites.get(suite).load().fingerprint
    except errors.UserError:
        return None


def _why(record: Any) -> str:
    """Return why a cell has no numbers, empty if it has."""
    from bench.schema import failure_in_words

    if record["error"] is None:
        return record["reason"] or ""
    trace = record["error"]["traceback"].rstrip() if debugging() else ""
    return failure_in_words(record["error"]) + (trace and f"\n{trace}")
