"""Generative methods against their formulas in plain torch, one lane and one row at a time."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from lethe.testing.made_lanes import SEEDS, assert_equal, begin, new_batch, perturb, ready, snapshot, train_on
from lethe.testing.plain_torch import dense_of, features_of, lane_value, logits_of, loss_among
from lethe.testing.toy_suites import TOY_AGAIN
from strategies.core import Draws, Unsuitable, add_up, lanewise
from strategies.generative.dgr import DGR
from strategies.generative.generative_classifier import Passes
from strategies.parts import VAE, GaussianNoise, sample_and_log_ratio
from strategies.parts.latent_terms import sample_and_divergence
from strategies.parts.vae import Encoder


def encode(net: Encoder, lane: int, x: Tensor) -> tuple[Tensor, Tensor]:
    h = dense_of(net, "layers.1", lane, dense_of(net, "layers.0", lane, x).relu()).relu()
    return dense_of(net, "latent.mean", lane, h), dense_of(net, "latent.log_var", lane, h)


def decode(net: nn.Module, lane: int, z: Tensor) -> Tensor:
    return dense_of(
        net, "pixels", lane, dense_of(net, "second", lane, dense_of(net, "first", lane, z).relu()).relu()
    )


def vae_loss(vae: VAE, lane: int, x: Tensor, noise: Tensor) -> Tensor:
    """Return -ELBO per pixel of rows (B, D), with torch's own distributions."""
    mean, log_var = encode(vae.encoder, lane, x)
    q = Normal(mean, (0.5 * log_var).exp())
    image = decode(vae.decoder, lane, mean + q.stddev * noise).sigmoid()
    fit = F.binary_cross_entropy(image, x, reduction="none").sum(1)
    return (fit + kl_divergence(q, Normal(0.0, 1.0)).sum(1)) / x.shape[1]


def in_second_task(name: str, where: str, **hyper: int | float | str) -> tuple[Any, str, bool]:
    """Return a strategy at the start of its second task, its scenario, and whether later units are off."""
    scenario, _, seen = where.partition(", active=")
    strategy = ready(name, scenario, **hyper)
    begin(strategy, 0)
    strategy.learn(new_batch(strategy, 0))
    strategy.end_task(0)
    perturb(strategy)
    if seen:
        strategy.streams.training = replace(strategy.streams.training, active="seen")
        strategy.streams.begin_task(1)
    begin(strategy, 1)
    return strategy, scenario, bool(seen)


def noise_of(name: str, task: int) -> Callable[..., Tensor]:
    """Return the noise that a method draws from the start of a task."""
    noise = GaussianNoise(name, Draws(SEEDS, "cpu"))
    noise.begin(task)
    return noise.normal


def test_noise_is_drawn_by_lane_and_restarts_at_each_task() -> None:
    noise, alone = (GaussianNoise("a", Draws(seeds, "cpu")) for seeds in ([3, 4], [4]))
    first = noise.normal(50, 7)
    assert torch.equal(first[1], alone.normal(50, 7)[0])
    assert abs(float(first.mean())) < 0.15
    assert float(first.std()) == pytest.approx(1, abs=0.1)
    noise.begin(1)
    assert not torch.equal(noise.normal(50, 7), first)
    noise.begin(0)
    assert torch.equal(noise.normal(50, 7), first)
    assert not torch.equal(GaussianNoise("b", Draws([3, 4], "cpu")).normal(50, 7), first)


@pytest.mark.parametrize("function", [torch.exp, torch.sigmoid, torch.log])
def test_lanewise_functions_do_not_depend_on_other_lanes(function: Callable[[Tensor], Tensor]) -> None:
    for last in (100, 64):  # lanes of 64 numbers are computed together
        x = torch.rand(5, 7, last, generator=torch.Generator().manual_seed(0)) + 0.1
        together = lanewise(function, x)
        assert torch.equal(together, torch.stack([function(lane.clone()) for lane in x]))
        torch.testing.assert_close(together, function(x))


@pytest.mark.parametrize("n", [1, 3, 4, 6, 9, 20])
def test_lists_are_added_without_regard_to_the_number_of_lanes(n: int) -> None:
    x = torch.randn(n, 40, generator=torch.Generator().manual_seed(n))
    alone = torch.cat([add_up(list(x[:, lane : lane + 1].clone())) for lane in range(40)])
    for lanes in (2, 3, 4, 5, 32, 33, 40):
        assert torch.equal(add_up(list(x[:, :lanes].clone())), alone[:lanes])
    torch.testing.assert_close(alone, x.sum(0))
    if n == 6:  # of a network with three layers: torch's own order for few lanes, which records have
        assert torch.equal(alone[:3], x[:, :3].sum(0))


@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("scenario", ["class", "class, active=seen", "domain", "task"])
def test_dgr_s_loss_on_new_and_generated_rows_is_the_paper_s(scenario: str, targets: str) -> None:
    """1/t CE(new) + (1 - 1/t) distillation of generated rows from the previous task's solver.

    With ``active=seen`` that solver has only the units of the first task.
    """
    strategy, scenario, seen = in_second_task("dgr", scenario, generator_hidden=9, latent=4, targets=targets)
    batch = new_batch(strategy, 1)
    normal = noise_of("dreams", 1)
    generated_z, noise = normal(6, 4), normal(12, 4)
    expected, generator_loss = [], []
    for lane, stream in enumerate(strategy.streams.streams):
        x = batch.x_LBX[lane].flatten(1)
        generated = decode(strategy.earlier_generator.decoder, lane, generated_z[lane]).sigmoid()
        own = list(stream.tasks[1].units) if scenario == "task" else list(range(stream.n_units))
        new = loss_among(own, logits_of(strategy, lane, x), batch.y_LB[lane])
        old_units = list(stream.tasks[0].units) if scenario == "task" else own
        target = logits_of(strategy.earlier_model, lane, generated)[:, old_units]
        if seen:
            target[:, stream.tasks[1].units] = -torch.inf
        answer = logits_of(strategy, lane, generated)[:, old_units]
        heat = lane_value(strategy.temperature, lane)
        if targets == "hard":
            old = F.cross_entropy(answer, target.argmax(1))
        else:
            old = -((target / heat).softmax(1) * (answer / heat).log_softmax(1)).sum(1).mean()
            assert not seen or float((target / heat).softmax(1)[:, stream.tasks[1].units].sum()) == 0
        expected.append(0.5 * new + 0.5 * old)
        fresh = vae_loss(strategy.vae, lane, x, noise[lane, :6]).mean()
        again = vae_loss(strategy.vae, lane, generated, noise[lane, 6:]).mean()
        generator_loss.append(0.5 * fresh + 0.5 * again)
    both = torch.cat([batch.x_LBX.flatten(2), strategy.earlier_generator.generate(generated_z)], 1)
    vae_LB = strategy.vae.loss(both, noise)
    halves_L = 0.5 * vae_LB[:, :6].mean(1) + 0.5 * vae_LB[:, 6:].mean(1)
    torch.testing.assert_close(halves_L, torch.stack(generator_loss))
    before = snapshot(strategy.vae)
    torch.testing.assert_close(strategy.learn(batch), torch.stack(expected).detach())
    assert not any(map(torch.equal, before, strategy.vae.parameters()))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_generative_classifier_weights_importance_samples(likelihood: str) -> None:
    """log 1/S sum_s p(x|z_s) p(z_s) / q(z_s|x), without constants that are equal for all classes."""
    strategy = ready("generative-classifier", generator_hidden=9, latent=4, samples=6, likelihood=likelihood)
    batch = new_batch(strategy, 0, 3)
    x_LBD = batch.x_LBX.flatten(2)
    noise = torch.randn(3, 6, 3, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = strategy.log_likelihood(strategy.vaes[1], x_LBD, noise)
    for lane in range(3):
        mean, log_var = encode(strategy.vaes[1].encoder, lane, x_LBD[lane])
        q = Normal(mean, (0.5 * log_var).exp())
        terms = []
        for s in range(6):
            z = mean + q.stddev * noise[lane, s]
            image = decode(strategy.vaes[1].decoder, lane, z).sigmoid()
            fit = Normal(image, 1.0).log_prob(x_LBD[lane]).sum(1) + 0.5 * 64 * math.log(2 * math.pi)
            if likelihood == "bernoulli":
                fit = -F.binary_cross_entropy(image, x_LBD[lane], reduction="none").sum(1)
            terms.append((fit + Normal(0.0, 1.0).log_prob(z).sum(1) - q.log_prob(z).sum(1)).exp().double())
        expected = torch.stack(terms).mean(0).log()
        torch.testing.assert_close(ours[lane].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_generative_classifier_uses_the_same_draws_for_all_classes() -> None:
    """Two models with the same weights are equally likely, however few the samples."""
    strategy = ready("generative-classifier", generator_hidden=9, latent=4, samples=2)
    strategy.vaes[1].load_state_dict(strategy.vaes[0].state_dict())
    train_on(strategy, 0, steps=0)
    with torch.no_grad():
        scores_LBU = strategy.predict(new_batch(strategy, 0))
    for lane, stream in enumerate(strategy.streams.streams):
        first, second = stream.tasks[0].units
        assert torch.equal(scores_LBU[lane, :, first], scores_LBU[lane, :, second])
        assert len(set(scores_LBU[lane, :, first].tolist())) == 6


def test_the_generative_classifier_learns_class_by_class_and_predicts_learned_ones() -> None:
    strategy = ready("generative-classifier", generator_hidden=9, latent=4, samples=3)
    strategy.begin_task(0)
    before = [snapshot(vae) for vae in strategy.vaes]
    strategy.learn(new_batch(strategy, 0))
    same = [all(map(torch.equal, a, v.parameters())) for a, v in zip(before, strategy.vaes, strict=True)]
    assert same == [False, True, True, True]
    strategy.learn(new_batch(strategy, 0))
    strategy.end_task(0)
    with torch.no_grad():
        scores = strategy.predict(new_batch(strategy, 1))
    lowest = torch.finfo(torch.float32).min
    for lane, stream in enumerate(strategy.streams.streams):
        learned = torch.isin(torch.arange(4), torch.tensor(stream.tasks[0].units))
        assert torch.equal(scores[lane] > lowest, learned.expand(6, 4))


def test_a_class_that_returns_has_the_mean_likelihood_of_its_models() -> None:
    options = {"generator_hidden": 9, "latent": 4, "samples": 3}
    strategy = ready("generative-classifier", suite=TOY_AGAIN, **options)
    for task in range(3):
        train_on(strategy, task, steps=0)
    batch = new_batch(strategy, 0, 5)
    noise_LSBZ = GaussianNoise("importance", Draws(SEEDS, "cpu")).normal(3, 5, 4)
    with torch.no_grad():
        ours = strategy.predict(batch)
        of_model = [strategy.log_likelihood(vae, batch.x_LBX.flatten(2), noise_LSBZ) for vae in strategy.vaes]
    for lane, stream in enumerate(strategy.streams.streams):
        order = [u for t in stream.tasks for u in t.units]
        for u in range(4):
            own = torch.stack([of_model[k][lane] for k, unit in enumerate(order) if unit == u]).double()
            assert len(own) == (1 if u in (2, 3) else 2)
            torch.testing.assert_close(ours[lane, :, u].double(), own.exp().mean(0).log())


def test_bir_s_prior_of_a_known_class_is_its_own_mode_however_distant() -> None:
    strategy = ready("bi-r", generator_hidden=9, latent=4)
    net = strategy.feedback
    with torch.no_grad():
        net.prior_mean_LUZ[:, 1] = 30
        net.prior_log_var_LUZ.zero_()
    z = torch.zeros(3, 2, 4)
    mode = F.one_hot(torch.ones(3, 2, dtype=torch.long), 4).float()
    prior = strategy.log_prior(z, mode)
    torch.testing.assert_close(prior, torch.full((3, 2), -0.5 * 4 * 30.0**2))
    prior.sum().backward()
    gradient = net.prior_mean_LUZ.grad
    assert bool((gradient[:, 1] == -60).all())
    assert not bool(gradient[:, [0, 2, 3]].any())


def test_bir_s_gates_close_the_given_share_and_differ_by_class() -> None:
    strategy = ready("bi-r", generator_hidden=2000, latent=4, gated=0.2)
    for lane, share in enumerate((0.2, 0.4, 0.1)):
        closed = torch.stack([1 - of.mean(1) for of in strategy.open_LGH[lane].chunk(2, 1)])
        torch.testing.assert_close(closed, torch.full((2, 4), share), rtol=0, atol=0.04)
    one_hot = F.one_hot(torch.tensor([[2, 0]] * 3), 4).float()
    first, second = strategy.gates(one_hot)
    assert torch.equal(first[1, 0], strategy.open_LGH[1, 2, :2000])
    assert torch.equal(second[2, 1], strategy.open_LGH[2, 0, 2000:])


@pytest.mark.parametrize("scenario", ["class", "class, active=seen", "domain"])
def test_bir_s_loss_is_the_sum_of_its_terms_on_new_and_generated_rows(scenario: str) -> None:
    strategy, scenario, seen = in_second_task("bi-r", scenario, generator_hidden=9, latent=4)
    batch = new_batch(strategy, 1)
    strategy.draws.begin(1)
    generated, _, old_gate = strategy.replayed(batch)
    strategy.draws.begin(1)
    strategy._noise.begin(1)
    ours = strategy.loss(batch)
    normal = noise_of("dreams", 1)
    normal(6, 4)  # the noise used by the generated rows
    noise = normal(12, 4)
    net, n_units = strategy.feedback, strategy.streams.n_units
    for lane, stream in enumerate(strategy.streams.streams):
        heat = lane_value(strategy.temperature, lane)
        parts = []
        for x, cut in ((batch.x_LBX[lane], slice(0, 6)), (generated[lane], slice(6, 12))):
            h = features_of(strategy, lane, x)
            mean, log_var = (
                dense_of(net, "to_latent.mean", lane, h),
                dense_of(net, "to_latent.log_var", lane, h),
            )
            q = Normal(mean, (0.5 * log_var).exp())
            z = mean + q.stddev * noise[lane, cut]
            new = cut.start == 0
            teacher = logits_of(strategy.earlier_model, lane, generated[lane])
            if seen:
                teacher[:, stream.tasks[1].units] = -torch.inf
            mode = F.one_hot(batch.y_LB[lane], n_units).float() if new else (teacher / heat).softmax(1)
            gate = mode
            if scenario == "domain":
                gate = torch.tensor([[0.0, 1.0]] * 6) if new else old_gate[lane]
            first, second = (gate @ strategy.open_LGH[lane]).chunk(2, 1)
            g = (dense_of(net.decoder, "first", lane, z) * first).relu()
            g = (dense_of(net.decoder, "second", lane, g) * second).relu()
            image = dense_of(net.decoder, "pixels", lane, g)
            fit = F.binary_cross_entropy(image.sigmoid(), x.flatten(1), reduction="none").mean(1)
            sd = (0.5 * net.prior_log_var_LUZ[lane]).exp()
            prior = (Normal(net.prior_mean_LUZ[lane], sd).log_prob(z.unsqueeze(1)).sum(2).exp() * mode).sum(1)
            divergence = q.log_prob(z).sum(1) - prior.log()
            logits = logits_of(strategy, lane, x)
            if new:
                answer = F.cross_entropy(logits, batch.y_LB[lane], reduction="none")
            else:
                answer = -(mode * (logits / heat).log_softmax(1)).sum(1)
            parts.append((answer + fit + divergence / 64).mean())
        torch.testing.assert_close(ours[lane], 0.5 * parts[0] + 0.5 * parts[1], rtol=1e-4, atol=1e-5)
        known = set(stream.tasks[0].units) if scenario == "class" else {0, 1}
        assert {int(u) for u in strategy._known_LK[lane]} == known


def test_terms_with_gradients_by_hand_are_those_of_their_formulas() -> None:
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()

    own = drawn(2, 5, 3), drawn(2, 5, 3), drawn(2, 5, 3).detach()
    modes = drawn(2, 5, 4).softmax(2).detach(), drawn(2, 4, 3), drawn(2, 4, 3)

    def divergence(mean: Tensor, log_var: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        q, p = Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)
        return mean + q.stddev * noise, 2 * kl_divergence(q, p).sum(2)

    def ratio(mean: Tensor, log_var: Tensor, noise: Tensor, share: Tensor, *of_units: Tensor) -> Any:
        z, of_q = mean + (0.5 * log_var).exp() * noise, Normal(mean, (0.5 * log_var).exp())
        means, log_vars = (of.unsqueeze(1) for of in of_units)
        log_unit = Normal(means, (0.5 * log_vars).exp()).log_prob(z.unsqueeze(2)).sum(3)
        return z, (share.log() + log_unit).logsumexp(2) - of_q.log_prob(z).sum(2)

    for ours, plain, given in (
        (sample_and_divergence, divergence, own),
        (sample_and_log_ratio, ratio, (*own, *modes)),
    ):
        wanted = [t for t in given if t.requires_grad]
        found = [f(*given) for f in (ours, plain)]  # type: ignore[operator]
        away = [torch.randn(out.shape, generator=random, dtype=out.dtype) for out in found[0]]
        gradients = [torch.autograd.grad(out, wanted, away) for out in found]
        torch.testing.assert_close([*found[0], *gradients[0]], [*found[1], *gradients[1]])


def test_dgr_refuses_normalised_pixels_with_a_reason() -> None:
    strategy = ready("finetune")
    strategy.streams.mean = torch.zeros(1)
    mine = DGR()
    mine.attach(strategy.model, strategy.streams, strategy.draws, strategy.optimiser)
    with pytest.raises(Unsuitable, match=r"dgr generates pixels in \[0, 1\]; those of blobs are normalised"):
        mine.setup()


def test_a_pass_has_every_row_once_except_an_incomplete_last_batch() -> None:
    """Lanes of 7, 2 and 4 rows in batches of 3, each with the draws it has alone."""
    lanes = [torch.arange(10, 17), torch.arange(20, 22), torch.arange(30, 34)]
    keys = torch.rand(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = Passes(lanes, 3)
    batches = [together.following(key, [True] * len(lanes)) for key in keys]
    for lane, rows in enumerate(lanes):
        alone = Passes([rows], 3)
        following = [alone.following(key[lane : lane + 1], [True])[0] for key in keys]
        assert_equal(following, (batch[lane] for batch in batches))
    orders = set()
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        of_pass = [*first[0].tolist(), *second[0].tolist()]
        assert len(set(of_pass)) == 6
        assert set(of_pass) < set(range(10, 17))
        orders.add(tuple(of_pass))
    assert len(orders) == 4
    assert all((set(b[1].tolist()), len(b[2].unique())) == ({20, 21}, 3) for b in batches)


def test_the_generative_classifier_has_no_bias_in_its_log_variances() -> None:
    strategy = ready("generative-classifier", generator_hidden=9, latent=4, samples=3)
    learned = {name for name, _ in strategy.vaes[0].named_parameters()}
    wanted = {f"encoder.latent.{name}" for name in ("mean.weight", "mean.bias", "log_var.weight")}
    assert {name for name in learned if "latent" in name} == wanted
    assert not strategy.vaes[0].encoder.latent.log_var.bias.any()


@pytest.mark.parametrize(("side", "latent"), [(2, 1), (8, 9), (28, 100), (32, 100)])
def test_dgr_has_a_latent_variable_for_seven_pixels_and_at_most_100(side: int, latent: int) -> None:
    strategy = ready("dgr", generator_hidden=3)
    strategy.streams.shape = (1, side, side)
    strategy.setup()
    assert strategy.vae.decoder.first.weight.shape[1] == latent
    assert ready("dgr", generator_hidden=3, latent=5).vae.decoder.first.weight.shape[1] == 5
