"""The records of one or several runs as those of one."""

from collections.abc import Sequence
from pathlib import Path

from bench.plan import Value, text_of
from bench.schema import Fields, Manifest
from bench.store import RunReader
from suites.errors import UserError

_MAPS = ("shared", "data", "cells", "strategies", "suites", "models")


def merge(folders: Sequence[Path]) -> tuple[list[Fields], Manifest, list[str]]:
    """Return records, manifest and a line for each file that could not be read.

    A cell that is in several runs counts once, and done where it is done in one of them. Raises UserError for
    a folder that is no run, and where runs saw different data under one name.
    """
    records: dict[str, Fields] = {}
    manifest = Manifest.empty()
    unreadable: list[str] = []
    for folder in dict.fromkeys(folders):
        run = RunReader(folder)
        own = run.manifest()
        if not own.commands and not run.cells.is_dir():
            raise UserError(f"{folder} is not a run's folder: it has no run.json")
        for suite, mark in own.data.items():
            if manifest.data.get(suite, mark) != mark:
                raise UserError(f"{folder} holds {suite} over other data than the runs before it")
        for record in run.records():
            if records.get(record["key"], {}).get("status") != "done":
                records[record["key"]] = record
        manifest = _joined(manifest, own)
        unreadable += run.unreadable
    return disambiguate_identities(sorted(records.values(), key=lambda r: r["key"])), manifest, unreadable


def state_of(folders: Sequence[Path]) -> str:
    """Return a text that changes whenever a cell of these runs is written."""
    return " ".join(RunReader(folder).state() for folder in folders)


def _joined(first: Manifest, second: Manifest) -> Manifest:
    """Return two manifests as one."""
    commands = first.commands + [c for c in second.commands if c not in first.commands]
    maps = {name: getattr(first, name) | getattr(second, name) for name in _MAPS}
    return first.model_copy(update={"commands": commands, **maps})


def disambiguate_identities(records: list[Fields]) -> list[Fields]:
    """Return records in which one identity is one setting.

    Within one plan it is. Between runs, and where a default was changed, the same selector can stand for
    different training or hyper-parameters; averaging those as seeds would be wrong, so their identities are
    given what differs: ``er (epochs=5)`` and ``er (epochs=20)``.
    """
    settings: dict[tuple[str, str, str], list[dict[str, Value]]] = {}
    for record in records:
        known, own = settings.setdefault(_row(record), []), _setting(record)
        if own not in known:
            known.append(own)
    out = []
    for record in records:
        variants = settings[_row(record)]
        if len(variants) > 1:
            own = _setting(record)
            differing = {k: v for k, v in own.items() if any(o.get(k) != v for o in variants)}
            record = record | {"identity": f"{record['identity']} ({_words(differing) or 'without'})"}
        out.append(record)
    return out


def _row(record: Fields) -> tuple[str, str, str]:
    return record["spec"]["suite"], record["spec"]["scenario"], record["identity"]


def _setting(record: Fields) -> dict[str, Value]:
    """Return all of a cell but its seed, flat."""
    spec = record["spec"]
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
