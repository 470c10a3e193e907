"""Deep generative replay with a generative adversarial network.

Axes: L lanes, B batch, D pixels.
"""

from torch import Tensor

from strategies.core import Batch, Count, CountOrNone, Generators, LaneFloat, NotNegative
from strategies.generative.dgr import DGR
from strategies.parts import Critic, GANAdam, ImageGenerator


class DGRGAN(DGR):
    """Deep generative replay whose generator is a Wasserstein GAN with gradient penalty, as the paper's is.

    The critic distinguishes the generator's rows from 1/t new and 1 - 1/t dreamt ones: its loss (Gulrajani et
    al. 2017, Algorithm 1) is weighed as dgr weighs that of its autoencoder. Each step of the solver takes
    ``critic_steps`` of the critic and one of the generator.
    """

    name = "dgr-gan"
    paper = (
        "Shin et al. 2017, Continual learning with deep generative replay; "
        "Gulrajani et al. 2017, Improved training of Wasserstein GANs"
    )
    needs = "task boundaries, a generator and its critic, copies, pixels in [0, 1]"
    cost = 42.7
    presets = {}

    latent: CountOrNone = 100
    """As for dgr; a critic lets none of them come to say nothing."""
    critic_steps: Count = 5
    """Steps of the critic before each one of the generator."""
    penalty: NotNegative = LaneFloat(10.0)
    """Weight of the critic's gradient penalty."""

    def make_generator(self, random: Generators, pixels: int) -> ImageGenerator:
        """Return the generator, with a critic and an optimiser for each beside it."""
        device, rates = self.streams.device, (self.optimiser.lr, [0.0] * self.streams.lanes)
        self.images = ImageGenerator(random, pixels, self.generator_hidden, self._latent).to(device)
        self.critic = Critic(random, pixels, self.generator_hidden).to(device)
        self.images_optimiser = GANAdam(list(self.images.parameters()), *rates)
        self.critic_optimiser = GANAdam(list(self.critic.parameters()), *rates)
        return self.images

    def learn_generator(self, batch: Batch, x_LBD: Tensor, share: float) -> None:
        """Take the critic's steps over new rows, then dreamt ones; then one of the generator."""
        rows = x_LBD.shape[1]
        for _ in range(self.critic_steps):
            made_LBD = self.images.generate(self._noise.normal(rows, self._latent))
            mix_LB = self.draws.uniform("mix", rows).to(x_LBD.dtype)
            critic_LB = self.critic.loss(x_LBD, made_LBD, mix_LB, self.penalty)
            self.critic_optimiser.descend(self.weigh(batch, critic_LB, share), self.context.active)
        score_LB = self.critic(self.images(self._noise.normal(rows, self._latent)))
        self.images_optimiser.descend(-score_LB.mean(1), self.context.active)
