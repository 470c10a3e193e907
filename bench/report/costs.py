"""The table of the measured and implied costs of a step.

The record is written by ``bench.checks.step_costs``.
"""

import json
from pathlib import Path
from typing import Any

from bench.report.formats import MISSING
from bench.report.text_tables import markdown_rows

HEADER = ("strategy", "implied", "measured", "quartiles", "measured / implied", "batch")


def table(path: Path) -> str:
    """Return the table of a record, sorted by measured / implied, with the hardware."""
    record = json.loads(path.read_text(encoding="utf-8"))
    steps = record["strategies"]
    rows = []
    for name in sorted(steps, key=lambda n: -share(steps[n])):
        s = steps[name]
        times = f"{share(s):.2f}" if s["implied"] else MISSING
        spread = f"{s['low']:.2f} to {s['high']:.2f}"
        rows.append((name, f"{s['implied']:g}", f"{s['ratio']:.2f}", spread, times, str(s["batch"])))
    packages = record["packages"]
    return (
        f"{markdown_rows(HEADER, rows)}\n\n{record['command']}, {record['at'][:10]}; {record['machine']}, "
        f"{record['cpu']}, one thread; torch {packages['torch']}, Python {record['python']}; "
        f"medians and quartiles over {record['rounds']} turns."
    )


def share(step: dict[str, Any]) -> float:
    """Return measured / implied, infinite if the implied cost is 0."""
    return float(step["ratio"] / step["implied"]) if step["implied"] else float("inf")
