"""Brain-inspired replay.

Axes: L lanes, B batch, D pixels, U units, Z latent variables, H hidden units, G gates, F features; X the axes
of one row.
"""

import copy
import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from strategies.core import (
    Adam,
    Batch,
    Bounds,
    Count,
    Generators,
    LaneFloat,
    Strategy,
    lanewise,
    mask,
    per_lane,
)
from strategies.parts import (
    Decoder,
    GaussianNoise,
    Latent,
    log_normal_density,
    need_pixels_0_to_1,
    reconstruction_loss,
    sample_latent,
    soft_cross_entropy,
    tempered,
)
from suites.base import generator


class Feedback(nn.Module):
    """What is added to a classifier so that it can replay: latent variables, their prior, a gated decoder."""

    def __init__(
        self, generators: Generators, features: int, pixels: int, hidden: int, latent: int, modes: int
    ) -> None:
        super().__init__()
        self.to_latent = Latent(generators, features, latent)
        self.decoder = Decoder(generators, pixels, hidden, latent)
        draw = [torch.randn(2, modes, latent, generator=g) for g in generators]
        both_L2UZ = torch.stack(draw)
        self.prior_mean_LUZ = nn.Parameter(both_L2UZ[:, 0].contiguous())
        self.prior_log_var_LUZ = nn.Parameter(both_L2UZ[:, 1].contiguous())


class BIR(Strategy):
    """Brain-inspired replay: the classifier itself generates, by feedback from its features.

    One network classifies and, through latent variables with a mode per class and a decoder whose hidden
    units are gated by class or task, reconstructs: L = L_reconstruction + L_variational + L_classification,
    1/t of it on new rows and 1 - 1/t on rows sampled from the copy before the task, which are distilled
    (van de Ven, Siegelmann & Tolias 2020, Methods).
    """

    name = "bi-r"
    family = "generative"
    paper = "van de Ven, Siegelmann & Tolias 2020, Brain-inspired replay"
    needs = "task boundaries, a decoder, a copy of the network, pixels in [0, 1]"
    scenarios = ("domain", "class", "online")
    needs_boundaries = True
    cost = 5.0
    presets = {"vandeven2022": {"generator_hidden": 400, "latent": 100, "gated": 0.1, "temperature": 2.0}}

    generator_hidden: Count = 400
    """Units in each of the decoder's two hidden layers."""
    latent: Count = 100
    """Latent variables."""
    gated: Annotated[LaneFloat, Bounds(0.0, 1.0)] = LaneFloat(0.1)
    """Share of the decoder's hidden units closed for each class (each task in domain-incremental streams)."""
    temperature: Annotated[LaneFloat, Bounds(1e-3)] = LaneFloat(2.0)
    """Logits are divided by this before the softmax of distillation."""

    def setup(self) -> None:
        """Make the feedback connections, their optimiser, the fixed gates and the copy that replays."""
        need_pixels_0_to_1(self.name, self.streams)
        seeds, device = [s.seed for s in self.streams.streams], self.streams.device
        self._by_task = self.streams.scenario == "domain"
        gates = self.streams.n_tasks if self._by_task else self.streams.n_units
        random = [generator(s, "feedback") for s in seeds]
        features, pixels = self.model.head.weight.shape[1], math.prod(self.streams.shape)
        net = Feedback(random, features, pixels, self.generator_hidden, self.latent, self.streams.n_units)
        self.feedback = net.to(device)
        self.feedback_optimiser = Adam(list(net.parameters()), self.optimiser.lr, [0.0] * self.streams.lanes)
        chance_L2GH = torch.stack([torch.rand(2, gates, self.generator_hidden, generator=g) for g in random])
        self.open_L2GH = (chance_L2GH.to(device) >= per_lane(self.gated, chance_L2GH)).float()
        self.earlier_model = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.earlier_feedback = copy.deepcopy(net).requires_grad_(False)
        self._noise = GaussianNoise("dreams", seeds, device)

    def begin_task(self, task: int) -> None:
        """Start the task's noise; list the units that can be generated, lanes first."""
        self._noise.begin(task)
        known = [
            [*dict.fromkeys(u for t in s.tasks[:task] for u in t.units)]
            if not self._by_task
            else [*range(s.n_units)]
            for s in self.streams.streams
        ]
        units = [torch.tensor(of_lane, dtype=torch.long) for of_lane in known]
        self._known_LK = pad_sequence(units, batch_first=True).to(self.streams.device)
        self._known_L = torch.tensor([*map(len, known)], device=self.streams.device)

    def end_task(self, task: int) -> None:
        """The network as it is now replays what it knows."""
        self.earlier_model.load_state_dict(self.model.state_dict())
        self.earlier_feedback.load_state_dict(self.feedback.state_dict())

    def learn(self, batch: Batch) -> Tensor:
        """Take one step of classifier and feedback together, over new and dreamt rows."""
        self.feedback.zero_grad()
        loss_L = super().learn(batch)
        self.feedback_optimiser.step(self.context.active)
        return loss_L

    def loss(self, batch: Batch) -> Tensor:
        """Return 1/t of all losses on new rows and 1 - 1/t of those on dreamt ones, shape (L,)."""
        new, share = batch.rows_LB.shape[1], 1 / (self.task + 1)
        x_LBX = batch.x_LBX
        mode_LBU = F.one_hot(batch.y_LB, self.streams.n_units).to(x_LBX.dtype)
        gate_LBG = self.task_gate(torch.full_like(batch.y_LB, self.task)) if self._by_task else mode_LBU
        if self.task:
            dreamt_LBCHW, target_LBU, old_gate_LBG = self.dream(batch)
            old_mode_LBU = tempered(target_LBU, self.temperature).softmax(2)
            x_LBX = torch.cat([x_LBX, dreamt_LBCHW], 1)
            mode_LBU = torch.cat([mode_LBU, old_mode_LBU], 1)
            gate_LBG = torch.cat([gate_LBG, old_gate_LBG], 1) if self._by_task else mode_LBU
        features_LBF, generated_LB = self.generation_loss(x_LBX, mode_LBU, gate_LBG)
        answer_LBU = self.model.head(features_LBF)
        new_L = self.cross_entropy(mask(answer_LBU[:, :new], batch.active_LBU), batch)
        new_L = new_L + batch.mean_L(generated_LB[:, :new])
        if self.task == 0:
            return new_L
        old_LBU = mask(answer_LBU[:, new:], batch.active_LBU)
        old_LB = soft_cross_entropy(old_LBU, target_LBU, self.temperature) + generated_LB[:, new:]
        return share * new_L + (1 - share) * old_LB.mean(1)

    def generation_loss(self, x_LBX: Tensor, mode_LBU: Tensor, gate_LBG: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classifier's features and the loss per pixel of generating the rows, shape (L, B)."""
        features_LBF = self.model.features(x_LBX)
        x_LBD = x_LBX.flatten(2)
        mean_LBZ, log_var_LBZ = self.feedback.to_latent(features_LBF)
        z_LBZ = sample_latent(mean_LBZ, log_var_LBZ, self._noise.normal(x_LBD.shape[1], self.latent))
        divergence_LB = log_normal_density(z_LBZ, mean_LBZ, log_var_LBZ) - self.log_prior(z_LBZ, mode_LBU)
        logits_LBD = self.feedback.decoder(z_LBZ, self.gates(gate_LBG))
        return features_LBF, reconstruction_loss(logits_LBD, x_LBD) + divergence_LB / x_LBD.shape[2]

    def log_prior(self, z_LBZ: Tensor, mode_LBU: Tensor) -> Tensor:
        """Return log sum_u mode_u N(z; mode u) without its constant, shape (L, B)."""
        inverse_LUZ = lanewise(torch.exp, -self.feedback.prior_log_var_LUZ)
        mean_LUZ = self.feedback.prior_mean_LUZ
        # sum_z (z - m)^2 / v in products of matrices: no tensor (L, B, U, Z) is needed.
        square_LBU = (
            torch.bmm(z_LBZ.square(), inverse_LUZ.transpose(1, 2))
            - 2 * torch.bmm(z_LBZ, (inverse_LUZ * mean_LUZ).transpose(1, 2))
            + (inverse_LUZ * mean_LUZ.square()).sum(2).unsqueeze(1)
        )
        log_LBU = -0.5 * (square_LBU + self.feedback.prior_log_var_LUZ.sum(2).unsqueeze(1))
        # The logarithm of 0 stays -inf: in a hundred dimensions log N of a mode that is still far away is
        # easily a hundred lower than of another, and any floor would let that other one learn the row.
        return (log_LBU + lanewise(torch.log, mode_LBU)).logsumexp(2)

    @torch.no_grad()
    def dream(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return a row per row of the batch, generated by the earlier network, its answers, and gates."""
        size = batch.rows_LB.shape[1]
        unit_LB = self._known_LK.gather(1, self.draws.below("modes", self._known_L, size))
        gate_LBG = F.one_hot(unit_LB, self.streams.n_units).float()
        if self._by_task:
            gate_LBG = self.task_gate(
                self.draws.below("gates", torch.full_like(self._known_L, self.task), size)
            )
        net, index_LBZ = self.earlier_feedback, unit_LB.unsqueeze(2).expand(-1, -1, self.latent)
        mean_LBZ = net.prior_mean_LUZ.gather(1, index_LBZ)
        log_var_LBZ = net.prior_log_var_LUZ.gather(1, index_LBZ)
        z_LBZ = sample_latent(mean_LBZ, log_var_LBZ, self._noise.normal(size, self.latent))
        x_LBD = lanewise(torch.sigmoid, net.decoder(z_LBZ, self.gates(gate_LBG)))
        x_LBX = x_LBD.unflatten(2, self.streams.shape)
        return x_LBX, mask(self.earlier_model(x_LBX), self.streams.taught(self.task)), gate_LBG

    def task_gate(self, task_LB: Tensor) -> Tensor:
        """Return which gate belongs to a task, one-hot (L, B, G)."""
        return F.one_hot(task_LB, self.streams.n_tasks).float()

    def gates(self, gate_LBG: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gates of the decoder's two hidden layers, (L, B, H) each."""
        return torch.bmm(gate_LBG, self.open_L2GH[:, 0]), torch.bmm(gate_LBG, self.open_L2GH[:, 1])
