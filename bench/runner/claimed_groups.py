"""Groups of lanes that wait to be run, and the claims that keep other commands from running them too."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from itertools import chain

from bench.plan import CellSpec
from bench.runner.faults import storing
from bench.store import Claims, RunFolder
from suites.errors import EnvironmentFault

Group = list[CellSpec]
SECONDS = 0.5
"""Seconds between two attempts to claim what other commands run."""


class ClaimedGroups:
    """Groups in the order they run; ``take`` claims one, ``release`` gives its claims back."""

    def __init__(
        self,
        groups: Iterable[Group],
        claims: Claims,
        run: RunFolder,
        say: Callable[[str], None],
        waits: bool = True,
    ) -> None:
        self._groups = deque(groups)
        self._keys = {spec.key for group in self._groups for spec in group}
        self._mine: set[str] = set()
        """Cells that this command has claimed, now or earlier."""
        self._done: set[str] = set()
        """Cells with a new record."""
        self._claims, self._run, self._say = claims, run, say
        self._waits = waits
        """Whether cells that another command runs are waited for, and run if it does not finish them."""
        self._waited: set[str] = set()
        """Cells that another command ran when they were to begin."""
        self._elsewhere: list[str] = []
        self._said = False
        self.fault: EnvironmentFault | None = None
        """Why no group can be claimed."""

    def __len__(self) -> int:
        return len(self._groups)

    def put_back(self, groups: Iterable[Group]) -> None:
        """Add groups whose cells are claimed already, to run them next."""
        self._groups.extendleft(groups)

    def clear(self) -> list[Group]:
        """Remove and return all groups."""
        left = list(self._groups)
        self._groups.clear()
        return left

    def finished_elsewhere(self) -> list[str]:
        """Return the cells with a new record that no group of this command reported, each once."""
        found, self._elsewhere = self._elsewhere, []
        return found

    def were_mine(self, keys: Iterable[str]) -> set[str]:
        """Return the cells that this command claimed, and so ran itself."""
        return self._mine.intersection(keys)

    def release(self, keys: Iterable[str]) -> None:
        """Give the claims of cells back, after their records are written."""
        self._claims.release(list(keys))

    def take(self) -> Group | None:
        """Return the next group, claimed; None if others run all cells that are left, or there is a fault.

        Cells that another command runs are put at the end, as a group of their own.
        """
        try:
            for _ in range(0 if self.fault else len(self._groups)):
                if group := self._take(self._groups.popleft()):
                    return group
        except EnvironmentFault as fault:
            self.fault = fault
        if not (self._waits or self.fault):
            self._groups.clear()
        return None

    def _take(self, group: Group) -> Group:
        keys = [spec.key for spec in group]
        try:
            with storing(self._run.folder):
                held = self._claims.take(keys)
                # After the claim: a command releases its claims when its records are written.
                new = self._run.new_records() & self._keys
                self._done |= new
                self._elsewhere += new - self._mine
                done = self._done.intersection(keys)
                self._claims.release(held & done)
        except EnvironmentFault:
            self._groups.appendleft(group)
            raise
        # A worker died after it wrote some records of its group.
        self._elsewhere += [key for key in keys if key in done & self._mine]
        self._mine |= held - done
        if busy := [spec for spec in group if spec.key not in held | done]:
            self._groups.append(busy)
            self._waited |= {spec.key for spec in busy}
        mine = [spec for spec in group if spec.key in held - done]
        if self._waited.isdisjoint(keys):
            return mine
        # A command that ended in between has left checkpoints, perhaps after different numbers of tasks.
        alike: dict[int, Group] = defaultdict(list)
        for spec in mine:
            header = self._run.checkpoints.header(spec.key)
            alike[header.tasks_done if header else 0].append(spec)
        first, *others = alike.values() or [[]]
        self.put_back(others)
        return first

    def next(self) -> Group | None:
        """Return the next group, claimed; wait while others run all that is left; None at the end."""
        while self._groups and not self.fault:
            if (group := self.take()) is not None:
                return group
            if self._groups and not self.fault:
                self.wait()
        return None

    def wait(self) -> None:
        """Wait a moment for other commands, and say so once."""
        if not self._said:
            self._said = True
            keys = [spec.key for spec in chain.from_iterable(self._groups)]
            who = "; ".join(self._claims.holders(keys)) or "another command"
            self._say(f"waits for {len(keys)} cells that another command runs ({who})")
        time.sleep(SECONDS)
