"""Runs a plan in shares: jobs of a batch system run the same command, each on its share of the groups."""

import shlex
import time
from pathlib import Path

from bench.engines import Array
from bench.plan import ResolvedPlan
from bench.runner.options import Options
from bench.runner.progress import Progress
from bench.runner.run_outcome import Ended, Outcome, outcome_of
from bench.store import RunFolder
from suites.announce import to_stderr
from suites.errors import UserError

_SECONDS = 1.0


def run_in_shares(plan: ResolvedPlan, folder: Path, options: Options, command: str) -> Outcome:
    """Submit one array of jobs that run a command, each a share; wait for them and return what became of the
    cells. Stopped, it cancels the jobs that have not begun; the others go on.

    Raises:
        UserError: The plan cannot be run, or there is no batch system.
    """
    if plan.refusal:
        raise UserError(plan.refusal)
    run = RunFolder(folder)
    todo = [spec for spec in plan.cells if spec.key not in plan.existing]
    if not todo:
        return outcome_of(todo, run, [], Ended())
    array = Array(options.on.partition("://")[2], folder / "jobs")
    array.submit(_words_of_a_job(command), min(array.shares, max(len(plan.groups), 1)))
    to_stderr(f"submitted jobs {array.names()}; their output is in {folder / 'jobs'}")
    run.new_records()
    with Progress(folder, todo, options.quiet) as progress:
        try:
            while True:
                left = array.under_way()
                progress.done([plan.by_key[key] for key in run.new_records() if key in plan.by_key])
                if not left:
                    break
                time.sleep(_SECONDS)
        except KeyboardInterrupt:
            array.cancel_waiting()
            to_stderr(f"{array.under_way()} jobs have begun and go on; the others are cancelled")
            raise
    after = RunFolder(folder)
    written, why = after.written(), "; ".join(array.failures()) or "its job ended without it"
    missing = [s.key for s in todo if written.get(s.key, "") == plan.replaced.get(s.key, "")]
    return outcome_of(todo, after, [], Ended(unfinished=dict.fromkeys(missing, why)))


def _words_of_a_job(command: str) -> list[str]:
    """Return the words of a command of ``lethe`` without its ``--on``."""
    words, given = [], iter(shlex.split(command)[1:])
    for word in given:
        if word == "--on":
            next(given)
        elif not word.startswith("--on="):
            words.append(word)
    return words
