"""Scores: pure functions of the score matrix.

R has shape (T+1, T): R[i, j] is the score on the test set of task j after learning i tasks; row 0 is before
any training, and entries that were not measured are NaN. Formulas count tasks from 1, as papers do: their
R[i, j] is ``R[i, j - 1]`` in the code. A score that needs a missing entry, or more tasks than the stream
has, is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.description import Description, docstring, first_paragraph

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A score with its definition and its bounds ``low`` and ``high`` for entries of R in [0, 1]."""

    name: str
    summary: str
    formula: str
    source: str
    higher_is_better: bool
    low: float
    high: float
    of: Callable[..., float] | None
    """Function of R; None if it needs more than R (``aia_rows``, ``intransigence``, ``min_acc``,
    ``wc_acc``, ``oos_auroc``, ``chrf``, ``prequential`` and its variants)."""

    @property
    def description(self) -> Description:
        """What it says of itself."""
        direction = "higher is better" if self.higher_is_better else "lower is better"
        metadata = {"formula": self.formula, "source": self.source, "direction": direction}
        return Description("score", self.name, self.summary, metadata=metadata)


SCORES: dict[str, Score] = {}


def _score(
    formula: str, source: str, *, higher: bool = True, low: float = 0.0
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a function as a score; the first line of its docstring is the summary."""

    def enter(function: Callable[..., float]) -> Callable[..., float]:
        name, about = function.__name__, first_paragraph(docstring(function)).removesuffix(".")
        summary = about[:1].lower() + about[1:]
        of_matrix = function if function.__code__.co_argcount == 1 else None
        SCORES[name] = Score(name, summary, formula, source, higher, low, 1.0, of_matrix)
        return function

    return enter


def _mean(values: Any) -> float:
    """Return the mean, NaN for no values; a NaN among the values makes the mean NaN."""
    values = np.asarray(values, dtype=float)
    # values.mean() without its checks: a report takes a hundred thousand means.
    return float(np.add.reduce(values) / values.size) if values.size else float("nan")


def _learned(R: Matrix) -> Matrix:
    """Return R[j, j] of every task."""
    return np.diagonal(R, offset=-1)


@_score("mean_j R[T,j]", "Lopez-Paz & Ranzato 2017")
def acc(R: Matrix) -> float:
    """Final accuracy: mean over tasks after the last."""
    return _mean(R[-1])


@_score("mean_i mean_{j<=i} R[i,j]", "Wang et al. 2024, A comprehensive survey of continual learning")
def aia(R: Matrix) -> float:
    """Average incremental accuracy: mean over the stream of the mean accuracy on tasks so far."""
    return _mean([_mean(R[i, :i]) for i in range(1, len(R))])


@_score("mean_i sum_{j<=i} n_j R[i,j] / sum_{j<=i} n_j, n_j the test rows of task j", "Rebuffi et al. 2017")
def aia_rows(R: Matrix, total: Matrix) -> float:
    """Average incremental accuracy over rows: mean over the stream of accuracy on all test rows so far.

    It differs from ``aia`` if tasks have different numbers of test rows: ``total``, which has the shape of R.
    """
    seen = np.tri(len(R) - 1, dtype=bool)
    right, rows = (np.where(seen, of[1:], 0).sum(1) for of in (R * total, total))
    return _mean(np.divide(right, rows, out=np.full_like(right, np.nan), where=rows > 0))


@_score("mean_{j<T} R[T,j] - R[j,j]", "Lopez-Paz & Ranzato 2017", low=-1.0)
def bwt(R: Matrix) -> float:
    """Backward transfer: change of a task's score from when it was learned to the end."""
    return _mean((R[-1] - _learned(R))[:-1])


@_score("mean_{i>j} R[i,j] - R[j,j]", "Diaz-Rodriguez et al. 2018", low=-1.0)
def bwt_all_pairs(R: Matrix) -> float:
    """Backward transfer averaged over all later tasks, not only at the end."""
    change = R[1:] - _learned(R)
    return _mean(change[_pairs(len(change))])


@cache
def _pairs(n_tasks: int) -> tuple[NDArray[np.intp], ...]:
    """Return the indices below the diagonal."""
    return np.tril_indices(n_tasks, k=-1)


@_score("mean_{j>=2} R[j-1,j] - R[0,j]", "Lopez-Paz & Ranzato 2017", low=-1.0)
def fwt(R: Matrix) -> float:
    """Forward transfer: score on a task just before learning it, less that of the untrained network."""
    return _mean((np.diagonal(R) - R[0])[1:])


@_score("mean_{j<T} max_{1<=l<T} R[l,j] - R[T,j]", "Chaudhry et al. 2018", higher=False, low=-1.0)
def forgetting(R: Matrix) -> float:
    """Drop from a task's best score before the last task to its final score; may be negative."""
    if len(R) < 3:
        return float("nan")
    return _mean((R[1:-1].max(0) - R[-1])[:-1])


@_score(
    "mean_{j<T} max_{1<=l<=T} R[l,j] - R[T,j]",
    "as in several libraries, after Chaudhry et al. 2018",
    higher=False,
)
def forgetting_nonneg(R: Matrix) -> float:
    """Forgetting whose maximum includes the final score; never negative."""
    return _mean((R[1:].max(0) - R[-1])[:-1])


@_score("mean_j R[j,j]", "Riemer et al. 2019")
def learning_acc(R: Matrix) -> float:
    """Score on each task right after learning it."""
    return _mean(_learned(R))


@_score("mean_j R*[j,j] - R[j,j]", "Chaudhry et al. 2018", higher=False, low=-1.0)
def intransigence(R: Matrix, R_reference: Matrix) -> float:
    """Gap on each task to a model trained on all data so far (needs cumulative).

    ``R_reference`` is the matrix of ``cumulative`` with the same suite and version, data, scenario, model and
    its options, training and seed.
    """
    return _mean(_learned(R_reference) - _learned(R))


@_score(
    "mean_{j<T} min_{steps after task j} A(j)",
    "De Lange, van de Ven & Tuytelaars 2023, Continual evaluation for lifelong learning",
)
def min_acc(R: Matrix, curves: Sequence[tuple[int, Sequence[float]]]) -> float:
    """Mean over earlier tasks of the lowest score since each was learned (needs score_every).

    ``curves`` contains pairs of the current task, from 1, and the scores of all tasks.
    """
    n_tasks = R.shape[1]
    if n_tasks < 2 or not curves:
        return float("nan")
    lowest = []
    for j in range(n_tasks - 1):
        later = [scores[j] for task, scores in curves if task > j + 1]
        lowest.append(np.min([*later, *R[j + 2 :, j]]))  # NaN if any of them is
    return _mean(lowest)


@_score(
    "R[T,T]/T + (1 - 1/T) min_acc",
    "De Lange, van de Ven & Tuytelaars 2023, Continual evaluation for lifelong learning",
)
def wc_acc(R: Matrix, curves: Sequence[tuple[int, Sequence[float]]]) -> float:
    """Worst-case accuracy: weighted mean of the last task's score and ``min_acc`` (needs score_every)."""
    n_tasks = R.shape[1]
    return float(R[-1, -1] / n_tasks + (1 - 1 / n_tasks) * min_acc(R, curves))


@_score(
    "area under the ROC curve after task T, test rows of all tasks against rows of no class",
    "Hendrycks & Gimpel 2017, A baseline for detecting misclassified and out-of-distribution examples",
)
def oos_auroc(R: Matrix, outside: Sequence[float | None]) -> float:
    """How well the largest softmax probability distinguishes rows of no class (needs such rows).

    ``outside`` has one number for each row of R, None where it was not measured.
    """
    last = outside[-1] if len(outside) == len(R) else None
    return float("nan") if last is None else last


@_score("mean_j chrF[T,j]", "Popović 2015, chrF: character n-gram F-score for automatic MT evaluation")
def chrf(R: Matrix, beside: Sequence[Sequence[float | None]]) -> float:
    """Final chrF: character n-grams that generated text shares with its reference (needs generated text).

    ``beside`` contains chrF in the shape of R; it is empty without generated text.
    """
    return _mean(np.array(beside[-1], dtype=float) / 100) if len(beside) else float("nan")


Tested = Sequence[tuple[int, int]]
"""Correct predictions and rows of each batch, in the order of the stream, before it was learned."""
FADING, WINDOW = 0.999, 1000
"""Fading factor a row, and rows of a window, of prequential scores."""


@_score(
    "sum_b right_b / sum_b rows_b",
    "Gama, Sebastião & Rodrigues 2013, On evaluating stream learning algorithms",
)
def prequential(R: Matrix, tested: Tested) -> float:
    """Share of all rows predicted correctly before they were learned (needs prequential)."""
    return _share(tested)


@_score(
    "S_B / N_B, S_b = right_b + a^rows_b S_{b-1}, N_b = rows_b + a^rows_b N_{b-1}, a = 0.999",
    "Gama, Sebastião & Rodrigues 2013, On evaluating stream learning algorithms",
)
def prequential_fading(R: Matrix, tested: Tested) -> float:
    """Share of rows predicted before they were learned, where earlier rows fade (needs prequential)."""
    right = rows = 0.0
    for r, n in tested:
        right, rows = r + FADING**n * right, n + FADING**n * rows
    return right / rows if rows else float("nan")


@_score(
    "the share in the last batches that have 1,000 rows together",
    "Gama, Sebastião & Rodrigues 2013, On evaluating stream learning algorithms",
)
def prequential_window(R: Matrix, tested: Tested) -> float:
    """Share of the last 1,000 rows predicted correctly before they were learned (needs prequential)."""
    first, rows = len(tested), 0
    while first and rows < WINDOW:
        first -= 1
        rows += tested[first][1]
    return _share(tested[first:])


def _share(tested: Tested) -> float:
    rows = sum(n for _, n in tested)
    return sum(r for r, _ in tested) / rows if rows else float("nan")


def all_scores(
    R: Matrix,
    reference: Matrix | None = None,
    curves: Sequence[tuple[int, Sequence[float]]] = (),
    R_curves: Matrix | None = None,
    outside: Sequence[float | None] = (),
    beside: Sequence[Sequence[float | None]] = (),
    total: Matrix | None = None,
    tested: Tested = (),
) -> dict[str, float]:
    """Return every score by name, NaN for those whose input is missing.

    Args:
        R: The score matrix on test rows.
        reference: The matrix of ``cumulative``, for ``intransigence``.
        curves: Scores within tasks, for ``min_acc`` and ``wc_acc``.
        R_curves: The score matrix on the rows of ``curves``.
        outside: The areas of ``oos_auroc``, one for each row of R.
        beside: chrF in the shape of R.
        total: Number of rows of each entry of R, for ``aia_rows``.
        tested: Predictions of each batch before it was learned, for prequential scores.
    """
    found = {score.name: score.of(R) for score in SCORES.values() if score.of is not None}
    found["aia_rows"] = float("nan") if total is None else aia_rows(R, total)
    found["intransigence"] = float("nan") if reference is None else intransigence(R, reference)
    within = R if R_curves is None else R_curves
    found["min_acc"], found["wc_acc"] = min_acc(within, curves), wc_acc(within, curves)
    for score in (prequential, prequential_fading, prequential_window):
        found[score.__name__] = score(R, tested)
    found["oos_auroc"], found["chrf"] = oos_auroc(R, outside), chrf(R, beside)
    return {name: found[name] for name in SCORES}
