"""Resolves requests into a plan: which cells are done, skipped or run, and which groups of lanes run them.

``resolve`` opens no folder and loads no data. Its caller hands in what a run's folder holds (``Present``) and
functions that answer questions about data sets, as far as they can.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import strategies
import suites
from bench.plan.cell import CellSpec
from bench.plan.code import code_of
from bench.plan.request import Request
from bench.plan.resolved import Fingerprint, LaneGroup, ParameterCount, ResolvedPlan, duration
from bench.plan.settings import Shared, check_agreement
from bench.plan.sizes import NoData, StoredBy, fitted
from bench.plan.stale import Change, RecordHead, Staleness, is_users_suite
from bench.schema import Again, Equivalences, Value, digest
from suites.base import Training
from suites.errors import some, unknown

_WITHOUT_RESULT = "failed", "diverged"


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
            waiting.append(
                f"sized to {request.budget}: methods of {request.suite}, once its data is available"
            )
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
        choices += (
            f"; lethe verify --records {present.folder} checks whether today's code makes the same records"
        )
    return f"{present.folder}: {cells} ({'; '.join(what)}): {choices}"


def _uncut(group: list[CellSpec], tasks_done: int) -> LaneGroup:
    # Lanes with equal rates are neighbours, because an optimiser updates them together.
    ordered = sorted(group, key=lambda spec: (spec.identity, spec.seed))
    return LaneGroup(tuple(spec.key for spec in ordered), tasks_done, None)


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
    """Return the identities that the selectors of all requests expand to."""
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
