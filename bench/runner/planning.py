"""Resolves requests against the folder of a run, with the data that is on this machine."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import suites
from bench.plan import (
    Checkpoint,
    NoData,
    Present,
    RecordHead,
    Request,
    ResolvedPlan,
    Timing,
    expected_time,
    fitted,
    resolve,
    unknown_work,
)
from bench.runner.options import Options
from bench.runner.processes import number_of_processes
from bench.store import REFERENCE, RunFolder, RunReader, packed_runs, read_equivalences
from bench.train import StoredWhenFull, fingerprint_in_folder, parameters_of
from suites.announce import to_stderr
from suites.base import Scenario, Training
from suites.errors import Unavailable
from suites.sources import without_hub


def resolve_for(
    requests: Sequence[Request], folder: Path | None, options: Options, *, download: bool = True
) -> ResolvedPlan:
    """Resolve requests against the contents of a run's folder; None means an empty folder.

    Without ``download``, for a dry run, the folder is only read, decisions that need data that is not on this
    machine are left open, and the plan says how long it will take.
    """
    run = None if folder is None else RunFolder(folder) if download else RunReader(folder)
    if isinstance(run, RunFolder) and (words := run.repair_manifest()):
        to_stderr(words)
    present, stored = Present() if run is None else _present(run), StoredWhenFull()
    for request in requests if download else ():
        _download_for_sizes(request)

    def attempt() -> ResolvedPlan:
        """Resolve with the data on this machine; none is downloaded only to compare it with records."""
        with without_hub():
            return resolve(
                requests,
                present,
                device=options.device,
                lanes=options.lanes,
                force=options.force,
                retry_failed=options.retry_failed,
                stale=options.stale,
                keep_models=options.keep_models,
                fingerprint=_if_available(_fingerprint),
                parameter_count=_if_available(parameters_of),
                model_fingerprint=fingerprint_in_folder,
                stored=_if_available(stored),
            )

    plan = attempt()
    if download:
        missing = {spec.suite for spec in plan.to_run}.difference(plan.data)
        for suite in missing:
            _fingerprint(suite)  # downloads its data
        plan = completed(attempt() if missing else plan)
    with without_hub():
        _check_streams(plan)
    if download:
        return plan
    for words in run.unreadable if run and not options.quiet else ():
        to_stderr(words)
    return replace(plan, expected=_expected(plan, run, options))


def completed(plan: ResolvedPlan) -> ResolvedPlan:
    """Return a plan with what it left open decided; data that is missing is downloaded."""
    return plan.completed(_fingerprint, parameters_of)


def sized(request: Request, *, download: bool = True) -> Request:
    """Return a request whose methods have the sizes that fit its budget.

    Methods that do not fit have no size, and no method has one while the data is not available:
    ``resolve_for`` gives the reason.
    """
    if download:
        _download_for_sizes(request)
    with without_hub(), suppress(NoData):
        return fitted(request, _if_available(StoredWhenFull())).request
    return request


def _download_for_sizes(request: Request) -> None:
    """Download the data of a request whose methods are sized to a budget of memory, which depends on it."""
    if request.budget is not None and request.budget.memory is not None and not request.not_imported:
        _fingerprint(request.suite)


def _expected(plan: ResolvedPlan, run: RunReader | None, options: Options) -> str:
    """Return how long a plan will take, by the records of its folder or else by the committed ones."""
    there = [] if run is None else list(run.each(Timing.of).values())
    source = "" if run is None or not there else f"{run.folder}"
    parts = {f"{spec.suite}/{spec.scenario}" for spec in plan.to_run}
    unknown = unknown_work(plan, there)
    for packed in sorted(packed_runs(REFERENCE), key=lambda path: path.stat().st_size):
        if not unknown:
            break
        reader = RunReader(packed)
        if parts.isdisjoint(reader.manifest_if_readable().shared):
            continue
        found = list(reader.each(Timing.of).values())
        left = unknown_work(plan, [*there, *found])
        if len(left) < len(unknown):
            there, unknown = [*there, *found], left
            source += f"{' and ' if source else ''}{packed}, perhaps of another machine"
    processes = number_of_processes(plan.device, options.jobs, options.per_device)
    return expected_time(plan, there, source or f"the folder and {REFERENCE}", processes)


def _present(run: RunReader) -> Present:
    manifest, heads = run.manifest(), run.each(RecordHead.of)
    for key, head in heads.items():
        if head.has_classes and not run.has_classes(key, head.written):  # damaged: its cell is run again
            heads[key] = replace(head, incomplete=True)
    checkpoints = {
        key: Checkpoint(h.tasks_done, h.code, h.data, h.written)
        for key, h in run.checkpoints.headers().items()
    }
    equivalences = read_equivalences(run)
    same = run.folder, heads, checkpoints, manifest.code, equivalences, manifest.shared, manifest.data
    again = [command.again for command in manifest.commands if command.again]
    return Present(*same, again)


def _fingerprint(suite: str) -> str:
    return suites.get(suite).load().fingerprint


def _check_streams(plan: ResolvedPlan) -> None:
    """Make each stream whose data is known, so that an invalid one stops the run before training."""
    seen: set[tuple[str, str, int, Training]] = set()
    named = {spec.suite for spec in plan.to_run} & plan.data.keys()
    # Once for each suite: a user's may read its files at every call.
    data = {name: suites.get(name).load() for name in sorted(named)}
    for spec in plan.to_run:
        # A stream does not depend on these two.
        training = Training(**spec.training | {"lr": 0.1, "weight_decay": 0.0})
        asked = spec.suite, spec.scenario, spec.seed, training
        if spec.suite in data and asked not in seen:
            seen.add(asked)
            scenario = cast(Scenario, spec.scenario)
            suites.get(spec.suite).stream(data[spec.suite], scenario, spec.seed, training)


def _if_available(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that returns None if data is not on this machine."""

    def answer(*asked: Any) -> Any:
        try:
            return ask(*asked)
        except Unavailable:
            return None

    return answer
