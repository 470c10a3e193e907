"""Answering by the nearest mean of remembered rows in the space of features.

Axes: L lanes, B batch, M remembered rows, N rows, F features, U units; X the axes of one row.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, LaneModel, LaneStreams, Strategy, eval_mode, mask

_ROWS_AT_ONCE = 256


@torch.no_grad()
def features_of(model: LaneModel, streams: LaneStreams, rows_LN: Tensor) -> Tensor:
    """Return the features of rows without a gradient and with running statistics, shape (L, N, F)."""
    with eval_mode(model):
        parts = [
            model.features(streams.pixels(rows_LB.contiguous())).float()
            for rows_LB in rows_LN.split(_ROWS_AT_ONCE, 1)
        ]
    return torch.cat(parts, 1)


def class_means(features_LMF: Tensor, unit_LM: Tensor, real_LM: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """Return each unit's mean of features of length 1, again of length 1, and which units have any row.

    Shapes (L, U, F) and (L, U).
    """
    of_LMU = F.one_hot(unit_LM, units).to(features_LMF) * real_LM.unsqueeze(2)
    sum_LUF = torch.bmm(of_LMU.transpose(1, 2), F.normalize(features_LMF, dim=2))
    return F.normalize(sum_LUF, dim=2), of_LMU.sum(1) > 0


class NearestMean(Strategy):
    """A method that answers with the class whose remembered rows have the nearest mean.

    y = argmin_y ||phi(x) - mu_y||, phi and mu of length 1: the largest inner product. Where none of the units
    that a row may be given to has a mean, before the first task and for tasks to come, the head answers.
    """

    def setup(self) -> None:
        """Start with no means; they are valid until the network or the memory changes."""
        super().setup()
        self._means: tuple[Tensor, Tensor] | None = None

    def remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, their units and which of them are real, each (L, M)."""
        raise NotImplementedError

    def begin_task(self, task: int) -> None:
        """Forget the means."""
        super().begin_task(task)
        self._means = None

    def after_step(self, batch: Batch) -> None:
        """Forget the means: the network has changed."""
        super().after_step(batch)
        self._means = None

    def end_task(self, task: int) -> None:
        """Forget the means: the memory has changed."""
        super().end_task(task)
        self._means = None

    def predict(self, batch: Batch) -> Tensor:
        """Return cosines to the means; units without one, and inactive ones, lowest."""
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
