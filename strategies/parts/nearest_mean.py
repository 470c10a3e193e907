"""Prediction by the nearest class mean of stored rows in feature space.

Axes: L lanes, B batch, M stored rows, N rows, F features, U units; X the axes of one row.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, LaneModel, LaneStreams, Strategy, eval_mode, mask

_ROWS_AT_ONCE = 256


@torch.no_grad()
def features_of(model: LaneModel, streams: LaneStreams, rows_LN: Tensor) -> Tensor:
    """Return the features of rows in eval mode and without gradients, shape (L, N, F)."""
    with eval_mode(model):
        parts = [
            model.features(streams.pixels(rows_LB.contiguous())).float()
            for rows_LB in rows_LN.split(_ROWS_AT_ONCE, 1)
        ]
    return torch.cat(parts, 1)


def class_means(features_LMF: Tensor, unit_LM: Tensor, real_LM: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """Return each unit's mean of features and which units have rows, (L, U, F) and (L, U).

    Features and means are scaled to length 1.
    """
    of_LMU = F.one_hot(unit_LM, units).to(features_LMF) * real_LM.unsqueeze(2)
    sum_LUF = torch.bmm(of_LMU.transpose(1, 2), F.normalize(features_LMF, dim=2))
    return F.normalize(sum_LUF, dim=2), of_LMU.sum(1) > 0


class NearestMean(Strategy):
    """Base of methods that predict the class whose stored rows have the nearest mean.

    y = argmin_y ||phi(x) - mu_y||, phi and mu of length 1: the largest inner product. If no unit that a row
    can be classified as has a mean (before the first task, and for later tasks), the head predicts.
    """

    def setup(self) -> None:
        """Start without means; they are computed when needed and valid until network or memory change."""
        super().setup()
        self._means: tuple[Tensor, Tensor] | None = None

    def remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, their units and which of them are real, each (L, M)."""
        raise NotImplementedError

    def begin_task(self, task: int) -> None:
        """Discard the means."""
        super().begin_task(task)
        self._means = None

    def after_step(self, batch: Batch) -> None:
        """Discard the means: the network has changed."""
        super().after_step(batch)
        self._means = None

    def end_task(self, task: int) -> None:
        """Discard the means: the memory has changed."""
        super().end_task(task)
        self._means = None

    def predict(self, batch: Batch) -> Tensor:
        """Return cosines to the means; units without a mean, and inactive units, have the lowest scores."""
        if self._means is None:
            rows_LM, unit_LM, real_LM = self.remembered()
            features_LMF = features_of(self.model, self.streams, rows_LM)
            self._means = class_means(features_LMF, unit_LM, real_LM, self.streams.n_units)
        means_LUF, known_LU = self._means
        features_LBF = self.model.features(batch.x_LBX).float()
        cosine_LBU = torch.bmm(F.normalize(features_LBF, dim=2), means_LUF.transpose(1, 2))
        known_LBU = known_LU.unsqueeze(1)
        if batch.active_LBU is not None:
            known_LBU = known_LBU & batch.active_LBU
        network_LBU = mask(self.model.head(features_LBF).float(), batch.active_LBU)
        return torch.where(known_LBU.any(2, keepdim=True), mask(cosine_LBU, known_LBU), network_LBU)
