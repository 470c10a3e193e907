"""The commands ``verify`` and ``rerun``."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import Device, DryRun, Jobs, Json, Lanes, Mirror, Trust, app, importing, opened, use_mirror
from bench.cli.carrying_out import print_plan, run_requests, say_unfinished, stoppable
from bench.cli.output import print_json
from suites import errors

if TYPE_CHECKING:
    from bench.runner import Options

RUNS = Path("results") / "runs"
"""The default place of runs; git ignores it."""


@app.command(
    epilog="Examples: lethe verify three-types-split-mnist --seeds 20 | lethe verify three-types-split-mnist "
    "--records results/reference/three-types-split-mnist | lethe verify --records results/reference/digits"
)
def verify(
    table: Annotated[
        str,
        typer.Argument(
            metavar="[TABLE]", help="Name of a published table, or a TOML file.", show_default=False
        ),
    ] = "",
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Check the records of this run, or of all packed runs in a folder.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Cells to run again for each strategy, suite, model and scenario.")
    ] = 1,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Run cells for at most this long, the cheapest first.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from the first seed of the table.")] = 5,
    difference: Annotated[
        float, typer.Option(min=0.4, help="True difference, in points, that must be detected.")
    ] = 2.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this method of the table, or strategy; repeat for more.")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario of the table; repeat for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default in results/runs.")] = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    lanes: Lanes = 0,
    data: Mirror = None,
    look_only: Annotated[
        bool, typer.Option("--look-only", help="Only compare the results in --out.")
    ] = False,
    dry_run: DryRun = False,
    stale: Annotated[
        str, typer.Option(metavar="rerun|keep", help="As in lethe run, for the run of a table.")
    ] = "",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Reproduce a published table, or records, and report whether the numbers agree.

    With TABLE, its recipe is run and compared entry by entry; the exit code is 1 unless all agree. With TABLE
    and --records, nothing is run. With --records alone, a sample of the run's cells is run again and compared
    bit for bit; if all are equal, their code is added to RUN.equivalent.json, and they are no longer stale.
    Records are only written into --out. Files of yours that a table or a record names are imported when they
    are run; --dry-run, --look-only and TABLE with --records import them only with --trust.
    """
    use_mirror(data)
    from bench.runner import Options

    options = Options(device, jobs, lanes=lanes, stale=stale)
    if table:
        chosen = seeds, only or (), scenario or ()
        runs = not (look_only or records)
        with importing(trust or (runs and not dry_run)):
            _verify_table(table, chosen, difference, records or out, options, runs, dry_run, as_json)
    elif records is not None:
        with importing(trust or not dry_run):
            _verify_records(records, sample, minutes, only or (), out, dry_run, options, as_json)
    else:
        raise errors.UserError("choose a published table, or a run with --records; see lethe verify --help")


def _verify_table(
    table: str,
    asked: tuple[int, Sequence[str], Sequence[str]],
    least: float,
    out: Path | None,
    options: "Options",
    runs: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare a published table with the run in ``out``; with ``runs``, run what it misses before."""
    from bench.results import load, published

    chosen = published.read(table)
    folder = out or RUNS / chosen.name
    requests, (seeds, only, scenarios) = chosen.requests(*asked), asked
    if dry_run:
        print_plan(requests, folder, options, as_json)
        return
    if runs:
        say_unfinished(run_requests(requests, folder, options).unfinished)
    frames = load(folder)
    verdicts = published.compare(chosen, frames, seeds, only, least, scenarios)
    from rich.console import Console

    from bench.report import left_out, print_published

    if as_json:
        print_json({"table": chosen.name, "records": folder, "entries": [_entry(v) for v in verdicts]})
    else:
        print_published(chosen, verdicts, Console())
    for words in left_out(frames):
        print(words, file=sys.stderr)
    agree, differ = (sum(v.agrees is of for v in verdicts) for of in (True, False))
    untold = len(verdicts) - agree - differ
    if not as_json:
        print(
            f"of {len(verdicts)} entries {agree} agree, {differ} differ, and {untold} cannot be decided; "
            f"records: {folder}"
        )
    if agree < len(verdicts):
        raise typer.Exit(1)


def _entry(verdict: Any) -> dict[str, Any]:
    """Return a published number beside ours as numbers, in points."""
    published = {"method": verdict.entry.method, "scenario": verdict.entry.scenario}
    published |= {"published": verdict.entry.mean, "published_sem": verdict.entry.sem}
    ours = {name: getattr(verdict, name) for name in ("n", "mean", "sd", "difference", "allowed", "agrees")}
    return published | ours | {"verdict": verdict.words}


def _verify_records(
    records: Path,
    n: int,
    minutes: float | None,
    only: Sequence[str],
    out: Path | None,
    dry_run: bool,
    options: "Options",
    as_json: bool,
) -> None:
    from bench.runner import check_sample, compare_sample, make_again, sample_cells
    from bench.store import RunReader, packed_runs

    options.check()
    of_run = RunReader(records).manifest().commands
    runs = [opened(path) for path in ([] if of_run else packed_runs(records)) or [records]]
    equal, rows = True, []
    for run in runs:
        try:
            sample = sample_cells(run, n, only)
        except errors.UserError as error:
            if len(runs) == 1:
                raise
            print(error, file=sys.stderr)
            continue
        check_sample(sample, options, minutes)
        if not as_json:
            print(sample.statement(options.jobs), flush=True)
        folder = (out or RUNS / "verify") / run.name if out is None or len(runs) > 1 else out
        if dry_run:
            states = [(sample.not_run.get(of.spec.key, "again"), of) for of in sample.cells]
            lines = [f"{state} {of.spec.title}" for state, of in states]
        else:
            with stoppable(folder) as command:
                make_again(sample, folder, options, command)
            outcome = compare_sample(sample, folder)
            states = [("equal", of) for of in outcome.equal]
            states += [("differs", of.cell) for of in outcome.differing]
            states += [(f"not made again: {why}", of) for of, why in outcome.not_run]
            lines = outcome.lines()
            equal = equal and not outcome.differing and not outcome.not_run
        rows += [
            {"run": run.folder, "cell": of.spec.title, "key": of.spec.key, "state": s} for s, of in states
        ]
        if not as_json:
            print("\n".join(lines), flush=True)
    if as_json:
        print_json(rows)
    if not equal:
        raise typer.Exit(1)


@app.command(epilog="Example: lethe rerun results/runs/first er/0")
def rerun(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a packed run.")],
    cell: Annotated[str, typer.Argument(help="Key of a cell, the start of it, or strategy/seed: 'er/0'.")],
    device: Device = "cpu",
    data: Mirror = None,
    as_json: Json = False,
) -> None:
    """Run one cell again and compare it with its record bit for bit; the run is not changed.

    Timings and provenance are not compared. The exit code is 1 if anything differs.
    """
    use_mirror(data)
    from bench.runner import Options, check_sample, compare_sample, make_again, one_cell_sample
    from bench.store import staleness_of

    options, opened_run = Options(device=device, jobs=1, quiet=True), opened(run)
    options.check()
    sample = one_cell_sample(opened_run, cell)
    (asked,) = sample.cells
    check_sample(sample, options)
    for why in sample.not_run.values():
        raise errors.UserError(f"{asked.spec.title} cannot be run again: {why}")
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        make_again(sample, Path(scratch) / "again", options, f"lethe rerun {run} {cell}")
        outcome = compare_sample(sample, Path(scratch) / "again", enter=False)
    if as_json:
        differ = [c.line() for c in outcome.differing]
        print_json({"cell": asked.spec.title, "key": asked.spec.key, "equal": not differ, "differ": differ})
        raise typer.Exit(1 if differ else 0)
    if outcome.equal:
        print(f"equal bit for bit: {asked.spec.title} ({asked.spec.key})")
        return
    change = opened_run.each(staleness_of(opened_run).of_record, {asked.spec.key})[asked.spec.key]
    print(outcome.lines()[0] + (f"; its record is stale: {change.reason}" if change else ""))
    raise typer.Exit(1)
