"""The command ``tune``: choose settings by validation rows, then run the chosen ones."""

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
    Settings,
    Stale,
    Trust,
    app,
    importing,
    use_mirror,
)
from bench.cli.asked import experiment_of
from bench.cli.carrying_out import carry_out
from bench.cli.completion import names_of
from bench.cli.data_options import takes_data_options
from suites import errors


@app.command(
    epilog="Examples: lethe tune digits -s ewc -s er --trials 12 --seeds 10 --out results/runs/tuned "
    "| lethe tune digits -s 'ewc[lam=1..1e5:log]' --protocol first-tasks=2 --dry-run "
    "| lethe tune results/reference/digits-tuned.toml"
)
@takes_data_options
def tune(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|DATA|FILE.toml",
            help="A suite, a data set of yours, or an experiment file with a [tune] table.",
            autocompletion=names_of("suites"),
        ),
    ],
    strategy: Annotated[
        list[str] | None,
        typer.Option("-s", "--strategy", help="Can be repeated; settings in its brackets are not tuned."),
    ] = None,
    scenario: Scenarios = None,
    seeds: Annotated[str, typer.Option(help="The reported seeds: 10 means 0 to 9; 2-6; 1,4.")] = "10",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; trials are in its folder tuning.")
    ] = None,
    settings: Settings = None,
    budget: Budgets = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials of each strategy; the first has its defaults.")
    ] = 30,
    steps: Annotated[
        int, typer.Option(min=0, help="Limit on the training steps of all trials of a strategy; 0 for none.")
    ] = 0,
    protocol: Annotated[str, typer.Option(help="seeds, first-tasks=K or end.")] = "seeds",
    tuning_seeds: Annotated[
        str, typer.Option(help="Seeds that settings are chosen on; none of the reported ones.")
    ] = "1000-1002",
    sampler: Annotated[
        str, typer.Option(help="tpe (Optuna), random, grid; auto is tpe if Optuna is installed, else random.")
    ] = "auto",
    sampler_seed: Annotated[int, typer.Option(min=0, help="Seed of the sampler.")] = 0,
    space: Annotated[
        list[str] | None,
        typer.Option(help="Ranges in place of those declared: 'ewc[lam=1..1e5:log]'; can be repeated."),
    ] = None,
    report: Annotated[
        str,
        typer.Option(help="Trials to run on the reported seeds: chosen, incumbents (best yet), all, none."),
    ] = "chosen",
    untuned: Annotated[
        bool, typer.Option("--untuned", help="Run the strategies' defaults on the reported seeds too.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Stop trials below the median of validation scores, from task 2 on."),
    ] = False,
    device: Device = "cpu",
    jobs: Jobs = 0,
    lanes: Lanes = 0,
    data: Mirror = None,
    dry_run: DryRun = False,
    stale: Stale = "",
    no_check: NoCheck = False,
    trust: Trust = False,
    as_json: Json = False,
    *,
    columns: dict[str, Any],
) -> None:
    """Choose settings by validation rows of tuning seeds, then run the chosen ones on the reported seeds.

    Trials are trained together as lanes, on a view of the suite that has no test rows. Stopped and started
    again, the command continues and chooses the same.

    An experiment file says what is tuned and how: options that would say it a second time are refused.
    """
    use_mirror(data)
    asked = experiment_of(context, what, columns, strategy, scenario, seeds, settings or (), budget, out)
    if what.endswith(".toml") and asked.tune is None:
        raise errors.UserError(f"{what} has no [tune] table: lethe run {what} runs it as it is")
    from bench.runner import Options  # these import torch, which bad input does not need
    from bench.tune import Choosing

    how = None if asked.tune else Choosing.read(
        tuning_seeds, space or (), trials=trials, steps=steps, protocol=protocol, sampler=sampler,
        sampler_seed=sampler_seed, report=report, untuned=untuned, prune=prune,
    )  # fmt: skip
    checker = leave_out if no_check else check_before_run
    options = Options(device, jobs, lanes=lanes, stale=stale, check_method=checker)
    with importing(trust or not (what.endswith(".toml") and dry_run)):
        carry_out(asked, options, dry_run, as_json, how)
