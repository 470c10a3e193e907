"""Experiments, reports and exports from Python: ``lethe.run``, ``lethe.report``, ``lethe.export``."""

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.plan import Request, Value, check_seeds, text_of
from bench.plan import seeds as read_seeds
from bench.report import Layout, Spread, make_report
from bench.results import Frames, load
from suites.errors import UserError


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
    stale: str = "",
) -> Frames:
    """Run what is missing and return the folder's frames; without ``out`` the folder is a temporary one.

    ``strategies`` are selectors (``"er[buffer=200]"``), one or several, as are ``scenarios``; ``seeds`` is
    how many, from 0, or which; ``settings`` are those of ``--set``. ``device``, ``jobs`` (0 for one a core or
    a GPU) and ``lanes`` (0 for the fixed rule) change no result. ``keep_models`` is ``last`` or ``all``, for
    bench.export; ``resume_from`` the folder of an exported model to go on from. Cells of ``out`` whose code
    or data changed are run again where all that changed is the user's own; else ``stale`` must say ``rerun``
    or ``keep``. Raises UserError for anything that cannot be; a failed cell is a record, not an exception.
    """
    from bench.runner import Options, carry_out  # torch: a report does without

    selectors = (strategies,) if isinstance(strategies, str) else tuple(strategies)
    kinds = (scenarios,) if isinstance(scenarios, str) else tuple(scenarios)
    wanted = read_seeds(str(seeds)) if isinstance(seeds, int) else check_seeds(list(seeds), seeds)
    texts = {name: text_of(value) for name, value in (settings or {}).items()}
    request = Request(suite, selectors, kinds, wanted, texts, "" if resume_from is None else str(resume_from))
    options = Options(device=device, jobs=jobs, lanes=lanes, quiet=True, keep_models=keep_models, stale=stale)
    with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        for words in request.remarks:
            warnings.warn(words, stacklevel=2)
        outcome = carry_out([request], folder, options, f"bench.run({suite!r}, {list(selectors)!r})")
        frames = load(folder)
        frames.unreadable = [*outcome.set_aside, *frames.unreadable]
        return frames


def report(
    folder: str | Path,
    *more: str | Path,
    out: str | Path | None = None,
    scores: Sequence[str] | None = None,
    spread: Spread = "ci",
    prefer: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, tables and figures of one or several runs, as ``lethe report`` does.

    Args:
        folder: A run.
        more: Further runs, reported as one with it.
        out: Where to write; ``folder``/report without it.
        scores: Columns of the tables; the usual ones without it.
        spread: ``ci``, ``bca``, ``sd`` or ``sem``.
        prefer: The run whose side is taken where runs contradict each other; see ``load``.
        labels: What runs are called that are shown side by side, by folder.

    Returns:
        The folder of the report, with index.html in it.

    Raises:
        UserError: For a folder that is no run, an unknown score, or several runs without ``out``.
    """
    if out is None and more:
        raise UserError("name the folder of a report on several runs with out=")
    target = Path(folder) / "report" if out is None else Path(out)
    layout = Layout(spread, marks=True, origin=True)
    frames = load(folder, *more, prefer=prefer, labels=labels)
    return make_report(frames, target, scores, layout, time.strftime("%Y-%m-%d"))


def export(run: str | Path, cell: str, out: str | Path, task: int | None = None) -> Path:
    """Write a cell's saved model into a folder that predicts and goes on learning, as ``lethe export`` does.

    Args:
        run: A run made with ``keep_models``.
        cell: The cell's key, the start of it, or ``strategy/seed``: ``"er/0"``.
        out: A new folder.
        task: The model after so many tasks; after the last one saved without it.

    Returns:
        ``out``, for ``Predictor.load``.

    Raises:
        UserError: For a cell without a saved model, and a folder that is not empty.
    """
    from bench.export import find, save, served

    save(served(Path(run), find(Path(run), cell), task), Path(out))
    return Path(out)
