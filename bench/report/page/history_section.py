"""The section of the page on scores over revisions."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.report.figures import as_svg
from bench.report.figures.revisions import revisions
from bench.report.history_table import HEADER, history_rows, history_steps, lines_of_figures
from bench.report.layout import ONE_COLUMN
from bench.report.page.section import inline
from bench.results import Line


def history_section(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the table, the commits of each step and the figures as the page holds them."""
    return {
        "header": HEADER,
        "rows": history_rows([line for line in lines if len(line.values) > 1], every=True),
        "steps": "\n".join(history_steps(lines)),
        "figures": [*_figures(lines)],
    }


def _figures(lines: Sequence[Line]) -> Iterator[dict[str, str]]:
    for name, part in lines_of_figures(lines):
        figure, _ = revisions(part, ONE_COLUMN)
        caption = f"{part[0].suite} {part[0].scenario}: {part[0].score} over revisions."
        yield {"svg": inline(as_svg(figure), name), "caption": caption, "file": name}
