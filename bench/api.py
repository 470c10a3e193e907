"""``bench.run``: an experiment from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.plan import Request, Value, check_seeds, text_of
from bench.plan import seeds as read_seeds
from bench.results import Frames, load
from bench.runner import Options, carry_out


def run(
    suite: str,
    strategies: str | Sequence[str],
    *,
    scenarios: str | Sequence[str] = "class",
    seeds: int | Sequence[int] = 5,
    out: str | Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    lanes: int = 0,
    settings: dict[str, Value] | None = None,
    keep_models: str = "",
    resume_from: str | Path | None = None,
) -> Frames:
    """Run what is missing and return the folder's frames; without ``out`` the folder is a temporary one.

    ``strategies`` are selectors (``"er[buffer=200]"``), one or several, as are ``scenarios``; ``seeds`` is
    how many, from 0, or which; ``settings`` are those of ``--set``. ``device``, ``jobs`` (0 for one a core or
    a GPU) and ``lanes`` (0 for the fixed rule) change no result. ``keep_models`` is ``last`` or ``all``, for
    bench.export; ``resume_from`` the folder of an exported model to go on from. Raises UserError for anything
    that cannot be; a failed cell is a record, not an exception.
    """
    selectors = (strategies,) if isinstance(strategies, str) else tuple(strategies)
    kinds = (scenarios,) if isinstance(scenarios, str) else tuple(scenarios)
    wanted = read_seeds(str(seeds)) if isinstance(seeds, int) else check_seeds(list(seeds), seeds)
    texts = {name: text_of(value) for name, value in (settings or {}).items()}
    request = Request(suite, selectors, kinds, wanted, texts, "" if resume_from is None else str(resume_from))
    options = Options(device=device, jobs=jobs, lanes=lanes, quiet=True, keep_models=keep_models)
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        outcome = carry_out([request], folder, options, f"bench.run({suite!r}, {list(selectors)!r})")
        frames = load(folder)
        frames.set_aside = [*outcome.set_aside, *frames.set_aside]
        return frames
