"""``bench.run``: an experiment from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.frames import Frames, load
from bench.plan import Request, Value, text_of
from bench.plan import seeds as read_seeds
from bench.runner import Options, carry_out


def run(
    suite: str,
    strategies: Sequence[str],
    *,
    scenarios: Sequence[str] = ("class",),
    seeds: int | Sequence[int] = 5,
    out: str | Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    lanes: int = 0,
    settings: dict[str, Value] | None = None,
) -> Frames:
    """Run what is missing and return the folder's frames; without ``out`` the folder is a temporary one.

    ``strategies`` are selectors (``"er[buffer=200]"``), ``settings`` those of ``--set``. Raises UserError for
    anything that cannot be; a failed cell is a record, not an exception.
    """
    wanted = read_seeds(str(seeds)) if isinstance(seeds, int) else tuple(seeds)
    texts = {name: text_of(value) for name, value in (settings or {}).items()}
    request = Request(suite, tuple(strategies), tuple(scenarios), wanted, texts)
    options = Options(device=device, jobs=jobs, lanes=lanes, quiet=True)
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        carry_out([request], folder, options, f"bench.run({suite!r}, {list(strategies)!r})")
        return load(folder)
