"""A score over revisions as a table, and the commits of its steps."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from bench.report.formats import number
from bench.report.text_tables import Rows, markdown_rows
from bench.results import Line, Step, commits_between

HEADER = ("suite", "scenario", "strategy", "score", "revisions", "first", "last", "steps")
_COMMITS_SHOWN = 10


def history_rows(lines: Sequence[Line], every: bool = False) -> Rows:
    """Return a row for each line with steps, or for all."""
    rows = []
    for line in lines:
        steps = line.steps
        if steps or every:
            values = list(line.values.values())
            ends = number(values[0].mean), number(values[-1].mean)
            texts = "; ".join(f"{s.at.label} {number(s.now - s.before, sign='+')}" for s in steps) or "none"
            rows.append(
                [line.suite, line.scenario, line.strategy, line.score, str(len(values)), *ends, texts]
            )
    return rows


def history_steps(lines: Sequence[Line]) -> Iterator[str]:
    """Yield each place of a step with its lines, and the commits between it and the revision before."""
    places: dict[tuple[str, str], list[tuple[Line, Step]]] = {}
    for line in lines:
        for step in line.steps:
            places.setdefault((step.after.label, step.at.label), []).append((line, step))
    for (before, at), found in places.items():
        yield f"between {before} and {at} ({found[0][1].at.at[:10]}):"
        for line, step in found:
            way = "worse" if (step.now - step.before) * line.worse > 0 else "better"
            title = f"{line.suite} {line.scenario} {line.strategy} {line.score}"
            yield f"  {way}: {title}: {number(step.before)} -> {number(step.now)}"
        commits = commits_between(found[0][1])
        yield from (f"  {commit}" for commit in commits[:_COMMITS_SHOWN])
        if len(commits) > _COMMITS_SHOWN:
            yield f"  and {len(commits) - _COMMITS_SHOWN} more commits"


def write_history(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write the table as Markdown, and a figure with its data for each suite, scenario and score."""
    from bench.report.figures import save
    from bench.report.figures.revisions import revisions

    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "history.md"
    steps = "\n".join(history_steps(lines))
    table.write_text(
        f"{markdown_rows(HEADER, history_rows(lines, every=True))}\n\n```text\n{steps}\n```\n",
        encoding="utf-8",
    )
    written = [table]
    written += [save(*revisions(part), folder / stem) for stem, part in lines_of_figures(lines)]
    return written


def lines_of_figures(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Yield the name, without suffix, and the lines of each figure: of one suite, scenario and score."""
    for key, part in groupby(lines, lambda line: (line.suite, line.scenario, line.score)):
        yield "-".join(["history", *(re.sub(r"\W+", "_", word) for word in key)]), list(part)
