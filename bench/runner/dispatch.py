"""Runs a plan: resolves requests against the folder of a run, then runs its groups of lanes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import strategies
import suites
from bench.encode import input_shape, inputs, to_stderr
from bench.engines import LOCAL, Engine, engine_at
from bench.export import describe_overlap
from bench.models import ModelRef, Shape, one_by_one, parameter_count, pretrained
from bench.plan import (
    CellSpec,
    Checkpoint,
    NoData,
    Present,
    RecordHead,
    Request,
    ResolvedPlan,
    Timing,
    codes_of,
    expected_time,
    fitted,
    resolve,
    unknown_work,
)
from bench.runner.claimed_groups import ClaimedGroups
from bench.runner.described import described
from bench.runner.on_engine import OnEngine
from bench.runner.options import Checked, Options
from bench.runner.processes import Ended, in_processes, number_of_processes, run_groups
from bench.runner.progress import Progress
from bench.runner.run_outcome import Outcome, outcome_of
from bench.runner.shares import run_in_shares
from bench.runner.target import Target
from bench.schema import CellRecord
from bench.store import (
    REFERENCE,
    Claims,
    RunFolder,
    RunReader,
    SavedModels,
    Superseded,
    moment,
    packed_runs,
    read_equivalences,
)
from bench.train import StoredWhenFull
from suites.base import Data, Scenario, Training
from suites.errors import Unavailable, UserError
from suites.paths import folder_named
from suites.sources import without_hub


def carry_out(requests: Sequence[Request], folder: Path, options: Options, command: str) -> Outcome:
    """Run the missing cells of requests into a folder.

    Args:
        requests: What is run.
        folder: The folder of the run.
        options: How it is run.
        command: The command line, which jobs of a batch system run in shares.

    Raises:
        UserError: The requests are impossible; nothing has been written.
    """
    options.check()
    plan = resolve_for(requests, RunFolder(folder), options)
    return (run_in_shares if options.in_jobs else carry_out_plan)(plan, folder, options, command)


def resolve_for(
    requests: Sequence[Request], run: RunReader | None, options: Options, *, download: bool = True
) -> ResolvedPlan:
    """Resolve requests against the contents of a run's folder; None means an empty folder.

    Without ``download``, for a dry run, decisions that need data that is not on this machine are left open,
    and the plan says how long it will take.
    """
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
                parameter_count=_if_available(_parameter_count),
                model_fingerprint=_model_fingerprint,
                stored=_if_available(stored),
            )

    plan = attempt()
    if download:
        missing = {spec.suite for spec in plan.to_run}.difference(plan.data)
        for suite in missing:
            _fingerprint(suite)  # downloads its data
        plan = (attempt() if missing else plan).completed(_fingerprint, _parameter_count)
    with without_hub():
        _check_streams(plan)
    return plan if download else replace(plan, expected=_expected(plan, run, options))


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


def carry_out_plan(plan: ResolvedPlan, folder: Path, options: Options, command: str) -> Outcome:
    """Run a resolved plan into a folder.

    Device and lanes are those of the plan; of ``options`` only those that no plan depends on
    are used.

    Raises:
        UserError: The plan cannot be run; nothing has been written.
    """
    if plan.unresolved:
        raise UserError(
            f"{plan.unresolved[0]}: not imported, because the command line does not name it: add --trust"
        )
    # Data is read here, so that workers find a converted copy and missing data stops the run.
    plan = plan.completed(_fingerprint, _parameter_count)
    if plan.refusal:
        raise UserError(plan.refusal)
    _prepare(plan, options.quiet)
    with _engine(options.on, plan.device, options.per_device) as engine, Claims(folder, command) as claims:
        return _carry_out_claimed(plan, folder, options, command, claims, engine)


def _carry_out_claimed(
    plan: ResolvedPlan,
    folder: Path,
    options: Options,
    command: str,
    claims: Claims,
    engine: Engine | None,
) -> Outcome:
    say = _nothing if options.quiet else to_stderr
    continued = {(s.suite, s.scenario): describe_overlap(s) for s in reversed(plan.to_run) if s.continues}
    run = RunFolder(folder)
    codes = codes_of(spec for spec in plan.cells if spec.key not in plan.existing)
    code = {found.fingerprint: found.files for found in codes.values()}
    again = plan.again and plan.again.model_copy(update={"since": plan.again.since or moment()})
    with claims.alone("manifest") as alone:
        maker = run.open(
            plan.cells, plan.shared, plan.data, command, plan.device, described(plan.cells), code, again,
            plan.selectors,
        )  # fmt: skip
        set_aside = run.repair()
        if alone and (n := run.remove_litter(codes)):
            say(f"removed {n} temporary files of commands that were killed")
    superseded = Superseded(folder)
    superseded.add(plan.replaced.keys() - plan.existing.keys())
    models = SavedModels(folder, options.keep_models, {key: code.fingerprint for key, code in codes.items()})
    models.supersede()
    unsaved = sum(not models.tasks(spec.key) for spec in plan.done) if options.keep_models else 0
    for words in (*plan.remarks, *continued.values()):
        say(words)
    if unsaved:
        say(f"{unsaved} cells were done without saving their models: --force runs them again")
    for words in plan.notes(folder):
        say(words)
    checked = _checked(plan, options)
    since = again.since if again and again.what == "force" else ""
    checks = {name: of.words for name, of in checked.items()}
    target = Target(
        models, maker, checks, since, claims.path, options.checkpoint_every, options.graph, options.until
    )
    # Another command may have written records since the plan was made.
    new = {key for key, at in run.written().items() if at != plan.replaced.get(key, "")}
    skipped = {key: {"status": "skipped", "reason": r} for key, r in plan.skipped.items() if key not in new}
    target.write([plan.by_key[key] for key in skipped], list(skipped.values()))
    groups = [[plan.by_key[key] for key in group.keys] for group in plan.groups]
    faulty = [group for group in groups if checked.get(group[0].strategy, Checked("")).fault]
    for specs in faulty:
        error = {"kind": "lethe check", "message": checked[specs[0].strategy].fault, "traceback": ""}
        target.write(specs, [{"status": "failed", "error": error}] * len(specs))
    groups = [group for group in groups if group not in faulty]
    run.note_new(new)
    # Each share begins in another place, and claims keep the shares apart: one that ends early goes on with
    # what the others have not begun.
    first = len(groups) * options.share // options.shares
    groups = groups[first:] + groups[:first]
    waiting = ClaimedGroups(groups, claims, run, say, waits=options.shares == 1)
    todo = [spec for spec in plan.cells if spec.key not in plan.existing]
    became = Ended()
    with Progress(folder, todo, options.quiet) as progress:
        progress.done([*(plan.by_key[key] for key in plan.skipped), *(s for group in faulty for s in group)])
        if engine is None:
            began = in_processes(waiting, target, plan.device, options.jobs, options.per_device)
        else:
            began = OnEngine(engine, target, plan.device, plan.data, plan.replaced, say).run(waiting)
        with _sending(options, run, waiting) as send, closing(run_groups(waiting, began)) as ends:
            for ended in ends:
                became += ended
                progress.done([plan.by_key[key] for key in ended.keys])
                send()
    if not became.stops:
        superseded.keep_differing()
    if options.shares > 1:  # the other cells are those of other shares
        todo = [spec for spec in todo if spec.key in became.unfinished or spec.key in became.keys]
    return outcome_of(todo, run, set_aside, became)


@contextmanager
def _engine(address: str, device: str, per_device: int) -> Iterator[Engine | None]:
    """Connect to the engine at an address; to none for this machine."""
    if address == LOCAL:
        yield None
        return
    gpus = 1 / max(per_device, 1) if device.startswith("cuda") else 0.0
    with closing(engine_at(address, gpus)) as engine:
        yield engine


@contextmanager
def _sending(options: Options, run: RunFolder, groups: ClaimedGroups) -> Iterator[Callable[[], None]]:
    """Yield a function that gives the records to ``on_record`` that cells of this command wrote since."""
    on_record, new = options.on_record, run.second_reader()

    def send() -> None:
        if on_record is None:
            return
        with suppress(OSError):  # it concerns those who watch, not the run
            for key, line in new.appended():
                if groups.were_mine([key]):
                    on_record(CellRecord.read(line)[1])

    try:
        yield send
    finally:
        send()


def _nothing(words: str) -> None:
    """Say nothing."""


def _checked(plan: ResolvedPlan, options: Options) -> dict[str, Checked]:
    """Return the result of the check of each strategy that uses a method of a user's file."""
    found: dict[str, Checked] = {}
    if options.check_method is None:
        return found
    for name in dict.fromkeys(spec.strategy for spec in plan.to_run):
        of_files = [options.check_method(part) for part in strategies.split(name) if ".py:" in part]
        if of_files:
            fault = next((of.fault for of in of_files if of.fault), "")
            found[name] = Checked(of_files[0].words, fault)
    return found


def _present(run: RunReader) -> Present:
    manifest, heads = run.manifest(), run.each(RecordHead.of)
    for key, head in heads.items():
        if head.has_classes and not run.has_classes(
            key, head.written
        ):  # damaged: only the cell makes them again
            heads[key] = replace(head, incomplete=True)
    checkpoints = {
        key: Checkpoint(h.tasks_done, h.code, h.data, h.written)
        for key, h in run.checkpoint_headers().items()
    }
    equivalences = read_equivalences(run)
    same = run.folder, heads, checkpoints, manifest.code, equivalences, manifest.shared, manifest.data
    again = [command.again for command in manifest.commands if command.again]
    return Present(*same, again)


def _fingerprint(suite: str) -> str:
    return suites.get(suite).load().fingerprint


def _model_fingerprint(name: str) -> str | None:
    """Return the fingerprint of a pretrained model in a folder, which may have changed; None for others."""
    return pretrained.mark(name) if folder_named(name) else None


def _parameter_count(spec: CellSpec) -> int:
    return parameter_count(*_built_for(spec))


def _built_for(spec: CellSpec) -> tuple[ModelRef, dict[str, Any], Shape, int]:
    """Return what a cell's model is built from, with a unit for each class."""
    data = suites.get(spec.suite).load()
    shape = input_shape(data, spec.reference, spec.model_options)
    return spec.reference, spec.model_options, shape, len(data.class_names)


def _check_streams(plan: ResolvedPlan) -> None:
    """Make each stream of the cells to run, so that an invalid one stops the run before training."""
    seen: set[tuple[str, str, int, Training]] = set()
    data = {name: _if_available(_data)(name) for name in dict.fromkeys(spec.suite for spec in plan.to_run)}
    for spec in plan.to_run:
        training = Training(
            **spec.training | {"lr": 0.1, "weight_decay": 0.0}
        )  # a stream does not depend on them
        asked = spec.suite, spec.scenario, spec.seed, training
        if data[spec.suite] is not None and asked not in seen:
            seen.add(asked)
            suites.get(spec.suite).stream(
                data[spec.suite], cast(Scenario, spec.scenario), spec.seed, training
            )


def _data(suite: str) -> Data:
    return suites.get(suite).load()


def _if_available(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that returns None if data is not on this machine."""

    def answer(*asked: Any) -> Any:
        try:
            return ask(*asked)
        except Unavailable:
            return None

    return answer


def _prepare(plan: ResolvedPlan, quiet: bool) -> None:
    """Check that models can read their suites; encode texts by frozen backbones once, for all workers."""
    seen = []
    for spec in plan.to_run:
        asked = spec.suite, spec.model, spec.model_options
        if asked not in seen:
            seen.append(asked)
            said = None if quiet else to_stderr
            inputs(suites.get(spec.suite).load(), spec.reference, spec.model_options, plan.device, said)
            if said and not spec.reference.reads_texts and (why := one_by_one(*_built_for(spec))):
                said(f"lanes of {spec.model} are computed one after the other: {why}")
