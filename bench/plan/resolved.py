"""A plan, resolved once: which cells there are, which run in which groups of lanes, and why others do not.

``resolve`` opens no folder and loads no data. Its caller hands in what a run's folder holds (``Present``) and
two functions that answer questions about data sets, as far as they can. ``lethe run --dry-run`` prints a
resolved plan, ``lethe run`` carries one out, and ``to_json`` sends it to another machine.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import strategies
import suites
from bench.plan.cell import CellSpec
from bench.plan.code import code_of
from bench.plan.request import Request
from bench.plan.settings import Shared, check_agreement
from bench.plan.sizes import NoData, StoredBy, fitted
from bench.plan.stale import Change, RecordHead, Staleness, is_users_suite
from bench.schema import Again, Equivalences, Value, digest
from suites.base import Training
from suites.errors import UserError, some, unknown

SMALL = 50_000
"""Number of parameters below which a network on a CPU spends its time in Python, not in arithmetic: lanes are
stacked. Measured: 8 lanes of 64-100-100-10 (17,610) ran 2.8 times faster than one by one; 784-400-400-10
(478,410) gained nothing."""
WIDTH_CPU, WIDTH_CUDA = 64, 256
_WITHOUT_RESULT = "failed", "diverged"

Fingerprint = Callable[[str], str | None]
"""Returns the fingerprint of the data set of a suite, None if it is not available on this machine."""
ParameterCount = Callable[[CellSpec], int | None]
"""Returns the number of parameters of one lane of a cell, None if the data is not available."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a cell after some tasks, from which it can continue with the same code and data."""

    tasks_done: int
    code: str
    data: str
    written: str = ""
    """When it was written, in UTC."""


@dataclass(frozen=True)
class Present:
    """The contents of a run's folder; the default is an empty folder."""

    folder: Path = Path()
    """Used in messages only."""
    records: Mapping[str, RecordHead] = field(default_factory=dict)
    """Status and provenance of each record, by key."""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    """The checkpoint of each cell that has one, by key."""
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The source files of each fingerprint of code."""
    equivalences: Equivalences = field(default_factory=Equivalences.empty)
    shared: Shared = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    """The fingerprint of the data set of each suite."""
    again: Sequence[Again] = ()
    """What earlier commands ran again."""


@dataclass(frozen=True)
class LaneGroup:
    """Cells that are trained together."""

    keys: tuple[str, ...]
    tasks_done: int
    """The number of tasks after which they continue from their checkpoints; 0 to start from the beginning."""
    width: int | None
    """The largest number of lanes; None if that needs data that is not available: the group is not
    divided yet."""


@dataclass(frozen=True)
class ResolvedPlan:
    """Every decision about a run that can be made before it."""

    cells: tuple[CellSpec, ...]
    """All cells, each once, in the order they were asked for."""
    groups: tuple[LaneGroup, ...]
    """The cells to run."""
    skipped: Mapping[str, str]
    """Why cells are skipped, by key; their records contain the reason."""
    existing: Mapping[str, str]
    """The status of each cell whose record is not changed, by key."""
    shared: Shared
    """For each suite and scenario, the settings that identities do not name, for the manifest."""
    data: Mapping[str, str]
    """The fingerprint of the data set of each suite, if it is known."""
    device: str
    lanes: int
    """Largest number of lanes of a group; 0 for the fixed rule."""
    stale: Mapping[str, str] = field(default_factory=dict)
    """Why records are stale, by key, for cells to run and for ``existing``."""
    refusal: str = ""
    """What the user must decide before the plan can be run, in one line; empty for nothing."""
    restarted: tuple[str, ...] = ()
    """Cells to run from the beginning, because their checkpoint has other code or data."""
    unresolved: tuple[str, ...] = ()
    """A line for the cells of each scenario and selector whose file must not be imported."""
    waiting: tuple[str, ...] = ()
    """A line for each request whose methods are sized once its data is here; it has no cells yet."""
    remarks: tuple[str, ...] = ()
    """A line for each selector with settings without effect, which were set back to their defaults."""
    again: Again | None = None
    """What --force or --retry-failed runs again; ``since`` is empty unless an earlier command began it."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """When the record of each cell to run was written, for those that have one: a newer record was written by
    another command."""
    selectors: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """For each suite/scenario, the settings that each selector stands for, by identity; of a grid several."""
    expected: str = ""
    """How long the cells to run will take, in words; empty where nobody asked."""

    @cached_property
    def by_key(self) -> dict[str, CellSpec]:
        """All cells by their keys."""
        return {spec.key: spec for spec in self.cells}

    @property
    def to_run(self) -> list[CellSpec]:
        """The cells to run, in the order of ``cells``."""
        keys = {key for group in self.groups for key in group.keys}
        return [spec for spec in self.cells if spec.key in keys]

    @property
    def done(self) -> list[CellSpec]:
        """The cells that are already done."""
        return [spec for spec in self.cells if self.existing.get(spec.key) == "done"]

    def completed(self, fingerprint: Fingerprint, parameter_count: ParameterCount) -> Self:
        """Return the plan with what was left open decided, as far as both questions are answered.

        Raises UserError where a data set is not the one the plan was made with.
        """
        data = dict(self.data)
        for name in dict.fromkeys(spec.suite for spec in self.to_run):
            found = fingerprint(name)
            if found is None:
                continue
            if data.setdefault(name, found) != found:
                raise UserError(f"the data of {name} has fingerprint {found}, but the plan {data[name]}")
        groups: list[LaneGroup] = []
        for group in self.groups:
            width = group.width
            if width is None:
                width = lane_width(self.by_key[group.keys[0]], self.device, self.lanes, parameter_count)
            size = width or len(group.keys)
            for start in range(0, len(group.keys), size):
                groups.append(replace(group, keys=group.keys[start : start + size], width=width))
        return replace(self, groups=tuple(groups), data=data)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the plan in words: a line for each cell, then how many run and in which groups."""
        running = {key for group in self.groups for key in group.keys}
        found = []
        for key, spec in self.by_key.items():
            kept = "stale" if key in self.stale else self.existing.get(key, "skip")
            state = "run" if key in running else kept
            stale = f"{'stale, ' if key in running else ''}{self.stale[key]}" if key in self.stale else None
            found.append(": ".join(filter(None, [f"{state:<9} {spec.title}", self.skipped.get(key), stale])))
        found += self.unresolved
        found += self.waiting
        found += self._grids()
        found.append(f"{len(self.cells)} cells, {len(running)} to run")
        if self.unresolved:
            found.append("unresolved cells need files that nobody named on the command line: add --trust")
        if self.stale:
            found.append(f"stale: {len(self.stale)} cells, {len(self.stale.keys() & running)} to run again")
        cut = Counter(len(group.keys) for group in self.groups if group.width)
        if cut:
            sizes = ", ".join(f"{n} x {size} lanes" for size, n in sorted(cut.items(), reverse=True))
            found.append(f"groups: {sizes}")
        if resumed := sum(len(group.keys) for group in self.groups if group.tasks_done):
            found.append(f"from a checkpoint: {resumed} cells")
        if self.restarted:
            found.append(self.restarted_in_words())
        uncut = {self.by_key[group.keys[0]].suite for group in self.groups if group.width is None}
        found += [f"groups of {name}: decided once its data is here" for name in sorted(uncut)]
        found += [f"time expected: {self.expected}"] if self.expected else []
        found += self.remarks
        return [*found, self.refusal] if self.refusal else found

    def _grids(self) -> list[str]:
        """Return a line for each grid: its settings, cells and groups of lanes."""
        cells: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key, spec in self.by_key.items():
            cells[f"{spec.suite}/{spec.scenario}", spec.identity].add(key)
        found = []
        for part, of_part in self.selectors.items():
            for selector, identities in of_part.items():
                keys = set().union(*(cells[part, identity] for identity in identities))
                n_groups = sum(not keys.isdisjoint(group.keys) for group in self.groups)
                if len(identities) > 1:
                    groups = f"{n_groups} group{'s' * (n_groups > 1)}" if n_groups else "none to run"
                    words = f"{len(identities)} settings, {len(keys)} cells, {groups}"
                    suite, _, scenario = part.rpartition("/")
                    found.append(f"grid {selector} on {suite} {scenario}: {words}")
        return found

    def restarted_in_words(self) -> str:
        """Return a line on checkpoints that are not used."""
        return (
            f"from the beginning, as their checkpoints have other code or data: {len(self.restarted)} cells"
        )

    def notes(self, folder: Path) -> list[str]:
        """Return a line for each effect of the plan on existing records and checkpoints."""
        again = {key: why for key, why in self.stale.items() if key not in self.existing}
        kept = len(self.stale) - len(again)
        found = [self.restarted_in_words()] if self.restarted else []
        if again:
            why = some(list(dict.fromkeys(again.values())), 2)
            moved = f"their records are moved to {folder / 'superseded'}"
            found.append(f"{len(again)} cells are stale ({why}) and run again; {moved}")
        if kept:
            found.append(f"{kept} cells are stale and left as they are; lethe status {folder} lists them")
        return found

    def to_json(self) -> str:
        """Return the plan as text, for another process or machine; see ``from_json``."""
        return str(_adapter().dump_json(self).decode())

    @classmethod
    def from_json(cls, text: str) -> "ResolvedPlan":
        """Return the plan in ``to_json``; raises UserError for any other text."""
        from pydantic import ValidationError

        try:
            plan: ResolvedPlan = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"not a resolved plan of this version: {where}: {first['msg']}") from None
        named = [key for group in plan.groups for key in group.keys] + [*plan.skipped, *plan.existing]
        if sorted(named) != sorted(plan.by_key):
            raise UserError("not a resolved plan of this version: its keys are not those of its cells")
        return plan


def resolve(
    requests: Sequence[Request],
    present: Present,
    *,
    device: str = "cpu",
    lanes: int = 0,
    force: bool = False,
    retry_failed: bool = False,
    stale: str = "",
    keep_models: str = "",
    fingerprint: Fingerprint = lambda suite: None,
    parameter_count: ParameterCount = lambda spec: None,
    model_fingerprint: Fingerprint = lambda model: None,
    stored: StoredBy = lambda spec, seeds: None,
) -> ResolvedPlan:
    """Decide for every requested cell whether it is done, skipped or run, and in which group.

    Args:
        requests: The requests.
        present: The contents of the run's folder.
        device: Device of the cells; groups have more lanes on a GPU.
        lanes: Largest number of lanes of a group; 0 for the fixed rule.
        force: Run cells again that have a record, from the beginning. If an earlier command did so with the
            same cells and was stopped, it is continued: what it finished is done.
        retry_failed: Run cells again that failed or diverged; continues an earlier command likewise.
        stale: ``rerun`` runs cells with stale records (other code or data) again, ``keep`` leaves them. Empty
            runs those again for which only the user's own files changed or that have no numbers, and refuses
            the plan for others.
        keep_models: Which models are saved; a command that saves others is not continued.
        fingerprint: Called for each suite.
        parameter_count: Called once for each group whose number of lanes depends on it.
        model_fingerprint: Called for each pretrained model of a record.
        stored: Called for sizes that may fit a budget of memory.

    Raises:
        UserError: A request is unknown or impossible, or has another suite version than the folder or an
            earlier request.
    """
    if stale not in ("", "rerun", "keep"):
        raise unknown("value for --stale", stale, ["rerun", "keep"])
    shared = _common(requests, present)
    requests = [replace(request, shown=shared) for request in requests]
    requests, too_large, sized, waiting = _sized(requests, stored)
    cells = {spec.key: spec for request in requests for spec in request.cells()}
    suites_ = dict.fromkeys(spec.suite for spec in cells.values())
    data = {name: mark for name in suites_ if (mark := fingerprint(name)) is not None}
    staleness = Staleness(present.code, present.equivalences, data.get, model_fingerprint)
    again_now = _again(
        "force" if force else "retry-failed" if retry_failed else "", cells, present, device, keep_models
    )
    since = again_now.since if again_now else ""
    skipped, existing, changes, undecided, restarted = {}, {}, {}, {}, []
    alike = defaultdict(list)
    for key, spec in cells.items():
        head = present.records.get(key)
        change = staleness.of(vars(spec), head) if head else None
        redone = head is not None and "" < since <= head.written
        again = not redone and (
            force or (retry_failed and head is not None and head.status in _WITHOUT_RESULT)
        )
        again = again or (head is not None and head.incomplete)
        if head is not None and change is not None:
            changes[key] = change.reason
            decided = force or stale == "rerun" or change.of_user or head.status in ("failed", "skipped")
            again = again or (decided and stale != "keep")
            if not again and stale != "keep":
                undecided[key] = change
        if head is not None and not again:
            existing[key] = head.status
        elif (reason := too_large.get(key) or unsuitable(spec)) is not None:
            skipped[key] = reason
        else:
            done = 0
            checkpoint = present.checkpoints.get(key)
            if checkpoint is not None and (not force or "" < since <= checkpoint.written):
                same_data = checkpoint.data == data.get(spec.suite, checkpoint.data)
                if same_data and checkpoint.code == code_of(vars(spec)).fingerprint:
                    done = checkpoint.tasks_done
                else:
                    restarted.append(key)
            alike[spec.group_key, done].append(spec)
    plan = ResolvedPlan(
        cells=tuple(cells.values()),
        groups=tuple(_uncut(group, done) for (_, done), group in alike.items()),
        skipped=skipped,
        existing=existing,
        stale=changes,
        refusal="" if stale else _refusal(present, undecided, data),
        restarted=tuple(restarted),
        shared=shared,
        data=data,
        device=device,
        lanes=lanes,
        waiting=waiting,
        unresolved=tuple(
            f"unresolved: {file} ({request.suite} {scenario} {selector}, {_in_words(request.seeds)})"
            for request in requests
            for (scenario, selector), file in request.unresolved.items()
        ),
        remarks=tuple(
            dict.fromkeys(
                [
                    *(r for request in requests for r in request.remarks),
                    *sized,
                    *_continued(again_now, cells, present),
                ]
            )
        ),
        again=again_now,
        selectors=_selectors(requests),
        replaced={key: head.written for key, head in present.records.items() if key in cells},
    )
    return plan.completed(fingerprint, parameter_count)


def _sized(
    requests: Sequence[Request], stored: StoredBy
) -> tuple[list[Request], dict[str, str], list[str], tuple[str, ...]]:
    """Return requests sized to their budgets, why cells do not fit, remarks, and requests without data."""
    found: list[Request] = []
    reasons: dict[str, str] = {}
    remarks: list[str] = []
    waiting: list[str] = []
    for request in requests:
        try:
            one = fitted(request, stored)
        except NoData:
            waiting.append(f"sized to {request.budget}: methods of {request.suite}, once its data is here")
            continue
        found.append(one.request)
        reasons |= one.too_large
        remarks += one.remarks()
    return found, reasons, remarks, tuple(waiting)


def _again(
    what: str, cells: Mapping[str, CellSpec], present: Present, device: str, keep_models: str
) -> Again | None:
    """Return what is run again, with the time of the first command if earlier ones did not finish it."""
    if what == "":
        return None
    asked = {
        "what": what,
        "cells": digest({"cells": sorted(cells)}),
        "device": device,
        "keep_models": keep_models,
    }
    new = Again.model_validate(asked)
    begun = next((a for a in reversed(present.again) if a.model_copy(update={"since": ""}) == new), new)
    heads = [present.records.get(key) for key in cells]
    open_ = [
        head is None or (head.written < begun.since and (what == "force" or head.status in _WITHOUT_RESULT))
        for head in heads
    ]
    return begun if any(open_) else new


def _continued(again: Again | None, cells: Mapping[str, CellSpec], present: Present) -> list[str]:
    """Return a line if an earlier command is continued."""
    if again is None or not again.since:
        return []
    n = sum(present.records[key].written >= again.since for key in cells if key in present.records)
    new = f"{n} of {len(cells)} cells have new records"
    return [f"continues the --{again.what} of {again.since[:19]}Z, which was stopped: {new}"]


def _refusal(present: Present, undecided: Mapping[str, Change], data: Mapping[str, str]) -> str:
    """Return what the user must decide about stale cells and changed data, in one line; empty for nothing."""
    other = [n for n, mark in data.items() if present.data.get(n, mark) != mark and not is_users_suite(n)]
    reasons = Counter(change.reason for change in undecided.values() if not change.files)
    files = sorted({file for change in undecided.values() for file in change.files})
    what = [f"{some(files, 6)} changed"] if files else []
    what += [reason if n == len(undecided) else f"{n} {reason}" for reason, n in reasons.items()]
    what += [words for name in other if (words := f"the data of {name} changed") not in reasons]
    if not what:
        return ""
    seconds = sum(present.records[key].seconds for key in undecided)
    cells = f"{len(undecided)} cells, which took {duration(seconds)}, are stale" if undecided else "records"
    choices = "--stale rerun runs such cells again, --stale keep leaves them as they are"
    if undecided:
        choices += f"; lethe verify --records {present.folder} finds out whether they are the same"
    return f"{present.folder}: {cells} ({'; '.join(what)}): {choices}"


def duration(seconds: float) -> str:
    """Return seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _uncut(group: list[CellSpec], tasks_done: int) -> LaneGroup:
    # Lanes with equal rates are neighbours, because an optimiser updates them together.
    ordered = sorted(group, key=lambda spec: (spec.identity, spec.seed))
    return LaneGroup(tuple(spec.key for spec in ordered), tasks_done, None)


def lane_width(spec: CellSpec, device: str, lanes: int, parameter_count: ParameterCount) -> int | None:
    """Return the largest number of lanes of a group, by a fixed rule, so that groups are reproducible.

    None if the rule needs a parameter count that is not available.
    """
    most = strategies.get(spec.strategy).max_lanes
    size: int | None
    if lanes:
        size = lanes
    elif device.startswith("cuda"):
        size = WIDTH_CUDA
    else:
        count = parameter_count(
            spec
        )  # also for a head alone, so that a model that cannot be built stops the run here
        if spec.model_options.get("tune") == "head":
            # One layer is small for any number of classes: ten lanes of 384-150 took 0.65 of ten single runs.
            size = WIDTH_CPU
        else:
            size = None if count is None else WIDTH_CPU if count < SMALL else 1
    return min(size, most) if size and most else size


def unsuitable(spec: CellSpec) -> str | None:
    """Return why a strategy cannot run a cell, as far as that is known without its data, or None."""
    strategy = strategies.get(spec.strategy)(**spec.hyper)
    reason = strategy.unsuitable(spec.scenario, Training(**spec.training))
    return reason or (strategy.cannot_generate() if suites.get(spec.suite).generates else None)


def _common(requests: Iterable[Request], present: Present) -> dict[str, Mapping[str, Value]]:
    """Return the settings that identities of each suite and scenario do not name: those of the first request.

    Raises:
        UserError: A later request has another suite version, or continues from another model.
    """
    shared = dict(present.shared)
    for request in requests:
        asked = request.shared()
        check_agreement(present.folder, shared, asked)
        shared = asked | shared
    return shared


def _selectors(requests: Iterable[Request]) -> dict[str, dict[str, list[str]]]:
    """Return the settings that the selectors of all requests stand for."""
    found: dict[str, dict[str, list[str]]] = {}
    for request in requests:
        for part, selectors in request.selectors.items():
            found.setdefault(part, {}).update(selectors)
    return found


def _in_words(seeds: Sequence[int]) -> str:
    """Return seeds as text: ``seeds 0 to 4``, or each of them."""
    whole = len(seeds) > 2 and list(seeds) == [*range(seeds[0], seeds[0] + len(seeds))]
    words = f"{seeds[0]} to {seeds[-1]}" if whole else some([*map(str, seeds)], 5)
    return f"seed{'s' * (len(seeds) > 1)} {words}"


def _adapter() -> Any:
    from pydantic import TypeAdapter  # not at the top: the GPU check makes its cells without it

    return TypeAdapter(ResolvedPlan)
