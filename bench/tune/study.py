"""Tunes methods at an equal budget of trials, then names the cells to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.plan import Request, ResolvedPlan, Value, text_of
from bench.results import Tuned, outcomes
from bench.runner import Options, carry_out, resolve_for
from bench.store import RunFolder, RunReader
from bench.tune.method import Choosing, Method
from bench.tune.pruning import FIRST
from suites.errors import UserError, unknown

REPORTS = ("chosen", "incumbents", "all", "none")
FOLDER = "tuning"
"""Name of the folder of trials, a run of its own in the folder of the results."""


def other_settings(there: Mapping[str, Value], usual: Mapping[str, Value]) -> str:
    """Return the settings in which two manifests differ, with the values of the first; empty for none."""
    names = sorted(name for name in {*there, *usual} if there.get(name) != usual.get(name))
    return ", ".join(f"{name}={text_of(there.get(name, 'default'))}" for name in names)


class Study:
    """Methods that are tuned at an equal budget.

    Args:
        requests: What is reported: suites, scenarios, methods, settings and the reported seeds.
        how: How settings are chosen.
        folder: The folder of the results; trials are a run in its folder ``tuning``.
        dry_run: Whether nothing is downloaded, from which sizes follow, and nothing is written.

    Raises:
        UserError: A name, range or protocol is unknown or impossible, or tuning seeds are reported seeds.
    """

    def __init__(
        self, requests: Sequence[Request], how: Choosing, folder: Path, dry_run: bool = False
    ) -> None:
        if how.report not in REPORTS:
            raise unknown("value for --report", how.report, list(REPORTS))
        if how.trials < 1:
            raise UserError("tuning needs at least one trial")
        self.how, self.folder, self.trials_folder = how, folder, folder / FOLDER
        for request in requests:
            if both := sorted({*how.seeds} & {*request.seeds}):
                named = ", ".join(map(str, both))
                why = "nothing may be chosen on what is reported: choose other --tuning-seeds"
                raise UserError(f"seeds {named} are tuning seeds and reported seeds; {why}")
        self.methods = [
            Method(replace(request, scenarios=(scenario,)), selector, how, self.trials_folder, dry_run)
            for request in requests
            for scenario in request.kinds
            for selector in dict.fromkeys(request.listed)
        ]
        titles = [method.title for method in self.methods]
        if twice := [title for title in titles if titles.count(title) > 1]:
            raise UserError(f"{twice[0]} is tuned twice, with other settings or seeds: use a folder for each")

    def check_folder(self) -> None:
        """Raise UserError for trials of one suite with other settings, in the folder or among the methods.

        Samplers would compare their scores, and reports would take one for the other.
        """
        there = dict(RunReader(self.trials_folder).manifest_if_readable().shared)
        for method in self.methods:
            for part, own in method.trial_request(method.space.usual).shared().items():
                if words := other_settings(there.setdefault(part, own), own):
                    raise UserError(
                        f"{part} is tuned with {words} in {self.folder}: use another folder (--out)"
                    )

    def ask(self) -> list[Request]:
        """Return the next trials of all methods, none if tuning has ended."""
        return [request for method in self.methods for request in method.requests(method.ask())]

    def first_plan(self, options: Options) -> ResolvedPlan:
        """Return the plan of the trials that do not depend on results, for a dry run; raises as ``tune``."""
        self.check_folder()
        return resolve_for(self.ask(), self.trials_folder, options, download=False)

    def tune(self, options: Options, command: str, say: Callable[[str], None]) -> list[str]:
        """Run trials until every budget is spent, and write what was chosen into the manifest.

        Returns:
            Faults of the environment, after which it stops and nothing is written.
        """
        self.check_folder()
        while requests := self.ask():
            n, done = len(requests), sum(len(m.trials) for m in self.methods)
            say(f"tuning: {n} trials of {len(self.how.seeds)} seeds, after {done}")
            tasks = max(method.n_tasks for method in self.methods) if self.how.prune else 0
            for task in [*range(FIRST, tasks), 0]:
                open_ = {method: method.running() for method in self.methods}
                if faults := self._run(open_, replace(options, until=task), command):
                    return faults
                run = RunReader(self.trials_folder)
                found = run.each(outcomes(), self._keys(open_))
                for method in self.methods:
                    if task:
                        method.prune(task, found, run)
                    else:
                        method.take(found, run)
        RunFolder(self.folder).add_tuning(self.tuned())
        return []

    def _run(self, open_: dict[Method, list[int]], options: Options, command: str) -> list[str]:
        """Run the cells of trials to their end, or until a task; return faults of the environment."""
        there = RunReader(self.trials_folder)
        ended = there.statuses().keys()
        reached = {key: header.tasks_done for key, header in there.checkpoints.headers().items()}
        behind = [
            request
            for method, numbers in open_.items()
            for request in method.requests(numbers)
            if not options.until
            or any(c.key not in ended and reached.get(c.key, 0) < options.until for c in request.cells())
        ]
        return carry_out(behind, self.trials_folder, options, command).unfinished if behind else []

    @staticmethod
    def _keys(open_: dict[Method, list[int]]) -> set[str]:
        return {cell.key for method, numbers in open_.items() for n in numbers for cell in method.cells(n)}

    def tuned(self) -> dict[str, Tuned]:
        """Return how the settings of each tuned method were chosen, for the manifest."""
        found = [m.tuned() for m in self.methods if m.trials]
        return {f"{t.suite}/{t.scenario}/{t.selector}": t for t in found}

    def reported(self) -> list[Request]:
        """Return the requests for the reported seeds."""
        found = []
        for method in self.methods if self.how.report != "none" else ():
            if selectors := tuple(dict.fromkeys(method.reported())):
                of, identities = method.request, [trial.identity for trial in method.trials]
                sized_ = {(method.scenario, text): text for text in identities if of.budget}
                found.append(replace(of, suite=method.suite, strategies=selectors, sized=sized_))
        return found

    def chosen_in_words(self) -> list[str]:
        """Return a line for each method with what was chosen, or why nothing was."""
        lines = []
        for m in self.methods:
            first = m.trials[0].score if m.trials else None
            if m.best is None:
                lines.append(f"{m.title}: not tuned: {m.why_not}")
                continue
            usual = "failed" if first is None else f"{100 * first:.2f}"
            score = f"validation {100 * (m.best.score or 0):.2f}, defaults {usual}"
            lines.append(f"{m.title}: {m.best.identity} of {len(m.trials)} trials ({score})")
        return lines

    def lines(self) -> list[str]:
        """Return the study in words, for a dry run."""
        how = self.how
        limit = f" and {how.steps:,} steps" if how.steps else ""
        seeds = ", ".join(map(str, how.seeds))
        lines = [f"protocol {how.protocol}: {how.trials} trials{limit} each on seeds {seeds}"]
        for m in self.methods:
            space = ", ".join(f"{k}={v}" for k, v in m.space.as_text().items()) or "nothing to tune"
            action, words = ("skip", m.skipped) if m.skipped else ("tune", space)
            lines.append(f"{action:<9} {m.title}: {words}")
        return lines
