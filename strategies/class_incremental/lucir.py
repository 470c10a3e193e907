"""Learning a unified classifier incrementally via rebalancing.

Axes: L lanes, B batch, F features, K new classes, N rows of one class, U units; X the axes of one row.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import (
    Batch,
    Bounds,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    gradients,
    mask,
    per_lane,
    unless,
)
from strategies.parts import Distilled, features_of


class LUCIR(Distilled):
    """LUCIR: a cosine classifier, distilled feature directions, and a margin between old and new classes.

    L = CE(eta cos(theta_u, f)) + lambda (1 - cos(f*, f))
        + sum_k max(0, m - cos(theta_y, f) + cos(theta_k, f)),

    the last for exemplars and the K new classes k nearest to them. f* are the earlier network's features,
    lambda = lambda_base sqrt(old classes / new classes), and the theta of old classes are frozen (Hou 2019,
    eq. 4 and 6 to 9).
    """

    name = "lucir"
    adds_gradient = False
    paper = "Hou et al. 2019, Learning a unified classifier incrementally via rebalancing"

    lam: Annotated[NotNegative, Search(0.5, 20, log=True)] = LaneFloat(5.0)
    """lambda_base: weight of the less-forget constraint."""
    margin: Annotated[NotNegative, Search(0.1, 1)] = LaneFloat(0.5)
    """m: the cosine to the row's own class should exceed that to a new class by this much."""
    nearest: Count = 2
    """K: number of new classes that an exemplar is separated from."""
    ranking: Annotated[Literal["sum", "mean"], unless("nearest", 1)] = "sum"
    """Margin loss: sum over the K classes (the paper's formula) or mean (its code)."""
    scale: Annotated[LaneFloat, Bounds(1e-3)] = LaneFloat(10.0)
    """Initial value of the learned scale eta (1 in the released code)."""
    freeze: bool = True
    """Whether the class vectors of old classes are frozen."""
    imprint: bool = True
    """Whether class vectors of new classes start at the mean of their features (released code, not the
    paper)."""

    def setup(self) -> None:
        """Make the scale, with an optimiser like the network's."""
        super().setup()
        self.eta = nn.ParameterList([self.scale.clone()])
        self.eta_optimiser = self.optimiser.alike(self.eta, decays=False)

    def begin_task(self, task: int) -> None:
        """Start vectors of unseen classes at their features' mean, with the mean length of the seen ones."""
        super().begin_task(task)
        weight_LFU = self.model.head.weight.detach()
        if task > 0 and self.imprint:
            known_LU = self.streams.own_LTU[:, :task].any(1)
            length_L = (weight_LFU.norm(dim=1) * known_LU).sum(1) / known_LU.sum(1)
            for _, is_unit_LU, rows_LN, real_LN in self.classes(task):
                features_LNF = F.normalize(features_of(self.model, self.streams, rows_LN), dim=2)
                mean_LF = F.normalize((features_LNF * real_LN.unsqueeze(2)).sum(1), dim=1)
                starts_L1U = (is_unit_LU & ~known_LU).unsqueeze(1)
                weight_LFU.copy_(
                    torch.where(starts_L1U, (mean_LF * length_L.unsqueeze(1)).unsqueeze(2), weight_LFU)
                )
        self._fixed_LFU = weight_LFU.clone()

    def cosines(self, features_LBF: Tensor) -> Tensor:
        """Return the cosine of each row's features to each class vector, shape (L, B, U)."""
        return torch.bmm(F.normalize(features_LBF, dim=2), F.normalize(self.model.head.weight, dim=1))

    def loss(self, batch: Batch) -> Tensor:
        """Return the three terms; in the first task cross-entropy alone."""
        both = self.with_exemplars(batch)
        features_LBF = self.model.features(both.x_LBX)
        cosine_LBU = self.cosines(features_LBF)
        logits_LBU = mask(self.eta[0].view(-1, 1, 1) * cosine_LBU, both.active_LBU)
        loss_L = self.cross_entropy(logits_LBU, both)
        if self.task == 0:
            return loss_L
        with torch.no_grad():
            before_LBF = self.teacher.features(both.x_LBX)
        turned_L = both.mean_L(1 - F.cosine_similarity(before_LBF, features_LBF, dim=2))
        lam_L = self.lam * (self._old_LU.sum(1) / self._new_LU.sum(1)).sqrt()
        _, old = both.split(batch.rows_LB.shape[1])
        return loss_L + lam_L * turned_L + self.ranking_L(cosine_LBU[:, -old.rows_LB.shape[1] :], old)

    def ranking_L(self, cosine_LBU: Tensor, old: Batch) -> Tensor:
        """Return the margin ranking loss, a mean over exemplars of old classes.

        A lane with fewer than K new classes uses all of them.
        """
        own_LB1 = cosine_LBU.gather(2, old.y_LB.unsqueeze(2))
        nearest_L1 = self._new_LU.sum(1, keepdim=True).clamp(max=self.nearest)
        nth_K = torch.arange(min(self.nearest, self._new_LU.shape[1]), device=nearest_L1.device)
        new_LBK = mask(cosine_LBU, self._new_LU.unsqueeze(1)).topk(len(nth_K), 2).values
        used_L1K = (nth_K < nearest_L1).unsqueeze(1)
        short_LBK = (per_lane(self.margin, own_LB1) - own_LB1 + new_LBK).clamp(min=0)
        short_LB = torch.where(used_L1K, short_LBK, 0).sum(2)
        if self.ranking == "mean":
            short_LB = short_LB / nearest_L1
        # A mean over exemplars alone: their weight relative to new rows does not matter.
        used_LB = (old.weight_LB > 0) & self._old_LU.gather(1, old.y_LB.clamp(min=0))
        return replace(old, weight_LB=used_LB.float()).mean_L(short_LB)

    def adjust_gradients(self) -> None:
        """Set the gradient of the head's bias to 0: cosines do not use it."""
        gradients(self.model)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Step the scale; restore old class vectors, which momentum may have moved."""
        self.eta_optimiser.step(self.context.active)
        self.eta[0].grad = None
        if self.freeze and self.task > 0:
            weight_LFU = self.model.head.weight
            weight_LFU.copy_(torch.where(self._old_LU.unsqueeze(1), self._fixed_LFU, weight_LFU))

    def predict(self, batch: Batch) -> Tensor:
        """Return the cosines."""
        return mask(self.cosines(self.model.features(batch.x_LBX)), batch.active_LBU)
