"""The commands ``report``, ``power`` and ``cite``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import Json, app, end_with, opened
from bench.cli.output import print_json
from suites import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import Layout
    from bench.results import Frames


@app.command(
    epilog="Examples: lethe report results/runs/first --scores acc,forgetting "
    "| lethe report results/runs/first results/runs/second --wide --spread sd --out results/runs/both "
    "| lethe report results/runs/first --without er --width column"
)
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    scores: Annotated[str, typer.Option(help="Scores as columns, separated by commas.")] = "",
    spread: Annotated[
        str, typer.Option(help="ci (95 % t interval), bca (95 % bootstrap interval), sd or sem.")
    ] = "ci",
    by_family: Annotated[bool, typer.Option("--by-family", help="Group rows by family.")] = False,
    per_task: Annotated[bool, typer.Option("--per-task", help="Show the final score of each task.")] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show suites as columns, one table per score.")
    ] = False,
    by_class: Annotated[
        bool, typer.Option("--classes", help="Add precision, recall and F1 of each class.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; by default DIR/report.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page live, on this machine only; Ctrl-C ends it.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for --serve; 0 for a free one.")] = 0,
    prefer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run to use where runs contradict each other.")
    ] = None,
    label: Annotated[str, typer.Option(metavar="DIR=NAME,...", help="Compare runs under these names.")] = "",
    split: Annotated[
        str, typer.Option(help="Rows that scores are measured on: test or validation.")
    ] = "test",
    only: Annotated[
        list[str] | None, typer.Option(metavar="STRATEGY", help="Show this strategy; can be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="STRATEGY", help="Leave this strategy out; can be repeated.")
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Display names, in their order: TOML lines like "er" = "Replay".'),
    ] = None,
    columns: Annotated[
        int, typer.Option(min=1, max=2, help="LaTeX tables over 1 or 2 columns of a paper.")
    ] = 1,
    width: Annotated[
        str, typer.Option(help="Width of the figures: column (3.35 in), text (6.9 in) or inches.")
    ] = "text",
    formats: Annotated[
        str,
        typer.Option(
            help="Formats of the figures: pdf, svg, png, pgf. By default the first three, or svg for more "
            "than 20 suites and scenarios."
        ),
    ] = "",
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="Scores over revisions: an earlier run (repeat for more), or a packed run in git.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the page, tables (terminal, Markdown, LaTeX, CSV) and figures of one or several runs."""
    import time

    from rich.console import Console

    from bench.report import (
        Layout,
        chosen_formats,
        chosen_width,
        class_tables,
        grid_settings,
        make_report,
        print_classes,
        write_classes,
    )
    from bench.results import as_shown, choose, history as read_history, load, read_names

    runs = [opened(folder) for folder in folders]
    layout = Layout(spread, by_family, per_task, wide, True, True, columns)  # type: ignore[arg-type]
    chosen = tuple(filter(None, scores.split(","))) or None
    inches, kinds = chosen_width(width), chosen_formats([*filter(None, formats.split(","))])
    labels, called = _labels(label), read_names(names) if names else {}

    def read() -> Frames:
        frames = as_shown(load(folders, prefer=prefer, labels=labels))
        return choose(frames, only or (), without or (), called)

    if serve:
        if split != "test":
            raise errors.UserError("--serve shows scores on test rows: leave out --split")
        _serve(folders, read, chosen, layout, port)
        return
    if out is None and len(folders) > 1:
        raise errors.UserError("a report on several runs needs --out, the folder to write it to")
    if out is None and runs[0].packed:
        raise errors.UserError("a report on a packed run needs --out, the folder to write it to")
    frames = read().on(split)
    classes = class_tables(frames, layout) if by_class else None
    target, date = out or folders[0] / "report", time.strftime("%Y-%m-%d")
    console = None if as_json else Console()
    lines = read_history(history, chosen or ("acc",)) if history else ()
    made = make_report(frames, target, chosen, layout, date, console, inches, kinds, lines)
    if classes:
        write_classes(classes, target)
    if as_json:
        found = {"report": target / "index.html", "table": made.numbers, "pairs": made.pairs}
        print_json(found | {"grids": grid_settings(frames.grids)})
    else:
        if classes:
            print_classes(classes, Console())
        print(f"report: {target / 'index.html'}")
    end_with(frames.unreadable)


def _labels(text: str) -> dict[str, str]:
    """Read ``A=old,B=new``: labels of runs by folder."""
    found = dict(part.rpartition("=")[::2] for part in filter(None, text.split(",")))
    if not all(folder and name for folder, name in found.items()):
        raise errors.UserError(f"cannot read --label {text!r}; write it like --label runs/a=old,runs/b=new")
    return found


def _serve(
    folders: list[Path],
    read: Callable[[], Frames],
    scores: tuple[str, ...] | None,
    layout: Layout,
    port: int,
) -> None:
    """Serve the page of runs until Ctrl-C."""
    from bench.report import HOST, page_server

    serving = page_server(folders, read, scores, layout, port)
    print(f"the page: http://{HOST}:{serving.server_address[1]}/ (Ctrl-C ends it)", flush=True)
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        serving.server_close()


@app.command(epilog="Example: lethe power results/runs/first er ewc --score acc --difference 1.0")
def power(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")],
    a: Annotated[str, typer.Argument(metavar="A", help="A strategy of the run, as in its tables.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another strategy.")],
    score: Annotated[str, typer.Option(help="The score.")] = "acc",
    difference: Annotated[float, typer.Option(help="The true difference to detect, in points.")] = 1.0,
    comparisons: Annotated[
        int | None,
        typer.Option(
            min=1, help="Comparisons that Holm corrects for; by default the number of strategies less one."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate how many seeds a report needs to show a difference between two strategies of a run.

    The test is that of a report, with its correction for the comparisons with the best strategy.
    """
    from rich.console import Console

    from bench.report import left_out, needed_seeds, print_power
    from bench.results import as_shown, load

    frames = as_shown(load(folder))
    found = needed_seeds(frames, a, b, score, difference, comparisons)
    if as_json:
        print_json([asdict(need) for need in found])
    else:
        print_power(found, a, b, score, difference, Console())
    for words in left_out(frames):
        print(words, file=sys.stderr)
    end_with(frames.unreadable)


@app.command(epilog="Example: lethe cite results/runs/first > references.bib")
def cite(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    as_json: Json = False,
) -> None:
    """Print BibTeX of the methods, suites and Lethe that runs used, and the licences of their data."""
    from bench.report import citations
    from bench.results import load

    frames = load(*folders)
    text = citations(frames)
    if as_json:
        print_json({"bibtex": text})
    else:
        print(text)
    end_with(frames.unreadable)
