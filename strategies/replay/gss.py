"""Gradient-based sample selection."""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import (
    Batch,
    Count,
    LaneLinear,
    Unsuitable,
    add_up,
    eval_mode,
    join_batches,
    lanewise,
    row_losses,
)
from strategies.parts import Memory, Rehearsal, real_rows, recorded_calls


class GSS(Rehearsal):
    """Experience replay from a memory chosen so that gradients of its rows differ in direction (GSS-Greedy).

    A row's score is c = 1 + the largest cosine between its gradient and those of a few stored rows. Once
    the memory is full, a new row with c < 1 competes with a stored row i, drawn in proportion to its
    score C_i, and replaces it with probability C_i / (C_i + c) (Aljundi 2019, Algorithm 2).
    """

    name = "gss"
    cost = 3.0  # one for the scores of new rows
    paper = "Aljundi et al. 2019, Gradient based sample selection for online continual learning"
    needs = "a memory of rows and scores"

    compare: Count = 10
    """Stored rows, drawn once per batch, whose gradients are compared with those of new rows."""
    gradient: Literal["dense", "head"] = "dense"
    """Gradients are taken with respect to all dense layers (the whole of an mlp, as in the paper) or the
    head."""

    def setup(self) -> None:
        """Make an empty memory with room for scores; find the layers whose gradients are compared."""
        self.memory = Memory(self.buffer, self.streams, self.draws, {"score": ()})
        if self.gradient == "dense" and any(isinstance(m, nn.Linear) for m in self.model.modules()):
            raise Unsuitable("gss cannot see all dense layers of a user's network; choose gradient=head")
        dense = [m for m in self.model.modules() if isinstance(m, LaneLinear)]
        self._layers = dense if self.gradient == "dense" else [self.model.head]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of new and stored rows."""
        both = self.both(batch)
        return self.cross_entropy(self.logits(both), both)

    def after_step(self, batch: Batch) -> None:
        """Score the new rows with the updated network and write the winners to the memory."""
        memory, real_LB, size = self.memory, real_rows(batch), batch.rows_LB.shape[1]
        score_LB = self.scores(batch)
        nth_LB = memory.filled_L.unsqueeze(1) + real_LB.cumsum(1) - 1
        # The rivals of a batch are drawn without replacement, by the keys of Efraimidis & Spirakis 2006.
        held_LM = memory.kept["score"][:, : memory.slots]
        key_LM = lanewise(torch.log, self.draws.uniform("rivals", memory.slots)) / held_LM
        key_LM = key_LM.masked_fill(~memory.in_use_LM(), -torch.inf)
        rival_LB = key_LM.topk(min(size, memory.slots), 1).indices
        rival_LB = F.pad(rival_LB, (0, size - rival_LB.shape[1]), value=memory.slots)
        rival_score_LB = memory.read_kept("score", rival_LB)
        chance_LB = rival_score_LB / (rival_score_LB + score_LB).clamp(min=1e-30)
        wins_LB = (score_LB < 1) & (self.draws.uniform("contest", size) < chance_LB)
        wins_LB &= rival_LB < memory.filled_L.unsqueeze(1)
        slot_LB = torch.where(wins_LB, rival_LB, memory.slots)
        slot_LB = torch.where(nth_LB < memory.slots, nth_LB, slot_LB).masked_fill(~real_LB, memory.slots)
        memory.put(slot_LB, batch.rows_LB, score=score_LB)

    def scores(self, batch: Batch) -> Tensor:
        """Return 1 + the largest cosine with rows of the memory, 1 while it is empty, shape (L, B)."""
        size = batch.rows_LB.shape[1]
        slots_LN = self.memory.draw_distinct("compare", self.compare)
        new = self.streams.batch(batch.rows_LB) if self.streams.training.augment else batch
        compared = self.memory.read(slots_LN, batch, raw=True)  # the score is of the row, not of a crop
        product_LBB = self.gradient_products(join_batches(new, compared))
        square_LB = product_LBB.diagonal(dim1=1, dim2=2)
        length_LBN = (square_LB[:, :size].unsqueeze(2) * square_LB[:, size:].unsqueeze(1)).sqrt()
        cosine_LBN = product_LBB[:, :size, size:] / length_LBN.clamp(min=1e-30)
        real_L1N = (slots_LN < self.memory.filled_L.unsqueeze(1)).unsqueeze(1)
        score_LB = cosine_LBN.masked_fill(~real_L1N, -1).amax(2) + 1
        return torch.where(real_L1N.any(2), score_LB, 1)

    def gradient_products(self, batch: Batch) -> Tensor:
        """Return the inner products of the gradients of all rows' losses, shape (L, B, B).

        In a dense layer one row's gradient is the outer product of the inputs (with a 1 for the bias) and the
        gradient at the outputs. So the inner product of two rows' gradients is the inner product of their
        inputs times that of their output gradients.
        """
        with eval_mode(self.model), recorded_calls(self._layers) as calls:
            logits_LBU = self.logits(batch)
        total = row_losses(logits_LBU, batch.y_LB).sum()
        output_grads = torch.autograd.grad(total, [out for _, _, out in calls])
        parts = [
            (torch.bmm(a, a.transpose(1, 2)) + 1) * torch.bmm(g, g.transpose(1, 2))
            for (_, a, _), g in zip(calls, output_grads, strict=True)
        ]
        return add_up(parts)
