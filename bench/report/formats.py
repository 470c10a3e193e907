"""Formats of numbers in reports: digits, spread, and undefined values."""

import math
import re

MISSING = "–"
"""Printed for a number that is not defined."""
CLOSE = "†"
"""Printed beside a number that is not significantly worse than the best."""


def points(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a proportion in points; with ``sign`` "+" positive numbers have a sign, too."""
    return number(100 * value, digits, sign)


def number(value: float, digits: int = 2, sign: str = "") -> str:
    """Return the text of a number that is already in points."""
    return MISSING if math.isnan(value) else f"{value:{sign}.{digits}f}"


def plus_minus(half: float) -> str:
    """Return the text after a mean: its spread in points, empty if it is not defined."""
    return plus_minus_number(100 * half)


def plus_minus_number(half: float) -> str:
    """Return the text of a spread that is already in points."""
    return "" if math.isnan(half) else f" ± {number(half)}"


def interval(low: float, high: float) -> str:
    """Return the text after a mean: its interval in points, empty if it is not defined."""
    return "" if math.isnan(low) else f" [{points(low)}, {points(high)}]"


def speed(value: float) -> str:
    """Return samples per second or seconds: two significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:#.2g}".removesuffix(".")


def p_value(p: float) -> str:
    """Return a p-value with two digits."""
    return f"{p:.2g}"


def rank_text(value: float) -> str:
    """Return a mean rank, or a difference of ranks."""
    return f"{value:.2f}"


def broken(name: str, width: int) -> list[str]:
    """Return a selector as lines, broken after commas, bars, spaces ..., at ``width`` if possible."""
    lines = [""]
    for piece in re.findall(r"[^,+\[| ]+[,+\[| ]?|[,+\[| ]", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]
