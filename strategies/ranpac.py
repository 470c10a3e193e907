"""RanPAC: a linear classifier in closed form over a random projection of features that are never trained.

Axes: L lanes, B batch, U units, F features, M width of the projection, G ridges to choose from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from strategies.base import Count, NotNegative
from strategies.ncm import ClassMeans
from strategies.streams import Batch
from suites.base import generator

RIDGES = tuple(10.0**power for power in range(-8, 9))
"""What lambda is chosen from (their appendix, Algorithm 1)."""
EVERY = 5
"""Of a task's rows every fifth is held out when lambda is chosen: their split of 80 to 20 %."""


@dataclass
class RanPAC(ClassMeans):
    """RanPAC: ridge regression on h = relu(f(x) W), W random and fixed, from sums over all rows seen.

    y = argmax_u h (G + lambda I)^-1 c_u with G = sum h'h over all rows and c_u = sum h over the rows of unit
    u (McDonnell et al. 2023, eq. 3 to 6). Adding a row is exact whatever the order, so nothing is forgotten.
    """

    name: ClassVar[str] = "ranpac"
    family: ClassVar[str] = "pretrained"
    paper: ClassVar[str] = "McDonnell et al. 2023, RanPAC: random projections and pre-trained models"

    width: Count = 1000
    """M, the features after the random projection; the paper's 10,000 takes 100 times the time."""
    ridge: NotNegative = 0.0
    """lambda; 0 chooses it after each task: least squared error on a fifth of the task's rows (the paper)."""

    def setup(self) -> None:
        """Draw each lane's projection and start with no rows."""
        super().setup()
        inputs, streams, width = self.sum_LUF.shape[2], self.streams, self.width
        lanes = [generator(s.seed, "ranpac/projection") for s in streams.streams]
        drawn = [torch.randn(inputs, width, generator=g) for g in lanes]
        self.projection_LFM = torch.stack(drawn).to(streams.device)
        self.sum_LUF = self.sum_LUF.new_zeros(streams.lanes, streams.n_units, width)
        self.gram_LMM = self.sum_LUF.new_zeros(streams.lanes, width, width)
        # The same two sums over the task's rows alone, those to fit and those held out.
        self.task_grams = [torch.zeros_like(self.gram_LMM) for _ in range(2)]
        self.task_sums = [torch.zeros_like(self.sum_LUF) for _ in range(2)]
        self.task_rows_L = self.count_LU.new_zeros(streams.lanes)
        self.chosen_L = torch.ones_like(self.task_rows_L)
        self._weight_LMU: Tensor | None = None

    def begin_task(self, task: int) -> None:
        """Begin the sums that lambda is chosen by anew."""
        for tensor in (*self.task_grams, *self.task_sums, self.task_rows_L):
            tensor.zero_()
        self._weight_LMU = None

    def features_of(self, batch: Batch) -> Tensor:
        """Return h, shape (L, B, M)."""
        return torch.bmm(super().features_of(batch), self.projection_LFM).relu()

    def count(self, x_LBF: Tensor, one_LBU: Tensor) -> None:
        """Add rows to all sums."""
        super().count(x_LBF, one_LBU)
        self._weight_LMU = None
        real_LB = one_LBU.sum(2)
        self.gram_LMM += _gram(x_LBF, real_LB)
        nth_LB = self.task_rows_L.unsqueeze(1) + real_LB.cumsum(1)
        held_LB = real_LB * (nth_LB % EVERY == 0)
        for part, part_LB in enumerate((real_LB - held_LB, held_LB)):
            self.task_grams[part] += _gram(x_LBF, part_LB)
            self.task_sums[part] += torch.bmm((one_LBU * part_LB.unsqueeze(2)).transpose(1, 2), x_LBF)
        self.task_rows_L += real_LB.sum(1)

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the regression's answer for every unit."""
        if self._weight_LMU is None:
            self._weight_LMU = self.solved()
        return torch.bmm(x_LBF, self._weight_LMU)

    def solved(self) -> Tensor:
        """Return (G + lambda I)^-1 C, shape (L, M, U), solved in double precision."""
        enough_L = self.task_rows_L >= EVERY
        self.chosen_L = torch.where(enough_L, self.best_ridge(), self.chosen_L)
        given_L = torch.as_tensor(self.ridge, device=self.chosen_L.device)
        ridge_L = torch.where(given_L > 0, given_L, self.chosen_L)
        held_LMM = self.gram_LMM.double()
        held_LMM.diagonal(dim1=1, dim2=2).add_(ridge_L.double().unsqueeze(1))
        return torch.linalg.solve(held_LMM, self.sum_LUF.transpose(1, 2).double()).float()

    def best_ridge(self) -> Tensor:
        """Return the lambda of least squared error on the held-out rows, shape (L,).

        |Y - H w|^2 = |Y|^2 - 2 <w, H'Y> + <w, H'H w>: the sums are enough. In the basis of the eigenvectors
        of the other rows' G, w of every lambda is a division.
        """
        fit_LMM, held_LMM = (g.double() for g in self.task_grams)
        value_LM, vector_LMM = torch.linalg.eigh(fit_LMM)
        fit_LMU, held_LMU = (
            torch.bmm(vector_LMM.transpose(1, 2), s.transpose(1, 2).double()) for s in self.task_sums
        )
        held_LMM = vector_LMM.transpose(1, 2) @ held_LMM @ vector_LMM
        errors = []
        for ridge in RIDGES:
            weight_LMU = fit_LMU / (value_LM.clamp(min=0) + ridge).unsqueeze(2)
            error_LMU = weight_LMU * (torch.bmm(held_LMM, weight_LMU) - 2 * held_LMU)
            errors.append(error_LMU.flatten(1).sum(1))
        ridge_G = self.chosen_L.new_tensor(RIDGES)
        return ridge_G[torch.stack(errors, 1).argmin(1)]

    def notes(self) -> dict[str, Tensor]:
        """Return the lambda chosen last."""
        return {"ridge": self.chosen_L}


def _gram(x_LBM: Tensor, weight_LB: Tensor) -> Tensor:
    """Return the sum of h'h over the rows that count, shape (L, M, M)."""
    return torch.bmm((x_LBM * weight_LB.unsqueeze(2)).transpose(1, 2), x_LBM)
