"""The first revision at which a score or the speed became worse, found by ``git bisect run``.

Each revision is checked out into a worktree of its own and judged against the good one: by the records of a
run, as ``lethe compare`` does, or by the time of a step, as ``lethe perf --against`` does. Verdicts are
written into a folder, so that a bisection that was stopped continues.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self

from bench.checks.against import Ratio, against
from bench.checks.steady_state import Setup
from bench.checks.trees import checked_out, current, git, last_line
from bench.results import compare_runs
from bench.store import RunReader, write_json
from suites.errors import NOT_FINISHED, EnvironmentFault, UserError

Verdict = Literal["good", "bad", "skip"]
_CODES: dict[Verdict, int] = {"good": 0, "bad": 1, "skip": 125}
"""Exit codes that ``git bisect run`` expects."""
_STOP = 128
"""The exit code that stops it."""


@dataclass(frozen=True)
class Found:
    """The verdict on one revision, and what it rests on."""

    verdict: Verdict
    why: str


@dataclass
class Bisection:
    """What is bisected, and the verdicts so far; in ``bisect.json`` of its folder."""

    folder: Path
    good: str
    bad: str
    words: list[str]
    """The words of ``lethe run``, without ``--out``; empty for speed."""
    scores: list[str] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    """What is measured if speed is bisected."""
    margin: float = 0.05
    limit: float = 0.0
    """The ratio of time above which a revision is bad: halfway between good and bad, as a geometric mean."""
    verdicts: dict[str, Found] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what another process wrote."""
        content = json.loads((folder / "bisect.json").read_text(encoding="utf-8"))
        content["verdicts"] = {name: Found(**found) for name, found in content["verdicts"].items()}
        content["setups"] = [Setup(**setup) for setup in content["setups"]]
        return cls(folder, **content)

    def write(self) -> None:
        """Write it down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "bisect.json", content)

    @property
    def question(self) -> tuple[object, ...]:
        """What must be equal for verdicts to hold."""
        return self.good, self.bad, self.words, self.scores, self.setups, self.margin

    def judge(self, name: str) -> Found:
        """Return the verdict on a revision: the one of before, or a new one, which is written down."""
        if name not in self.verdicts:
            try:
                found = self._speed_of(name) if self.setups else self._results_of(name)
            except EnvironmentFault:
                raise  # it says nothing of the revision
            except UserError as error:
                found = Found("skip", str(error))
            self.verdicts[name] = found
            self.write()
        return self.verdicts[name]

    def run_at(self, name: str) -> Path:
        """Run the cells at a revision, or what is missing of them; raises UserError if that is impossible."""
        out = self.run_folder(name)
        with checked_out(name) as tree:
            how = "--out", str(out), "--stale", "keep"
            command = [str(tree.python), "-m", "bench", "run", *self.words, *how]
            done = subprocess.run(
                command, cwd=tree.folder, env=tree.environment, capture_output=True, text=True
            )
        said = last_line(done.stderr, done.returncode).removeprefix("lethe: ")
        if done.returncode not in (0, 1):
            raise UserError(f"cannot run at {name[:12]}: {said}")
        if done.returncode == 1 and NOT_FINISHED in done.stderr:
            raise EnvironmentFault(f"cannot run at {name[:12]}: {said}")
        run = RunReader(out)
        if not any(record.get("made_by") for record in run.records()):
            why = said if done.returncode else "it is older than fingerprints of code"
            raise UserError(f"no usable record at {name[:12]}: {why}")
        return out

    def _results_of(self, name: str) -> Found:
        # check_ends has run the good revision.
        compared = compare_runs(self.run_folder(self.good), self.run_at(name), self.scores)
        if alarms := compared.alarms:
            return Found("bad", "; ".join(alarms))
        unclear = [f"{score.name}: {score.why}" for score in compared.with_verdict("unclear")]
        return Found("good", "; ".join(["no alarm", *unclear]))

    def _speed_of(self, name: str) -> Found:
        slowest = self.slowest_at(name)
        ratio, low, high = slowest.interval
        words = f"{ratio:.3f} ({low:.3f} to {high:.3f}) of the time at {self.good[:12]}"
        return Found("bad" if ratio > self.limit else "good", f"{slowest.setup.title}: {words}")

    def slowest_at(self, name: str) -> Ratio:
        """Measure a revision against the good one; return the largest ratio."""
        with checked_out(self.good) as old, checked_out(name) as new:
            return max(against(old, new, self.setups, self.margin), key=lambda ratio: ratio.interval[0])

    def run_folder(self, name: str) -> Path:
        """Return the folder of the run at a revision."""
        return self.folder / "runs" / name[:12]


def check_ends(bisection: Bisection) -> Bisection:
    """Judge both ends; return the bisection with the verdicts and the limit, written down.

    Raises:
        UserError: The good revision is not before the bad one, one of them cannot be judged, or the bad
            one is not worse; or the folder holds another bisection.
    """
    if (bisection.folder / "bisect.json").exists():
        earlier = Bisection.read(bisection.folder)
        if earlier.question != bisection.question:
            raise UserError(f"{bisection.folder} holds another bisection; choose another folder with --out")
        bisection = earlier
    good, bad = bisection.good[:12], bisection.bad[:12]
    if git("merge-base", bisection.good, bisection.bad) != bisection.good:
        raise UserError(f"{good} is not an ancestor of {bad}; --good must be the older one")
    if bisection.setups and not bisection.limit:
        slowest = bisection.slowest_at(bisection.bad)
        ratio, low, high = slowest.interval
        if slowest.verdict(bisection.margin) != "slower":
            raise UserError(
                f"nothing to find: a step at {bad} takes {ratio:.3f} ({low:.3f} to {high:.3f}) of "
                f"the time at {good}"
            )
        bisection.limit = math.sqrt(ratio)
        bisection.verdicts[bisection.bad] = Found("bad", f"{ratio:.3f} of the time at {good}")
        bisection.write()
    elif not bisection.setups:
        bisection.run_at(bisection.good)
        if (found := bisection.judge(bisection.bad)).verdict != "bad":
            del bisection.verdicts[bisection.bad]
            bisection.write()
            raise UserError(f"nothing to find: {bad} is not worse than {good}: {found.why}")
    return bisection


def find(bisection: Bisection) -> list[str]:
    """Run ``git bisect`` in a worktree of its own and return the first bad revisions.

    They are several where revisions beside the first bad one had to be skipped.
    """
    here = current()
    with checked_out(bisection.bad) as control:
        git("bisect", "start", "--no-checkout", bisection.bad, bisection.good, at=control.top)
        step = [sys.executable, "-P", "-m", "bench.checks.bisection"]
        places = str(bisection.folder.resolve()), str(here.folder)
        own = {"PYTHONPATH": str(Path(__file__).parents[2])}
        git("bisect", "run", *step, *places, at=control.top, environment=own, fails=True)
        log = git("bisect", "log", at=control.top)
    return _commits(log, "first bad commit") or _commits(log, "possible first bad commit")


def _commits(log: str, kind: str) -> list[str]:
    return re.findall(rf"^# {kind}: \[(\w+)\]", log, re.MULTILINE)


def main(words: Sequence[str]) -> int:
    """Judge the revision that ``git bisect run`` asks for; return its exit code."""
    folder, place = map(Path, words)
    revision = git("rev-parse", "BISECT_HEAD")
    subject = git("log", "-1", "--format=%h %s", revision)
    os.chdir(place)
    try:
        found = Bisection.read(folder).judge(revision)
    except EnvironmentFault as fault:
        print(f"lethe: {fault}", file=sys.stderr, flush=True)
        return _STOP
    print(f"{found.verdict:<5} {subject}: {found.why}", file=sys.stderr, flush=True)
    return _CODES[found.verdict]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
