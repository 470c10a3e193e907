"""Generative classifier: one generative model per class.

Axes: L lanes, B batch, D pixels, U units, K models, Z latent variables, S samples, R rows;
X the axes of one row.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from strategies.core import (
    Adam,
    Batch,
    Count,
    Search,
    Strategy,
    hashed_uniform,
    lanewise,
    pad_rows,
    send,
)
from strategies.parts import VAE, GaussianNoise, log_normal_density, need_pixels_0_to_1, sample_latent


class GenerativeClassifier(Strategy):
    """A variational autoencoder per class of each task; a row goes to the class with the highest likelihood.

    log p(x|y) = log 1/S sum_s p(x|z_s) p(z_s) / q(z_s|x) over S draws of q (van de Ven, Li & Tolias 2021,
    eq. 3). The classes of a task take turns: each step trains one of them on a batch of its rows. A class
    that comes back gets another model, and p(x|y) is the mean over its models.
    """

    name = "generative-classifier"
    family = "generative"
    paper = "van de Ven, Li & Tolias 2021, Incremental learning with generative classifiers"
    needs = "task boundaries, a generative model per class, pixels in [0, 1]"
    scenarios = ("class", "online")
    needs_boundaries = True
    cost = 0.7
    sized_by = {"memory": "generator_hidden"}
    presets = {"vandeven2022": {"generator_hidden": 85, "latent": 5, "samples": 50}}

    generator_hidden: Count = 85
    """Units in each of the two hidden layers of encoder and decoder."""
    latent: Annotated[Count, Search(of=(2, 5, 10, 20))] = 5
    """Latent variables of each model."""
    samples: Count = 50
    """Importance samples of the likelihood."""
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """p(x|z) when classifying: a Gaussian of unit variance around the decoded image (the released code), or
    the Bernoulli likelihood that training maximises."""

    def setup(self) -> None:
        """Make a model for every class of every task, in the order of each lane's stream."""
        need_pixels_0_to_1(self.name, self.streams)
        order = [torch.tensor([u for t in s.tasks for u in t.units]) for s in self.streams.streams]
        self._unit_LK = pad_sequence(order, batch_first=True).to(self.streams.device)
        sizes = math.prod(self.streams.shape), self.generator_hidden, self.latent
        # Their log-variances have no bias, as in the released code.
        self.vaes = [
            VAE(self.streams.generators(f"class/{k}"), *sizes, log_var_bias=False).to(self.streams.device)
            for k in range(self._unit_LK.shape[1])
        ]
        rates = self.optimiser.lr, [0.0] * self.streams.lanes
        self.optimisers = [Adam(list(vae.parameters()), *rates) for vae in self.vaes]
        self.learned_L = torch.zeros(self.streams.lanes, dtype=torch.long, device=self.streams.device)
        self._noise = GaussianNoise("class models", self.draws)
        self._chances = GaussianNoise("importance", self.draws)

    def begin_task(self, task: int) -> None:
        """Collect the rows of each of the task's classes."""
        self._noise.begin(task)
        streams = self.streams.streams
        self._first = [sum(len(t.units) for t in s.tasks[:task]) for s in streams]
        self._classes = [len(s.tasks[task].units) for s in streams]
        self._step = 0
        self._passes: list[Passes] = []
        self._turns: list[list[int]] = [[] for _ in streams]  # of classes with rows
        for k in range(max(self._classes)):
            of_lanes = []
            for lane, (stream, n) in enumerate(zip(streams, self._classes, strict=True)):
                rows_R = stream.tasks[task].train_rows.to(self.streams.device)
                unit = stream.tasks[task].units[k] if k < n else -1
                of_lanes.append(rows_R[self.streams.units_of(lane, rows_R) == unit])
            self._passes.append(Passes(of_lanes, self.streams.training.batch))
            for turns, rows_R in zip(self._turns, of_lanes, strict=True):
                turns += [k] if len(rows_R) else []

    def learn(self, batch: Batch) -> Tensor:
        """Take a step of the class whose turn it is, on rows of that class."""
        turns = [of[self._step % len(of)] for of in self._turns]
        self._step += 1
        key_L = self.draws.uniform("class rows", 1)[:, 0]
        rows_LB = torch.zeros(1, 1, dtype=torch.long, device=key_L.device)
        for turn in sorted(set(turns)):
            on = [t == turn for t in turns]
            on_L1 = send(torch.tensor(on), key_L.device).unsqueeze(1)
            rows_LB = torch.where(on_L1, self._passes[turn].following(key_L, on), rows_LB)
        x_LBD = self.streams.pixels(rows_LB).flatten(2)
        noise_LBZ = self._noise.normal(x_LBD.shape[1], self.latent)
        found_L = torch.zeros_like(self.learned_L, dtype=x_LBD.dtype)
        models = [first + turn for first, turn in zip(self._first, turns, strict=True)]
        active = self.context.active or (True,) * len(models)
        for k in sorted(set(models)):
            on = [model == k for model in models]
            loss_L = self.vaes[k].loss(x_LBD, noise_LBZ).mean(1)
            self.optimisers[k].descend(loss_L, tuple(a and b for a, b in zip(on, active, strict=True)))
            found_L = torch.where(send(torch.tensor(on), loss_L.device), loss_L.detach(), found_L)
        return found_L

    def end_task(self, task: int) -> None:
        """Let the task's classes be predicted from now on."""
        self.learned_L += torch.tensor(self._classes, device=self.learned_L.device)

    def padding_bytes(self, lane: int) -> int:
        """Return the bytes of models beyond those of the lane's own classes."""
        own = sum(len(t.units) for t in self.streams.streams[lane].tasks)
        return sum(t[lane].nbytes for vae in self.vaes[own:] for t in (*vae.parameters(), *vae.buffers()))

    def predict(self, batch: Batch) -> Tensor:
        """Return log p(x|y) for the classes learned, the lowest number for the others, (L, B, U).

        All classes share the same draws, unlike in the released code: this lowers the variance of the
        difference between two classes' estimates.
        """
        x_LBD = batch.x_LBX.flatten(2)
        lowest = torch.finfo(x_LBD.dtype).min
        scores_LBU = torch.full((*x_LBD.shape[:2], self.streams.n_units), lowest, device=x_LBD.device)
        self._chances.begin(0)
        noise_LSBZ = self._chances.normal(self.samples, x_LBD.shape[1], self.latent)
        models_L1U = torch.zeros_like(scores_LBU[:, :1])
        for k in range(int(self.learned_L.max())):
            score_LB1 = self.log_likelihood(self.vaes[k], x_LBD, noise_LSBZ).unsqueeze(2)
            # A class that has no model yet is at the lowest number, which adds nothing to its first model.
            summed_LBU = lanewise(torch.logaddexp, scores_LBU, score_LB1.expand_as(scores_LBU))
            unit_U = torch.arange(self.streams.n_units, device=x_LBD.device)
            own_L1U = (self._unit_LK[:, k : k + 1] == unit_U) & (k < self.learned_L).unsqueeze(1)
            scores_LBU = torch.where(own_L1U.unsqueeze(1), summed_LBU, scores_LBU)
            models_L1U += own_L1U.unsqueeze(1)
        return scores_LBU - lanewise(torch.log, models_L1U.clamp(min=1))

    def log_likelihood(self, vae: VAE, x_LBD: Tensor, noise_LSBZ: Tensor) -> Tensor:
        """Return the importance-sampled log p(x) of one class's model, without constants, shape (L, B)."""
        mean_LBZ, log_var_LBZ = vae.encoder(x_LBD)
        found = []
        for noise_LBZ in noise_LSBZ.unbind(1):
            z_LBZ = sample_latent(mean_LBZ, log_var_LBZ, noise_LBZ)
            prior_LB = -0.5 * z_LBZ.square().sum(2)
            logits_LBD = vae.decoder(z_LBZ)
            if self.likelihood == "gaussian":
                fit_LB = -0.5 * (lanewise(torch.sigmoid, logits_LBD) - x_LBD).square_().sum(2)
            else:
                fit_LB = (x_LBD * logits_LBD).sum(2) - lanewise(F.softplus, logits_LBD).sum(2)
            found.append(fit_LB + prior_LB - log_normal_density(z_LBZ, mean_LBZ, log_var_LBZ))
        return torch.stack(found).logsumexp(0) - math.log(len(found))


class Passes:
    """Shuffled passes over each lane's rows; the incomplete last batch of a pass is dropped.

    If a lane has fewer rows than a batch, rows are repeated to fill it.
    """

    def __init__(self, rows_of_lanes: Sequence[Tensor], batch: int) -> None:
        self._rows_LR, real_LR = pad_rows(rows_of_lanes, 1)
        self._real_LR = real_LR.bool()
        self._order_LR = torch.zeros_like(self._rows_LR)
        self._count_L1 = real_LR.sum(1, keepdim=True).clamp(min=1)
        self._batch_B = torch.arange(batch, device=self._rows_LR.device)
        self._in_a_pass = [max(1, len(rows_R) // batch) for rows_R in rows_of_lanes]
        self._in_a_pass_L1 = torch.tensor(self._in_a_pass, device=self._rows_LR.device).unsqueeze(1)
        self._taken, self._taken_L1 = [0] * len(self._in_a_pass), torch.zeros_like(self._in_a_pass_L1)

    def following(self, key_L: Tensor, on: Sequence[bool]) -> Tensor:
        """Return the next batch's rows, int64 (L, B), in lanes that are on; ``key_L`` seeds new orders."""
        place_L1 = self._taken_L1 % self._in_a_pass_L1
        on_L1 = send(torch.tensor(on), place_L1.device).unsqueeze(1)
        # Computed on the host, so that the device need not synchronise.
        if any(is_on and t % n == 0 for is_on, t, n in zip(on, self._taken, self._in_a_pass, strict=True)):
            drawn_LR = hashed_uniform(key_L, "pass", self._rows_LR.shape[1])
            shuffled_LR = torch.where(self._real_LR, drawn_LR, 2.0).argsort(1)
            self._order_LR = torch.where((place_L1 == 0) & on_L1, shuffled_LR, self._order_LR)
        self._taken = [t + is_on for t, is_on in zip(self._taken, on, strict=True)]
        self._taken_L1 += on_L1
        index_LB = (place_L1 * len(self._batch_B) + self._batch_B) % self._count_L1
        return self._rows_LR.gather(1, self._order_LR.gather(1, index_LB))
