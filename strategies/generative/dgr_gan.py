"""Deep generative replay with a generative adversarial network.

Axes: L lanes, B batch, D pixels.
"""

from typing import Annotated

from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, Generators, LaneFloat, NotNegative, Search
from strategies.generative.dgr import DGR
from strategies.parts import Critic, GANAdam, ImageGenerator


class DGRGAN(DGR):
    """Deep generative replay with the paper's generator, a Wasserstein GAN with gradient penalty.

    The critic distinguishes the generator's rows from new rows and rows of the earlier generator. Its loss
    (Gulrajani et al. 2017, Algorithm 1) has the weights 1/t and 1 - 1/t of dgr. Each step of the solver goes
    with ``critic_steps`` of the critic and one of the generator.
    """

    name = "dgr-gan"
    paper = (
        "Shin et al. 2017, Continual learning with deep generative replay; "
        "Gulrajani et al. 2017, Improved training of Wasserstein GANs"
    )
    needs = "task boundaries, a generator and its critic, copies, pixels in [0, 1]"
    cost = 42.7
    presets = {}

    latent: Annotated[CountOrNone, Search(of=(8, 32, 100))] = 100
    """Latent variables of the generator."""
    critic_steps: Count = 5
    """Steps of the critic before each step of the generator."""
    penalty: Annotated[NotNegative, Search(1, 30, log=True)] = LaneFloat(10.0)
    """Weight of the critic's gradient penalty."""

    def make_generator(self, random: Generators, pixels: int) -> ImageGenerator:
        """Make generator, critic and their optimisers; return the generator."""
        device, rates = self.streams.device, (self.optimiser.lr, [0.0] * self.streams.lanes)
        self.images = ImageGenerator(random, pixels, self.generator_hidden, self._latent).to(device)
        self.critic = Critic(random, pixels, self.generator_hidden).to(device)
        self.images_optimiser = GANAdam(list(self.images.parameters()), *rates)
        self.critic_optimiser = GANAdam(list(self.critic.parameters()), *rates)
        return self.images

    def learn_generator(self, batch: Batch, x_LBD: Tensor, share: float) -> None:
        """Take the critic's steps on new and generated rows, then one step of the generator."""
        rows = x_LBD.shape[1]
        for _ in range(self.critic_steps):
            made_LBD = self.images.generate(self._noise.normal(rows, self._latent))
            mix_LB = self.draws.uniform("mix", rows).to(x_LBD.dtype)
            critic_LB = self.critic.loss(x_LBD, made_LBD, mix_LB, self.penalty)
            self.critic_optimiser.descend(self.weigh(batch, critic_LB, share), self.context.active)
        score_LB = self.critic(self.images(self._noise.normal(rows, self._latent)))
        self.images_optimiser.descend(-score_LB.mean(1), self.context.active)
