"""Maximally interfered retrieval."""

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import Batch, Count, eval_mode, mask, only_if, row_losses
from strategies.parts import pick_rows, virtual_step
from strategies.replay.er import ER


class MIR(ER):
    """Experience replay of the rows whose loss the coming step would raise most.

    Candidates are drawn at random from the memory. Those with the largest l(f_v(x)) - l(f(x)) are replayed,
    where v = theta - lr grad L(new) is a virtual step on the new rows (Aljundi 2019, section 3.1, s_MI-1).
    """

    name = "mir"
    # Virtual step, new and stored rows; as many candidates as new rows forward twice are two thirds.
    cost = 3.67
    paper = "Aljundi et al. 2019, Online continual learning with maximally interfered retrieval"
    presets = {}

    candidates: Count = 50
    """Stored rows drawn, without replacement, to choose from."""
    current: Annotated[bool, only_if("boundaries", "shown")] = False
    """Whether rows of the current task may be candidates. If not (as in the released code), replay starts
    with the second task."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: ER's, the virtual step, and two forward passes over the candidates."""
        return 1 + (self.batch or new) / new + 1 + 2 / 3 * max(self.candidates, self.batch or new) / new

    def replayed(self, batch: Batch) -> Batch:
        """Return the candidates that interfere most."""
        memory, wanted = self.memory, self.stored(batch)
        among_LM = memory.in_use_LM()
        if not self.current and self.streams.training.boundaries == "shown":
            among_LM &= self.streams.task_of(memory.rows_LM[:, : memory.slots]) < self.task
        slots_LC = memory.draw_distinct("candidates", max(wanted, self.candidates), among_LM)
        among_LC, candidates = among_LM.gather(1, slots_LC), memory.read(slots_LC, batch)
        rise_LC = self.interference(batch, candidates).masked_fill(~among_LC, -torch.inf)
        best_LB = rise_LC.topk(min(wanted, slots_LC.shape[1]), 1).indices
        return pick_rows(replace(candidates, weight_LB=candidates.weight_LB * among_LC), best_LB)

    def interference(self, batch: Batch, old: Batch) -> Tensor:
        """Return how much a step on the new rows raises the loss of each stored row, shape (L, C).

        Computed in evaluation mode, so that only the real step updates running statistics.
        """
        with eval_mode(self.model):
            grads = torch.autograd.grad(
                self.cross_entropy(self.logits(batch), batch).sum(), list(self.model.parameters())
            )
            with torch.no_grad():
                before_LC = row_losses(self.logits(old), old.y_LB)
                ahead = virtual_step(self.model, grads, self.optimiser.lr_L)
                raw_LCU = functional_call(self.model, ahead, old.x_LBX)
                after_LC = row_losses(mask(raw_LCU, old.active_LBU), old.y_LB)
        return after_LC - before_LC
