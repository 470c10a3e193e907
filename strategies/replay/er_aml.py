"""Experience replay with asymmetric metric learning."""

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Batch, Bounds, CountOrNone, LaneFloat, Later, Search, per_lane
from strategies.parts import Rehearsal, RowReplay, pick_marked, real_rows


class ERAML(Rehearsal, RowReplay):
    """ER with a contrastive loss on new rows and cross-entropy over all classes on stored rows.

    For each new row i one positive (same class) and one negative (another class of the batch) are drawn from
    batch and memory. The loss is the mean over i and over the positives p of i of
    -log exp(s_ip / T) / sum_k exp(s_ik / T), where k runs over all rows drawn and s is the cosine of
    features; plus L_ce(old) (Caccia 2022, eq. 3 to 5).
    """

    name = "er-aml"
    cost = 4.0  # two partners of each new row
    paper = "Caccia et al. 2022, New insights on reducing abrupt representation change"
    scenarios = ("class", "online")

    batch: Annotated[CountOrNone, Later()] = 0
    temperature: Annotated[LaneFloat, Bounds(1e-3), Search(0.03, 0.5, log=True)] = LaneFloat(0.1)
    """T: cosines are divided by this before the softmax."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the contrastive loss plus that on stored rows; in the first task, cross-entropy on both.

        Where boundaries are hidden, the contrastive loss is used from the first step on.
        """
        if self.task == 0 and self.streams.training.boundaries == "shown":
            new_L = self.cross_entropy(self.logits(batch), batch)
        else:
            new_L = self.comparison(batch)
        old = self.replayed(batch)
        return new_L + self.cross_entropy(self.logits(old), old)

    def comparison(self, batch: Batch) -> Tensor:
        """Return the contrastive loss of new rows against the positives and negatives drawn, shape (L,)."""
        size = batch.rows_LB.shape[1]
        found_LP, valid_LB = self.partners(batch)
        found = self.streams.replay(found_LP, self.draws)
        x = torch.cat([batch.x_LBX, found.x_LBX], 1)
        near_LBF = F.normalize(self.model.features(x), dim=2)
        anchor_LBF, other_LPF = near_LBF[:, :size], near_LBF[:, size:]
        cosine_LBP = torch.bmm(anchor_LBF, other_LPF.transpose(1, 2))
        cosine_LBP = cosine_LBP / per_lane(self.temperature, cosine_LBP)
        # The placeholders of a row without partners are not used as partners of others either.
        real_L1P = valid_LB.repeat(1, 2).unsqueeze(1)
        log_p_LBP = cosine_LBP.masked_fill(~real_L1P, torch.finfo(cosine_LBP.dtype).min).log_softmax(2)
        same_LBP = (batch.y_LB.unsqueeze(2) == found.y_LB.unsqueeze(1)) & real_L1P
        of_class_LB = torch.where(same_LBP, log_p_LBP, 0).sum(2) / same_LBP.sum(2).clamp(min=1)
        return -torch.where(valid_LB, of_class_LB, 0).sum(1) / valid_LB.sum(1).clamp(min=1)

    def partners(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the row numbers of one positive per new row, then of one negative; which rows have both.

        A copy of the row itself, of an earlier epoch, is not used as a positive.
        """
        real_LB, size = real_rows(batch), batch.rows_LB.shape[1]
        rows_LP = torch.cat([batch.rows_LB, self.memory.rows_LM[:, : self.memory.slots]], 1)
        real_LP = torch.cat([real_LB, self.memory.in_use_LM()], 1)
        y_LP = self.streams.units(rows_LP).clamp(min=0)
        count_LU = torch.zeros_like(self.streams.own_LTU[:, 0], dtype=torch.long)
        present_LU = count_LU.scatter_add(1, batch.y_LB, real_LB.long()) > 0
        same_LBP = batch.y_LB.unsqueeze(2) == y_LP.unsqueeze(1)
        itself_LBP = batch.rows_LB.unsqueeze(2) == rows_LP.unsqueeze(1)
        positive_LBP = same_LBP & ~itself_LBP & real_LP.unsqueeze(1)
        negative_LBP = ~same_LBP & (real_LP & present_LU.gather(1, y_LP)).unsqueeze(1)
        draw_LB2 = self.draws.uniform("partners", 2 * size).view(-1, size, 2)
        found = zip((positive_LBP, negative_LBP), draw_LB2.unbind(2), strict=True)
        picked_LP = torch.cat([pick_marked(among, draw) for among, draw in found], 1)
        valid_LB = positive_LBP.any(2) & negative_LBP.any(2) & real_LB
        # A row without partners takes itself as placeholder: it has a label, which an empty slot may lack.
        picked_LP = torch.where(
            valid_LB.repeat(1, 2), picked_LP, torch.arange(size, device=rows_LP.device).repeat(2)
        )
        return rows_LP.gather(1, picked_LP), valid_LB
