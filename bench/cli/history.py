"""The command ``history``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Json, app
from bench.cli.output import print_json


@app.command(
    epilog="Examples: lethe history digits --score acc,forgetting | lethe history results/runs/first "
    "results/runs/second -s er --all"
)
def history(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs or JSON of lethe perf, by time; or one packed run that git tracks."
        ),
    ],
    scores: Annotated[str, typer.Option("--score", help="Scores, with commas.")] = "acc",
    strategy: Annotated[
        list[str] | None, typer.Option("-s", "--strategy", help="Only this strategy; repeat for more.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="Only task, domain, class or online.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Show rows without a step, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the table and figures into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Show scores or speed over revisions, and the revisions at which they changed by a step.

    One packed run that git tracks is read at every commit that changed it. A step is shown with the commits
    between its two revisions.
    """
    from rich.console import Console

    from bench.report import HISTORY_HEADER, history_rows, history_steps, print_rows, write_history
    from bench.results import history as read

    lines = read(places, tuple(filter(None, scores.split(","))), strategy or (), scenario)
    if as_json:
        rows = [
            {"suite": line.suite, "scenario": line.scenario, "strategy": line.strategy, "score": line.score}
            | {"values": [asdict(r) | asdict(v) for r, v in line.values.items()]}
            | {"steps": [asdict(step) for step in line.steps]}
            for line in lines
        ]
        print_json({"schema": 1, "lines": rows})
    else:
        shown = history_rows(lines, every)
        if shown:
            print_rows(HISTORY_HEADER, shown, Console())
        counted = f"{len(lines)} row{'s' * (len(lines) > 1)}"
        print(f"{counted}, {sum(bool(line.steps) for line in lines)} of them with a step")
        for text in history_steps(lines):
            print(text)
    for path in write_history(lines, out) if out else ():
        if not as_json:
            print(path)
