"""The Typer app, and helpers that several commands share."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites import errors
from suites.version import VERSION

if TYPE_CHECKING:
    from bench.store import RunReader

app = typer.Typer(
    help="Lethe measures what a model forgets: continual-learning strategies over task streams.",
    epilog="Example: lethe run digits -s finetune -s er --seeds 5 --out results/runs/first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets are options of a strategy, not markup
    context_settings={"help_option_names": ["-h", "--help"]},
)
ORDER = [
    "list", "show", "describe", "init", "run", "tune", "status", "report", "power", "cite", "compare",
    "verify", "rerun", "check", "export", "predict", "pack", "unpack", "perf", "bisect", "history",
    "completion",
]  # fmt: skip
"""The commands in the order of use, as --help lists them."""


def in_order_of_use() -> None:
    """Put the commands into the order of --help; those that are not in ``ORDER`` come last."""
    place = {name: n for n, name in enumerate(ORDER)}
    names = ((c, c.name or str(getattr(c.callback, "__name__", ""))) for c in app.registered_commands)
    app.registered_commands = [c for c, _ in sorted(names, key=lambda of: place.get(of[1], len(place)))]


Scenarios = Annotated[
    list[str] | None,
    typer.Option(help="task, domain, class (the default) or online; repeat, or use commas."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value: a training setting, model, or a model option."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="memory=2MB|compute=1.5",
        help="Size every method to this budget; compute is a multiple of what finetune computes.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0 for one per core or GPU.")]
Lanes = Annotated[
    int, typer.Option(min=0, help="Largest number of cells trained together; 0 to choose by the model.")
]
Mirror = Annotated[Path | None, typer.Option(help="A local mirror of the hub's files.")]
Stale = Annotated[
    str, typer.Option(metavar="rerun|keep", help="Run cells made by other code or data again, or keep them.")
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Run methods in files without lethe check.")]
Trust = Annotated[bool, typer.Option("--trust", help="Import files that were not named on the command line.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="tensorboard[:DIR]|mlflow[:URI]|wandb[:PROJECT]|trackio[:PROJECT]",
        help="Send scores to trackers; repeat, or use commas.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be run; run nothing.")]


DEBUG = "--debug"


def debugging() -> bool:
    """Return whether --debug is among the words of the command."""
    return DEBUG in sys.argv[1:]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lethe {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show whole tracebacks; can be given anywhere in a command.")
    ] = False,
) -> None:
    pass


def use_mirror(data: Path | None) -> None:
    """Use a local mirror of the hub; raises UserError if it is not a folder."""
    if data is not None:
        if not data.is_dir():
            raise errors.UserError(f"--data {data} is not a folder")
        os.environ["LETHE_DATA"] = str(data)


def importing(trust: bool, named: Iterable[str] = ()) -> AbstractContextManager[None]:
    """Return a context in which users' files are only imported if named, or with ``trust``."""
    from suites.registry import only_files

    return nullcontext() if trust else only_files(named)


def end_with(unreadable: Sequence[str]) -> None:
    """Print a line for each file that could not be read; end with exit code 1 if there is one."""
    for words in dict.fromkeys(unreadable):
        print(words, file=sys.stderr)
    if unreadable:
        raise typer.Exit(1)


def opened(folder: Path) -> "RunReader":
    """Return a run; raises UserError if the folder is not a run."""
    from bench.store import RunReader

    run = RunReader(folder)
    if not run.manifest_if_readable().commands and not run.unreadable:
        raise errors.UserError(f"{folder} is not a run's folder: it has no run.json")
    return run
