"""Speed of one source tree against another: processes of both take turns in the order A B B A."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.checks import steady_state
from bench.checks.steady_state import Setup
from bench.checks.trees import Tree, last_line
from bench.stats import summarise
from suites.errors import UserError

Verdict = Literal["slower", "faster", "same", "unclear"]
BLOCKS = 12
"""Rounds A B B A within a pair of processes; their median is the ratio of the pair."""
PAIRS = 4, 12
"""Pairs of processes: at least, and at most while a verdict is unclear.

The layout of memory differs between processes and shifts all turns of one by about a percent: the pair is the
unit of the statistics.
"""


@dataclass
class Ratio:
    """Time of a step in the new tree, in units of the old tree's."""

    setup: Setup
    logs: list[float] = field(default_factory=list)
    """Log ratio of each pair of processes."""
    step_ms: list[list[float]] = field(default_factory=lambda: [[], []])
    """Median milliseconds of a step in each pair, in the old and in the new tree."""
    peak_bytes: list[int] = field(default_factory=lambda: [0, 0])
    """Largest memory of the processes, which measure all setups."""

    @property
    def interval(self) -> tuple[float, float, float]:
        """Ratio, and its 95 % t interval over pairs of processes, on the scale of logarithms."""
        found = summarise(self.logs)
        low, ratio, high = (math.exp(x) for x in (found.low, found.mean, found.high))
        return ratio, low, high

    def verdict(self, margin: float) -> Verdict:
        """Return the verdict.

        Slower if the ratio is above 1 + margin and the whole interval above 1; faster likewise below
        1 / (1 + margin) and 1; the same if the whole interval lies within the margin; else unclear.
        """
        ratio, low, high = self.interval
        most, least = 1 + margin, 1 / (1 + margin)
        if ratio > most and low > 1:
            return "slower"
        if ratio < least and high < 1:
            return "faster"
        return "same" if least <= low and high <= most else "unclear"


def against(old: Tree, new: Tree, setups: Sequence[Setup], margin: float) -> list[Ratio]:
    """Measure setups in two trees.

    Args:
        old: The tree to compare with.
        new: The tree that is judged.
        setups: What is measured; all in the same processes.
        margin: Largest share by which a step may be slower, 0.05 for 5 %.

    Raises:
        UserError: A tree cannot run the setups.
    """
    ratios = [Ratio(setup) for setup in setups]
    least, most = PAIRS
    for done in range(1, most + 1):
        _measure_pair(old, new, setups, ratios)
        print(f"pair {done} of {least} to {most} is measured", file=sys.stderr, flush=True)
        if done >= least and all(ratio.verdict(margin) != "unclear" for ratio in ratios):
            break
    return ratios


def _measure_pair(old: Tree, new: Tree, setups: Sequence[Setup], ratios: list[Ratio]) -> None:
    with _measuring(old, setups) as a, _measuring(new, setups) as b:
        turns: dict[Any, list[dict[str, Any]]] = {a: [], b: []}
        for _ in range(BLOCKS):
            for process in (a, b, b, a):
                turns[process].append(json.loads(_ask(process, "turn")))
    seconds = np.array(
        [[turn["steps"] for turn in found] for found in turns.values()]
    )  # (2, 2 BLOCKS, setups)
    blocks = np.log(seconds[1] / seconds[0]).reshape(BLOCKS, 2, -1).mean(1)
    for i, ratio in enumerate(ratios):
        ratio.logs.append(float(np.median(blocks[:, i])))
        for side, process in enumerate((a, b)):
            ratio.step_ms[side].append(1e3 * float(np.median(seconds[side, :, i])))
            ratio.peak_bytes[side] = max(ratio.peak_bytes[side], *(t["peak_bytes"] for t in turns[process]))


@contextmanager
def _measuring(tree: Tree, setups: Sequence[Setup]) -> Iterator[subprocess.Popen[str]]:
    """Start a process that measures in a tree, and end it."""
    program = [str(tree.python), "-P", str(Path(steady_state.__file__).resolve())]
    how: dict[str, Any] = {"cwd": tree.folder, "env": tree.environment, "text": True}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=said, **how) as p,
    ):
        try:
            if not _ask(p, json.dumps([asdict(setup) for setup in setups])):
                p.wait()
                said.seek(0)
                raise UserError(f"cannot measure {tree.title}: {last_line(said.read(), p.returncode)}")
            yield p
        finally:
            p.kill()


def _ask(process: subprocess.Popen[str], line: str) -> str:
    """Send a line to a measuring process and return its answer, empty if it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        print(line, file=process.stdin, flush=True)
        return process.stdout.readline()
    except BrokenPipeError:
        return ""
