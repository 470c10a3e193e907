"""A Wasserstein GAN over lanes and its replay, against one network at a time in plain torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bench.plan import Request
from bench.results.outcome import score_matrix
from bench.stats.scores import forgetting
from bench.train import run_group
from lethe.testing import SEEDS, assert_equal, begin, lane_value, new_batch, ready
from strategies.core import Draws, LaneLinear, SavedState
from strategies.generative.dgr_gan import DGRGAN
from strategies.parts import Critic, GANAdam, GaussianNoise, ImageGenerator
from suites.base import generator
from suites.digits import digits

LEAK = 0.2


def dense(layer: LaneLinear, lane: int) -> nn.Linear:
    """Return one lane's layer as a torch module with the same weights."""
    weight = layer.weight.detach()[lane].T
    mine = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    mine.load_state_dict({"weight": weight, "bias": layer.bias.detach()[lane]})
    return mine


def plain_critic(critic: Critic, lane: int) -> nn.Sequential:
    first, second, score = (dense(layer, lane) for layer in (*critic.layers, critic.score))
    return nn.Sequential(first, nn.LeakyReLU(LEAK), second, nn.LeakyReLU(LEAK), score, nn.Flatten(0))


def plain_images(images: ImageGenerator, lane: int) -> nn.Sequential:
    layers = (images.decoder.first, images.decoder.second, images.decoder.pixels)
    first, second, pixels = (dense(layer, lane) for layer in layers)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), pixels, nn.Sigmoid())


def plain_losses(critic: nn.Module, x: Tensor, made: Tensor, mix: Tensor, penalty: float) -> Tensor:
    """Return the critic's loss of each pair, with the gradient of each row alone (Algorithm 1, line 7)."""
    losses = []
    for real, fake, e in zip(x, made, mix, strict=True):
        between = (e * real + (1 - e) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between.unsqueeze(0)).squeeze(), between, create_graph=True)
        loss = critic(fake.unsqueeze(0)) - critic(real.unsqueeze(0)) + penalty * (slope.norm() - 1) ** 2
        losses.append(loss.squeeze())
    return torch.stack(losses)


def critic_and_rows() -> tuple[Critic, Tensor, Tensor, Tensor]:
    critic = Critic([generator(s, "c") for s in SEEDS], 12, 9).double()
    for p in critic.parameters():
        p.data *= 2  # away from weights where every gradient is almost zero
    random = torch.Generator().manual_seed(1)
    x, made = torch.rand(2, 3, 5, 12, generator=random, dtype=torch.float64).unbind()
    return critic, x, made, torch.rand(3, 5, generator=random, dtype=torch.float64)


def test_the_critic_s_loss_and_gradient_equal_those_of_single_critics() -> None:
    critic, x, made, mix = critic_and_rows()
    penalty = torch.tensor([10.0, 3.0, 0.0], dtype=torch.float64)
    ours = critic.loss(x, made, mix, penalty)
    ours.mean(1).sum().backward()
    for lane in range(3):
        single = plain_critic(critic, lane)
        theirs = plain_losses(single, x[lane], made[lane], mix[lane], float(penalty[lane]))
        torch.testing.assert_close(ours[lane], theirs)
        theirs.mean().backward()
        layers = (*critic.layers, critic.score)
        found = [g for m in layers for g in (m.weight.grad[lane].T, m.bias.grad[lane])]
        torch.testing.assert_close(found, [p.grad for p in single.parameters()])


def in_task(task: int) -> DGRGAN:
    """Return a strategy at the start of a task, with an earlier generator unlike the current one."""
    strategy = ready("dgr-gan", generator_hidden=9, latent=4, critic_steps=2)
    if task:
        begin(strategy, 0)
        strategy.learn(new_batch(strategy, 0))
        strategy.end_task(0)
        strategy.learn(new_batch(strategy, 0))
    begin(strategy, task)
    return strategy


@pytest.mark.parametrize("task", [0, 1])
def test_a_step_weights_new_and_generated_rows_by_the_number_of_tasks(task: int) -> None:
    """Two critic steps and one generator step, against one lane with torch's Adam."""
    strategy = in_task(task)
    batch = new_batch(strategy, task)
    batch = replace(batch, weight_LB=torch.tensor([[1.0, 1, 1, 1, 0, 0]] * 3))  # end of an epoch
    for update in (strategy.images_optimiser, strategy.critic_optimiser):
        update.reset()
    critics = [plain_critic(strategy.critic, lane) for lane in range(3)]
    makers = [plain_images(strategy.images, lane) for lane in range(3)]
    teachers = [plain_images(strategy.earlier_generator, lane) for lane in range(3)]
    strategy.learn(batch)
    noise, draws = GaussianNoise("dreams", Draws(SEEDS, "cpu")), Draws(SEEDS, "cpu")
    noise.begin(task)
    draws.begin(task)
    rows = 12 if task else 6
    generated_z = noise.normal(6, 4) if task else None
    drawn = [(noise.normal(rows, 4), draws.uniform("mix", rows).float()) for _ in range(2)]
    last = noise.normal(rows, 4)
    for lane in range(3):
        x = batch.x_LBX[lane].flatten(1)
        if generated_z is not None:
            x = torch.cat([x, teachers[lane](generated_z[lane]).detach()])
        one, maker = critics[lane], makers[lane]
        settings = {"lr": 0.1, "betas": (0.0, 0.9)}
        update = torch.optim.Adam(one.parameters(), **settings)
        for z, mix in drawn:
            made, penalty = maker(z[lane]).detach(), lane_value(strategy.penalty, lane)
            losses = plain_losses(one, x, made, mix[lane], penalty)
            loss = 0.5 * losses[:4].mean() + 0.5 * losses[6:].mean() if task else losses[:4].mean()
            update.zero_grad()
            loss.backward()
            update.step()
        update = torch.optim.Adam(maker.parameters(), **settings)
        (-one(maker(last[lane])).mean()).backward()
        update.step()
        now = plain_critic(strategy.critic, lane), plain_images(strategy.images, lane)
        ours, theirs = ([*a.parameters(), *b.parameters()] for a, b in (now, (one, maker)))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_earlier_generator_is_that_of_the_previous_task_and_stored_once() -> None:
    strategy = in_task(0)
    saved = SavedState(strategy)
    strategy.learn(new_batch(strategy, 0))
    now = {k: v.clone() for k, v in strategy.images.state_dict().items()}
    earlier = strategy.earlier_generator
    assert any(not torch.equal(v, now[k]) for k, v in earlier.state_dict().items())
    strategy.end_task(0)
    assert_equal(earlier.state_dict().values(), now.values())
    _, *tensors = saved.save()
    kept = {name.split(".")[0] for of in tensors for name in of}
    learning = {"images", "critic", "images_optimiser", "critic_optimiser"}
    assert kept == learning | {"earlier_generator", "earlier_model"}


@pytest.mark.slow
def test_images_it_generates_of_four_digits_train_a_solver_without_real_ones() -> None:
    """Images of two tasks, labelled by a solver of real rows, train another; it is tested on real rows."""
    data = digits()
    x, y = data.x_N.flatten(1) / data.scale, data.y_N
    learned = torch.arange(len(y)) < data.n_train
    train, test = (y < 4) & learned, (y < 4) & ~learned
    lanes, random = 2, torch.Generator().manual_seed(0)
    seeds = [[generator(s, name) for s in range(lanes)] for name in "gc"]
    images, critic = ImageGenerator(seeds[0], 64, 100, 32), Critic(seeds[1], 64, 100)
    rates = [1e-3] * lanes, [0.0] * lanes
    learns_images, learns_critic = (GANAdam(list(net.parameters()), *rates) for net in (images, critic))

    def descend(update: GANAdam, loss_L: Tensor) -> None:
        for p, g in zip(update.parameters, torch.autograd.grad(loss_L.sum(), update.parameters), strict=True):
            p.grad = g
        update.step()

    for _ in range(350):
        real = x[train][torch.randint(0, int(train.sum()), (lanes, 16), generator=random)]
        for _ in range(5):
            made = images.generate(torch.randn(lanes, 16, 32, generator=random))
            mix = torch.rand(lanes, 16, generator=random)
            descend(learns_critic, critic.loss(real, made, mix, torch.tensor([10.0])).mean(1))
        descend(learns_images, -critic(images(torch.randn(lanes, 16, 32, generator=random))).mean(1))

    def solver(rows: Tensor, labels: Tensor) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 4))
        update = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(100):
            update.zero_grad()
            F.cross_entropy(net(rows), labels).backward()
            update.step()
        return net

    teacher = solver(x[train], y[train])
    for rows in images.generate(torch.randn(lanes, 800, 32, generator=random)):
        labels = teacher(rows).argmax(1)
        assert float(labels.bincount(minlength=4).min()) > 0.1 * len(rows)  # no digit is missing
        right = solver(rows, labels)(x[test]).argmax(1) == y[test]
        assert float(right.float().mean()) > 0.93


@pytest.mark.slow
def test_forgets_less_than_finetune_on_digits() -> None:
    own = "dgr-gan[epochs=6,generator_hidden=64,latent=16]"
    asked = [Request("digits", (s,), ("class",), (0, 1)).cells() for s in (own, "finetune[epochs=6]")]
    gan, plain = ([forgetting(score_matrix(r)) for r in run_group(cells)] for cells in asked)
    less = np.subtract(plain, gan)
    assert min(less) > 0.3
    assert np.mean(less) > 0.6
