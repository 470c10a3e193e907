from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch

from lethe.testing import assert_equal, pretended_device
from strategies.core import OPTIMISERS

HOW: dict[str, list[dict[str, float]]] = {
    "sgd": [{}, {"clip": 2.0}],
    "momentum": [{}, {"momentum": 0.5}, {"momentum": 0.8, "nesterov": 1, "clip": 1.5}],
    "adam": [{}, {"beta1": 0.5, "beta2": 0.9}],
    "adamw": [{}, {"beta1": 0.5, "beta2": 0.95, "clip": 0.5}],
}
RATES, DECAYS = [0.1, 0.02, 0.1, 0.3], [0.0, 0.01, 0.0, 0.1]
SHAPES = [(7, 5), (7,), (3, 7)]


THEIRS: dict[str, Any] = {
    "sgd": torch.optim.SGD, "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
}  # fmt: skip


def stacked() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(len(RATES), *shape, requires_grad=True) for shape in SHAPES]


def gradient(p: torch.Tensor, step: int) -> torch.Tensor:
    """Return a gradient that depends on the parameter and is never zero."""
    return p.detach() * 0.3 + torch.sin(torch.tensor(float(step)))


def step_on(
    optimiser: Any, parameters: list[torch.Tensor], step: int, *active: Any, clip: float = 0.0
) -> None:
    for p in parameters:
        p.grad = gradient(p, step)
    if clip:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step(*active)


@pytest.mark.parametrize(("name", "how"), [(name, how) for name in OPTIMISERS for how in HOW[name]])
@pytest.mark.parametrize("rates", [RATES, [0.1] * 4])
@pytest.mark.parametrize("way", ["fused", "theirs unfused", "ours plain"])
def test_optimisers_equal_torch_optim_lane_by_lane(
    name: str, how: dict[str, float], rates: list[float], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit if both use torch's fused kernels, otherwise within rounding; rates change on the way."""
    ours = stacked()
    # Lane 1 rests at every third step, as a lane rests that ends a task early.
    single = [[p.detach()[lane].clone().requires_grad_() for p in ours] for lane in range(4)]
    of_lanes = zip(single, rates, DECAYS, strict=True)
    asked: dict[str, Any] = {"fused": way != "theirs unfused", **how}
    clip = asked.pop("clip", 0.0)
    if "beta1" in asked:
        asked["betas"] = asked.pop("beta1"), asked.pop("beta2")
    if "nesterov" in asked:
        asked["nesterov"] = True
    others = [THEIRS[name](p, lr=lr, weight_decay=decay, **asked) for p, lr, decay in of_lanes]
    with monkeypatch.context() as hidden:
        if way == "ours plain":  # as if torch had renamed its private kernel
            hidden.delattr(torch, OPTIMISERS[name].kernel)
        optimiser = OPTIMISERS[name](ours, rates, DECAYS, **how)
    for step in range(60):
        if step in (20, 40):  # together and one by one
            optimiser.lr = [lr * 60 / (60 + step * (step // 40 + lane % 2)) for lane, lr in enumerate(rates)]
            for lane, other in enumerate(others):
                other.param_groups[0]["lr"] = optimiser.lr[lane]
        active = None if step % 3 else (True, False, True, True)
        step_on(optimiser, ours, step, active)
        for lane, other in enumerate(others):
            if active is None or active[lane]:
                step_on(other, single[lane], step, clip=clip)
    # The norm of a stacked gradient is added up in another order.
    near = {"rtol": 0, "atol": 0} if way == "fused" and not clip else {"rtol": 1e-4, "atol": 1e-6}
    for lane in range(4):
        torch.testing.assert_close([p[lane] for p in ours], single[lane], **near)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_resting_lane_does_not_change_in_parameters_or_state(
    name: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.delattr(torch, OPTIMISERS[name].kernel)
    ours = stacked()
    optimiser = OPTIMISERS[name](ours, RATES, DECAYS)
    for step in range(5):
        step_on(optimiser, ours, step)
    before: dict[str, Any] = {k: v.clone() for k, v in optimiser.state().items()}
    parameters = [p.detach().clone() for p in ours]
    step_on(optimiser, ours, 5, (True, False, True, False))
    for p, was in zip(ours, parameters, strict=True):
        assert torch.equal(p.detach()[[1, 3]], was[[1, 3]])
        assert not torch.equal(p.detach()[[0, 2]], was[[0, 2]])
    for key, value in optimiser.state().items():
        assert torch.equal(value[[1, 3]], before[key][[1, 3]])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_missing_gradient_is_a_gradient_of_zeros(
    name: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.delattr(torch, OPTIMISERS[name].kernel)
    ours, others = stacked(), stacked()
    first, second = (OPTIMISERS[name](p, RATES, DECAYS, clip=2.0) for p in (ours, others))
    for step in range(6):
        for p in (*ours, *others):
            p.grad = gradient(p, step)
        ours[step % 3].grad, others[step % 3].grad = None, torch.zeros_like(others[step % 3])
        first.step()
        second.step()
    assert_equal([*ours, *first.state().values()], [*others, *second.state().values()])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_state_can_be_saved_and_loaded(name: str) -> None:
    first, second = stacked(), stacked()
    a, b = OPTIMISERS[name](first, RATES, DECAYS), OPTIMISERS[name](second, RATES, DECAYS)
    for step in range(3):
        step_on(a, first, step)
    b.load_state({k: v.clone() for k, v in a.state().items()})
    for p, q in zip(first, second, strict=True):
        q.data.copy_(p.data)
    step_on(a, first, 9)
    step_on(b, second, 9)
    assert_equal(first, second)
    a.reset()
    assert all(bool((t == 0).all()) for t in a.state().values())


def test_optimisers_of_other_parameters_have_the_rates_and_numbers_of_the_first() -> None:
    """Parameters that a method trains beside the network follow the schedule, too."""
    first = OPTIMISERS["momentum"](stacked(), RATES, DECAYS, momentum=0.5, clip=1.0)
    second = first.alike(stacked(), decays=False)
    assert (second.momentum, second.clip, second.weight_decay) == (0.5, 1.0, [0.0] * 4)
    first.lr = [0.5] * 4
    assert second.lr == [0.5] * 4
    assert torch.equal(second.lr_L, torch.full((4,), 0.5))
    assert len({*second.grouping}) == 1
    step_on(second, second.parameters, 2)
    first.reset(alike=False)
    assert second.steps == [1] * 4
    first.reset()
    assert all(bool((t == 0).all()) for t in second.state().values())
    assert second.steps == [0] * 4
    with pytest.raises(AttributeError, match="beta1"):
        OPTIMISERS["sgd"](stacked(), RATES, DECAYS, beta1=0.5)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_rates_that_differ_take_a_fixed_number_of_launches_on_a_gpu(name: str) -> None:
    def stepped(lanes: int, device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        parameters = [torch.randn(lanes, *shape).to(device).requires_grad_() for shape in SHAPES]
        optimiser = OPTIMISERS[name](parameters, [0.01 * (1 + lane) for lane in range(lanes)], [0.1] * lanes)
        for step in range(3):
            for p in parameters:
                p.grad = (p.detach().cpu() * 0.3 + step).to(device)
            counts.clear()
            optimiser.step(None if step else (True, *[False] * (lanes - 1)))
        return [p.detach().cpu() for p in parameters]

    counts: Counter[str] = Counter()
    found = []
    expected = {lanes: stepped(lanes, "cpu") for lanes in (2, 9)}
    with pretended_device() as device:
        counts = device.launches
        for lanes, on_cpu in expected.items():
            torch.testing.assert_close(stepped(lanes, "cuda"), on_cpu, rtol=1e-4, atol=1e-6)
            found.append(counts.total())
    assert found[0] == found[1] <= 26 + len(SHAPES)
