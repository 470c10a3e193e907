"""Dark experience replay: rows are stored with the network's logits."""

from typing import Annotated

from torch import Tensor

from strategies.core import Batch, CountOrNone, LaneFloat, Later, NotNegative, Search, mask
from strategies.parts import Memory, Rehearsal


class DER(Rehearsal):
    """Dark experience replay: rows are stored with their logits, which the network has to match.

    L = L_new + alpha ||z - h(x)||^2, a mean over rows and units (Buzzega 2020, eq. 5; the paper sums over
    units, its released code takes the mean).
    """

    name = "der"
    paper = "Buzzega et al. 2020, Dark experience for general continual learning"
    needs = "a memory of rows and logits"

    batch: Annotated[CountOrNone, Later()] = 0
    alpha: Annotated[NotNegative, Search(0.05, 2, log=True)] = LaneFloat(0.3)
    """Weight of the distance between logits."""

    def setup(self) -> None:
        """Make an empty memory with room for the logits of all units."""
        self.memory = Memory(self.buffer, self.streams, self.draws, {"logits": (self.streams.n_units,)})

    def loss(self, batch: Batch) -> Tensor:
        """Return cross-entropy on new rows plus the distance of logits on stored rows."""
        return self.loss_and_logits(batch)[0]

    def loss_and_logits(self, batch: Batch, *draws: str) -> tuple[Tensor, list[tuple[Batch, Tensor]]]:
        """Return the loss, shape (L,), and for each further draw from the memory its rows and raw logits."""
        size = self.stored(batch)
        slots_LB = self.memory.draw_slots("logits", size)
        old = self.memory.read(slots_LB, batch, drawn=True)
        more = [self.memory.replay(name, size, batch) for name in draws]
        raw_LBU, again_LBU, *others = self.raw_logits(batch, old, *more)
        batch.noted[self.name] = raw_LBU.detach().float()  # the memory is float32, also under autocast
        loss_L = self.cross_entropy(mask(raw_LBU, batch.active_LBU), batch)
        square_LB = (again_LBU - self.memory.read_kept("logits", slots_LB)).square().mean(2)
        return loss_L + self.alpha * old.mean_L(square_LB), [*zip(more, others, strict=True)]

    def after_step(self, batch: Batch) -> None:
        """Offer the rows to the memory with their logits in this step."""
        self.memory.write(batch, logits=batch.noted[self.name])


class DERPlusPlus(DER):
    """DER plus the labels of stored rows: + beta CE(y, h(x)) on a second draw (Buzzega 2020, eq. 6)."""

    name = "der++"
    cost = 3.0

    beta: Annotated[NotNegative, Search(0.05, 2, log=True)] = LaneFloat(0.5)
    """Weight of the cross-entropy on stored rows."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: new rows, and two draws of stored ones."""
        return 1 + 2 * (self.batch or new) / new

    def loss(self, batch: Batch) -> Tensor:
        """Return DER's loss plus the cross-entropy of a second draw from the memory."""
        loss_L, [(old, raw_LBU)] = self.loss_and_logits(batch, "labels")
        return loss_L + self.beta * self.cross_entropy(mask(raw_LBU, old.active_LBU), old)
