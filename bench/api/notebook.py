"""Results with tables and figures, as Python and notebooks show them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partialmethod
from html import escape
from typing import TYPE_CHECKING, Self

import pandas as pd

from bench import results
from bench.plan import ResolvedPlan
from bench.report import (
    Layout,
    Spread,
    every_comparison,
    grid_settings,
    in_html,
    plot as plot_one,
    summary_table,
    tables,
)
from bench.results import CELL

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure


@dataclass(repr=False)
class Frames(results.Frames):
    """The results of one or several runs as data frames, tables and figures; ``load`` and ``run`` return it.

    In every frame the columns ``suite``, ``scenario``, ``strategy``, ``identity`` (the strategy with its
    settings), ``seed`` and ``key`` identify the cell.

    Example:
        ```python
        frames = lethe.load("runs/first")
        frames.table()  # one row per strategy; in a notebook frames alone shows it
        frames.pairs("acc")  # which differences are significant
        frames.plot_stream()  # a matplotlib figure
        frames.on("validation").table()  # the same on validation rows
        acc = frames.scores[frames.scores["score"] == "acc"]
        acc.groupby("identity")["value"].agg(["mean", "std"])
        ```
    """

    unfinished: list[str] = field(default_factory=list)
    """A line for each fault of the environment during ``run``, with its cells, which have no record."""

    plan: ResolvedPlan | None = None
    """The plan of ``run``; printed, a line for each cell."""

    @classmethod
    def of(cls, found: results.Frames) -> Self:
        """Return frames with the same contents."""
        return cls(**{f.name: getattr(found, f.name) for f in fields(found)})

    @property
    def settings_of_grids(self) -> pd.DataFrame:
        """All settings of grids, a row each: seeds, means on validation and test rows, and which is chosen.

        ``table`` and figures show a grid as one row, with the setting that is best on validation rows.
        """
        return grid_settings(results.folded(self).grids)

    @property
    def failed(self) -> pd.DataFrame:
        """The cells that failed or diverged: a row each, with ``status`` and ``why``."""
        bad = self.cells["status"].isin(["failed", "diverged"])
        return self.cells[bad][[*CELL, "status", "why"]].reset_index(drop=True)

    def table(self, scores: Sequence[str] | None = None, *, spread: Spread = "ci") -> pd.DataFrame:
        """Return the table of a report as numbers.

        Args:
            scores: Columns, by name; acc, forgetting, bwt, fwt, aia and learning_acc without it.
            spread: ``ci`` (half-width of the 95 % t interval), ``bca`` (ends of the bootstrap interval),
                ``sd`` or ``sem``.

        Returns:
            A row per suite, scenario and strategy, the most accurate first: ``n``, and for each score its
            mean, a proportion, its spread (``acc_ci``; of bca ``acc_low`` and ``acc_high``) and ``acc_mark``:
            ``best``, ``close`` (not significantly worse), ``worse``, or empty for bounds and without a test.

        Raises:
            UserError: A score is unknown.
        """
        return summary_table(results.folded(self), scores, spread)

    def pairs(self, score: str = "acc") -> pd.DataFrame:
        """Return the paired comparison of every two strategies, bounds excepted.

        Args:
            score: Name of a score.

        Returns:
            A row per suite, scenario and pair ``a``, ``b``: number of common seeds ``n``, ``mean`` of a - b
            with ``half`` (95 % t interval), ``sd``, ``d_z``, sign-flip ``p``, ``p_wilcoxon``, ``p_holm`` over
            all pairs of the suite and scenario, and ``verdict``: better, worse, not distinguished, or too few
            seeds.

        Raises:
            UserError: The score is unknown.
        """
        return every_comparison(results.folded(self), [score]).drop(columns="column")

    def plot(self, name: str, suite: str = "", scenario: str = "", width: float = 6.9) -> "Figure":
        """Return a figure of a report.

        Args:
            name: Name of the figure: ``stream``, ``tasks``, ``bars`` ...; each is also a method,
                ``plot_stream()``.
            suite: The suite to show; needed if the runs have several.
            scenario: The scenario to show; needed if the runs have several.
            width: In inches.

        Raises:
            UserError: The figure is unknown, the choice is ambiguous, or there is nothing to show.
        """
        return plot_one(results.folded(self), name, suite, scenario, width)[0]

    plot_stream = partialmethod(plot, "stream")
    plot_tasks = partialmethod(plot, "tasks")
    plot_bars = partialmethod(plot, "bars")
    plot_matrices = partialmethod(plot, "matrices")
    plot_matrix = partialmethod(plot, "matrix")
    plot_confusion = partialmethod(plot, "confusion")
    plot_stability = partialmethod(plot, "stability")
    plot_pareto = partialmethod(plot, "pareto")
    plot_boundaries = partialmethod(plot, "boundaries")
    plot_response = partialmethod(plot, "response")
    plot_grid = partialmethod(plot, "grid")
    plot_schedules = partialmethod(plot, "schedules")
    plot_trials = partialmethod(plot, "trials")
    plot_ranks = partialmethod(plot, "ranks")

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.cells["status"].value_counts().items())
        parts = self.cells[["suite", "scenario"]].drop_duplicates().itertuples(index=False)
        named = [f"{suite} {scenario}" for suite, scenario in parts]
        shown = ", ".join([*named[:3], *([f"{len(named) - 3} more"] if len(named) > 3 else [])])
        n = f"{self.cells['identity'].nunique()} strategies, {self.cells['seed'].nunique()} seeds"
        where = "" if self.split == "test" else f"; scores on {self.split} rows"
        return f"<Frames of {self.folder}: {shown or 'empty'}; {n}; {counts or 'no cells'}{where}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{in_html(tables(results.folded(self), None, Layout(marks=True)))}"
