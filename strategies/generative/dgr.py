"""Deep generative replay.

Axes: L lanes, B batch, D pixels, U units, Z latent variables; X the axes of one row.
"""

import copy
import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import (
    Adam,
    Batch,
    Bounds,
    Count,
    CountOrNone,
    Generators,
    LaneFloat,
    Search,
    Strategy,
    add_up,
    mask,
    only_if,
    row_losses,
)
from strategies.parts import (
    VAE,
    GaussianNoise,
    ImageGenerator,
    need_pixels_0_to_1,
    new_and_replayed,
    soft_cross_entropy,
    taught_heads,
)


class DGR(Strategy):
    """Deep generative replay: a generator makes rows of earlier tasks, which the earlier solver labels.

    At the t-th task the loss is 1/t L_new + (1 - 1/t) L_generated, for the solver and for the generator.
    Copies of both from the end of the last task make the generated rows and their labels (Shin et al. 2017,
    eq. 1, with 1/t for its ratio r). The generator is a variational autoencoder with its own Adam at the
    same learning rate (van de Ven 2022).
    """

    name = "dgr"
    family = "generative"
    paper = "Shin et al. 2017, Continual learning with deep generative replay"
    needs = "task boundaries, a generator, copies of both networks, pixels in [0, 1]"
    needs_boundaries = True
    cost = 7.0
    sized_by = {"memory": "generator_hidden"}
    presets = {"vandeven2022": {"generator_hidden": 400, "latent": 100}}

    generator_hidden: Count = 400
    """Units in each of the two hidden layers of the generator's encoder and decoder."""
    latent: Annotated[CountOrNone, Search(of=(4, 8, 16, 32, 100))] = 0
    """Latent variables of the generator; 0 for one per seven pixels, at most 100 (MNIST in van de Ven 2022):
    images of few pixels leave more of them unused."""
    targets: Literal["hard", "soft"] = "hard"
    """Targets of generated rows: the earlier solver's label (hard) or its tempered softmax (soft)."""
    temperature: Annotated[LaneFloat, Bounds(1e-3), only_if("targets", "soft")] = LaneFloat(2.0)
    """Logits are divided by this before the softmax of soft targets."""

    def setup(self) -> None:
        """Make the generator, its optimiser, and the copies of generator and solver."""
        need_pixels_0_to_1(self.name, self.streams)
        self._latent = self.latent or min(100, max(1, math.prod(self.streams.shape) // 7))
        random = self.streams.generators("generator")
        # An alias, not in checkpoints: make_generator sets the attribute that is saved.
        self._generator = self.make_generator(random, math.prod(self.streams.shape))
        self.earlier_generator = copy.deepcopy(self._generator).requires_grad_(False)
        self.earlier_model = copy.deepcopy(self.model).requires_grad_(False).eval()
        self._noise = GaussianNoise("dreams", self.draws)

    def make_generator(self, random: Generators, pixels: int) -> VAE | ImageGenerator:
        """Make the generator and its optimiser; return the generator."""
        vae = VAE(random, pixels, self.generator_hidden, self._latent)
        self.vae = vae.to(self.streams.device)
        self.vae_optimiser = Adam(list(vae.parameters()), self.optimiser.lr, [0.0] * self.streams.lanes)
        return self.vae

    def begin_task(self, task: int) -> None:
        """Start the task's noise."""
        self._noise.begin(task)

    def end_task(self, task: int) -> None:
        """Copy solver and generator: the copies make and label rows in the next task."""
        self.earlier_generator.load_state_dict(self._generator.state_dict())
        self.earlier_model.load_state_dict(self.model.state_dict())

    def learn(self, batch: Batch) -> Tensor:
        """Take a step of the solver and one of the generator on the same new and generated rows."""
        new, share = batch.rows_LB.shape[1], 1 / (self.task + 1)
        x_LBD = batch.x_LBX.flatten(2)
        if self.task:
            generated_LBD = self.earlier_generator.generate(self._noise.normal(new, self._latent))
            x_LBD = torch.cat([x_LBD, generated_LBD], 1)
        with self.autocast():
            loss_L = self.solver_loss(batch, x_LBD.unflatten(2, self.streams.shape), share)
        self.backward(loss_L)
        self.optimiser.step(self.context.active)
        self.learn_generator(batch, x_LBD, share)
        return loss_L.detach()

    def learn_generator(self, batch: Batch, x_LBD: Tensor, share: float) -> None:
        """Take a step of the generator; ``x_LBD`` has new rows first, then generated ones."""
        vae_LB = self.vae.loss(x_LBD, self._noise.normal(x_LBD.shape[1], self._latent))
        self.vae_optimiser.descend(self.weigh(batch, vae_LB, share), self.context.active)

    def weigh(self, batch: Batch, loss_LB: Tensor, share: float) -> Tensor:
        """Return share L_new + (1 - share) L_generated from the rows' losses, new rows first, shape (L,)."""
        return new_and_replayed(batch, loss_LB, share) if self.task else batch.mean_L(loss_LB)

    def solver_loss(self, batch: Batch, x_LBX: Tensor, share: float) -> Tensor:
        """Return the solver's share L_new + (1 - share) L_generated, shape (L,)."""
        new = batch.rows_LB.shape[1]
        logits_LBU = self.model(x_LBX)
        if self.task == 0:
            return self.cross_entropy(mask(logits_LBU, batch.active_LBU), batch)
        with torch.no_grad():
            target_LBU = self.earlier_model(x_LBX[:, new:])
        heads = taught_heads(self.streams, batch, self.task)
        # Whether new and generated rows have labels of one kind, among the same units.
        alike = self.targets == "hard" and not self.streams.training.label_smoothing
        if x_LBX.is_cuda and alike and self.streams.scenario != "task":
            ((units, taught),) = heads
            label_LB = torch.cat([batch.y_LB, mask(target_LBU, taught).argmax(2)], 1)
            return self.weigh(batch, row_losses(mask(logits_LBU, units), label_LB), share)
        new_LBU, old_LBU = logits_LBU.split([new, target_LBU.shape[1]], 1)
        new_L = self.cross_entropy(mask(new_LBU, batch.active_LBU), batch)
        old_L = [self.distance_L(mask(old_LBU, units), mask(target_LBU, taught)) for units, taught in heads]
        return share * new_L + (1 - share) * (add_up(old_L) / len(old_L))

    def distance_L(self, logits_LBU: Tensor, target_LBU: Tensor) -> Tensor:
        """Return each lane's mean cross-entropy to the earlier solver's labels or soft targets."""
        if self.targets == "hard":
            return row_losses(logits_LBU, target_LBU.argmax(2)).mean(1)
        return soft_cross_entropy(logits_LBU, target_LBU, self.temperature).mean(1)
