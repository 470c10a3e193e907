"""Prompts chosen for each row from a pool, by what the frozen backbone makes of the row: L2P and CODA-Prompt.

The model's soft prompts are the pool: ``pool`` parts of equal length.

Axes: L lanes, B batch, N rows, U units, M parts of the pool, K parts chosen, P soft prompts of one part, F
features, D numbers of one part.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import Batch, Count, LaneFloat, NotNegative, Strategy, Unsuitable, mask, only_if, unless
from strategies.parts import frozen_features, tuned_transformer
from suites.base import Training, generator


class PromptPool(Strategy):
    """What both share: a pool in the model, keys beside it, and a query for each row of the data."""

    family = "pretrained"
    tunes = "prompt"
    needs = "a transformer with tune=prompt"

    pool: Count = 10
    """M: parts that the model's soft prompts are divided into."""
    units: Annotated[Literal["task", "seen"], only_if("scenario", "class", "online")] = "task"
    """Units that new rows are classified among: the task's own (the released code of both) or all seen."""

    def unsuitable(self, scenario: str, training: Training) -> str | None:
        """Only all units seen need no knowledge of the task."""
        if self.units == "task" and training.boundaries == "hidden":
            return "units=task needs to know where tasks begin and end; units=seen does not"
        return super().unsuitable(scenario, training)

    def setup(self) -> None:
        """Divide the pool; draw keys in each lane by itself."""
        self._net, streams = tuned_transformer(self), self.streams
        prompts, features = self._net.trained["prompt"].shape[1:]
        if prompts % self.pool:
            raise Unsuitable(f"the model's {prompts} prompts cannot be divided into a pool of {self.pool}")
        self._query_NF = F.normalize(frozen_features(self._net, streams), dim=1)
        self.keys = nn.ParameterDict(self.start_keys(features)).to(streams.device)
        self.key_optimiser = self.optimiser.alike(self.keys.parameters())

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return what is trained beside the pool, lanes first."""
        raise NotImplementedError

    def begin_task(self, task: int) -> None:
        """Begin with a fresh optimiser of the keys where the network's is fresh, too."""
        if self.streams.training.reset_optimiser:
            self.key_optimiser.reset()

    def query(self, batch: Batch) -> Tensor:
        """Return what the frozen backbone makes of rows, of length 1, shape (L, B, F)."""
        return self._query_NF[self.streams.data.index_of(batch.rows_LB)]

    def parts(self) -> Tensor:
        """Return the pool in its parts, shape (L, M, P, F)."""
        prompt_LMPF: Tensor = self._net.trained["prompt"].unflatten(1, (self.pool, -1))
        return prompt_LMPF

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's prompts, (L, B, P, F), and what choosing them adds to the loss, (L,)."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy with each row's prompts, and what choosing them adds."""
        prompt_LBPF, added_L = self.prompts(batch)
        logits_LBU = mask(self._net.head(self._net.features(batch.x_LBX, prompt_LBPF)), batch.active_LBU)
        if self.units == "task":
            logits_LBU = mask(logits_LBU, self.streams.own_LTU[:, self.task].unsqueeze(1))
        return self.cross_entropy(logits_LBU, batch) + added_L

    def learn(self, batch: Batch) -> Tensor:
        """Take one step with the pool and the head, and one with the keys."""
        self.keys.zero_grad()
        loss_L = super().learn(batch)
        self.key_optimiser.step(self.context.active)
        return loss_L

    def predict(self, batch: Batch) -> Tensor:
        """Answer each row with its prompts."""
        logits_LBU = self._net.head(self._net.features(batch.x_LBX, self.prompts(batch)[0]))
        return mask(logits_LBU, batch.active_LBU)


class L2P(PromptPool):
    """L2P: the prompts whose keys are nearest to a row's query are put before it.

    L = L_new - lambda sum_{k chosen} cos(q(x), key_k), q the frozen backbone's features and the K parts of
    largest cosine chosen (Wang et al. 2022, eq. 3 to 5).
    """

    name = "l2p"
    paper = "Wang et al. 2022, Learning to prompt for continual learning"
    presets = {"wang2022": {"prompts": 50}}

    top: Count = 5
    """K: parts that are put before a row."""
    lam: NotNegative = LaneFloat(0.5)
    """lambda: how strongly chosen keys are drawn to the query."""

    def setup(self) -> None:
        """Make the pool."""
        if self.top > self.pool:
            raise Unsuitable(f"top={self.top} is more than the pool={self.pool} has")
        super().setup()

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return the keys, uniform in [0, 1)."""
        lanes = [generator(s.seed, "l2p/key") for s in self.streams.streams]
        return {"key": torch.stack([torch.rand(self.pool, features, generator=g) for g in lanes])}

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the chosen parts one after the other, and the keys' term."""
        key_LMF = F.normalize(self.keys["key"], dim=2)
        cosine_LBM = torch.bmm(self.query(batch), key_LMF.transpose(1, 2))
        chosen_LBK = cosine_LBM.topk(self.top, 2).indices
        lane_L11 = torch.arange(len(key_LMF), device=chosen_LBK.device).view(-1, 1, 1)
        prompt_LBPF = self.parts()[lane_L11, chosen_LBK].flatten(2, 3)
        return prompt_LBPF, -self.lam * batch.mean_L(cosine_LBM.gather(2, chosen_LBK).sum(2))


class CodaPrompt(PromptPool):
    """CODA-Prompt: a row's prompts are a weighted sum of components, each weighed by an attention of its own.

    p = sum_m cos(q(x) * a_m, k_m) p_m over the components of the tasks so far, those of earlier tasks frozen;
    L = L_new + lambda sum |V V' - I|^2 over V = P, K, A (Smith et al. 2023, eq. 3 to 7).
    """

    name = "coda-prompt"
    paper = "Smith et al. 2023, CODA-Prompt: continual decomposed attention-based prompting"
    needs = "a transformer with tune=prompt, task boundaries"
    needs_boundaries = True
    presets = {"smith2023": {"pool": 100, "prompts": 800}}

    pool: Count = 20
    """M: components, an equal share for each task."""
    lam: NotNegative = LaneFloat(0.1)
    """lambda: how strongly components, keys and attentions are made orthogonal."""
    penalty: Annotated[Literal["sum", "mean"], unless("lam", 0.0)] = "sum"
    """|V V' - I|^2 over the entries: their sum (the paper) or their mean (the released code)."""

    def setup(self) -> None:
        """Make the pool; raises Unsuitable where it is too small for the tasks or too large for the space."""
        super().setup()
        self._share = self.pool // self.streams.n_tasks
        if not self._share:
            raise Unsuitable(f"a pool of {self.pool} has none for each of {self.streams.n_tasks} tasks")
        if self.pool > self.keys["key"].shape[2]:
            raise Unsuitable(f"a pool of {self.pool} has more than {self.keys['key'].shape[2]} directions")
        self.begin_task(0)

    def start_keys(self, features: int) -> dict[str, Tensor]:
        """Return room for keys and attentions."""
        zero_LMF = torch.zeros(self.streams.lanes, self.pool, features)
        return {"key": zero_LMF, "attention": zero_LMF.clone()}

    def vectors(self) -> list[Tensor]:
        """Return the components P, keys K and attentions A, one vector a part, (L, M, D) each."""
        return [self.parts().flatten(2), self.keys["key"], self.keys["attention"]]

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Start the task's own in directions orthogonal to all before (Gram-Schmidt, their section 4.2)."""
        super().begin_task(task)
        old, now = task * self._share, (task + 1) * self._share
        generators = [generator(s.seed, f"coda-prompt/{task}") for s in self.streams.streams]
        for vector_LMD in self.vectors():
            new = [torch.randn(self._share, vector_LMD.shape[2], generator=g) for g in generators]
            both_LMD = torch.cat([vector_LMD[:, :old], torch.stack(new).to(vector_LMD)], 1)
            vector_LMD[:, old:now] = torch.linalg.qr(both_LMD.transpose(1, 2)).Q.transpose(1, 2)[:, old:]
        self._frozen = [v[:, :old].clone() for v in self.vectors()]

    def prompts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's weighted sum, and the penalty on what is not orthogonal."""
        now = (self.task + 1) * self._share
        so_far = [
            torch.cat([f, v[:, f.shape[1] : now]], 1)
            for f, v in zip(self._frozen, self.vectors(), strict=True)
        ]
        part_LMD, key_LMF, attention_LMF = so_far
        seen_LBMF = self.query(batch).unsqueeze(2) * attention_LMF.unsqueeze(1)
        weight_LBM = F.cosine_similarity(seen_LBMF, key_LMF.unsqueeze(1), dim=3)
        prompt_LBD = torch.bmm(weight_LBM, part_LMD)
        added_L = torch.stack([self.crowding(v) for v in so_far]).sum(0)
        return prompt_LBD.unflatten(2, self.parts().shape[2:]), self.lam * added_L

    def crowding(self, vector_LMD: Tensor) -> Tensor:
        """Return |V V' - I|^2 of every lane, shape (L,)."""
        unit_MM = torch.eye(vector_LMD.shape[1], device=vector_LMD.device)
        square_LX = (torch.bmm(vector_LMD, vector_LMD.transpose(1, 2)) - unit_MM).square().flatten(1)
        return square_LX.sum(1) if self.penalty == "sum" else square_LX.mean(1)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Undo what decay or momentum did to what is frozen."""
        for frozen_LMD, vector_LMD in zip(self._frozen, self.vectors(), strict=True):
            vector_LMD[:, : frozen_LMD.shape[1]] = frozen_LMD
