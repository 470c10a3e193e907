"""What docs/reliability.md shows of the record of injected faults, as Markdown."""

from typing import Any

from bench.report.formats import MISSING
from bench.report.text_tables import markdown_rows


def injected_faults(record: dict[str, Any]) -> str:
    """Return the table of faults by kind, from the record of ``python -m tests.faults --write``."""
    rows = [
        (kind, *(f"{of[name]:,}" for name in ("injected", "refused", "lost", "changed")), MISSING)
        for kind, of in record["faults"].items()
    ]
    rows += [
        (
            f"damaged input: {kind}",
            f"{of['tried']:,}",
            f"{of['refused']:,}",
            MISSING,
            MISSING,
            f"{of['faults']:,}",
        )
        for kind, of in record["readers"].items()
    ]
    total = [sum(of[name] for of in record["faults"].values()) for name in ("injected", "lost", "changed")]
    header = ("fault", "injected", "refused", "lost", "changed", "other errors")
    return (
        f"{markdown_rows(header, rows)}\n\n{total[0]:,} faults in runs and their files: {total[1]:,} lost, "
        f"{total[2]:,} changed. `python -m tests.faults` and `python -m tests.engine_faults`, "
        f"{record['about']['made']}."
    )
