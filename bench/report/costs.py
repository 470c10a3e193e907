"""Tables of costs: steps against their implied cost, their launches, a grid as lanes against single runs.

The records are written by ``bench.checks.step_costs``, ``bench.checks.launches``, and modules of ``tests``
that the captions name.
"""

from typing import Any

from bench.report.formats import MISSING, speed
from bench.report.text_tables import markdown_rows

HEADER = ("strategy", "implied", "measured", "quartiles", "measured / implied", "batch")


def step_costs(record: dict[str, Any]) -> str:
    """Return the table of a record, sorted by measured / implied, with the hardware."""
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


def grid_times(record: dict[str, Any]) -> str:
    """Return how long a grid takes as lanes, one by one, and as separate processes."""
    seconds, n, at_once = record["seconds"], record["cells"], record["at_once"]
    words = {
        "lanes": f"one command, {at_once} processes of lanes",
        "one process": f"one process, one by one (from {record['sample_one_process']} of {n})",
        "separate processes": f"{n} processes, {at_once} at a time (from {record['sample']} of {n})",
    }
    rows = []
    for way, of in seconds.items():
        times = (f"{of[kind] / seconds['lanes'][kind]:.1f}" for kind in ("wall", "processor"))
        rows.append((words[way], f"{of['wall']:,.0f}", f"{of['processor']:,.0f}", *times))
    header = ("way", "wall time, s", "processor time, s", "wall / first row", "processor / first row")
    return (
        f"{markdown_rows(header, rows)}\n\n`{record['command']}`, {record['at']}: `{record['grid']}`, "
        f"{record['seeds']} seeds, digits class-incremental; {_made_on(record)}."
    )


def long_stream(record: dict[str, Any]) -> str:
    """Return what scoring a long stream takes by ``eval``, and memory, sizes and times of learning it."""
    rows, sizes = [], list(next(iter(record["scoring"].values()))["seconds"])
    for choice, of in record["scoring"].items():
        rows.append((choice, *(speed(of["seconds"][n]) for n in sizes), f"{of['exponent']:.2f}"))
    header = ("--eval", *(f"{int(n):,} tasks, s" for n in sizes), "exponent")
    memory, saved = record["memory"], record["checkpoint_bytes"]
    (early, late), tasks = list(saved), f"{record['tasks']:,}"
    return (
        f"{markdown_rows(header, rows)}\n\nProcessor time of scoring all rows of R that a choice measures; "
        "exponent: the slope of log time over log number of tasks. "
        f"{tasks} tasks with `--eval diagonal`: {memory[early]:.0f} MiB of memory after {early} tasks, "
        f"{memory[str(record['tasks'])]:.0f} MiB after {tasks}; checkpoints of {saved[early] / 1000:.0f} kB "
        f"and, after {late}, {saved[late] / 1000:.0f} kB; {record['resume_seconds']:g} s to resume after "
        f"{late}, with the same record; a record of {record['record_bytes'] / 1000:.0f} kB, with "
        f"{record['classes_bytes'] / 1000:.0f} kB of confusion counts; its report in "
        f"{record['report_seconds']:g} s, {record['report_bytes'] / 1e6:.1f} MB. `{record['command']}`, "
        f"{record['at']}; {_made_on(record)}."
    )


def large_data(record: dict[str, Any]) -> str:
    """Return speed and memory of one pass over a data set from a mapped file and from memory."""
    ways, words = record["ways"], {"mapped": "mapped file", "memory": "memory"}
    n_rows, rows = record["rows"], []
    for way, of in ways.items():
        speeds = [n_rows / of[name] for name in ("processor_seconds", "train_seconds")]
        shares = [ways["memory"][name] / of[name] for name in ("processor_seconds", "train_seconds")]
        numbers = [f"{speed:,.0f} ({share:.0%})" for speed, share in zip(speeds, shares, strict=True)]
        rows.append((words[way], *numbers, f"{of['peak_mib']:,.0f}", f"{of['load_seconds']:.1f}"))
    header = ("rows from", "rows per processor second", "rows per second", "peak memory, MiB", "to load, s")
    settings = ", ".join(f"{name}={value}" for name, value in record["settings"].items())
    return (
        f"{markdown_rows(header, rows)}\n\n{n_rows:,} rows of {record['features']} numbers "
        f"({record['bytes'] / 1e9:.2f} GB), {record['tasks']} tasks, one pass of {record['strategy']}, "
        f"{settings}: median of n = {record['times']}, with equal results. Preparing the Arrow "
        f"file took {record['prepare']['seconds']:.0f} s. Peak memory includes the parts of the file that "
        f"were mapped. `{record['command']}`, {record['at']}; {_made_on(record)}."
    )


def launches(record: dict[str, Any]) -> str:
    """Return the table of the launches of each strategy's step, fewest first, and whether it is replayed."""
    steps = record["strategies"]
    rows = [
        (name, f"{steps[name]['launches']:.0f}", steps[name]["one_by_one"] or "yes")
        for name in sorted(steps, key=lambda n: steps[n]["launches"])
    ]
    return (
        f"{markdown_rows(('strategy', 'launches', 'replayed, or why not'), rows)}\n\n{record['command']}: "
        f"digits, an mlp of two layers, batch {record['batch']}, Adam, "
        f"{record['lanes']} lanes, the second task; torch {record['packages']['torch']}."
    )


def engine_overhead(record: dict[str, Any]) -> str:
    """Return how long a short cell takes on Dask, as processes of one machine and by joblib alone."""
    of, n = record["milliseconds"], record["at_once"]
    words = {
        "joblib": f"joblib alone, {n} processes: training, nothing written",
        "local": f"--on local, {n} processes",
        "dask": f"--on dask, {n} workers",
    }
    rows = []
    for way in words:
        times = (of[way][kind] / of["joblib"][kind] for kind in ("wall", "processor"))
        spent = (of[way][kind] for kind in ("wall", "processor"))
        rows.append((words[way], *(f"{ms:,.0f}" for ms in spent), *(f"{ratio:.2f}" for ratio in times)))
    header = ("way", "a cell, ms: wall time", "processor time", "times joblib: wall", "processor")
    cells = f"{record['cells'] * record['turns']:,} cells each, in {record['turns']} turns"
    return (
        f"{markdown_rows(header, rows)}\n\n`{record['command']}`, {record['at']}: {cells}, {n} at a time; "
        f"{_made_on(record)}."
    )


def many_cells(record: dict[str, Any]) -> str:
    """Return what the stages of a plan of many cells take, and the memory that they need."""
    rows = [
        (name, *(f"{of[kind]:,.0f}" for kind in ("seconds", "processor")), f"{of['peak']:.2f}")
        for name, of in record["stages"].items()
    ]
    whole = (sum(of[kind] for of in record["stages"].values()) for kind in ("seconds", "processor"))
    rows.append(("all", *(f"{of:,.0f}" for of in whole), f"{max(float(row[-1]) for row in rows):.2f}"))
    header = ("stage", "wall time, s", "processor time, s", "peak memory so far, GiB")
    size = f"{record['cells']:,} cells in {record['groups']:,} groups"
    return (
        f"{markdown_rows(header, rows)}\n\n`{record['command']}`, {record['at']}: {size}; "
        f"{record['scheduler']:.2f} GiB in the scheduler; {_made_on(record)}."
    )


def _made_on(record: dict[str, Any]) -> str:
    """Return the machine of a record, its load if the record has it, and the versions."""
    load = f", load {record['load']:g}" if "load" in record else ""
    return f"{record['machine']}{load}; torch {record['packages']['torch']}, Python {record['python']}"


def share(step: dict[str, Any]) -> float:
    """Return measured / implied, infinite if the implied cost is 0."""
    return float(step["ratio"] / step["implied"]) if step["implied"] else float("inf")
