"""One method while it is tuned: its trials, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

import suites
from bench.plan import CellSpec, Request, seeds_of, unsuitable
from bench.results import Outcome, Trial, Tuned
from bench.runner import sized
from bench.store import RunReader
from bench.tune.protocol import Protocol
from bench.tune.pruning import SoFar, so_far, steps_of, worse_than_median
from bench.tune.samplers import Sampler, make_sampler, sampler_name
from bench.tune.space import Settings, Space, read_spaces, space_of, without_ranges
from suites.base import Scenario, Training
from suites.errors import UserError

State = Literal["done", "failed", "pruned"]


@dataclass(frozen=True)
class Choosing:
    """How settings are chosen, and what is reported."""

    trials: int = 30
    """Number of trials of each method, its defaults included."""
    steps: int = 0
    """Number of training steps of each method over all trials and seeds; 0 for no limit."""
    protocol: str = "seeds"
    seeds: tuple[int, ...] = (1000, 1001, 1002)
    """The tuning seeds."""
    sampler: str = "auto"
    sampler_seed: int = 0
    space: dict[str, dict[str, str]] = field(default_factory=dict)
    """Search spaces that replace declared ones, by strategy and setting; see ``read_spaces``."""
    report: str = "chosen"
    """Which settings are run on the reported seeds: the ``chosen`` ones, every trial that was the best so far
    (``incumbents``), ``all`` trials, or ``none``."""
    untuned: bool = False
    """Whether the methods' defaults are reported too."""
    prune: bool = False
    """Whether a trial stops after a task if its score is below the median of its method's trials."""

    @classmethod
    def read(cls, seeds: object, space: str | Iterable[str], **others: Any) -> Choosing:
        """Return how settings are chosen; ``seeds`` and ``space`` as a file, command or call writes them.

        Raises:
            UserError: Seeds or a search space cannot be read.
        """
        spaces = read_spaces([space] if isinstance(space, str) else space)
        return cls(seeds=seeds_of(seeds), space=spaces, **others)


class Method:
    """One method on one suite and scenario while it is tuned."""

    def __init__(
        self, request: Request, selector: str, how: Choosing, trials_folder: Path, dry_run: bool = False
    ) -> None:
        (scenario,) = request.scenarios
        protocol = Protocol.read(how.protocol)
        self.request, self.scenario, self.how, self.dry_run = request, scenario, how, dry_run
        self.selector, own = without_ranges(selector)
        self.view, self.suite = protocol.for_tuning(request.suite), protocol.for_report(request.suite)
        named = replace(request, suite=self.suite, strategies=(self.selector,), seeds=request.seeds[:1])
        spec, *others = named.cells()
        if others:
            raise UserError("--set has several values: write them into --space, like 'er[epochs=1|2]'")
        self.skipped = unsuitable(spec) or ""
        """Why the method is not tuned."""
        if not spec.training["validation"]:
            raise UserError("tuning chooses by validation rows, and validation=0 holds out none")
        if "eval" in spec.training:
            raise UserError(
                f"tuning compares validation scores after every task: leave out eval={spec.training['eval']}"
            )
        spaces = {of: how.space.get(of, {}) | own.get(of, {}) for of in {*how.space, *own}}
        self.space: Space = space_of(self.selector, spec, spaces)
        self.title = f"{self.view} {scenario} {self.selector}"
        kind, n, at = sampler_name(how.sampler), how.trials, trials_folder / "optuna.journal"
        self.sampler: Sampler | None = (
            None if self.skipped or not self.space.axes
            else make_sampler(kind, self.space, n, how.sampler_seed, self.title, at, dry_run)
        )  # fmt: skip
        self.asked: list[Settings] = []
        self.trials: list[Trial] = []
        self.pruned: dict[int, SoFar] = {}
        """Trials that were stopped, with their scores until then."""
        self._fits: dict[str, str | None] = {}

    def trial_request(self, settings: Settings) -> Request:
        """Return the request for the cells of a trial; their data set has no test rows."""
        return self._sized(self.space.selected(settings), self.view, self.how.seeds)

    def _sized(self, selected: str, suite: str, seeds: tuple[int, ...]) -> Request:
        """Return a request for a method, sized to the budget if there is one.

        A trial and its reported cells have the same sizes, which fit all tasks and the seeds of both.
        """
        asked = replace(self.request, suite=suite, strategies=(selected,), seeds=seeds)
        if asked.budget is None:
            return asked
        if selected not in self._fits:
            whole = Protocol.read(self.how.protocol).for_sizes(self.request.suite)
            every = replace(asked, suite=whole, seeds=(*self.request.seeds, *self.how.seeds))
            fitting = sized(every, download=not self.dry_run).sized
            self._fits[selected] = fitting.get((self.scenario, selected))
        if (text := self._fits[selected]) is None:
            return asked  # it is skipped, with the reason
        return replace(asked, strategies=(text,), sized={(self.scenario, text): text})

    def ask(self) -> list[int]:
        """Return the numbers of the next trials, none if the budget is spent."""
        while not self.skipped and len(self.asked) < self._next_stop():
            number = len(self.asked)
            if number == 0:
                settings: Settings | None = dict(self.space.usual)
            else:
                settings = self.sampler.ask(number) if self.sampler else None
            if settings is None:
                break
            self.asked.append(settings)
        return self.running()

    def running(self) -> list[int]:
        """Return the numbers of trials that were asked for and have neither ended nor been stopped."""
        if self.skipped:
            return []
        return [n for n in range(len(self.trials), len(self.asked)) if n not in self.pruned]

    def requests(self, numbers: Sequence[int]) -> list[Request]:
        """Return the requests for the cells of trials."""
        return [self.trial_request(self.asked[number]) for number in numbers]

    def cells(self, number: int) -> list[CellSpec]:
        """Return the cells of a trial, one for each tuning seed."""
        return self.trial_request(self.asked[number]).cells()

    def prune(self, task: int, found: dict[str, Outcome], run: RunReader) -> None:
        """Stop the trials that are worse than the median of all that have learned this many tasks."""
        reached = {n: of for n in self.running() if (of := so_far(self.cells(n), found, run))}
        ended = {n: SoFar(trial.after_tasks, trial.steps) for n, trial in enumerate(self.trials)}
        scores = {
            n: of.after_tasks[task - 1]
            for n, of in (ended | self.pruned | reached).items()
            if len(of.after_tasks) >= task
        }
        self.pruned |= {n: reached[n] for n in worse_than_median(scores) if n in reached}

    def _next_stop(self) -> int:
        """Return the number of trials that can be asked for before any of them has ended."""
        how, done = self.how, len(self.trials)
        stop = how.trials
        if self.sampler and self.sampler.at_once:
            rounds = max(done - 1, 0) // self.sampler.at_once + 1
            stop = min(stop, 1 + rounds * self.sampler.at_once)
        if how.steps:
            used, most = sum(t.steps for t in self.trials), max((t.steps for t in self.trials), default=0)
            stop = min(stop, done + (how.steps - used) // most if most else 1)
        return stop

    def take(self, found: dict[str, Outcome], run: RunReader) -> None:
        """Read the outcomes of all trials that were asked for, and tell the sampler."""
        for number in range(len(self.trials), len(self.asked)):
            cells = self.cells(number)
            ended = [found[cell.key] for cell in cells if cell.key in found]
            reason = next((o.why for o in ended if o.status == "skipped"), "")
            if reason and number == 0:
                self.skipped = reason
                return
            of = self.pruned.get(number) or so_far(cells, found, run)
            state: State = (
                "pruned" if number in self.pruned else "done" if of and of.after_tasks else "failed"
            )
            trial = Trial(
                settings=self.asked[number],
                identity=cells[0].identity,
                state=state,
                score=of.after_tasks[-1] if of and state == "done" else None,
                after_tasks=of.after_tasks if of else [],
                steps=of.steps if of else sum(steps_of(o) for o in ended),
            )
            self.trials.append(trial)
            if number and self.sampler:
                self.sampler.tell(number, trial.score, state == "pruned")

    @cached_property
    def n_tasks(self) -> int:
        """Number of tasks of the streams that trials see."""
        spec = self.trial_request(self.space.usual).cells()[0]
        suite = suites.get(spec.suite)
        scenario, training = cast(Scenario, spec.scenario), Training(**spec.training)
        return len(suite.stream(suite.load(), scenario, spec.seed, training).tasks)

    @property
    def chosen(self) -> int | None:
        """The first trial with the best score; None if all failed."""
        scores = [-1.0 if t.score is None else t.score for t in self.trials]
        return int(np.argmax(scores)) if scores and max(scores) >= 0 else None

    @property
    def best(self) -> Trial | None:
        """The chosen trial; None if all failed."""
        return None if self.chosen is None else self.trials[self.chosen]

    @property
    def why_not(self) -> str:
        """Why nothing is chosen; empty before the first trial has ended, and if something is chosen."""
        return self.skipped or ("every trial failed" if self.trials and self.best is None else "")

    def reported(self) -> Iterator[str]:
        """Yield the selectors to run on the reported seeds."""
        best, chosen = -1.0, self.chosen
        if self.skipped or self.how.untuned:
            yield self.trials[0].identity if self.trials else self.selector
        for number, trial in enumerate(self.trials):
            better = trial.score is not None and trial.score > best
            best = max(best, -1.0 if trial.score is None else trial.score)
            wanted = {
                "chosen": number == chosen, "incumbents": better, "all": trial.score is not None
            }  # fmt: skip
            if wanted[self.how.report]:
                yield trial.identity

    def tuned(self) -> Tuned:
        """Return how its settings were chosen."""
        return Tuned(
            suite=self.suite,
            scenario=self.scenario,
            selector=self.selector,
            protocol=self.how.protocol,
            view=self.view,
            seeds=list(self.how.seeds),
            sampler=self.sampler.name if self.sampler else "none",
            sampler_seed=self.how.sampler_seed,
            most_trials=self.how.trials,
            most_steps=self.how.steps,
            space=self.space.as_text(),
            trials=self.trials,
            chosen=self.chosen,
        )
