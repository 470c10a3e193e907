"""Planted faults in histories of 30 commits: how often ``lethe bisect`` finds the right one.

``python -m tests.planted_bisections RECORD.json [TRIES]`` makes scratch repositories with a method of their
own. One commit, drawn at random, takes its memory away, or makes its steps a quarter slower; one other cannot
be imported. ``lethe bisect`` is run as a user does.
"""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.store import where, write_json
from tests.planted_slowness import METHOD, share
from tests.scratch_repository import commit, git

COMMITS = 30
SCORE = "digits -s ./mine.py:Mine --seeds 5 --set epochs=3 --score acc"
SPEED = "digits -s ./mine.py:Mine"


def history(folder: Path, good: str, bad: str, first: int, broken: int, commits: int = COMMITS) -> list[str]:
    """Make a repository whose method is good, and bad from one commit on; return its commits.

    Args:
        folder: An empty folder.
        good: Source of the method.
        bad: Source of the method with a fault.
        first: The commit with the fault, from 1.
        broken: The commit that raises at import.
        commits: Number of commits.
    """
    git(folder, "init")
    for number in range(commits):
        text = (bad if number >= first else good) + f"\n\nNUMBER = {number}\n"
        (folder / "mine.py").write_text(text + "raise RuntimeError\n" * (number == broken))
        commit(folder, f"commit {number}", "mine.py")
    return git(folder, "rev-list", "--reverse", "HEAD").split()


def bisected(folder: Path, words: str, *options: str) -> tuple[str, str]:
    """Bisect from the first commit to the last; return the short hash that was found, and all output."""
    command = [sys.executable, "-m", "bench", "bisect", "--good", "HEAD~29", "--bad", "HEAD", *options, "--"]
    done = subprocess.run([*command, *words.split()], cwd=folder, capture_output=True, text=True)
    found = re.search(r"first bad revision: (\w+)", done.stdout)
    return found.group(1) if found else "", done.stdout + done.stderr


def main(record: str, n: str = "5") -> None:
    """Run all tries and write the record."""
    target, draw, rows = Path(record).resolve(), random.Random(0), []
    scratch = Path(tempfile.mkdtemp(prefix="lethe-bisections-"))
    works = scratch / "works"
    works.mkdir()
    good = METHOD.format(work=0)
    forgets = good.replace("strategies.replay.er import ER", "lethe import Strategy as ER")
    slow = METHOD.format(work=round(40 * 0.25 / share(works, 40)))
    for kind, bad, words, options in (("score", forgets, SCORE, ()), ("speed", slow, SPEED, ("--perf",))):
        tries: list[dict[str, Any]] = []
        for number in range(int(n)):
            first, broken = draw.sample(range(2, COMMITS - 1), 2)
            folder = scratch / f"{kind}-{number}"
            folder.mkdir()
            commits = history(folder, good, bad, first, broken)
            found, said = bisected(folder, words, *options)
            right = bool(found) and commits[first].startswith(found)
            tries.append({"first_bad": first, "broken": broken, "right": right})
            print(kind, tries[-1], "" if right else said, flush=True)
        rows.append({"fault": kind, "commits": COMMITS, "tries": tries})
        command = f"python -m tests.planted_bisections RECORD.json {n}"
        write_json(target, {"schema": 1, "command": command, **where("cpu"), "bisections": rows})


if __name__ == "__main__":
    main(*sys.argv[1:])
