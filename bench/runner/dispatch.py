"""Runs a plan: writes what needs no training, then runs the groups of lanes."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import strategies
from bench.engines import LOCAL, Engine, engine_at
from bench.export import describe_overlap
from bench.plan import Checked, Request, ResolvedPlan, codes_of, described
from bench.runner.claimed_groups import ClaimedGroups
from bench.runner.on_engine import OnEngine
from bench.runner.options import Options
from bench.runner.planning import completed, resolve_for
from bench.runner.processes import in_processes
from bench.runner.progress import Progress
from bench.runner.run_outcome import Ended, Outcome, outcome_of
from bench.runner.shares import run_in_shares
from bench.runner.target import Target
from bench.schema import CellRecord
from bench.store import Claims, RunFolder, SavedModels, Superseded, moment
from bench.train import prepare
from suites.announce import to_stderr
from suites.errors import UserError


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
    plan = resolve_for(requests, folder, options)
    return (run_in_shares if options.in_jobs else carry_out_plan)(plan, folder, options, command)


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
    plan = completed(plan)
    if plan.refusal:
        raise UserError(plan.refusal)
    _prepare(plan, options.quiet)
    with _engine(options.on, plan.device, options.per_device) as engine, Claims(folder, command) as claims:
        return _carry_out_claimed(plan, folder, options, command, claims, engine)


def _carry_out_claimed(
    plan: ResolvedPlan, folder: Path, options: Options, command: str, claims: Claims, engine: Engine | None
) -> Outcome:
    say = (lambda words: None) if options.quiet else to_stderr
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
        with _sending(options, run, waiting) as send, closing(_with_others(waiting, began)) as ends:
            for ended in ends:
                became += ended
                progress.done([plan.by_key[key] for key in ended.keys])
                send()
    if not became.stops:
        superseded.keep_differing()
    if options.shares > 1:  # the other cells are those of other shares
        todo = [spec for spec in todo if spec.key in became.unfinished or spec.key in became.keys]
    return outcome_of(todo, run, set_aside, became)


def _with_others(groups: ClaimedGroups, ends: Generator[Ended]) -> Generator[Ended]:
    """Yield what becomes of cells as their groups end, and of those that other commands run."""
    with closing(ends):
        for ended in ends:
            groups.release([*ended.keys, *ended.unfinished])
            yield ended
            if elsewhere := groups.finished_elsewhere():
                yield Ended(elsewhere)
    if elsewhere := groups.finished_elsewhere():
        yield Ended(elsewhere)


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


def _prepare(plan: ResolvedPlan, quiet: bool) -> None:
    """Prepare the model of each suite once."""
    seen = []
    for spec in plan.to_run:
        asked = spec.suite, spec.model, spec.model_options
        if asked not in seen:
            seen.append(asked)
            prepare(spec, plan.device, None if quiet else to_stderr)
