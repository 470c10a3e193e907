"""RanPAC: a closed-form linear classifier on a random projection of frozen features.

Axes: L lanes, B batch, H rows held out, U units, P units of a task, F features, M width of the projection,
G ridges to choose from.
"""

import torch
from torch import Tensor

from strategies.baselines.ncm import ClassMeans
from strategies.core import Batch, Count, LaneFloat, NotNegative

RIDGES = tuple(10.0**power for power in range(-8, 9))
"""Candidates for lambda (Algorithm 1 in the paper's appendix)."""
EVERY = 5
"""Every fifth row of a task is held out to choose lambda: the paper's split of 80 to 20 %."""


class RanPAC(ClassMeans):
    """RanPAC: ridge regression on h = relu(f(x) W), W random and fixed, from sums over all rows seen.

    y = argmax_u h (G + lambda I)^-1 c_u with G = sum h'h over all rows and c_u = sum h over the rows of unit
    u (McDonnell et al. 2023, eq. 3 to 6). The sums do not depend on the order of rows: nothing is forgotten.
    """

    name = "ranpac"
    sized_by = {"memory": "width"}
    family = "pretrained"
    paper = "McDonnell et al. 2023, RanPAC: random projections and pre-trained models"

    width: Count = 1000
    """M: features after the random projection; the paper's 10,000 take 100 times the time."""
    ridge: NotNegative = LaneFloat(0.0)
    """lambda; 0 chooses it after each task by the squared error on a fifth of the task's rows (the paper)."""

    def setup(self) -> None:
        """Draw each lane's projection; set all sums to 0."""
        super().setup()
        inputs, streams, width = self.sum_LUF.shape[2], self.streams, self.width
        lanes = streams.generators("ranpac/projection")
        drawn = [torch.randn(inputs, width, generator=g) for g in lanes]
        self.projection_LFM = torch.stack(drawn).to(streams.device)
        # Sums over earlier tasks; in ``task_*`` over the current task: held-out rows, then the others.
        self.sum_LUF = self.sum_LUF.new_zeros(streams.lanes, streams.n_units, width)
        self.gram_LMM = self.sum_LUF.new_zeros(streams.lanes, width, width)
        self.task_grams = [torch.zeros_like(self.gram_LMM) for _ in range(2)]
        self.task_sums = [torch.zeros_like(self.sum_LUF) for _ in range(2)]
        self.task_rows_L = self.count_LU.new_zeros(streams.lanes)
        self.chosen_L = torch.ones_like(self.task_rows_L)
        self._weight_LMU: Tensor | None = None

    def begin_task(self, task: int) -> None:
        """Add the last task's sums to those of earlier tasks; set the task's sums to 0."""
        self.gram_LMM, self.sum_LUF = self.grams(), self.sums()
        for tensor in (*self.task_grams, *self.task_sums, self.task_rows_L):
            tensor.zero_()
        self._weight_LMU = None

    def features_of(self, batch: Batch) -> Tensor:
        """Return h, shape (L, B, M)."""
        x_LBF = super().features_of(batch)
        # In full precision, as the sums are, in training and prediction.
        with torch.autocast(x_LBF.device.type, enabled=False):
            return torch.bmm(x_LBF, self.projection_LFM).relu()

    def count(self, x_LBF: Tensor, one_LBU: Tensor) -> None:
        """Add rows to the task's sums."""
        self._weight_LMU = None
        self.count_LU += one_LBU.sum(1)
        real_LB = one_LBU.sum(2)
        nth_LB = self.task_rows_L.unsqueeze(1) + real_LB.cumsum(1)
        held_LB = real_LB * (nth_LB % EVERY == 0)
        # At most this many rows of a batch are held out; the others would add 0 to the product.
        held_LH, index_LH = held_LB.topk(-(-held_LB.shape[1] // EVERY), 1)
        lane_L1 = torch.arange(len(x_LBF), device=x_LBF.device).unsqueeze(1)
        parts = (
            (x_LBF[lane_L1, index_LH], one_LBU[lane_L1, index_LH] * held_LH.unsqueeze(2)),
            (x_LBF, one_LBU * (1 - held_LB).unsqueeze(2)),
        )
        for gram_LMM, sum_LUM, (h, one) in zip(self.task_grams, self.task_sums, parts, strict=True):
            # In place: allocating a matrix of this size at every step takes longer than the product.
            gram_LMM.baddbmm_((h * one.sum(2, keepdim=True)).transpose(1, 2), h)
            sum_LUM.baddbmm_(one.transpose(1, 2), h)
        self.task_rows_L += real_LB.sum(1)

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the regression's output for every unit."""
        if self._weight_LMU is None:
            self._weight_LMU = self.solved()
        return torch.bmm(x_LBF, self._weight_LMU)

    def solved(self) -> Tensor:
        """Return (G + lambda I)^-1 C, shape (L, M, U), solved in double precision.

        One lane at a time: all lanes in double precision would take several times the memory of the sums.
        """
        choose_L = (self.ridge == 0) & (self.task_rows_L >= EVERY)
        self.chosen_L = torch.where(self.ridge > 0, self.ridge, self.chosen_L)
        gram_LMM, sum_LUM = self.grams(), self.sums()
        weights = []
        for lane, choose in enumerate(choose_L):
            if bool(choose):
                # A smaller lambda is lost in the rounding of G, which may then be singular.
                least = torch.finfo(gram_LMM.dtype).eps * gram_LMM[lane].trace()
                self.chosen_L[lane] = self.best_ridge(lane, least)
            ridged_MM = gram_LMM[lane].double()
            ridged_MM.diagonal().add_(self.chosen_L[lane])
            weights.append(torch.linalg.solve(ridged_MM, sum_LUM[lane].T.double()).float())
        return torch.stack(weights)

    def grams(self) -> Tensor:
        """Return G over all rows so far, shape (L, M, M)."""
        return self.gram_LMM + self.task_grams[0] + self.task_grams[1]

    def sums(self) -> Tensor:
        """Return C' over all rows so far, shape (L, U, M)."""
        return self.sum_LUF + self.task_sums[0] + self.task_sums[1]

    def best_ridge(self, lane: int, least: Tensor) -> Tensor:
        """Return the lambda, at least ``least``, with the lowest squared error on the lane's held-out rows.

        |Y - H w|^2 = |Y|^2 - 2 <w, H'Y> + <w, H'H w>, so the sums are enough. In the eigenbasis of G over the
        other rows, w is a division for every lambda. A unit with no such row has w = 0.
        """
        held_MM, fit_MM = (g[lane].double() for g in self.task_grams)
        held_UM, fit_UM = (s[lane].double() for s in self.task_sums)
        has_U = (fit_UM != 0).any(1)  # a task has only some of the units
        value_M, vector_MM = torch.linalg.eigh(fit_MM)
        ridge_G = value_M.new_tensor(RIDGES)
        value_MG = value_M.clamp(min=0).unsqueeze(1) + ridge_G
        turned_MP = vector_MM.T @ fit_UM[has_U].T
        # One product for all lambdas takes a third of the time of one product each.
        weight_MGP = turned_MP.unsqueeze(1) / value_MG.unsqueeze(2)
        weight_MGP = (vector_MM @ weight_MGP.flatten(1)).view_as(weight_MGP)
        output_MGP = (held_MM @ weight_MGP.flatten(1)).view_as(weight_MGP)
        error_G = (weight_MGP * (output_MGP - 2 * held_UM[has_U].T.unsqueeze(1))).sum((0, 2))
        best: Tensor = ridge_G[error_G.masked_fill(ridge_G < least, torch.inf).argmin()]
        return best

    def notes(self) -> dict[str, Tensor]:
        """Return the last lambda, chosen or given."""
        return {"ridge": self.chosen_L}
