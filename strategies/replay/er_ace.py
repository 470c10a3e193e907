"""Experience replay with asymmetric cross-entropy."""

from typing import Annotated

import torch
from torch import Tensor

from strategies.core import Batch, CountOrNone, Later, mask
from strategies.parts import Rehearsal, RowReplay


class ERACE(Rehearsal, RowReplay):
    """ER whose softmax on new rows covers only the classes of the batch; on stored rows, all classes.

    L = L_ace(new, classes of the new batch) + L_ce(old, all classes seen) (Caccia 2022, eq. 6). New rows
    do not push down the logits of earlier classes.
    """

    name = "er-ace"
    paper = "Caccia et al. 2022, New insights on reducing abrupt representation change"
    scenarios = ("class", "online")

    batch: Annotated[CountOrNone, Later()] = 0

    def setup(self) -> None:
        """Make an empty memory; where boundaries are hidden, start with no class met."""
        super().setup()
        self._hidden = self.streams.training.boundaries == "hidden"
        if self._hidden:
            self.met_LU = torch.zeros_like(self.streams.own_LTU[:, 0])

    def loss(self, batch: Batch) -> Tensor:
        """Return the asymmetric loss; in the first task the softmax covers all active units.

        Where boundaries are hidden, the softmax on new rows covers the classes of the batch and those never
        met, from the first step on, as in the released code.
        """
        logits_LBU = self.logits(batch)
        if self.task > 0 or self._hidden:
            count_LU = torch.zeros(logits_LBU.shape[::2], dtype=torch.long, device=logits_LBU.device)
            present_LU = count_LU.scatter_add(1, batch.y_LB, batch.weight_LB.long()) > 0
            # A resting lane has no class present: keep all its units, so that its loss is finite.
            compete_LU = present_LU | ~present_LU.any(1, keepdim=True)
            if self._hidden:
                self.met_LU |= present_LU
                compete_LU = compete_LU | ~self.met_LU
            logits_LBU = mask(logits_LBU, compete_LU.unsqueeze(1))
        old = self.replayed(batch)
        return self.cross_entropy(logits_LBU, batch) + self.cross_entropy(self.logits(old), old)
