"""Classifiers without gradients: nearest class mean and streaming linear discriminant analysis.

Axes: L lanes, B batch, U units, F features; X the axes of one row.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import (
    Batch,
    Bounds,
    LaneFloat,
    Later,
    Search,
    Strategy,
    mask,
    need_numbers,
    only_if,
    per_lane,
    unless,
)


class ClassMeans(Strategy):
    """Base of both: features that are never trained, and the sum and number of each unit's rows."""

    cost = 0.33  # a forward pass only
    needs = "one pass over the rows, no gradient"
    one_pass = True
    gradient_free = True

    features: Literal["network", "input"] = "network"
    """Features of the untrained network (of an mlp: a random projection), or the raw pixels."""

    def setup(self) -> None:
        """Start with sums and counts of zero."""
        lanes, units = self.streams.lanes, self.streams.n_units
        size = self.streams.x_N[0].numel()
        if self.features == "input":
            need_numbers(f"{self.name} with features=input", self.streams)
        else:
            size = self.model.head.weight.shape[1]
        self.sum_LUF = torch.zeros(lanes, units, size, device=self.streams.device)
        self.count_LU = torch.zeros(lanes, units, device=self.streams.device)

    @torch.no_grad()
    def learn(self, batch: Batch) -> Tensor:
        """Add the rows to the means; return 0, as there is no loss."""
        unit_U = torch.arange(self.streams.n_units, device=self.streams.device)
        one_LBU = (batch.y_LB.unsqueeze(2) == unit_U) * batch.weight_LB.unsqueeze(2)
        self.count(self.features_of(batch), one_LBU)
        return torch.zeros(self.streams.lanes, device=self.streams.device)

    def count(self, x_LBF: Tensor, one_LBU: Tensor) -> None:
        """Add rows; ``one_LBU`` is 1 at a row's unit, and all 0 for padding."""
        # A product, because scatter_add adds in no fixed order on a GPU.
        self.sum_LUF += torch.bmm(one_LBU.transpose(1, 2), x_LBF)
        self.count_LU += one_LBU.sum(1)

    def features_of(self, batch: Batch) -> Tensor:
        """Return the features of rows, float32 (L, B, F)."""
        if self.features == "input":
            return batch.x_LBX.flatten(2)
        self.model.eval()  # running statistics must remain those of the untrained network
        with self.autocast():
            return self.model.features(batch.x_LBX).float()

    def means(self) -> Tensor:
        """Return each unit's mean, zero if it has no rows, shape (L, U, F)."""
        return self.sum_LUF / self.count_LU.clamp(min=1).unsqueeze(2)

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the scores of all units for rows with these features, shape (L, B, U)."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Return the scores; units without rows are below all others, and inactive units below those."""
        x_LBF = self.features_of(batch)
        with torch.autocast(x_LBF.device.type, enabled=False):  # scores are small differences of large sums
            scores_LBU = self.scores(x_LBF)
        lowest = torch.finfo(scores_LBU.dtype).min
        scores_LBU = scores_LBU.masked_fill((self.count_LU == 0).unsqueeze(1), lowest / 2)
        return mask(scores_LBU, batch.active_LBU)


class NCM(ClassMeans):
    """Nearest class mean: a row is classified as the unit whose mean of features is nearest.

    argmin_u ||f(x) - mu_u|| (Mensink 2013), with mu_u the mean over all rows of unit u seen so far. No row
    is forgotten, but features never improve.
    """

    name = "ncm"
    paper = "Mensink et al. 2013, Distance-based image classification"

    normalise: bool = False
    """Whether features and means are scaled to length 1, as in iCaRL; the paper does not."""

    normalised: Annotated[Literal["both", "rows", "means"], only_if("normalise", True), Later()] = "both"
    """What is scaled: the features of rows (also before they are added to the means), the means, or both."""

    def features_of(self, batch: Batch) -> Tensor:
        """Return the features, of length 1 with ``normalise``."""
        x_LBF = super().features_of(batch)
        return F.normalize(x_LBF, dim=2) if self.normalise and self.normalised != "means" else x_LBF

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the negative squared distances."""
        mean_LUF = self.means()
        if self.normalise and self.normalised != "rows":
            mean_LUF = F.normalize(mean_LUF, dim=2)
        inner_LBU = torch.bmm(x_LBF, mean_LUF.transpose(1, 2))
        squares_LBU = x_LBF.square().sum(2, keepdim=True) + mean_LUF.square().sum(2).unsqueeze(1)
        return 2 * inner_LBU - squares_LBU


class SLDA(ClassMeans):
    """Streaming linear discriminant analysis: class means, and one covariance that all classes share.

    argmax_u mu_u' A x - mu_u' A mu_u / 2 with A = ((1 - e) S + e I)^-1, S updated row by row: S <- (t S + D)
    / (t + 1), D = t / (t + 1) (x - mu_y)(x - mu_y)' before x changes mu_y (Hayes & Kanan 2020, section 3).
    """

    name = "slda"
    paper = "Hayes & Kanan 2020, Lifelong machine learning with deep streaming LDA"

    shrinkage: Annotated[LaneFloat, Bounds(1e-8, 1.0), Search(1e-6, 0.1, log=True)] = LaneFloat(1e-4)
    """e: the share of the identity in the covariance."""
    covariance: Annotated[Literal["streaming", "within"], unless("shrinkage", 1.0)] = "streaming"
    """t is the number of all rows so far (the paper), or of the row's class (exact within classes)."""

    def setup(self) -> None:
        """Start with a scatter of zero."""
        super().setup()
        size = self.sum_LUF.shape[2]
        self.scatter_LFF = torch.zeros(self.streams.lanes, size, size, device=self.streams.device)
        self._discriminant: tuple[Tensor, Tensor] | None = None

    def begin_task(self, task: int) -> None:
        """Discard the discriminant: a checkpoint may have replaced the sums that it was computed from."""
        self._discriminant = None

    def count(self, x_LBF: Tensor, one_LBU: Tensor) -> None:
        """Add rows to the scatter in the order of the batch, as if one by one, then to the means."""
        self._discriminant = None
        # Earlier rows of the same unit in this batch: they are in the mean that a row is compared with.
        earlier_LBB = torch.bmm(one_LBU, one_LBU.transpose(1, 2)).tril(-1)
        sum_LBF = torch.bmm(one_LBU, self.sum_LUF) + torch.bmm(earlier_LBB, x_LBF)
        own_LB = (one_LBU * self.count_LU.unsqueeze(1)).sum(2) + earlier_LBB.sum(2)
        away_LBF = x_LBF - sum_LBF / own_LB.clamp(min=1).unsqueeze(2)
        t_LB = own_LB
        if self.covariance == "streaming":
            real_LB = one_LBU.sum(2)
            t_LB = self.count_LU.sum(1, keepdim=True) + real_LB.cumsum(1) - real_LB
        share_LB = one_LBU.sum(2) * t_LB / (t_LB + 1)
        self.scatter_LFF += torch.bmm((away_LBF * share_LB.unsqueeze(2)).transpose(1, 2), away_LBF)
        super().count(x_LBF, one_LBU)

    def scores(self, x_LBF: Tensor) -> Tensor:
        """Return the linear discriminant of every unit, shape (L, B, U)."""
        if self._discriminant is None:
            self._discriminant = self.discriminant()
        weight_LFU, bias_LU = self._discriminant
        return torch.baddbmm(bias_LU.unsqueeze(1), x_LBF, weight_LFU)

    def discriminant(self) -> tuple[Tensor, Tensor]:
        """Return the weights (L, F, U) and biases (L, U), solved in double precision."""
        mean_LFU = self.means().transpose(1, 2).double()
        scatter_LFF = self.scatter_LFF.double()
        e_L = self.shrinkage.double()
        covariance_LFF = scatter_LFF / per_lane(self.count_LU.sum(1).clamp(min=1), scatter_LFF)
        unit_FF = torch.eye(scatter_LFF.shape[1], device=mean_LFU.device, dtype=torch.float64)
        shrunk_LFF = per_lane(1 - e_L, scatter_LFF) * covariance_LFF + per_lane(e_L, scatter_LFF) * unit_FF
        weight_LFU = torch.linalg.solve(shrunk_LFF, mean_LFU)
        bias_LU = -(mean_LFU * weight_LFU).sum(1) / 2
        return weight_LFU.float(), bias_LU.float()
