"""Experiments in files, and seeds as they are written there and on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.plan.request import Request
from bench.plan.settings import text_of
from suites.errors import UserError, unknown

_MOST_SEEDS = 10_000


def seeds(text: str) -> tuple[int, ...]:
    """Read seeds: ``5`` is 0 to 4, ``2-6`` is 2 to 6, ``1,4`` is those two.

    Raises UserError for anything else.
    """
    found: list[int] = []
    try:
        parts = [f"0-{int(text) - 1}"] if text.isdigit() else text.split(",")
        for part in parts:
            first, dash, last = part.strip().partition("-")
            start, stop = int(first), int(last if dash else first) + 1
            if stop - start > _MOST_SEEDS:  # --seeds 20260101 meant one seed, not twenty million
                raise UserError(f"seeds {text} are too many: {stop - start:,}; one seed is written like 7-7")
            found += range(start, stop)
    except ValueError:
        found = []
    return check_seeds(found, text)


def check_seeds(found: Sequence[int], text: object) -> tuple[int, ...]:
    """Return seeds, each once and from 0 up; raises UserError, which quotes ``text``, for anything else."""
    whole = [s for s in found if isinstance(s, int) and not isinstance(s, bool) and s >= 0]
    if not found or len(set(whole)) != len(found):
        raise UserError(f"cannot read seeds {str(text)!r}; write 5 (0 to 4), 2-6 or 1,4")
    return tuple(whole)


def read_toml(path: Path) -> tuple[list[Request], dict[str, Any]]:
    """Read an experiment: ``[[run]]`` tables and, above them, ``out``: the run's folder, if it is named here.

    A table has ``suite``, ``strategies`` and, where wanted, ``scenarios``, ``seeds`` (as on the command line,
    or a list) and ``set``::

        out = "results/runs/first"

        [[run]]
        suite = "digits"
        strategies = ["finetune", "er[buffer=200]"]
        scenarios = ["task", "class"]
        seeds = 5
        [run.set]
        epochs = 2

    Raises UserError for a file that is missing or of another form.
    """
    try:
        facts = tomllib.loads(path.read_text())
    except OSError:
        raise UserError(f"cannot read {path}") from None
    except ValueError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    tables = facts.pop("run", None)
    if not isinstance(tables, list) or not tables:
        raise UserError(f"{path} has no [[run]] table")
    for key in facts:
        if key != "out":
            raise unknown(f"key in {path}", key, ["out", "run"])
    if not isinstance(facts.get("out", ""), str):
        raise UserError(f"out in {path} must be the name of a folder")
    return [_request(path, table) for table in tables], facts


def _request(path: Path, table: Any) -> Request:
    """Return what one ``[[run]]`` table asks for; raises UserError for a table of another form."""
    where = f"a [[run]] table of {path}"
    known = ["suite", "strategies", "scenarios", "seeds", "set"]
    if not isinstance(table, dict):
        raise UserError(f"run in {path} must be written as [[run]] tables")
    for key in table:
        if key not in known:
            raise unknown(f"key in {where}", key, known)
    if "suite" not in table or not table.get("strategies"):
        raise UserError(f"{where} lacks suite or strategies")
    if not isinstance(table["suite"], str):
        raise UserError(f"suite in {where} must be a name")
    for key in ("strategies", "scenarios"):
        names = table.get(key, ["class"])
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise UserError(f"{key} in {where} must be a list of names")
    chosen, settings = table.get("seeds", 5), table.get("set", {})
    if not isinstance(settings, dict) or not all(isinstance(v, int | float | str) for v in settings.values()):
        raise UserError(f"set in {where} must hold a number, text, true or false for each setting")
    return Request(
        suite=table["suite"],
        strategies=tuple(table["strategies"]),
        scenarios=tuple(table.get("scenarios", ["class"])),
        seeds=check_seeds(chosen, chosen) if isinstance(chosen, list) else seeds(str(chosen)),
        settings={k: text_of(v) for k, v in settings.items()},
    )
