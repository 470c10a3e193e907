"""What the pages of methods and README take from the registry and from measurements, as Markdown."""

from typing import Any

from bench.report.text_tables import markdown_rows
from strategies import REGISTRY


def hyper_parameters(record: dict[str, Any], name: str) -> str:
    """Return a strategy's hyper-parameters with their help, and what a step costs.

    Args:
        record: The record of ``make costs``.
        name: The strategy.
    """
    options = REGISTRY.describe(name).options
    # Words stand on the left, and their backticks are markup: markdown_rows is for numbers.
    rows = [
        (f"`{o.name}`", f"`{o.default}`", o.type, " ".join(o.help.split()).replace("``", "`"))
        for o in options
    ]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    head = ["| name | default | value | what it does |", "| --- | --- | --- | --- |"]
    table = "\n".join([*head, *lines]) if rows else "None."
    step = record["strategies"].get(name)
    if step is None:
        return table
    times = f"A step takes {step['ratio']:.2f} times as long as one of `finetune`"
    implied = f"the method's definition implies {step['implied']:g} times"
    return f"{table}\n\n{times}; {implied} ([costs](../costs.md))."


def peers(record: dict[str, Any]) -> str:
    """Return how long a run takes in other libraries, from the record of ``tests/perf/peers.py``."""
    about, versions = record["about"], record["about"]["packages"]
    rows = [
        (
            f"{name} / {found['avalanche']}",
            f"{found['seconds_avalanche']:.1f}",
            f"{found['seconds_lethe']:.1f}",
            f"{found['seconds_lethe_per_seed']:.2f}",
            f"{found['faster_one_seed']:.1f}",
            f"{found['faster_many_seeds']:.1f}",
        )
        for name, found in record["methods"].items()
    ]
    seeds = f"{about['seeds']} seeds at once"
    speeds = ("speed-up, 1 seed", f"speed-up per seed, {seeds}")
    header = ("Lethe / Avalanche", "Avalanche, s", "Lethe, s", f"Lethe, s per seed, {seeds}", *speeds)
    return (
        f"{markdown_rows(header, rows)}\n\n`python tests/perf/peers.py`, {about['made']}: digits, "
        f"class-incremental, one thread of {about['machine']}, avalanche-lib {versions['avalanche-lib']}, "
        f"torch {versions['torch']}."
    )
