"""``python -m tests.false_alarms``: how often does ``lethe compare`` raise an alarm if nothing changed?

Unchanged code gives equal records at equal seeds, so every random stream of NEW is salted: another class
order, other initial weights, batches and draws under the same seed, but the same method. ``--write`` makes
the record that docs/regressions.md shows.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench.results import Comparison
from bench.results.compared_runs import compare_frames, hashed_frames
from tests.planted_faults import ROOT, Fault, copy_packages, planted, run

RECORD = ROOT / "results" / "reference" / "false-alarms.json"
STRATEGIES = ("finetune", "er", "ewc", "lwf")
SCENARIOS = "task,domain,class"
SEEDS, DRAWN, DRAWS = 30, 5, 200
SALT = Fault(
    "salted", "suites/seeds.py", 'hashlib.sha256(f"{seed}/{name}".encode())',
    'hashlib.sha256(f"salt/{seed}/{name}".encode())', "",
)  # fmt: skip
"""Not a fault: every seed of every stream is made by this function."""


def draws(
    base: Path, new: Path, seeds: int = SEEDS, drawn: int = DRAWN, times: int = DRAWS
) -> list[Comparison]:
    """Return the comparisons of random draws of seeds, paired by seed."""
    frames = hashed_frames(base), hashed_frames(new)
    rng = np.random.default_rng(0)
    chosen = (rng.choice(seeds, drawn, replace=False).tolist() for _ in range(times))
    return [compare_frames(*frames, ("BASE", "NEW"), margins={}, seeds=some) for some in chosen]


def summed(comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the number of draws with alarms, its 95 % interval, and the number of each verdict."""
    n = len(comparisons)
    alarms, better = (
        sum(bool(c.alarms if verdict == "worse" else c.with_verdict(verdict)) for c in comparisons)
        for verdict in ("worse", "better")
    )
    ends = stats.binomtest(alarms, n).proportion_ci()
    return {
        "draws": n,
        "alarms": alarms,
        "low": round(float(ends.low), 4),
        "high": round(float(ends.high), 4),
        "with_better": better,
        "equal_records": sum(c.equal_cells for c in comparisons),
        "verdicts": dict(sorted(Counter(s.verdict for c in comparisons for s in c.scores).items())),
        "by_score": dict(
            sorted(Counter(s.score for c in comparisons for s in c.with_verdict("worse")).items())
        ),
        "scores_in_a_draw": len(comparisons[0].scores),
    }


def main() -> None:
    """Run the code as it is and the salted copy, and print or write how often compare raises an alarm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    parser.add_argument(
        "--keep", type=Path, help="folder of the runs; those that are there are not made again"
    )
    given = parser.parse_args()
    chosen = [word for name in STRATEGIES for word in ("-s", name)]
    words = [*chosen, "--scenario", SCENARIOS, "--seeds", str(SEEDS)]
    with tempfile.TemporaryDirectory(prefix="lethe-salted-") as scratch:
        folder = given.keep or Path(scratch)
        base, new = folder / "base", folder / "salted"
        if not base.exists():
            run(ROOT, base, words)
        if not new.exists():
            run(copy_packages(Path(scratch) / "code", {SALT.file: planted(SALT)}), new, words)
        found = {"seeds": SEEDS, "drawn": DRAWN, "strategies": [*STRATEGIES], **summed(draws(base, new))}
    print(json.dumps(found))
    if given.write:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
