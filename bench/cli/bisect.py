"""The command ``bisect``."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.app import Json, app
from bench.cli.carrying_out import stoppable
from bench.cli.output import print_json
from bench.cli.perf import setups_of
from suites import errors


@app.command(
    epilog="Examples: lethe bisect --good v1 --bad main -- digits -s er --seeds 5 --score acc "
    "| lethe bisect --good v1 --bad main --perf -- digits -s er --lanes 8"
)
def bisect(
    words: Annotated[
        list[str],
        typer.Argument(metavar="-- WORDS...", help="The words of lethe run with --score, or of lethe perf."),
    ],
    good: Annotated[str, typer.Option(metavar="REV", help="The revision that is compared with.")],
    bad: Annotated[str, typer.Option(metavar="REV", help="A later revision that is worse.")],
    perf: Annotated[
        bool, typer.Option("--perf", help="Judge the time of a step, as lethe perf does.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the runs and verdicts.")] = Path("results/runs/bisect"),
    as_json: Json = False,
) -> None:
    """Find the first revision at which a score or the speed became worse, by git bisect.

    Revisions are checked out into temporary worktrees; those that cannot be run are skipped. The same command
    continues a bisection that was stopped.
    """
    from bench.checks.bisection import Bisection, check_ends, find
    from bench.checks.trees import git, revision

    asked = Bisection(out.absolute(), revision(good), revision(bad), [])
    if perf:
        read = _options("perf", words)
        names = ("suite", "strategy", "scenario", "lanes", "settings", "device")
        asked.setups, asked.margin = setups_of(*(read[of] for of in names)), read["margin"] / 100
    else:
        asked.words, asked.scores = _scores(words)
        _options("run", [*asked.words, "--out", str(out)])
    with stoppable(out):
        ends = check_ends(asked)
        found = find(ends)
    if not found:  # its last line said why
        print("stopped; the same command continues", file=sys.stderr)
        raise typer.Exit(1)
    verdicts = Bisection.read(asked.folder).verdicts
    skipped = [name for name, of in verdicts.items() if of.verdict == "skip"]
    if as_json:
        of = {name: {"verdict": v.verdict, "why": v.why} for name, v in verdicts.items()}
        print_json({"first_bad": found, "verdicts": of, "folder": out})
        raise typer.Exit(0 if len(found) == 1 else 1)
    for name in skipped:
        print(f"skipped {git('log', '-1', '--format=%h %s', name)}: {verdicts[name].why}")
    if len(found) != 1:
        several = ", ".join(revision[:12] for revision in found)
        print(f"the first bad revision is one of {several}: some of them could not be run")
        raise typer.Exit(1)
    (name,) = found
    before = git("rev-parse", f"{name}^1")
    print(git("show", "--stat", "--format=first bad revision: %h %s%n%an, %ad%n", name))
    print(f"\nat {name[:12]}: {verdicts[name].why}")
    if before in verdicts:
        print(f"before, at {before[:12]}: {verdicts[before].why}")
    print(f"runs and verdicts: {out}")


def _options(command: str, words: list[str]) -> dict[str, Any]:
    """Return the options that words give to a command, without running it; a usage error ends with code 2."""
    known: Any = typer.main.get_command(app)
    found: dict[str, Any] = known.commands[command].make_context(f"lethe {command}", list(words)).params
    return found


def _scores(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words without ``--score NAME``, and the names."""
    rest, scores = [], []
    given = iter(words)
    for word in given:
        if word == "--score":
            scores.extend(next(given, "").split(","))
        else:
            rest.append(word)
    if "" in scores:
        raise errors.UserError("--score needs the name of a score, like --score acc")
    return rest, scores
