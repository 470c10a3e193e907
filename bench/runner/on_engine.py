"""Hands groups of lanes to an engine, and yields their outcomes as they end.

A group whose worker died, or which a worker refused, is submitted again, a few times. Without workers the
command waits; with a scheduler that does not come back it ends, and the same command runs what is left.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait

from bench.engines import Engine, Lost, Refused
from bench.runner.claimed_groups import SECONDS, ClaimedGroups, Group
from bench.runner.faults import storing
from bench.runner.run_outcome import Ended
from bench.runner.target import Target, codes_in
from bench.runner.there import Answer, Asked, run_there
from bench.store import RunFolder, end_attempts
from suites.errors import EnvironmentFault

_TRIES = 4
"""How often a group is submitted until it is given up."""
PATIENCE = 300.0
"""Seconds to wait for a first worker, or for the scheduler to come back."""


class OnEngine:
    """Runs the groups of one command on an engine."""

    def __init__(
        self,
        engine: Engine,
        target: Target,
        device: str,
        data: Mapping[str, str],
        replaced: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.engine, self.target, self.device, self.say = engine, target, device, say
        self.data, self.replaced = data, replaced
        self.running: dict[Future[Answer], Group] = {}
        self.tries: Counter[str] = Counter()
        """How often each group was submitted, by its first key."""
        self.refused: dict[str, set[str]] = defaultdict(set)
        """The workers that refused each group."""
        self.said: set[str] = set()

    def run(self, groups: ClaimedGroups) -> Generator[Ended]:
        """Run groups; yield what became of them. Closed early, it waits for the groups that have begun."""
        stopped, since = "", time.monotonic()
        try:
            while (groups and not (stopped or groups.fault)) or self.running:
                slots = self.engine.slots()
                if slots or self.running:
                    since = time.monotonic()
                while not stopped and len(self.running) < slots and (group := groups.take()) is not None:
                    self._submit(group)
                if not self.running:
                    if slots:
                        groups.wait()
                        continue
                    if time.monotonic() - since > PATIENCE:
                        stopped = f"no worker of the engine has answered for {PATIENCE:.0f} s"
                    self._say_once("waits for a worker")
                    time.sleep(SECONDS)
                    continue
                for future in wait(self.running, SECONDS, FIRST_COMPLETED).done:
                    for ended in self._ended(future, groups):
                        stopped = stopped or ended.stopped_by
                        yield ended
        finally:
            self._let_end()
        if stopped or groups.fault:
            yield Ended.without_record(groups.clear(), stopped or str(groups.fault), stops=True)

    def _submit(self, group: Group) -> None:
        names = {spec.suite for spec in group}
        asked = Asked(
            group,
            self.target,
            self.device,
            codes_in(group),
            {name: mark for name, mark in self.data.items() if name in names},
            {spec.key: self.replaced.get(spec.key, "") for spec in group},
            os.getcwd(),
            os.environ.get("LETHE_DATA", ""),
        )
        self.tries[group[0].key] += 1
        self.running[self.engine.submit(run_there, asked, without=self.refused[group[0].key])] = group

    def _ended(self, future: Future[Answer], groups: ClaimedGroups) -> Generator[Ended]:
        """Yield what became of a group whose call has ended."""
        group, run = self.running.pop(future), self.target.models.run
        end_attempts(run, group[0].key)
        try:
            answer = future.result()
            if answer.records:
                with storing(run):
                    RunFolder(run).append_lines(answer.records, answer.classes)
        except Refused as refusal:
            by = self.refused[group[0].key]
            if refusal.worker and refusal.worker not in by:  # another worker is tried: as if not submitted
                by.add(refusal.worker)
                self.tries[group[0].key] -= 1
            yield from self._again(group, groups, str(refusal))
            return
        except (Lost, CancelledError) as error:
            yield from self._again(group, groups, str(error) or "it was cancelled")
            return
        except EnvironmentFault as fault:
            yield Ended.without_record([group], str(fault), fault.stops)
            return
        except Exception as error:  # of the engine, or what it could not send
            yield from self._again(group, groups, f"{type(error).__name__}: {error}")
            return
        if answer.again:
            self.say(
                f"{group[0].title} and its group were run again: the worker that had begun them vanished"
            )
        ended = answer.ended
        suspects, ended.again = ended.again, []
        yield ended
        for suspect in suspects:
            yield from self._again(suspect, groups, "its worker cannot use its device any more")

    def _again(self, group: Group, groups: ClaimedGroups, why: str) -> Generator[Ended]:
        """Put a group back, or give it up."""
        key = group[0].key
        if self.tries[key] >= _TRIES:
            words = f"it was submitted {self.tries[key]} times without an answer: {why}"
            yield Ended.without_record([group], words)
            return
        self._say_once(f"{group[0].title} and its group are submitted again: {why}")
        groups.put_back([group])

    def _say_once(self, words: str) -> None:
        if words not in self.said:
            self.said.add(words)
            self.say(words)

    def _let_end(self) -> None:
        """Cancel what has not begun and wait for the rest: its records are written by the workers."""
        if not self.running:
            return
        self.engine.cancel()
        self.say(
            f"waits for {len(self.running)} groups that have begun; Ctrl-C again leaves them to the engine"
        )
        wait(self.running)
        for group in self.running.values():
            end_attempts(self.target.models.run, group[0].key)
