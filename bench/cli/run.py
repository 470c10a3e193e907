"""The command ``run``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.checks.before_run import check_before_run, leave_out
from bench.cli.app import (
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
    importing,
    use_mirror,
)
from bench.cli.asked import experiment_of, share_of
from bench.cli.carrying_out import carry_out
from bench.cli.completion import names_of, selectors
from bench.cli.data_options import takes_data_options
from strategies import method_names
from suites import errors


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
    ] = "local",
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
    short = {"model": model, "shots": shots, "rows_per_class": rows_per_class, "eval": evaluate}
    pairs = [*(settings or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    asked = experiment_of(
        context, what, columns, strategy, scenario, seeds, pairs, budget, out,
        track=track, resume_from=resume_from,
    )  # fmt: skip
    first, shares = share_of(share)
    from bench.runner import Options  # imports torch, which bad input does not need

    options = Options(
        device=device,
        jobs=jobs,
        per_device=per_device,
        lanes=lanes,
        force=force,
        retry_failed=retry_failed,
        stale=stale,
        on=on,
        share=first,
        shares=shares,
        check_method=leave_out if no_check else check_before_run,
        keep_models=keep_models,
        checkpoint_every=checkpoint_every,
        graph=graph,
    )
    if asked.tune and (force or retry_failed or keep_models or options.in_jobs):
        given = "--force, --retry-failed, --keep-models and --on slurm"
        raise errors.UserError(f"{what} has a [tune] table, which cannot be combined with {given}")
    # Everything else is named on the command line, or by a file that is.
    trust = trust or not (resume_from or (what.endswith(".toml") and dry_run))
    named = [part for text in (what, *(strategy or ())) for part in method_names(text)]
    with importing(trust, [*named, *(pair.partition("=")[2] for pair in pairs)]):
        carry_out(asked, options, dry_run, as_json)
