"""The command ``tune``: choose settings by validation rows, then run the chosen ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from bench.cli.completion import names_of
from bench.cli.data_options import takes_data_options
from bench.cli.output import print_json
from bench.cli.run import (
    files_named,
    refuse_beside_file,
    request_of,
    run_requests,
    say_unfinished,
    show_run,
    stoppable,
    trackers_of,
)
from suites import errors

if TYPE_CHECKING:
    from bench.plan import Request
    from bench.tune import Choosing, Study


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
    from bench.plan import experiment_file as experiments

    pairs = settings or []
    if what.endswith(".toml"):
        refuse_beside_file(what, context)
        requests, named = experiments.read_toml(Path(what))
        from bench.tune import choosing_in  # imports torch, which bad input does not need

        how, out = choosing_in(Path(what)), out or (Path(named) if named else None)
        if how is None:
            raise errors.UserError(f"{what} has no [tune] table: lethe run {what} runs it as it is")
    else:
        request = request_of(what, columns, strategy, scenario, seeds, pairs, budget=budget)
        requests, what = request.alternatives, request.suite
        from bench.tune import Choosing, read_spaces

        on, spaces = experiments.seeds(tuning_seeds), read_spaces(space or [])
        how = Choosing(trials, steps, protocol, on, sampler, sampler_seed, spaces, report, untuned, prune)
    if out is None and not dry_run:
        raise errors.UserError("choose the folder of the results with --out")
    options: dict[str, Any] = {"check_method": leave_out if no_check else check_before_run, "stale": stale}
    options |= {"device": device, "jobs": jobs, "lanes": lanes, "track": trackers_of(what, None, out)}
    trust = trust or not (what.endswith(".toml") and dry_run)
    with importing(trust, files_named(what, strategy, pairs)):
        tune_and_run(requests, how, out, dry_run, as_json, **options)


def tune_and_run(
    requests: list[Request],
    how: Choosing,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    track: dict[str, str],
    **options: Any,
) -> None:
    """Tune, then run the chosen settings and print their tables; or print what would be done.

    Trackers get the chosen settings on the reported seeds, not the trials.
    """
    from bench.tune import Study

    folder = out or Path("results/runs/tuned")
    study = Study(requests, how, folder, download=not dry_run)
    if dry_run:
        _dry_run(study, out is not None, as_json, options)
        return
    _tune(study, options)
    for words in study.chosen_in_words():
        print(words, file=sys.stderr)
    if reported := study.reported():
        show_run(run_requests(reported, folder, track, **options), folder, as_json)
    elif as_json:
        print_json({"run": folder, "tuning": [of.model_dump() for of in study.tuned().values()]})


def _tune(study: Study, options: dict[str, Any]) -> None:
    from bench.runner import Options

    with stoppable(study.folder) as command:
        unfinished = study.tune(Options(**options), command, lambda words: print(words, file=sys.stderr))
    if unfinished:
        say_unfinished(unfinished)
        raise typer.Exit(1)


def _dry_run(study: Study, there: bool, as_json: bool, options: dict[str, Any]) -> None:
    """Print search spaces, and the plan of the trials that do not depend on results."""
    from bench.runner import Options, resolve_for
    from bench.store import RunReader

    run = RunReader(study.trials_folder) if there else None
    if there:
        study.check_folder()
    plan = resolve_for(study.ask(), run, Options(**options), download=False)
    if as_json:
        print_json({"study": study.lines(), "first_trials": plan.to_json()})
        return
    print("\n".join(study.lines()))
    print(plan)
