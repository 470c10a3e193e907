"""The comparison of two runs for a terminal, as Markdown for a pull request, and as JUnit XML."""

from xml.etree import ElementTree

from rich.console import Console
from rich.markup import escape

from bench.report.formats import MISSING, number, p_value
from bench.report.text_tables import Rows, markdown_rows, plain, print_rows
from bench.results import ComparedScore, Comparison

HEADER = (
    "suite", "scenario", "strategy", "score", "n", "BASE", "NEW", "difference", "95 % interval", "p (Holm)",
    "margin", "verdict", "why",
)  # fmt: skip
_ORDER = ("worse", "better", "unclear", "same")


def print_comparison(comparison: Comparison, console: Console, every: bool = False) -> None:
    """Print a comparison: what differs, the scores that are not the same (or all), the alarms."""
    for line in head(comparison):
        console.print(escape(line), soft_wrap=True)
    if found := rows(comparison, every):
        print_rows(HEADER, found, console)
    for line in tail(comparison):
        console.print(escape(line), soft_wrap=True)


def comparison_markdown(comparison: Comparison, every: bool = False) -> str:
    """Return a comparison in Markdown."""
    n = len(comparison.alarms)
    title = f"### Lethe: {n} alarm{'s' * (n > 1)}" if n else "### Lethe: no regression"
    parts = [title, "\n".join(f"- {plain(line)}" for line in head(comparison))]
    if found := rows(comparison, every):
        parts.append(markdown_rows(HEADER, found))
    return "\n\n".join([*parts, *map(plain, tail(comparison))]) + "\n"


def head(comparison: Comparison) -> list[str]:
    """Return the lines above the table: the runs, and everything that differs besides the results."""
    c = comparison
    lines = [
        f"BASE {c.base}, NEW {c.new}: {_many(c.cells, 'cell')} in common, {c.equal_cells} equal bit for bit"
    ]
    for n, name in ((c.only_base, "BASE"), (c.only_new, "NEW")):
        if n:
            lines.append(f"not compared: {_many(n, 'cell')} of {name} alone")
    for d in c.setup:
        lines.append(f"differs: {d.what}: {d.name}: {d.base} in BASE, {d.new} in NEW ({d.where})")
    return lines + [f"not compared: {line}" for line in c.unreadable]


def rows(comparison: Comparison, every: bool = False) -> Rows:
    """Return the rows of the table, worse ones first; those that are the same only if ``every``."""
    shown = comparison.scores if every else comparison.with_verdict("worse", "better", "unclear")
    return [_row(s) for s in sorted(shown, key=lambda s: _ORDER.index(s.verdict))]


def _row(s: ComparedScore) -> list[str]:
    ends = (
        MISSING if s.low is None or s.high is None else f"[{number(s.low, 2, '+')}, {number(s.high, 2, '+')}]"
    )
    p = MISSING if s.p_holm is None else p_value(s.p_holm)
    per_cent = " %" if s.unit == "%" else ""
    means = [number(s.base), number(s.new), number(s.difference, 2, "+") + per_cent]
    margin = f"{s.margin:g}{per_cent}"
    return [s.suite, s.scenario, s.strategy, s.score, str(s.n), *means, ends, p, margin, s.verdict, s.why]


def tail(comparison: Comparison) -> list[str]:
    """Return the lines below the table: the number of each verdict, and the alarms."""
    counts = {v: len(comparison.with_verdict(v)) for v in _ORDER}
    line = f"scores: {', '.join(f'{n} {v}' for v, n in counts.items() if n) or 'none'}"
    alarms = [f"alarm: {words}" for words in comparison.alarms]
    return [line, *(alarms or [f"no alarm ({comparison.expect} is expected)"])]


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def comparison_badge(comparison: Comparison) -> dict[str, str | int]:
    """Return a badge: the endpoint format of shields.io."""
    n = len(comparison.alarms)
    words, colour = (f"{_many(n, 'alarm')}", "red") if n else ("no regression", "brightgreen")
    return {"schemaVersion": 1, "label": "lethe", "message": words, "color": colour}


def comparison_junit(comparison: Comparison) -> str:
    """Return a comparison as JUnit XML: a test case for each score, and one for each other alarm.

    ``worse`` is a failure, and so is ``better`` if it is an alarm; ``unclear`` is skipped.
    """
    of_scores = {f"{s.name} is {s.verdict}: {s.why}": s for s in comparison.scores}
    others = [words for words in comparison.alarms if words not in of_scores]
    failed = len(comparison.alarms)
    unclear = len(comparison.with_verdict("unclear"))
    numbers = {"tests": len(of_scores) + len(others), "failures": failed, "skipped": unclear, "errors": 0}
    counts = {"name": "lethe compare"} | {name: str(n) for name, n in numbers.items()}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", counts)
    for words, s in of_scores.items():
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"{s.suite}.{s.scenario}.{s.strategy}", name=s.score
        )
        if words in comparison.alarms:
            ElementTree.SubElement(case, "failure", message=words)
        elif s.verdict == "unclear":
            ElementTree.SubElement(case, "skipped", message=words)
    for words in others:
        case = ElementTree.SubElement(suite, "testcase", classname="lethe", name=words.split(":")[0])
        ElementTree.SubElement(case, "failure", message=words)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
