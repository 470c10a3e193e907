"""The command ``compare``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Json, app
from suites import errors


@app.command(
    epilog="Examples: lethe compare digits results/runs/first | lethe compare results/runs/first "
    "results/runs/second --expect same --markdown comment.md --junit comparison.xml"
)
def compare(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A run, packed run, or name under results/reference.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The run that is judged.")],
    scores: Annotated[
        str,
        typer.Option(
            help="Scores, sizes and times, with commas; by default acc,aia,learning_acc,forgetting."
        ),
    ] = "",
    margin: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Largest difference that does not count, in points, instead of lethe.toml."
        ),
    ] = None,
    expect: Annotated[
        str, typer.Option(help="not-worse, same (better is an alarm too) or equal (bit for bit).")
    ] = "not-worse",
    seeds: Annotated[
        str,
        typer.Option(help="Only these seeds: 5 means 0 to 4; 2-6; 1,4. By default all in common."),
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Show scores that are the same, too.")] = False,
    as_json: Json = False,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown into this file.")] = None,
    badge: Annotated[Path | None, typer.Option(help="Write a badge for shields.io into this file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML into this file.")] = None,
) -> None:
    """Compare two runs by seed: which scores are the same, worse, better or unclear, and what else differs.

    Exit code 0 without an alarm, 1 with one, 2 if the runs cannot be compared.
    """
    from rich.console import Console

    from bench.plan import seeds_of
    from bench.report import comparison_badge, comparison_junit, comparison_markdown, print_comparison
    from bench.results import compare_runs

    margins = None if margin is None else {"any": {"any": margin}}
    chosen, only = tuple(filter(None, scores.split(","))), seeds_of(seeds) if seeds else ()
    found = compare_runs(base, new, chosen, margins, expect, only)  # type: ignore[arg-type]
    if as_json:
        print(found.model_dump_json(indent=1, by_alias=True))
    else:
        print_comparison(found, Console(), every)
    badge_text = json.dumps(comparison_badge(found)) + "\n"
    texts = (comparison_markdown(found, every), comparison_junit(found), badge_text)
    for path, text in zip((markdown, junit, badge), texts, strict=True):
        if path is not None:
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise errors.UserError(f"cannot write {path}: {error.strerror}") from None
    raise typer.Exit(found.exit_code)
