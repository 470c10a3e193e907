"""RanPAC: a linear classifier in closed form over a random projection of features that are never trained.

Axes: L lanes, B batch, H rows held out, U units, P units of a task, F features, M width of the projection,
G ridges to choose from.
"""

import torch
from torch import Tensor

from strategies.baselines.ncm import ClassMeans
from strategies.core import Batch, Count, LaneFloat, NotNegative
from suites.base import generator

RIDGES = tuple(10.0**power for power in range(-8, 9))
"""What lambda is chosen from (their appendix, Algorithm 1)."""
EVERY = 5
"""Of a task's rows every fifth is held out when lambda is chosen: their split of 80 to 20 %."""


class RanPAC(ClassMeans):
    """RanPAC: ridge regression on h = relu(f(x) W), W random and fixed, from sums over all rows seen.

    y = argmax_u h (G + lambda I)^-1 c_u with G = sum h'h over all rows and c_u = sum h over the rows of unit
    u (McDonnell et al. 2023, eq. 3 to 6). Adding a row is exact whatever the order, so nothing is forgotten.
    """

    name = "ranpac"
    family = "pretrained"
    paper = "McDonnell et al. 2023, RanPAC: random projections and pre-trained models"

    width: Count = 1000
    """M, the features after the random projection; the paper's 10,000 takes 100 times the time."""
    ridge: NotNegative = LaneFloat(0.0)
    """lambda; 0 chooses it after each task: least squared error on a fifth of the task's rows (the paper)."""

    def setup(self) -> None:
        """Draw each lane's projection and start with no rows."""
        super().setup()
        inputs, streams, width = self.sum_LUF.shape[2], self.streams, self.width
        lanes = [generator(s.seed, "ranpac/projection") for s in streams.streams]
        drawn = [torch.randn(inputs, width, generator=g) for g in lanes]
        self.projection_LFM = torch.stack(drawn).to(streams.device)
        # Sums over earlier tasks; over the task under way, its rows held out and then the others.
        self.sum_LUF = self.sum_LUF.new_zeros(streams.lanes, streams.n_units, width)
        self.gram_LMM = self.sum_LUF.new_zeros(streams.lanes, width, width)
        self.task_grams = [torch.zeros_like(self.gram_LMM) for _ in range(2)]
        self.task_sums = [torch.zeros_like(self.sum_LUF) for _ in range(2)]
        self.task_rows_L = self.count_LU.new_zeros(streams.lanes)
        self.chosen_L = torch.ones_like(self.task_rows_L)
        self._weight_LMU: Tensor | None = None

    def begin_task(self, task: int) -> None:
        """Add the previous task's sums to the others, and restart those that lambda is chosen by."""
        self.gram_LMM, self.sum_LUF = self.grams(), self.sums()
        for tensor in (*self.task_grams, *self.task_sums, self.task_rows_L):
            tensor.zero_()
        self._weight_LMU = None

    def features_of(self, batch: Batch) -> Tensor:
        """Return h, shape (L, B, M)."""
        x_LBF = super().features_of(batch)
        # In full precision as the sums are, when rows are learned and when they are scored.
        with torch.autocast(x_LBF.device.type, enabled=False):
            return torch.bmm(x_LBF, self.projection_LFM).relu()

    def count(self, x_LBF: Tensor, one_LBU: Tensor) -> None:
        """Add rows to the task's sums."""
        self._weight_LMU = None
        self.count_LU += one_LBU.sum(1)
        real_LB = one_LBU.sum(2)
        nth_LB = self.task_rows_L.unsqueeze(1) + real_LB.cumsum(1)
        held_LB = real_LB * (nth_LB % EVERY == 0)
        # No more of a batch's rows are held out: a product over the others would add nothing.
        held_LH, index_LH = held_LB.topk(-(-held_LB.shape[1] // EVERY), 1)
        lane_L1 = torch.arange(len(x_LBF), device=x_LBF.device).unsqueeze(1)
        parts = (
            (x_LBF[lane_L1, index_LH], one_LBU[lane_L1, index_LH] * held_LH.unsqueeze(2)),
            (x_LBF, one_LBU * (1 - held_LB).unsqueeze(2)),
        )
        for gram_LMM, sum_LUM, (h, one) in zip(self.task_grams, self.task_sums, parts, strict=True):
            # In place: a new matrix of this size at every step takes longer than the product.
            gram_LMM.baddbmm_((h * one.sum(2, keepdim=True)).transpose(1, 2), h)
            sum_LUM.baddbmm_(one.transpose(1, 2), h)
        self.task_rows_L += real_LB.sum(1)

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the regression's answer for every unit."""
        if self._weight_LMU is None:
            self._weight_LMU = self.solved()
        return torch.bmm(x_LBF, self._weight_LMU)

    def solved(self) -> Tensor:
        """Return (G + lambda I)^-1 C, shape (L, M, U), solved in double precision.

        Lane by lane, as the solvers go: all lanes in double would take several times the memory of the sums.
        """
        choose_L = (self.ridge == 0) & (self.task_rows_L >= EVERY)
        self.chosen_L = torch.where(self.ridge > 0, self.ridge, self.chosen_L)
        gram_LMM, sum_LUM = self.grams(), self.sums()
        weights = []
        for lane, choose in enumerate(choose_L):
            if bool(choose):
                # What is smaller drowns in the rounding of G, which may then have no inverse to speak of.
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
        """Return a lane's lambda of least squared error on the held-out rows; none below ``least``.

        |Y - H w|^2 = |Y|^2 - 2 <w, H'Y> + <w, H'H w>: the sums are enough. In the basis of the eigenvectors
        of the other rows' G, w of every lambda is a division. A unit without such rows has w = 0.
        """
        held_MM, fit_MM = (g[lane].double() for g in self.task_grams)
        held_UM, fit_UM = (s[lane].double() for s in self.task_sums)
        has_U = (fit_UM != 0).any(1)  # a task has few units of all
        value_M, vector_MM = torch.linalg.eigh(fit_MM)
        ridge_G = value_M.new_tensor(RIDGES)
        value_MG = value_M.clamp(min=0).unsqueeze(1) + ridge_G
        turned_MP = vector_MM.T @ fit_UM[has_U].T
        # All lambdas in one product, which takes a third of the time of one for each.
        weight_MGP = turned_MP.unsqueeze(1) / value_MG.unsqueeze(2)
        weight_MGP = (vector_MM @ weight_MGP.flatten(1)).view_as(weight_MGP)
        answer_MGP = (held_MM @ weight_MGP.flatten(1)).view_as(weight_MGP)
        error_G = (weight_MGP * (answer_MGP - 2 * held_UM[has_U].T.unsqueeze(1))).sum((0, 2))
        best: Tensor = ridge_G[error_G.masked_fill(ridge_G < least, torch.inf).argmin()]
        return best

    def notes(self) -> dict[str, Tensor]:
        """Return the lambda used last, chosen or given."""
        return {"ridge": self.chosen_L}
