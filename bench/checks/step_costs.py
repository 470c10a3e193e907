"""The record of a benchmark of training steps.

``make costs`` runs the benchmark; ``python -m bench.checks.step_costs BENCHMARK.json RECORD.json`` then
writes the part of pytest-benchmark's output that a reader needs.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.store import where, write_json

SCHEMA = 1
TOO_DEAR = 1.5
"""Measured / implied cost above which docs/costs.md must explain a method."""


def dear(ratio: float, implied: float) -> bool:
    """Return whether docs/costs.md must explain the cost of a step."""
    return ratio > TOO_DEAR * implied


def record(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the steps' costs from the output of pytest-benchmark."""
    found = [b["extra_info"] for b in benchmark["benchmarks"] if "strategy" in b["extra_info"]]
    fields = ("implied", "ratio", "low", "high", "batch", "scenario")
    steps = {i["strategy"]: {k: rounded(i[k]) for k in fields} for i in found}
    commit = benchmark["commit_info"]
    cpu = benchmark["machine_info"].get("cpu", {}).get("brand_raw", "")
    rounds = max(b["stats"]["rounds"] for b in benchmark["benchmarks"])
    return {
        "schema": SCHEMA,
        "command": "make costs",
        **where("cpu"),
        "at": benchmark["datetime"][:19] + "Z",
        "git": commit["id"],
        "dirty": commit["dirty"],
        "cpu": cpu,
        "rounds": rounds,
        "strategies": dict(sorted(steps.items())),
    }


def rounded(value: Any) -> Any:
    """Return numbers with significant digits only."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(words: list[str]) -> None:
    """Turn the output of pytest-benchmark into a record."""
    source, target = map(Path, words)
    write_json(target, record(json.loads(source.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(sys.argv[1:])
