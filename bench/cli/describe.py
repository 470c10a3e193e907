"""The command ``describe``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.app import Json, Mirror, app, use_mirror
from bench.cli.completion import names_of
from bench.cli.data_options import takes_data_options
from bench.cli.output import print_json
from suites.declared import suite_named
from suites.errors import UserError

_MOST = 40


@app.command(
    epilog="Examples: lethe describe digits "
    "| lethe describe reviews.csv --text text --label label --task month --figure reviews.svg"
)
@takes_data_options
def describe(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|DATA",
            help="A suite, or a data set of yours (table, arrays, images, hub).",
            autocompletion=names_of("suites"),
        ),
    ],
    figure: Annotated[
        Path | None, typer.Option(help="Draw rows and labels into a .svg, .pdf or .png.")
    ] = None,
    data: Mirror = None,
    as_json: Json = False,
    *,
    columns: dict[str, Any],
) -> None:
    """Show what is in a data set: rows of each task, class and split, lengths, duplicates, drift of labels.

    Warnings are about what makes numbers misleading; lethe run repeats them for a data set of yours.
    """
    if figure is not None and figure.suffix not in (".svg", ".pdf", ".png"):
        raise UserError(f"--figure {figure}: write a name that ends in .svg, .pdf or .png")
    use_mirror(data)
    import suites
    from suites.own.portrait import portrait

    name = suite_named(what, columns)
    suite = suites.get(name)
    found = portrait(suite.load())
    if figure is not None:
        from bench.report import draw_data

        draw_data(found, figure)
    name = suites.REGISTRY.spelled(name)
    if as_json:
        said = {"suite": name, "scenarios": suite.scenarios, "why_not": suite.why_not}
        print_json(said | found.as_json())
        return
    print(f"{name}: {suite.summary}")
    print(f"scenarios: {', '.join(suite.scenarios)} (without --scenario: {suite.usual_scenario})")
    for scenario, why in suite.why_not.items():
        print(f"no {scenario} scenario: {why}")
    _print_rows(found)
    for words in _in_words(found):
        print(words)


def _print_rows(found: Any) -> None:
    """Print the rows of each task and of each class; --json has those of each class of each task."""
    from rich.console import Console

    from bench.report import print_rows

    def show(header: list[str], rows: list[list[str]]) -> None:
        print_rows(header, rows[:_MOST], Console())
        if len(rows) > _MOST:
            print(f"... {len(rows) - _MOST} more; --json has all")

    def counted(names: Any, rows_K2: Any) -> list[list[str]]:
        pairs = zip(names, rows_K2.tolist(), strict=True)
        return [[name, f"{n_train:,}", f"{n_test:,}"] for name, (n_train, n_test) in pairs]

    if len(found.tasks) > 1:
        rows = counted(found.tasks, found.rows_TC2.sum(1))
        n_classes = (found.rows_TC2.sum(2) > 0).sum(1).tolist()
        drift = ["–", *(f"{d:.2f}" for d in found.drift)]
        more = zip(rows, n_classes, drift, strict=True)
        show(["task", "train", "test", "classes", "drift"], [[*row, str(n), d] for row, n, d in more])
    show(["class", "train", "test"], counted(found.classes, found.rows_TC2.sum(0)))


def _in_words(found: Any) -> list[str]:
    n_train, n_test = found.rows_TC2.sum((0, 1)).tolist()
    held = "" if found.validation is None else f" ({found.validation:,} of them for validation)"
    lines = [f"{n_train:,} training rows{held}, {n_test:,} test rows, {len(found.classes)} classes"]
    if found.lengths:
        ends = ", ".join(f"{kind} {value:g}" for kind, value in found.lengths.items())
        lines.append(f"characters of a text: {ends}; {found.empty:,} empty")
    else:
        lines.append(f"shape of an image: {' x '.join(map(str, found.shape))}")
    same = found.duplicates
    lines.append(
        f"duplicates: {same['train']:,} within train, {same['test']:,} within test, {same['between']:,} test "
        f"rows are in train, {same['contradicting']:,} rows with several classes"
    )
    if len(found.tasks) > 1:
        lines.append("drift: distance of the label shares from those of the task before, from 0 to 1")
    return [*lines, *(f"warning: {words}" for words in found.warnings)]
