"""Remarks on rows that are like ``finetune``: their own term hardly acted, or they equal it on every seed."""

from bench.report.families import bounds
from bench.results import Frames, LikeFinetune, compared_with_finetune


def idle_rows(frames: Frames) -> list[str]:
    """Return a line for each row whose own term hardly acted, or that equals finetune on every seed.

    Methods without a recorded own term, such as projections, are judged by equality alone.
    """
    rows = ((row, _why(row)) for row in compared_with_finetune(frames, bounds(frames)))
    return [f"like finetune: {row.suite} {row.scenario} {row.identity}: {why}" for row, why in rows if why]


def _why(row: LikeFinetune) -> str:
    """Return why a row is like finetune and what to do; empty if it is not."""
    if row.idle:
        return f"{row.own_term_in_words}{f', {row.equal_in_words}' if row.equal else ''}; {row.advice}"
    if not row.equal:
        return ""
    if row.own_term is not None:
        return f"{row.equal_in_words}, although {row.own_term_in_words}"
    return f"{row.equal_in_words}; {row.advice}"
