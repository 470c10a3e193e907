"""Memory-based parameter adaptation: sparse replay, and a network adapted to each test row.

Axes: L lanes, B batch, N rows at one time, E examples (lanes times N), K neighbours, M memory slots, F
features, U units; 1 the one row of an example.
"""

import copy
from typing import Annotated

import torch
from torch import Tensor
from torch.func import functional_call

from strategies.core import Batch, Count, LaneFloat, Momentum, NotNegative, Search, mask, row_losses, unless
from strategies.parts import counting_rows, features_of, groups_as_lanes, rows_at_once
from strategies.pretrained.sparse_er import SparseER


class MbPA(SparseER):
    """MbPA++: sparse replay, and each test row gets a network adapted to its nearest stored rows.

    W~ = argmin_W' lambda ||W' - W||^2 - sum_k a_k log p(y_k | x_k, W') by some gradient steps from W, with
    a_k = 1 / K. W~ classifies the row and is then discarded (de Masson d'Autume et al. 2019, section 3,
    Algorithm 2). Neighbours have the smallest Euclidean distance in the features of the untrained network.
    """

    name = "mbpa++"
    needs = "a memory of rows, a copy of the untrained network, many passes for each test row"

    neighbours: Annotated[Count, unless("adapt_rate", 0.0)] = 32
    """K: nearest stored rows that the network is adapted to."""
    adapt_steps: Annotated[Count, unless("adapt_rate", 0.0)] = 30
    """Steps of the adaptation, by SGD with momentum 0.9."""
    adapt_rate: Annotated[NotNegative, Search(1e-4, 0.1, log=True)] = LaneFloat(5e-3)
    """Learning rate of these steps."""
    adapt_lam: Annotated[NotNegative, unless("adapt_rate", 0.0)] = LaneFloat(1e-3)
    """lambda: weight of the squared distance to the trained network."""

    def setup(self) -> None:
        """Make an empty memory; copy the untrained network, whose features are the keys."""
        super().setup()
        self.key_network = copy.deepcopy(self.model).requires_grad_(False).eval()
        self._keyed: tuple[Tensor, Tensor] | None = None

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of each row's adapted network; 0 for rows that have weight 0 in all lanes."""
        if not bool(self.memory.filled_L.any()):
            return self.logits(batch)
        slots_LBK, counts = self.nearest(batch), dict(self.model.counts)
        logits_LBU = slots_LBK.new_zeros(*slots_LBK.shape[:2], self.streams.n_units, dtype=torch.float32)
        for rows_N in counting_rows(self.model, batch).split(rows_at_once(self.model, self.streams.lanes)):
            old = self.memory.read(slots_LBK[:, rows_N].flatten(1), batch, raw=True)
            group_NK = torch.arange(old.rows_LB.shape[1], device=rows_N.device).view(len(rows_N), -1)
            adapted = self.adapted(groups_as_lanes(old, group_NK), len(rows_N))
            alone = groups_as_lanes(batch, rows_N.unsqueeze(1))
            own_E1U = functional_call(self.model, adapted, (alone.x_LBX,))
            logits_LBU[:, rows_N] = own_E1U.float().view(-1, *logits_LBU[:, rows_N].shape[1:])
        self.model.counts.update(counts)  # tokens of predictions are not counted
        return mask(logits_LBU, batch.active_LBU)

    def nearest(self, batch: Batch) -> Tensor:
        """Return the slots of each row's nearest stored rows, int64 (L, B, K); empty slots come last."""
        rows_LM = self.memory.rows_LM[:, : self.memory.slots]
        if self._keyed is None or not torch.equal(self._keyed[0], rows_LM):
            self._keyed = rows_LM.clone(), features_of(self.key_network, self.streams, rows_LM)
        key_LMF, query_LBF = self._keyed[1], self.key_network.features(batch.x_LBX).float()
        # |q - k|^2 without |q|^2, which is the same for all of a row's neighbours.
        far_LBM = key_LMF.square().sum(2).unsqueeze(1) - 2 * query_LBF @ key_LMF.transpose(1, 2)
        far_LBM = far_LBM.masked_fill(~self.memory.in_use_LM().unsqueeze(1), torch.inf)
        return far_LBM.topk(min(self.neighbours, self.memory.slots), 2, largest=False).indices

    @torch.enable_grad()
    def adapted(self, old: Batch, n: int) -> dict[str, Tensor]:
        """Return the parameters of every example's adapted network by name, each (E, ...)."""
        trained = {name: p.detach().repeat_interleave(n, 0) for name, p in self.model.named_parameters()}
        # The steps train W~ - W: lambda times its squared norm is a weight decay of 2 lambda.
        apart = {name: torch.zeros_like(p).requires_grad_() for name, p in trained.items()}
        given = self.adapt_rate, 2 * self.adapt_lam
        rates, decays = ([float(v) for v in of_L.repeat_interleave(n)] for of_L in given)
        update = Momentum(list(apart.values()), rates, decays)
        for _ in range(self.adapt_steps):
            own = {name: p + apart[name] for name, p in trained.items()}
            logits_EKU = mask(functional_call(self.model, own, (old.x_LBX,)), old.active_LBU)
            loss_E = old.mean_L(row_losses(logits_EKU, old.y_LB))
            update.descend(loss_E)
        return {name: p + apart[name].detach() for name, p in trained.items()}
