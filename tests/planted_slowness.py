"""Planted slowness: how often ``lethe perf --against`` finds a training step that became slower.

``python -m tests.planted_slowness RECORD.json [TRIES]`` writes a method into a scratch repository, then
commits the same method with more work in each step, and judges it. The work is sized within one process,
where methods with and without it take turns. TRIES are those with 10 %; twice as many have no change, a fifth
have 3 %.
"""

import json
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.checks.against import against
from bench.checks.steady_state import Setup, Workload
from bench.checks.trees import checked_out, current
from bench.store import where, write_json
from tests.scratch_repository import commit, git

MARGIN = 0.05
METHOD = '''"""Experience replay with more work in each step."""

import torch

from strategies.replay.er import ER

WORK = {work}
A = torch.rand(48, 48)


class Mine(ER):
    """Experience replay."""

    def after_step(self, batch):
        super().after_step(batch)
        for _ in range(WORK):
            torch.mm(A, A)
'''


def share(folder: Path, work: int, turns: int = 60) -> float:
    """Return by which share so much work makes a step slower, in turns with the method without it."""
    works = []
    for amount in (0, work):
        place = folder / f"work-{amount}"
        place.mkdir(exist_ok=True)
        (place / "mine.py").write_text(METHOD.format(work=amount))
        works.append(Workload(Setup("digits", f"{place}/mine.py:Mine")))
    logs = [math.log(works[1].step_seconds() / works[0].step_seconds()) for _ in range(turns)]
    return math.exp(statistics.median(logs)) - 1


def committed(folder: Path, work: int) -> None:
    """Commit the method with so much work."""
    (folder / "mine.py").write_text(METHOD.format(work=work))
    commit(folder, f"work {work}", "mine.py")


def tries(folder: Path, work: int, n: int) -> list[dict[str, Any]]:
    """Judge the method with so much work against the one without, n times."""
    rows = []
    for _ in range(n):
        committed(folder, 0)
        committed(folder, work)
        with checked_out("HEAD~1") as old:
            (ratio,) = against(old, current(), [Setup("digits", "./mine.py:Mine")], MARGIN)
        of, low, high = (round(x, 4) for x in ratio.interval)
        rows.append(
            {
                "verdict": ratio.verdict(MARGIN),
                "ratio": of,
                "low": low,
                "high": high,
                "pairs": len(ratio.logs),
            }
        )
        print(work, rows[-1], flush=True)
    return rows


def main(record: str, n: str = "10") -> None:
    """Run all tries and write the record."""
    target, count = Path(record).resolve(), int(n)
    folder = Path(tempfile.mkdtemp(prefix="lethe-slowness-"))
    os.chdir(folder)
    git(folder, "init")
    of_forty = share(folder, 40)
    rows = []
    for planted, times in ((0.10, count), (0.0, 2 * count), (0.03, max(1, count // 5))):
        work = round(40 * planted / of_forty)
        measured = share(folder, work) if work else 0.0
        rows.append({"planted": planted, "measured": round(measured, 4), "tries": tries(folder, work, times)})
        command = f"python -m tests.planted_slowness RECORD.json {n}"
        found = {"schema": 1, "command": command, "margin": MARGIN, **where("cpu"), "slowness": rows}
        write_json(target, found)
    print(json.dumps([{r["planted"]: [t["verdict"] for t in r["tries"]]} for r in rows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
