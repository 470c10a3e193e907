"""The records of one or several runs as those of one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.plan import Value, text_of
from bench.results.outcome import Outcome, outcomes
from bench.schema import Manifest
from bench.store import RunReader
from suites.errors import UserError

_MAPS = ("shared", "data", "cells", "strategies", "suites", "models", "code")


def merge(folders: Sequence[Path]) -> tuple[list[Outcome], Manifest, list[str]]:
    """Return outcomes, manifest and a line for each file that could not be read.

    A cell that is in several runs counts once, and done where it is done in one of them. Raises UserError for
    a folder that is no run, and where runs saw different data under one name.
    """
    found: dict[str, Outcome] = {}
    manifest, outcome = Manifest.empty(), outcomes()
    unreadable: list[str] = []
    for folder in dict.fromkeys(folders):
        run = RunReader(folder)
        own = run.manifest()
        if not own.commands and not run.cells.is_dir():
            raise UserError(f"{folder} is not a run's folder: it has no run.json")
        for suite, mark in own.data.items():
            if manifest.data.get(suite, mark) != mark:
                raise UserError(f"{folder} holds {suite} over other data than the runs before it")
        for key, own_outcome in run.each(outcome).items():
            if key not in found or found[key].status != "done":
                found[key] = own_outcome
        manifest = _joined(manifest, own)
        unreadable += run.unreadable
    return disambiguate_identities([found[key] for key in sorted(found)]), manifest, unreadable


def state_of(folders: Sequence[Path]) -> str:
    """Return a text that changes whenever a cell of these runs is written."""
    return " ".join(RunReader(folder).state() for folder in folders)


def _joined(first: Manifest, second: Manifest) -> Manifest:
    """Return two manifests as one."""
    commands = first.commands + [c for c in second.commands if c not in first.commands]
    maps = {name: getattr(first, name) | getattr(second, name) for name in _MAPS}
    return first.model_copy(update={"commands": commands, **maps})


def disambiguate_identities(cells: list[Outcome]) -> list[Outcome]:
    """Return outcomes in which one identity is one setting.

    Within one plan it is. Between runs, and where a default was changed, the same selector can stand for
    different training or hyper-parameters; averaging those as seeds would be wrong, so their identities are
    given what differs: ``er (epochs=5)`` and ``er (epochs=20)``.
    """
    settings: dict[tuple[str, str, str], list[dict[str, Value]]] = {}
    for cell in cells:
        known, own = settings.setdefault(_row(cell), []), _setting(cell)
        if own not in known:
            known.append(own)
    out = []
    for cell in cells:
        variants = settings[_row(cell)]
        if len(variants) > 1:
            own = _setting(cell)
            differing = {k: v for k, v in own.items() if any(o.get(k) != v for o in variants)}
            cell = replace(cell, identity=f"{cell.identity} ({_words(differing) or 'without'})")
        out.append(cell)
    return out


def _row(cell: Outcome) -> tuple[str, str, str]:
    return cell.spec["suite"], cell.spec["scenario"], cell.identity


def _setting(cell: Outcome) -> dict[str, Value]:
    """Return all of a cell but its seed, flat."""
    spec = cell.spec
    flat: dict[str, Value] = {
        "suite_version": spec["suite_version"],
        "model": spec["model"],
        "strategy": spec["strategy"],
    }
    if "continues" in spec:  # a hash of the exported model, wherever it lay
        flat["model"] = spec["continues"][:8]
    return {**flat, **spec["model_options"], **spec["training"], **spec["hyper"]}


def _words(setting: dict[str, Value]) -> str:
    return ", ".join(f"{k}={text_of(setting[k])}" for k in sorted(setting))
