"""Carries out what a command asks for, and shows the plan or the run."""

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.app import DEBUG, debugging
from bench.cli.output import print_json
from suites import errors, notes_of
from suites.announce import to_stderr

if TYPE_CHECKING:
    from bench.plan import Experiment, Request
    from bench.runner import Options, Outcome
    from bench.tune import Choosing


def carry_out(
    asked: "Experiment", options: "Options", dry_run: bool, as_json: bool, how: "Choosing | None" = None
) -> None:
    """Run an experiment and print its tables, or print what would be run.

    Args:
        asked: The experiment; its folder is only missing for a dry run.
        options: How it is run.
        dry_run: Whether only the plan is printed.
        as_json: Whether JSON is printed.
        how: How settings are chosen first; without it as the experiment says, if at all.
    """
    trackers: dict[str, str] = {}
    if asked.track:
        from bench.report import check_trackers  # imports pandas

        trackers = check_trackers(asked.track, asked.out)
    if not dry_run:
        # This downloads data sets of users, on which their scenarios depend.
        for suite in dict.fromkeys(request.suite for request in asked.requests):
            for words in notes_of(suite):
                print(words, file=sys.stderr)
    if asked.tune and how is None:
        from bench.tune import Choosing

        how = Choosing.read(**asked.tune.model_dump())
    if how is not None:
        _tune(asked, how, options, trackers, dry_run, as_json)
    elif dry_run:
        print_plan(asked.requests, asked.out, options, as_json)
    elif asked.out is not None:
        show_run(run_requests(asked.requests, asked.out, options, trackers), asked.out, as_json)


def _tune(
    asked: "Experiment",
    how: "Choosing",
    options: "Options",
    trackers: dict[str, str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Tune, then run the chosen settings and print their tables; or print what would be done.

    Trackers get the chosen settings on the reported seeds, not the trials.
    """
    from bench.tune import Study

    with TemporaryDirectory(prefix="lethe-") as scratch:  # of a dry run without --out
        folder = asked.out or Path(scratch) / "run"
        study = Study(asked.requests, how, folder, dry_run)
        if dry_run:
            plan = study.first_plan(options)
            if as_json:
                print_json({"study": study.lines(), "first_trials": json.loads(plan.to_json())})
            else:
                print("\n".join([*study.lines(), str(plan)]))
            return
    with stoppable(folder) as command:
        unfinished = study.tune(options, command, to_stderr)
    if unfinished:
        say_unfinished(unfinished)
        raise typer.Exit(1)
    for words in study.chosen_in_words():
        print(words, file=sys.stderr)
    if reported := study.reported():
        show_run(run_requests(reported, folder, options, trackers), folder, as_json)
    elif as_json:
        print_json({"run": folder, "tuning": [of.model_dump() for of in study.tuned().values()]})


def run_requests(
    requests: "Sequence[Request]", out: Path, options: "Options", trackers: dict[str, str] | None = None
) -> "Outcome":
    """Carry out requests so that they can be stopped, and send records to trackers; return the outcome."""
    from bench.runner import carry_out

    feeds: AbstractContextManager[Any] = nullcontext()
    if trackers and not options.in_jobs:  # jobs of a batch system send the records that they make
        from bench.report import tracking  # imports pandas

        feeds = tracking(trackers)
    with stoppable(out) as command, feeds as on_record:
        return carry_out(requests, out, replace(options, on_record=on_record), command)


@contextmanager
def stoppable(out: Path) -> Iterator[str]:
    """Yield the command; Ctrl-C or SIGTERM ends it with code 130 and loses no finished cell."""
    # Batch systems send SIGTERM, which ends a run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield shlex.join(["lethe", *sys.argv[1:]])
    except KeyboardInterrupt:
        print(f"\nlethe: stopped; finished cells are in {out}, the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None


def print_plan(
    requests: "Sequence[Request]", out: Path | None, options: "Options", as_json: bool = False
) -> None:
    """Print the plan of a dry run."""
    from bench.runner import resolve_for

    plan = resolve_for(requests, out, options, download=False)
    print(plan.to_json() if as_json else plan)


def show_run(outcome: "Outcome", out: Path, as_json: bool) -> None:
    """Print the tables of a run and what became of its cells; end with code 1 if one failed."""
    from rich.console import Console

    from bench.report import Layout, print_tables, tables
    from bench.results import as_shown, load

    made = tables(as_shown(load(out)), layout=Layout(marks=True))
    if as_json:
        about = {"run": out, "now": outcome.counts, "failed": [*outcome.failures]}
        print_json(about | {"not_finished": outcome.unfinished, "table": made.numbers})
    else:
        print_tables(made, Console())
    for words in outcome.set_aside:
        print(words, file=sys.stderr)
    for words in outcome.halved:
        print(f"ran as halves: {words}", file=sys.stderr)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(outcome.counts.items())) or "nothing to do"
    if not as_json:
        print(f"now: {counts}. Figures and tables: lethe report {out}")
    if outcome.failures:
        print("failed:" if debugging() else f"failed ({DEBUG} shows whole tracebacks):", file=sys.stderr)
        for why, trace in outcome.failures.items():
            print(f"{why}\n{trace}" if debugging() and trace else why, file=sys.stderr)
    say_unfinished(outcome.unfinished)
    if outcome.failures or outcome.unfinished:
        raise typer.Exit(1)


def say_unfinished(faults: Sequence[str]) -> None:
    """Print the faults of the environment because of which cells have no record."""
    for words in faults:
        print(f"lethe: {errors.NOT_FINISHED}: {words}; the same command runs them", file=sys.stderr)
