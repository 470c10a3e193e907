"""Training on everything at once: what forgetting is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from strategies.core import Strategy


@dataclass
class Joint(Strategy):
    """Training once on the rows of all tasks together: the upper bound.

    Iterations are those of all tasks together. Only the initial and the last row of R exist.
    """

    name: ClassVar[str] = "joint"
    generates: ClassVar[bool] = True
    paper: ClassVar[str] = "Caruana 1997, Multitask learning"
    needs: ClassVar[str] = "the rows of all tasks at once"
    trains_on: ClassVar[Literal["task", "seen", "all"]] = "all"
    needs_boundaries: ClassVar[bool] = True


@dataclass
class Cumulative(Strategy):
    """Training afresh, after every task, on all rows so far: R* of intransigence.

    Iterations grow with the number of tasks, so that every row gets its share.
    """

    name: ClassVar[str] = "cumulative"
    generates: ClassVar[bool] = True
    paper: ClassVar[str] = "Chaudhry et al. 2018, Riemannian walk for incremental learning, section 3"
    needs: ClassVar[str] = "the rows of all tasks so far"
    trains_on: ClassVar[Literal["task", "seen", "all"]] = "seen"
    restarts: ClassVar[bool] = True
    needs_boundaries: ClassVar[bool] = True
