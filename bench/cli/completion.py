"""The command ``completion``, and the names that a shell completes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.cli.app import app

Shell = Literal["bash", "zsh", "fish", "powershell"]
KINDS = ("suites", "strategies", "models", "scores")
VARIABLE = "_LETHE_COMPLETE"
"""Set by a shell that asks for completions."""


def begin_completion() -> None:
    """Let typer answer a shell that asks for completions."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


def names_of(*plurals: str) -> Callable[[str], list[str]]:
    """Return a function that completes the names of some of ``KINDS``."""

    def complete(incomplete: str) -> list[str]:
        from bench.cli.kinds import registries

        known = registries()
        found = (d.name for plural in plurals for d in known[plural].descriptions())
        return [name for name in found if name.startswith(incomplete)]

    return complete


def selectors(incomplete: str) -> list[str]:
    """Complete the name of a strategy, and in its brackets hyper-parameters and training settings."""
    from dataclasses import fields

    from strategies import REGISTRY
    from suites.base import Training

    before, bracket, inside = incomplete.rpartition("[")
    if not bracket or "]" in inside:
        return names_of("strategies")(incomplete)
    *given, begun = inside.split(",")
    known = {d.name: [option.name for option in d.options] for d in REGISTRY.descriptions()}
    names = [*known.get(before.rpartition("+")[2], ()), *(field.name for field in fields(Training))]
    start = ",".join([*given, ""])
    return [f"{before}[{start}{name}=" for name in names if name.startswith(begun)]


@app.command(epilog="Examples: lethe completion bash | lethe completion zsh --show")
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell.")],
    show: Annotated[bool, typer.Option("--show", help="Print the script; install nothing.")] = False,
) -> None:
    """Install completion of commands, options, suites, strategies, models and scores in a shell."""
    from typer import _completion_shared as of_typer

    if show:
        print(of_typer.get_completion_script(prog_name="lethe", complete_var=VARIABLE, shell=shell))
        return
    _, path = of_typer.install(shell, "lethe", VARIABLE)
    print(f"installed in {Path(path)}; it works in new shells")
