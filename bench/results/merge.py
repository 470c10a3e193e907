"""Merges the records of one or several runs, so that every n counts seeds of one setting on one data set.

Contradictions between runs are reported, never decided by their order: ``prefer`` chooses one run, labels
show both side by side. Records of other data, another suite version or other code than those shown are left
out by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import suites
from bench.plan import Staleness, Value, text_of
from bench.results.code_of_rows import CodeOfRows
from bench.results.outcome import Outcome, outcomes
from bench.schema import Equivalences, Manifest
from bench.store import RunReader, equivalences_if_readable
from suites.errors import UserError, some
from suites.paths import resolved

_MAPS = ("shared", "data", "cells", "strategies", "suites", "models", "code", "tuning")
_ORDER = ("failed", "skipped", "diverged", "done")
"""Of a cell that is in several runs the record with the highest status is used."""
_SHOWN = 3


@dataclass(frozen=True)
class LeftOut:
    """A record that is not reported."""

    cell: Outcome
    folder: Path
    why: str


@dataclass
class Merged:
    """The result of ``merge``."""

    cells: list[Outcome]
    """Records by key. Identity and key of a labelled run end in the label."""
    manifest: Manifest
    unreadable: list[str]
    """A line for each file that could not be read."""
    folders: tuple[Path, ...]
    """The runs, each once, in the order of their names."""
    left_out: list[LeftOut] = field(default_factory=list)
    places: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """The run, and the key in it, of each cell that several runs have or that has a label."""
    stale: dict[str, str] = field(default_factory=dict)
    """The commit of each stale record, by key; ``?`` if it is not known."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    label: str
    cells: list[Outcome]
    manifest: Manifest

    @property
    def commit(self) -> str:
        """The last revision that wrote into the run, ``?`` if it is not known."""
        commands = [c for c in self.manifest.commands if c.git]
        return f"{commands[-1].git[:10]}{'-dirty' if commands[-1].dirty else ''}" if commands else "?"


def merge(
    folders: Sequence[Path],
    prefer: Path | None = None,
    labels: Mapping[Path, str] | None = None,
    compared: bool = False,
) -> Merged:
    """Merge runs.

    Args:
        folders: The runs; their order does not matter.
        prefer: The run whose side is taken where they contradict each other.
        labels: Labels by folder; cells of labelled runs are compared with those of the others.
        compared: Whether outcomes contain the hash of each record's content, also those of one run.

    Raises:
        UserError: for a folder that is not a run, and for runs that contradict each other.
    """
    named = {resolved(folder): label for folder, label in (labels or {}).items()}
    once = {resolved(folder): folder for folder in sorted(folders, reverse=True)}
    for chosen in [*named, *([resolved(prefer)] if prefer else [])]:
        if chosen not in once:
            raise UserError(f"{chosen} is not one of the runs: {', '.join(map(str, sorted(once.values())))}")
    merged = Merged([], Manifest.empty(), [], tuple(sorted(once.values())))
    runs, same, outcome = [], [], outcomes(compared or len(once) > 1)
    for folder in merged.folders:
        reader = RunReader(folder)
        manifest = reader.manifest_if_readable()
        if not manifest.commands and not reader.cells.is_dir() and not reader.unreadable:
            raise UserError(f"{folder} is not a run's folder: it has no run.json")
        cells = list(reader.each(outcome).values())
        runs.append(_Run(folder, named.get(resolved(folder), ""), cells, manifest))
        merged.manifest = _joined(merged.manifest, manifest)
        same += equivalences_if_readable(reader).entries
        merged.unreadable += reader.unreadable
    home: dict[str, _Run] = {}
    preferred = once[resolved(prefer)] if prefer else None
    for label in dict.fromkeys(run.label for run in runs):
        _merge_alike([run for run in runs if run.label == label], preferred, merged, home)
    cells = sorted(merged.cells, key=lambda cell: cell.key)
    cells = disambiguate_identities(cells, _apart([run.manifest for run in runs]))
    equivalences = Equivalences(schema=Equivalences.VERSION, entries=same)
    staleness = Staleness(merged.manifest.code, equivalences, lambda suite: None)
    code = CodeOfRows(staleness, lambda cell: cell.origin.commit or home[cell.key].commit)
    merged.cells, others, merged.stale = code.choose(cells)
    merged.left_out += [LeftOut(cell, home[cell.key].folder, why) for cell, why in others]
    for cell in merged.cells:  # of data that its run has no longer
        data, now = cell.origin.data, home[cell.key].manifest.data.get(cell.spec["suite"])
        if data and now and data != now:
            words = merged.stale.get(cell.key) or cell.origin.commit or home[cell.key].commit
            merged.stale[cell.key] = f"{words} (data {data[:10]})"
    return merged


def _merge_alike(runs: Sequence[_Run], preferred: Path | None, merged: Merged, home: dict[str, _Run]) -> None:
    """Merge runs with the same label, or without one; the run of each cell is added to ``home``."""
    found: dict[str, list[tuple[Outcome, _Run]]] = {}
    for run, cells in zip(runs, _of_one_kind(runs, preferred, merged), strict=True):
        for cell in cells:
            found.setdefault(cell.key, []).append((cell, run))
    contradicting: dict[str, list[tuple[Outcome, _Run]]] = {}
    for key, entries in found.items():
        cell, run = max(entries, key=lambda entry: _rank(entry[0]))
        if not all(_agree(other, cell) for other, _ in entries):
            own = [entry for entry in entries if entry[1].folder == preferred and entry[0].has_result]
            if not own:
                contradicting[key] = entries
                continue
            [(cell, run)] = own
            others = [entry for entry in entries if not _agree(entry[0], cell)]
            merged.left_out += [
                LeftOut(out, other.folder, f"{preferred} is preferred") for out, other in others
            ]
        if run.label:
            cell = replace(cell, key=f"{key} {run.label}", label=run.label)
            cell.identity = f"{cell.identity} ({run.label})"
        if run.label or len(entries) > 1:
            merged.places[cell.key] = run.folder, key
        home[cell.key] = run
        merged.cells.append(cell)
    if contradicting:
        folders = sorted({run.folder for entries in contradicting.values() for _, run in entries})
        titles = some([contradicting[key][0][0].title for key in sorted(contradicting)], _SHOWN)
        many = "1 cell" if len(contradicting) == 1 else f"{len(contradicting)} cells"
        what = f"{' and '.join(map(str, folders))} have different results of {many} ({titles})"
        raise UserError(f"{what}: {_choices(folders)}")


def _agree(a: Outcome, b: Outcome) -> bool:
    """Return whether two records of a cell agree."""
    return not (a.has_result and b.has_result) or a.origin.content == b.origin.content


def _rank(cell: Outcome) -> tuple[int, str, str]:
    """Return a sort key that chooses between records that agree, independent of their order."""
    return _ORDER.index(cell.status), cell.origin.written, repr(cell.numbers)


def _choices(folders: Sequence[Path]) -> str:
    named = ",".join(f"{folder}={place}" for folder, place in zip(folders, "ABCDEFGHIJ", strict=False))
    return f"choose one with --prefer {folders[0]}, or compare them with --label {named}"


_KINDS = {
    "version": "suite version", "data": "data", "weights": "pretrained weights", "tasks": "number of tasks",
}  # fmt: skip


def _kind(cell: Outcome, kind: str) -> tuple[tuple[str, ...], Value]:
    """Return what a cell's suite version, data, weights or tasks are of, and which; empty for none."""
    spec, origin = cell.spec, cell.origin
    if kind == "tasks":
        n_tasks = cell.measured["test"].shape[1] if cell.measured else ""
        return (spec["suite"], spec["scenario"]), n_tasks
    if kind == "weights":
        return (spec["suite"], spec["model"]), origin.weights
    return (spec["suite"],), spec["suite_version"] if kind == "version" else origin.data


def _of_one_kind(runs: Sequence[_Run], preferred: Path | None, merged: Merged) -> list[list[Outcome]]:
    """Return each run's cells of the suite version, data, weights and number of tasks that are reported.

    Others are left out: a difference between them says nothing about methods.
    """
    kept = [run.cells for run in runs]
    for kind, words in _KINDS.items():
        marks: dict[tuple[str, ...], dict[Path, dict[Value, list[str]]]] = {}
        for run, cells in zip(runs, kept, strict=True):
            for cell in cells:
                of, mark = _kind(cell, kind)
                if mark != "":
                    own = marks.setdefault(of, {}).setdefault(run.folder, {})
                    own.setdefault(mark, []).append(cell.origin.written)
            for suite, mark in run.manifest.data.items() if kind == "data" else ():
                marks.setdefault((suite,), {}).setdefault(run.folder, {mark: [""]})
        current = {
            of: _current(kind, of, found, preferred)
            for of, found in marks.items()
            if len({mark for own in found.values() for mark in own}) > 1
        }
        for n, run in enumerate(runs if current else ()):
            before, kept[n] = kept[n], []
            for cell in before:
                of, mark = _kind(cell, kind)
                if mark in ("", current.get(of, mark)):
                    kept[n].append(cell)
                else:
                    why = f"{words} {str(mark)[:10]}, not {str(current[of])[:10]}"
                    merged.left_out.append(LeftOut(cell, run.folder, why))
    return kept


def _current(
    kind: str,
    of: tuple[str, ...],
    found: Mapping[Path, Mapping[Value, list[str]]],
    preferred: Path | None,
) -> Value:
    """Return which of several suite versions, data sets ... is reported; raises UserError if runs differ.

    Today's version, else that of the latest record; of numbers of tasks that of the most records.
    """
    if len({frozenset(own) for own in found.values()}) > 1:
        if preferred is None or preferred not in found:
            first = next(iter(found))
            other = next(f for f in found if set(found[f]) != set(found[first]))
            what = f"{other} has {' '.join(of)} with other {_KINDS[kind]} than {first}"
            raise UserError(f"{what}: {_choices([first, other])}")
        found = {preferred: found[preferred]}
    now = _version_now(of[0]) if kind == "version" else None
    written: dict[Value, list[str]] = {}
    for own in found.values():
        for mark, times in own.items():
            written.setdefault(mark, []).extend(times)
    many = kind == "tasks"
    return max(written, key=lambda m: (m == now, many * len(written[m]), max(written[m]), str(m)))


def _version_now(suite: str) -> int | None:
    """Return the current version of a suite, None if a user's file would have to be imported."""
    known = {d.name: d.metadata.get("version") for d in suites.REGISTRY.descriptions()}
    version = known.get(suites.plain_name(suite))
    return None if version is None else int(version)


def state_of(folders: Sequence[Path]) -> str:
    """Return a text that changes whenever a cell of these runs is written."""
    return " ".join(RunReader(folder).state() for folder in folders)


def _joined(first: Manifest, second: Manifest) -> Manifest:
    """Return two manifests merged into one."""
    commands = first.commands + [c for c in second.commands if c not in first.commands]
    maps = {name: getattr(first, name) | getattr(second, name) for name in _MAPS}
    for part in first.shared.keys() & second.shared.keys():
        budgets = {str(of.shared[part].get("budget", "none")) for of in (first, second)}
        if len(budgets) > 1:
            maps["shared"][part] = maps["shared"][part] | {"budget": " and ".join(sorted(budgets))}
    parts = first.selectors.keys() | second.selectors.keys()
    selectors = {p: first.selectors.get(p, {}) | second.selectors.get(p, {}) for p in sorted(parts)}
    return first.model_copy(update={"commands": commands, **maps, "selectors": selectors})


def _apart(manifests: Sequence[Manifest]) -> dict[tuple[str, str], set[str]]:
    """Return, by suite and scenario, the common settings of runs in which they differ."""
    names: dict[tuple[str, str], set[str]] = {}
    for part in {name for manifest in manifests for name in manifest.shared}:
        found = [manifest.shared[part] for manifest in manifests if part in manifest.shared]
        every = {name for shared in found for name in shared}
        differing = {n for n in every if any(shared.get(n) != found[0].get(n) for shared in found)}
        suite, _, scenario = part.rpartition("/")
        names[suite, scenario] = {
            "model" if name == "continues" else name for name in differing - {"version", "budget"}
        }
    return names


def disambiguate_identities(
    cells: list[Outcome], apart: Mapping[tuple[str, str], set[str]] | None = None
) -> list[Outcome]:
    """Return outcomes in which one identity is one setting.

    Within one plan it is. Between runs, and where a default was changed, the same selector can stand for
    different training or hyper-parameters; averaging those as seeds would be wrong, so their identities are
    given what differs: ``er (epochs=5)`` and ``er (epochs=20)``. So are all of a suite and scenario for which
    runs were given other settings (``apart``), so that a comparison of er and ewc shows that it is of both.
    """
    variants: dict[tuple[str, str, str], list[dict[str, Value]]] = {}
    for cell in cells:
        known, own = variants.setdefault(cell.row, []), setting(cell)
        if own not in known:
            known.append(own)
    out = []
    for cell in cells:
        of_row = variants[cell.row]
        given = (apart or {}).get((cell.spec["suite"], cell.spec["scenario"]), ())
        if len(of_row) > 1 or given:
            own = setting(cell)
            differing = {k: v for k, v in own.items() if k in given or any(o.get(k) != v for o in of_row)}
            cell = replace(cell, identity=f"{cell.identity} ({_words(differing) or 'without'})")
        out.append(cell)
    return out


def setting(cell: Outcome, hyper: bool = True) -> dict[str, Value]:
    """Return all settings of a cell except its seed; without ``hyper``, those that methods share."""
    spec = cell.spec
    # An exported model is identified by its hash, not its folder.
    model = (spec.get("continues") or "")[:8] or spec["model"]
    flat: dict[str, Value] = {"suite_version": spec["suite_version"], "model": model}
    flat |= {"strategy": spec["strategy"]} if hyper else {}
    return {**flat, **spec["model_options"], **spec["training"], **(spec["hyper"] if hyper else {})}


def _words(differing: Mapping[str, Value]) -> str:
    return ", ".join(f"{k}={text_of(differing[k])}" for k in sorted(differing))
