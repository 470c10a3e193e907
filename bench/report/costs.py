"""What a step costs: measured against what each method's definition implies, as a table.

``make costs`` runs the benchmark of steps; ``python -m bench.report.costs BENCHMARK.json RECORD.json`` then
keeps, of what pytest-benchmark wrote, the part that a reader needs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.report.text_tables import markdown_rows
from bench.store import where, write_json

SCHEMA = 1
DEAR = 1.5
"""How many times what its definition implies a method may cost before docs/costs.md must say why."""
HEADER = ("strategy", "implied", "measured", "quartiles", "measured / implied", "batch")


def dear(ratio: float, implied: float) -> bool:
    """Return whether a step costs so much more than implied that the reason must be told."""
    return ratio > DEAR * implied


def record(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the steps' costs in what pytest-benchmark wrote."""
    found = [b["extra_info"] for b in benchmark["benchmarks"] if "strategy" in b["extra_info"]]
    kept = ("implied", "ratio", "low", "high", "batch", "scenario")
    steps = {i["strategy"]: {k: rounded(i[k]) for k in kept} for i in found}
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
    """Return numbers with the digits that can matter."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table(path: Path) -> str:
    """Return a record's table, the dearest beside what is implied first, and what was measured on."""
    facts = json.loads(path.read_text())
    steps = facts["strategies"]
    rows = []
    for name in sorted(steps, key=lambda n: -share(steps[n])):
        s = steps[name]
        times = f"{share(s):.2f}" if s["implied"] else "–"
        spread = f"{s['low']:.2f} to {s['high']:.2f}"
        rows.append((name, f"{s['implied']:g}", f"{s['ratio']:.2f}", spread, times, str(s["batch"])))
    packages = facts["packages"]
    return (
        f"{markdown_rows(HEADER, rows)}\n\n{facts['command']}, {facts['at'][:10]}; {facts['machine']}, "
        f"{facts['cpu']}, one thread; torch {packages['torch']}, Python {facts['python']}; "
        f"medians and quartiles over {facts['rounds']} turns."
    )


def share(step: dict[str, Any]) -> float:
    """Return measured by implied, infinite where nothing is implied."""
    return float(step["ratio"] / step["implied"]) if step["implied"] else float("inf")


def main(words: list[str]) -> None:
    """Turn what pytest-benchmark wrote into a record."""
    source, target = map(Path, words)
    write_json(target, record(json.loads(source.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
