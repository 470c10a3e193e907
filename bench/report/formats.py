"""How numbers of a report are written: digits, spread, and what is not defined."""

import math

MISSING = "–"
"""What is printed for a number that is not defined."""
CLOSE = "†"
"""What is printed beside a number that is not significantly worse than the best."""


def points(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a proportion in points; with ``sign`` "+" positive numbers have one too."""
    return number(100 * value, digits, sign)


def number(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a number that is in points already."""
    return MISSING if math.isnan(value) else f"{value:{sign}.{digits}f}"


def plus_minus(half: float) -> str:
    """Return what follows a mean: its spread in points, nothing where it is not defined."""
    return plus_minus_number(100 * half)


def plus_minus_number(half: float) -> str:
    """Return the spread of a number that is in points already."""
    return "" if math.isnan(half) else f" ± {number(half)}"


def interval(low: float, high: float) -> str:
    """Return what follows a mean: the ends of its interval in points, nothing where they are not defined."""
    return "" if math.isnan(low) else f" [{points(low)}, {points(high)}]"


def speed(value: float) -> str:
    """Return samples per second or seconds."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def p_value(p: float) -> str:
    """Return a p-value with two digits."""
    return f"{p:.2g}"


def rank_text(value: float) -> str:
    """Return a mean rank, or a difference of ranks."""
    return f"{value:.2f}"
