"""L2P and CODA-Prompt: the frozen backbone's features of a row select its prompts from a pool.

The pool is the model's soft prompts, in ``pool`` parts of equal length.

Axes: L lanes, B batch, N rows, U units, M parts of the pool, K parts chosen, P soft prompts of one part, F
features, D numbers of one part.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import (
    Batch,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    Strategy,
    Unsuitable,
    add_up,
    mask,
    only_if,
    unless,
)
from strategies.parts import frozen_features, tuned_transformer
from suites.base import Training


class PromptPool(Strategy):
    """Base of both: a pool in the model, its keys, and a query for each row of the data."""

    family = "pretrained"
    tunes = "prompt"
    needs = "a transformer with tune=prompt"

    pool: Count = 10
    """M: number of parts that the model's soft prompts are divided into."""
    units: Annotated[Literal["task", "seen"], only_if("scenario", "class", "online")] = "task"
    """Units in the loss on new rows: the task's own (the released code of both methods) or all seen."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Refuse units=task where boundaries are hidden."""
        if self.units == "task" and training.boundaries == "hidden":
            return "units=task needs to know where tasks begin and end; units=seen does not"
        return super().unsuitable(scenario, training)

    def setup(self) -> None:
        """Divide the pool; draw each lane's keys with its own generator."""
        self._net, streams = tuned_transformer(self), self.streams
        prompts, features = self._net.trained["prompt"].shape[1:]
        if prompts % self.pool:
            raise Unsuitable(f"the model's {prompts} prompts cannot be divided into a pool of {self.pool}")
        self._query_NF = F.normalize(frozen_features(self._net, streams), dim=1)
        self.keys = nn.ParameterDict(self.start_keys(features)).to(streams.device)
        self.key_optimiser = self.optimiser.alike(self.keys.parameters())

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return the initial values of what is trained besides the pool, lanes first."""
        raise NotImplementedError

    def query(self, batch: Batch) -> Tensor:
        """Return the frozen backbone's features of rows, scaled to length 1, shape (L, B, F)."""
        return self._query_NF[self.streams.data.index_of(batch.rows_LB)]

    def parts(self) -> Tensor:
        """Return the pool in its parts, shape (L, M, P, F)."""
        prompt_LMPF: Tensor = self._net.trained["prompt"].unflatten(1, (self.pool, -1))
        return prompt_LMPF

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's prompts, (L, B, P, F), and an additional loss for keys, (L,)."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy with each row's prompts plus the additional loss."""
        prompt_LBPF, added_L = self.prompts(batch)
        logits_LBU = mask(self._net.head(self._net.features(batch.x_LBX, prompt_LBPF)), batch.active_LBU)
        if self.units == "task":
            logits_LBU = mask(logits_LBU, self.streams.own_LTU[:, self.task].unsqueeze(1))
        return self.cross_entropy(logits_LBU, batch) + added_L

    def learn(self, batch: Batch) -> Tensor:
        """Take one step for pool and head, and one for the keys."""
        self.keys.zero_grad()
        loss_L = super().learn(batch)
        self.key_optimiser.step(self.context.active)
        return loss_L

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of each row with its prompts."""
        logits_LBU = self._net.head(self._net.features(batch.x_LBX, self.prompts(batch)[0]))
        return mask(logits_LBU, batch.active_LBU)


class L2P(PromptPool):
    """L2P: each row gets the prompts whose keys are nearest to its query.

    L = L_new - lambda sum_{k chosen} cos(q(x), key_k), where q are the frozen backbone's features. The K
    parts with the largest cosine are chosen (Wang et al. 2022, eq. 3 to 5).
    """

    name = "l2p"
    paper = "Wang et al. 2022, Learning to prompt for continual learning"
    presets = {"wang2022": {"prompts": 50}}

    top: Count = 5
    """K: number of parts put before a row's tokens."""
    lam: Annotated[NotNegative, Search(0.01, 1, log=True)] = LaneFloat(0.5)
    """lambda: weight of the cosine between chosen keys and query."""

    def setup(self) -> None:
        """Make the pool."""
        if self.top > self.pool:
            raise Unsuitable(f"top={self.top} is more than pool={self.pool}: set top to {self.pool} or less")
        super().setup()

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return the keys, uniform in [0, 1)."""
        lanes = self.streams.generators("l2p/key")
        return {"key": torch.stack([torch.rand(self.pool, features, generator=g) for g in lanes])}

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the chosen parts, concatenated, and the loss of the keys."""
        key_LMF = F.normalize(self.keys["key"], dim=2)
        cosine_LBM = torch.bmm(self.query(batch), key_LMF.transpose(1, 2))
        chosen_LBK = cosine_LBM.topk(self.top, 2).indices
        lane_L11 = torch.arange(len(key_LMF), device=chosen_LBK.device).view(-1, 1, 1)
        prompt_LBPF = self.parts()[lane_L11, chosen_LBK].flatten(2, 3)
        return prompt_LBPF, -self.lam * batch.mean_L(cosine_LBM.gather(2, chosen_LBK).sum(2))


class CodaPrompt(PromptPool):
    """CODA-Prompt: a row's prompts are a weighted sum of components, each with its own key and attention.

    p = sum_m cos(q(x) * a_m, k_m) p_m over the components of all tasks so far; those of earlier tasks are
    frozen. L = L_new + lambda sum |V V' - I|^2 over V = P, K, A (Smith et al. 2023, eq. 3 to 7).
    """

    name = "coda-prompt"
    paper = "Smith et al. 2023, CODA-Prompt: continual decomposed attention-based prompting"
    needs = "a transformer with tune=prompt, task boundaries"
    needs_boundaries = True
    presets = {"smith2023": {"pool": 100, "prompts": 800}}

    pool: Count = 20
    """M: number of components, an equal share for each task."""
    lam: Annotated[NotNegative, Search(0.01, 1, log=True)] = LaneFloat(0.1)
    """lambda: weight of the orthogonality of components, keys and attentions."""
    penalty: Annotated[Literal["sum", "mean"], unless("lam", 0.0)] = "sum"
    """|V V' - I|^2: sum over the entries (the paper) or mean (the released code)."""

    def setup(self) -> None:
        """Make the pool; raise Unsuitable if it has too few parts for the tasks or more than features."""
        super().setup()
        self._share = self.pool // self.streams.n_tasks
        if not self._share:
            n_tasks = self.streams.n_tasks
            raise Unsuitable(f"pool={self.pool} has fewer components than the {n_tasks} tasks of the stream")
        if self.pool > self.keys["key"].shape[2]:
            features = self.keys["key"].shape[2]
            raise Unsuitable(f"pool={self.pool} is more than {features} features: keys cannot be orthogonal")
        self.begin_task(0)

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return zeros for keys and attentions; ``begin_task`` fills them."""
        zero_LMF = torch.zeros(self.streams.lanes, self.pool, features)
        return {"key": zero_LMF, "attention": zero_LMF.clone()}

    def vectors(self) -> list[Tensor]:
        """Return the components P, keys K and attentions A, one vector per part, each (L, M, D)."""
        return [self.parts().flatten(2), self.keys["key"], self.keys["attention"]]

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Initialise the task's vectors orthogonal to all earlier ones (Gram-Schmidt; section 4.2)."""
        old, now = task * self._share, (task + 1) * self._share
        generators = self.streams.generators(f"coda-prompt/{task}")
        for vector_LMD in self.vectors():
            new = [torch.randn(self._share, vector_LMD.shape[2], generator=g) for g in generators]
            both_LMD = torch.cat([vector_LMD[:, :old], torch.stack(new).to(vector_LMD)], 1)
            vector_LMD[:, old:now] = torch.linalg.qr(both_LMD.transpose(1, 2)).Q.transpose(1, 2)[:, old:]
        self._frozen = [v[:, :old].clone() for v in self.vectors()]

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's weighted sum and the orthogonality penalty."""
        now = (self.task + 1) * self._share
        so_far = [
            torch.cat([f, v[:, f.shape[1] : now]], 1)
            for f, v in zip(self._frozen, self.vectors(), strict=True)
        ]
        part_LMD, key_LMF, attention_LMF = so_far
        seen_LBMF = self.query(batch).unsqueeze(2) * attention_LMF.unsqueeze(1)
        weight_LBM = F.cosine_similarity(seen_LBMF, key_LMF.unsqueeze(1), dim=3)
        prompt_LBD = torch.bmm(weight_LBM, part_LMD)
        added_L = add_up([self.crowding(v) for v in so_far])
        return prompt_LBD.unflatten(2, self.parts().shape[2:]), self.lam * added_L

    def crowding(self, vector_LMD: Tensor) -> Tensor:
        """Return |V V' - I|^2 of every lane, shape (L,)."""
        unit_MM = torch.eye(vector_LMD.shape[1], device=vector_LMD.device)
        square_LX = (torch.bmm(vector_LMD, vector_LMD.transpose(1, 2)) - unit_MM).square().flatten(1)
        return square_LX.sum(1) if self.penalty == "sum" else square_LX.mean(1)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Restore frozen vectors, which weight decay or momentum may have moved."""
        for frozen_LMD, vector_LMD in zip(self._frozen, self.vectors(), strict=True):
            vector_LMD[:, : frozen_LMD.shape[1]] = frozen_LMD
