"""What differs between two runs besides their results, and signs that a run is not what its plan says."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from bench.plan import text_of
from bench.results.frames import Frames
from bench.results.merge import setting
from bench.results.outcome import Outcome
from bench.results.paired_cells import Pair, Rows, recorded_number, same_rows
from bench.schema import SetupDifference
from suites.errors import some

_SHOWN = 3
_FEWEST_REPEATED = 3
"""Seeds that must repeat each other before it is reported."""


def setup_differences(
    base: Frames, new: Frames, done: Sequence[Pair], rows: Rows
) -> Iterator[SetupDifference]:
    """Yield each difference of settings, code, data, versions, devices and seeds, and which rows have it."""
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for pair in done:
        for difference in _differences(pair, base, new):
            found.setdefault(difference, {})[" ".join(pair.base.row)] = None
    for row, of_row in rows:
        was, now = _seeds(base, of_row[0].base), _seeds(new, of_row[0].new)
        if was != now:
            found.setdefault(("seeds", "seeds", was, now), {})[" ".join(row)] = None
    for (what, name, was, now), where in found.items():
        places = "all" if len(where) == len(rows) > 1 else some(list(where), _SHOWN)
        yield SetupDifference(what=what, name=name, base=was, new=now, where=places)
    environments = [_environment(frames) for frames in (base, new)]
    for what, name in dict.fromkeys([*environments[0], *environments[1]]):
        was, now = (", ".join(sorted(of.get((what, name), {"?"}))) for of in environments)
        if was != now:
            yield SetupDifference(what=what, name=name, base=was, new=now, where="all")


def _differences(pair: Pair, base: Frames, new: Frames) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, name and both values of everything that differs between two records of a cell."""
    settings = setting(pair.base), setting(pair.new)
    for name in dict.fromkeys([*settings[0], *settings[1]]):
        was, now = (text_of(of[name]) if name in of else "none" for of in settings)
        if was != now:
            yield "plan", name, was, now
    origins = pair.base.origin, pair.new.origin
    if origins[0].code != origins[1].code:
        files = [frames.manifest.code.get(o.code, {}) for frames, o in zip((base, new), origins, strict=True)]
        differing = [n for n in sorted({**files[0], **files[1]}) if files[0].get(n) != files[1].get(n)]
        name = some(differing, _SHOWN) if differing else "source files"
        was, now = (o.commit or o.code[:10] or "not recorded" for o in origins)
        yield "code", name, was, now
    for name in ("data", "weights"):
        if (was := getattr(origins[0], name)) != (now := getattr(origins[1], name)):
            yield "data", name, was[:10] or "none", now[:10] or "none"
    for name in ("torch", "numpy"):
        if (was := getattr(origins[0], name)) != (now := getattr(origins[1], name)):
            yield "versions", name, was or "not recorded", now or "not recorded"
    for name in ("device", "lanes"):
        was, now = (str(recorded_number(of, name)) for of in (pair.base, pair.new))
        if was != now:
            yield name, name, was, now
    if not same_rows(pair):
        yield "streams", "rows of tasks", "its own", "others at the same seed"
    if not pair.equal and settings[0] == settings[1] and origins[0][1:-1] == origins[1][1:-1]:
        yield "records", "equal code, data and versions", "one result", "another result"


def _seeds(frames: Frames, like: Outcome) -> str:
    """Return the done seeds of a row of a run, as ``0-4,7``."""
    cells = frames.cells
    of_row = (cells["suite"] == like.spec["suite"]) & (cells["scenario"] == like.spec["scenario"])
    found = sorted(cells[of_row & (cells["identity"] == like.identity) & (cells["status"] == "done")]["seed"])
    return ranges(found, "-", ",")


def ranges(numbers: Sequence[int], dash: str = "–", comma: str = ", ") -> str:
    """Return sorted numbers as ranges: 0–4, 7."""
    runs = [[n for _, n in part] for _, part in groupby(enumerate(numbers), lambda at: at[1] - at[0])]
    return comma.join(f"{run[0]}{dash}{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _environment(frames: Frames) -> dict[tuple[str, str], set[str]]:
    """Return the packages, Python and machines of the commands of a run."""
    found: dict[tuple[str, str], set[str]] = {}
    for command in frames.manifest.commands:
        for name, version in command.packages.items():
            if name not in ("torch", "numpy"):  # records name these
                found.setdefault(("versions", name), set()).add(version)
        found.setdefault(("versions", "Python"), set()).add(command.python)
        found.setdefault(("device", "machine"), set()).add(command.machine)
    return found


def repeats(found: Sequence[Pair]) -> bool:
    """Return whether all seeds of NEW have the same rows of tasks, or the same scores, and BASE's do not."""
    of: tuple[Callable[[Outcome], bytes], ...] = (
        lambda cell: b"".join(m.total_E.tobytes() for m in cell.measured.values()),
        lambda cell: cell.measured["test"].value_E.tobytes(),
    )
    distinct = [[len({mark(getattr(p, n)) for p in found}) for n in ("base", "new")] for mark in of]
    return len(found) >= _FEWEST_REPEATED and any(new == 1 < base for base, new in distinct)


def other_steps(row: tuple[str, str, str], found: Sequence[Pair]) -> str:
    """Return the numbers of steps if settings and streams are equal and the numbers are not, else nothing.

    A group of lanes takes as many steps as its longest lane, so groups must have the same cells.
    """
    for pair in found:
        groups = {recorded_number(cell, "lanes") for cell in (pair.base, pair.new)}
        if groups != {len(found)} or setting(pair.base) != setting(pair.new) or not same_rows(pair):
            return ""
    was, now = (recorded_number(cell, "steps") for cell in (found[0].base, found[0].new))
    return "" if was == now else f"{' '.join(row)} took {now:,} training steps, not {was:,}"
