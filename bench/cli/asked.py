"""Reads what the words of a command ask for: an experiment file, or options that say what is run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from suites import errors
from suites.declared import suite_named
from suites.errors import some

if TYPE_CHECKING:
    from bench.plan import Experiment

HOW = {
    "what", "out", "track", "device", "jobs", "lanes", "on", "share", "data", "dry_run", "only_missing",
    "force", "retry_failed", "keep_models", "stale", "no_check", "trust", "as_json",
    "checkpoint_every", "graph", "per_device",
}  # fmt: skip
"""Parameters of ``run`` and ``tune`` that go with an experiment file."""


def experiment_of(
    context: typer.Context,
    what: str,
    columns: dict[str, Any],
    strategy: Sequence[str] | None,
    scenario: Sequence[str] | None,
    seeds: str,
    pairs: Sequence[str],
    budget: Sequence[str] | None,
    out: Path | None,
    *,
    track: Sequence[str] | None = None,
    resume_from: Path | None = None,
) -> "Experiment":
    """Return what a command line or the experiment file that it names asks for.

    Raises:
        UserError: A word cannot be read, the folder of the run is missing, or options say what the file says.
    """
    from bench.plan import Experiment, read_experiment, worded_request

    if what.endswith(".toml"):
        _refuse_beside_file(what, context)
        asked = read_experiment(Path(what))
    else:
        if not strategy:
            raise errors.UserError("choose at least one strategy with -s; lethe list strategies shows them")
        suite = suite_named(what, columns)
        scenarios = [s for part in scenario or [""] for s in part.split(",")]
        options = pairs_of(pairs)
        request = worded_request(suite, strategy, scenarios, seeds, options, budget or (), resume_from)
        asked = Experiment(request.alternatives)
    if not (out or asked.out or context.params["dry_run"]):
        raise errors.UserError("choose the folder of the run with --out")
    return replace(asked, out=out or asked.out, track=track or asked.track)


def _refuse_beside_file(path: str, context: typer.Context) -> None:
    """Raise UserError if the command line has options that say what is run: an experiment file says it."""
    named = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name not in HOW
        and (source := context.get_parameter_source(str(option.name)))
        and source.name == "COMMANDLINE"
    ]
    if named:
        raise errors.UserError(
            f"an experiment file says what is run: leave out {some(named, 3)}, or change {path}"
        )


def pairs_of(settings: Sequence[str]) -> dict[str, str]:
    """Return the settings of ``--set``; raises UserError for what is not ``key=value``."""
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise errors.UserError(f"cannot read --set {text!r}; write it like --set epochs=5")
        if key in pairs:
            raise errors.UserError(f"--set {key} is given twice")
        pairs[key] = value
    return pairs


def share_of(text: str) -> tuple[int, int]:
    """Read ``I/N``; without it the one share that is everything."""
    share, slash, shares = (text or "0/1").partition("/")
    if not (slash and share.isdigit() and shares.isdigit() and int(share) < int(shares)):
        raise errors.UserError(f"cannot read --share {text!r}; write it like --share 0/16, the last is 15/16")
    return int(share), int(shares)
