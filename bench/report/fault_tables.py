"""Tables of docs/regressions.md and reliability.md: planted and injected faults, slowness, false alarms."""

from collections import Counter
from typing import Any

from bench.report.formats import MISSING
from bench.report.text_tables import markdown_rows


def planted_faults(record: dict[str, Any]) -> str:
    """Return the table of faults, from the record of ``python -m tests.planted_faults --write``."""
    faults, most = record["faults"], record["most_seeds"]
    rows = [
        (
            f["fault"],
            f["run"],
            "yes" if f["alarm"] else "no",
            f["shown_by"] or f"nothing; clearest: {f['clearest']}",
            MISSING if f["seeds_needed"] is None else str(f["seeds_needed"]),
            MISSING if f["seeds_needed_equal"] is None else str(f["seeds_needed_equal"]),
        )
        for f in faults
    ]
    n, n_equal = (sum(bool(f[name]) for f in faults) for name in ("alarm", "seeds_needed_equal"))
    seeds = record["seeds"]
    header = ("fault", "run", f"alarm, {seeds} seeds", "shown by", "seeds needed", "the same, --expect equal")
    return (
        f"{markdown_rows(header, rows)}\n\n"
        f"Found with {seeds} seeds: **{n} of {len(faults)}**; with `--expect equal`: {n_equal} of "
        f"{len(faults)}. Seeds needed: the smallest number of seeds, counted from seed 0 and at most {most}, "
        "with which a score is `worse`; in the last column, with which a record is not equal."
    )


def false_alarms(r: dict[str, Any]) -> str:
    """Return how often nothing was an alarm, from the record of ``python -m tests.false_alarms --write``."""
    counts = ", ".join(f"{n:,} {verdict}" for verdict, n in r["verdicts"].items())
    share, low, high = (f"{100 * part:.1f}" for part in (r["alarms"] / r["draws"], r["low"], r["high"]))
    return (
        f"**{r['alarms']} of {r['draws']} draws raised an alarm: {share} %**, 95 % interval {low} to "
        f"{high} % (Clopper-Pearson; draws share seeds, so it is somewhat too narrow). {r['with_better']} "
        f"draws had a score that is `better`. A draw is {r['drawn']} of {r['seeds']} seeds of "
        f"{', '.join(r['strategies'])} on digits (task, domain, class), with {r['scores_in_a_draw']} scores. "
        f"Verdicts in all draws: {counts}."
    )


def planted_slowness(record: dict[str, Any]) -> str:
    """Return how often a slower step was found, from the record of ``python -m tests.planted_slowness``."""
    rows = []
    for found in record["slowness"]:
        tries = found["tries"]
        ratios = sorted(one["ratio"] for one in tries)
        counts = Counter(one["verdict"] for one in tries)
        verdicts = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        ends = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        rows.append((f"{100 * found['measured']:.1f} %", str(len(tries)), verdicts, ends))
    header = ("planted slowdown of a step", "tries", "verdicts", "ratios")
    return f"{markdown_rows(header, rows)}\n\nMargin {100 * record['margin']:g} %; {record['machine']}."


def planted_bisections(record: dict[str, Any]) -> str:
    """Return how often the right commit was found, by ``python -m tests.planted_bisections``."""
    rows = [
        (
            of["fault"],
            str(of["commits"]),
            str(len(of["tries"])),
            str(sum(one["right"] for one in of["tries"])),
        )
        for of in record["bisections"]
    ]
    return markdown_rows(("fault in", "commits", "tries", "right commit found"), rows)


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
