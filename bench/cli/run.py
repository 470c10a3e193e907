"""The command ``run``."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.checks.before_run import check_before_run, leave_out
from bench.cli.app import (
    DEBUG,
    Budgets,
    Device,
    DryRun,
    Jobs,
    Json,
    Lanes,
    Mirror,
    NoCheck,
    Scenarios,
    Stale,
    Track,
    Trust,
    app,
    debugging,
    importing,
    use_mirror,
)
from bench.cli.completion import names_of, selectors
from bench.cli.data_options import takes_data_options
from bench.cli.output import print_json
from bench.engines import LOCAL, SLURM
from suites import errors, notes_of
from suites.declared import suite_named
from suites.errors import some

if TYPE_CHECKING:
    from bench.plan import Request
    from bench.tune import Choosing


@app.command(
    epilog="Examples: lethe run digits -s er -s 'ewc[lam=100]' --scenario class --out results/runs/first "
    "| lethe run digits -s 'ewc[lam=1|10|100]' -s 'er[lr=0.01|0.03,buffer=200|500]' --dry-run "
    "| lethe run digits -s all --seeds 5 --set epochs=5 --dry-run | lethe run results/reference/digits.toml"
)
@takes_data_options
def run(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|DATA|FILE.toml",
            help="A suite, a data set of yours (table, arrays, images, hub), or an experiment file.",
            autocompletion=names_of("suites"),
        ),
    ],
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--strategy",
            help="A strategy, 'er[buffer=200]', ./file.py:Class, or all; a grid is 'ewc[lam=1|9..1e3:log3]'.",
            autocompletion=selectors,
        ),
    ] = None,
    scenario: Scenarios = None,
    seeds: Annotated[str, typer.Option(help="10 means 0 to 9; 2-6; 1,4.")] = "10",
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: a training setting, model, or a model option; or a grid."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Short for --set model=NAME; ./net.py:Net is a network of yours.")
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Short for --set shots=K.")] = None,
    rows_per_class: Annotated[int | None, typer.Option(help="Short for --set rows_per_class=K.")] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--eval",
            metavar="all|last|diagonal|every=K",
            help="Tasks scored after each task; short for --set eval=...",
        ),
    ] = None,
    budget: Budgets = None,
    resume_from: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue training from an exported model.")
    ] = None,
    keep_models: Annotated[
        str,
        typer.Option(
            metavar="last|all", help="Save the model of each cell after the last task, or after all."
        ),
    ] = "",
    checkpoint_every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Least seconds between checkpoints; 0 for one after every task."
        ),
    ] = 1.0,
    graph: Annotated[
        bool, typer.Option(help="On a GPU, capture steps that are alike and replay them.")
    ] = True,
    device: Device = "cpu",
    jobs: Jobs = 0,
    per_device: Annotated[
        int, typer.Option(min=0, help="Groups that a GPU runs at once, if they fit; 0 for one.")
    ] = 0,
    lanes: Lanes = 0,
    on: Annotated[
        str,
        typer.Option(
            metavar="local|dask://HOST:PORT|ray://HOST:PORT|slurm", help="Where groups of lanes run."
        ),
    ] = LOCAL,
    share: Annotated[
        str, typer.Option(metavar="I/N", help="Begin with share I, from 0, of N; for jobs of a batch system.")
    ] = "",
    track: Track = None,
    data: Mirror = None,
    dry_run: DryRun = False,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Run only missing cells (the default).")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run every cell again; if that was stopped, continue.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Run failed and diverged cells again; if that was stopped, continue."
        ),
    ] = False,
    stale: Stale = "",
    no_check: NoCheck = False,
    trust: Trust = False,
    as_json: Json = False,
    *,
    columns: dict[str, Any],
) -> None:
    """Run missing cells and print the tables.

    A data set of yours is described by its columns: lethe run reviews.csv --text review --label stars
    --task month -s er. Its default scenario is domain if tasks share their classes, else class.

    Cells whose code or data changed are stale. If only your own files changed, they are run again; for
    changes in Lethe itself choose with --stale.

    An experiment file says what is run: options that would say it a second time are refused.

    Files named on the command line are imported, and those of an experiment file when it is run. A dry run
    imports those of an experiment file only with --trust; the file of an exported model's network is always
    imported only with --trust.
    """
    if only_missing and (force or retry_failed):
        raise errors.UserError("--only-missing cannot be combined with --force or --retry-failed")
    use_mirror(data)
    from bench.cli.tune import tune_and_run
    from bench.plan import experiment_file as experiments

    short = {"model": model, "shots": shots, "rows_per_class": rows_per_class, "eval": evaluate}
    pairs = [*(settings or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    if what.endswith(".toml"):
        refuse_beside_file(what, context)
        requests, named = experiments.read_toml(Path(what))
        out = out or (Path(named) if named else None)
    else:
        request = request_of(what, columns, strategy, scenario, seeds, pairs, resume_from, budget)
        requests, what = request.alternatives, request.suite
    if out is None and not dry_run:
        raise errors.UserError("choose the folder of the run with --out")
    how: dict[str, Any] = {"check_method": leave_out if no_check else check_before_run, "stale": stale}
    how |= {
        "device": device,
        "jobs": jobs,
        "lanes": lanes,
        "force": force,
        "retry_failed": retry_failed,
        "on": on,
        "checkpoint_every": checkpoint_every,
        "per_device": per_device,
        "graph": graph,
    }
    how |= _share_of(share)
    how["track"] = trackers_of(what, track, out)
    # Everything else is named on the command line, or by a file that is.
    trust = trust or not (resume_from or (what.endswith(".toml") and dry_run))
    with importing(trust, files_named(what, strategy, pairs)):
        choosing = _choosing(what)
        if choosing is None:
            _carry_out(requests, out, dry_run, as_json, keep_models=keep_models, **how)
            return
        if force or retry_failed or keep_models:
            given = "--force, --retry-failed and --keep-models"
            raise errors.UserError(f"{what} has a [tune] table, which cannot be combined with {given}")
        tune_and_run(requests, choosing, out, dry_run, as_json, **how)


_HOW = {
    "what", "out", "track", "device", "jobs", "lanes", "on", "share", "data", "dry_run", "only_missing",
    "force", "retry_failed", "keep_models", "stale", "no_check", "trust", "as_json",
    "checkpoint_every", "graph", "per_device",
}  # fmt: skip
"""Parameters of ``run`` and ``tune`` that go with an experiment file."""


def refuse_beside_file(path: str, context: typer.Context) -> None:
    """Raise UserError if the command line has options that say what is run: an experiment file says it."""
    named = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name not in _HOW
        and (source := context.get_parameter_source(str(option.name)))
        and source.name == "COMMANDLINE"
    ]
    if named:
        raise errors.UserError(
            f"an experiment file says what is run: leave out {some(named, 3)}, or change {path}"
        )


def _choosing(what: str) -> "Choosing | None":
    """Return how an experiment file chooses settings first; None without a ``[tune]`` table."""
    if not what.endswith(".toml"):
        return None
    from bench.tune import choosing_in  # imports torch

    return choosing_in(Path(what))


def request_of(
    what: str,
    columns: dict[str, Any],
    strategy: list[str] | None,
    scenario: list[str] | None,
    seeds: str,
    pairs: list[str],
    resume_from: Path | None = None,
    budget: list[str] | None = None,
) -> "Request":
    """Return the request that a command line makes without an experiment file."""
    from bench.plan import Budget, Request, seeds as read_seeds

    if not strategy:
        raise errors.UserError("choose at least one strategy with -s; lethe list strategies shows them")
    suite = suite_named(what, columns)
    scenarios = tuple(s for part in scenario or [""] for s in part.split(","))
    chosen, limit = read_seeds(seeds), Budget.read(budget or ())
    resumed = "" if resume_from is None else str(resume_from)
    return Request(suite, tuple(strategy), scenarios, chosen, pairs_of(pairs), resumed, budget=limit)


def files_named(what: str, strategy: list[str] | None, pairs: list[str]) -> list[str]:
    """Return the words of a command line that can name a file to import."""
    from strategies import method_names

    methods = [part for text in (what, *(strategy or ())) for part in method_names(text)]
    return [*methods, *(pair.partition("=")[2] for pair in pairs)]


def pairs_of(settings: list[str]) -> dict[str, str]:
    """Return the settings of ``--set``; raises UserError for what is not ``key=value``."""
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise errors.UserError(f"cannot read --set {text!r}; write it like --set epochs=5")
        if key in pairs:
            raise errors.UserError(f"--set {key} is given twice")
        pairs[key] = value
    return pairs


def trackers_of(what: str, track: list[str] | None, out: Path | None) -> dict[str, str]:
    """Return the place of each tracker that the command line, or else an experiment file, names."""
    if not track and what.endswith(".toml"):
        from bench import schema

        track = schema.read_toml(schema.Experiment, Path(what)).track
    if not track:
        return {}
    from bench.trackers import check_trackers

    return check_trackers(track, out)


def _carry_out(
    requests: list[Any],
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    track: dict[str, str],
    **options: Any,
) -> None:
    if dry_run:
        from bench.runner import Options

        dry_run_requests(requests, out, Options(**options), as_json)
        return
    assert out is not None
    # This downloads data sets of users, on which their scenarios depend.
    for words in (words for name in dict.fromkeys(r.suite for r in requests) for words in notes_of(name)):
        print(words, file=sys.stderr)
    kind, _, settings = options["on"].partition("://")
    if kind == SLURM:
        outcome = _run_in_shares(requests, out, settings, **options)
    else:
        outcome = run_requests(requests, out, track, **options)
    show_run(outcome, out, as_json)


def show_run(outcome: Any, out: Path, as_json: bool) -> None:
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


def say_unfinished(faults: list[str]) -> None:
    """Print the faults of the environment because of which cells have no record."""
    for words in faults:
        print(f"lethe: {errors.NOT_FINISHED}: {words}; the same command runs them", file=sys.stderr)


def run_requests(requests: list[Any], out: Path, track: dict[str, str] | None = None, **options: Any) -> Any:
    """Carry out requests so that they can be stopped, and send records to trackers; return the outcome."""
    from bench.runner import Options, carry_out
    from bench.trackers import tracking  # imports pandas

    with stoppable(out) as command, tracking(track or {}) as on_record:
        return carry_out(requests, out, Options(**options, on_record=on_record), command)


def _run_in_shares(requests: list[Any], out: Path, settings: str, **options: Any) -> Any:
    """Let jobs of a batch system run this command, without its ``--on``, in shares."""
    from bench.runner import Options, run_in_shares

    words, given = [], iter(sys.argv[1:])
    for word in given:
        if word == "--on":
            next(given)
        elif not word.startswith("--on="):
            words.append(word)
    with stoppable(out):
        return run_in_shares(requests, out, Options(**options | {"on": LOCAL}), settings, words)


def _share_of(text: str) -> dict[str, int]:
    """Read ``I/N``."""
    if not text:
        return {}
    share, slash, shares = text.partition("/")
    if not (slash and share.isdigit() and shares.isdigit() and int(share) < int(shares)):
        raise errors.UserError(f"cannot read --share {text!r}; write it like --share 0/16, the last is 15/16")
    return {"share": int(share), "shares": int(shares)}


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


def dry_run_requests(requests: list[Any], out: Path | None, options: Any, as_json: bool = False) -> None:
    """Print the plan."""
    from bench.runner import resolve_for
    from bench.store import RunReader

    run = None if out is None else RunReader(out)
    plan = resolve_for(requests, run, options, download=False)
    print(plan.to_json() if as_json else plan)
    for words in run.unreadable if run else ():
        print(words, file=sys.stderr)
