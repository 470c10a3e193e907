"""Training steps against bare hand-written loops over the same tensors, and lanes against single runs."""

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

import strategies
from bench import models
from bench.checks.gpu import of_any_model, scenario_of
from bench.plan import CellSpec, Value, one_cell
from bench.train import begin_task, learn_task, make_lanes, run_group, take_steps
from suites.base import SUITES, Data, Suite, register
from suites.scenarios import by_class

STEPS = 60


def mnist_like(n_train: int = 12_000, side: int = 28) -> Data:
    """Return random images of MNIST's shape, so that this runs anywhere."""
    random = torch.Generator().manual_seed(0)
    n = n_train + n_train // 6
    x_N = torch.randint(0, 256, (n, 1, side, side), generator=random, dtype=torch.uint8)
    return Data("random", x_N, torch.arange(n) % 10, n_train, tuple("0123456789"), 255.0, "random")


LARGE, SMALL = mnist_like(), mnist_like(3_000, 8)
for name, data in (("perf-large", LARGE), ("perf-small", SMALL)):
    register(
        Suite(
            name, 1, "random images", "made here", lambda d=data: d, by_class(5), ("task", "domain", "class")
        )  # type: ignore[misc]
    )


def cells(
    strategy: str,
    hidden: int,
    seeds: int = 1,
    suite: str = "perf-large",
    scenario: str = "class",
    **training: Value,
) -> list[CellSpec]:
    settings = {"hidden": hidden, "layers": 2, "validation": 0.0, **training}
    return [one_cell(suite, strategy, scenario, seed, settings) for seed in range(seeds)]


def engine(specs: list[CellSpec], task: int = 0) -> Callable[[], object]:
    """Return a function that takes the engine's steps of one task."""
    state = make_lanes(specs, "cpu", SUITES[specs[0].suite].load())
    for earlier in range(task):
        learn_task(state, earlier)
    schedule = begin_task(state, task)
    assert schedule is not None
    return lambda: take_steps(state, schedule)


def optimiser_of(name: str, net: nn.Module, fused: bool) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(net.parameters(), lr=0.01, fused=fused)
    return torch.optim.Adam(net.parameters(), lr=0.001, fused=fused)


def network(hidden: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(side * side, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    )


def bare(
    data: Data, hidden: int, batch: int, optimiser: str, fused: bool, steps: int = STEPS
) -> Callable[[], None]:
    """Return the loop one would write by hand: index, forward, backward, step."""
    side = data.x_N.shape[-1]
    net = network(hidden, side)
    update = optimiser_of(optimiser, net, fused)
    rows = torch.randint(0, data.n_train, (steps, batch))

    def loop() -> None:
        for index in rows:
            x = data.x_N[index].float().div_(255).flatten(1)
            loss = F.cross_entropy(net(x), data.y_N[index])
            update.zero_grad()
            loss.backward()
            update.step()

    return loop


def bare_er(batch: int, fused: bool, slots: int = 500) -> Callable[[], None]:
    """Return experience replay by hand: a reservoir in a loop over rows, one concatenated forward."""
    net = network(400, 28)
    update = optimiser_of("sgd", net, fused)
    rows = torch.randint(0, LARGE.n_train, (STEPS, batch))
    memory, seen = torch.randint(0, LARGE.n_train, (slots,)), 5_000

    def loop() -> None:
        nonlocal seen
        for index in rows:
            both = torch.cat([index, memory[torch.randint(0, slots, (batch,))]])
            x = LARGE.x_N[both].float().div_(255).flatten(1)
            loss = F.cross_entropy(net(x), LARGE.y_N[both])
            update.zero_grad()
            loss.backward()
            update.step()
            for row in index:
                seen += 1
                slot = int(torch.randint(0, seen, (1,)))
                if slot < slots:
                    memory[slot] = row

    return loop


@pytest.mark.parametrize("fused", [False, True], ids=["default", "fused"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("batch", [10, 128])
def test_finetune_against_a_bare_loop(
    compare: Callable[..., float], batch: int, optimiser: str, fused: bool
) -> None:
    ours = engine(cells("finetune", 400, batch=batch, optimiser=optimiser, iterations=STEPS, lr=0.001))
    other = bare(LARGE, 400, batch, optimiser, fused)
    kind = f"bare loop, {'fused' if fused else 'default'} {optimiser}"
    assert compare(
        f"finetune 784-400-400-10, batch {batch}, {optimiser}", kind, ours, other, "at most 1.10", STEPS
    )


@pytest.mark.parametrize("fused", [False, True], ids=["default", "fused"])
@pytest.mark.parametrize("batch", [10, 128])
def test_er_against_a_bare_loop(compare: Callable[..., float], batch: int, fused: bool) -> None:
    ours = engine(cells("er", 400, batch=batch, iterations=STEPS, lr=0.001), task=1)
    kind = f"bare loop, {'fused' if fused else 'default'} sgd"
    assert compare(
        f"er 784-400-400-10, batch {batch}", kind, ours, bare_er(batch, fused), "at most 1.2", STEPS
    )


@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_lanes_against_single_runs(compare: Callable[..., float], lanes: int) -> None:
    settings = {"suite": "perf-small", "batch": 10, "optimiser": "sgd", "iterations": STEPS, "lr": 0.001}
    together = engine(cells("finetune", 100, lanes, **settings))  # type: ignore[arg-type]
    loops = [bare(SMALL, 100, 10, "sgd", False) for _ in range(lanes)]

    def alone() -> None:
        for loop in loops:
            loop()

    assert compare(f"{lanes} lanes of 64-100-100-10", f"{lanes} bare runs", together, alone, "", STEPS)


@pytest.mark.parametrize("name", of_any_model())
def test_strategies_against_finetune(
    benchmark: BenchmarkFixture, compare: Callable[..., float], name: str
) -> None:
    """What a step costs beside what the method's definition implies (``Strategy.cost``)."""
    batch = 128
    settings = {"batch": batch, "optimiser": "adam", "iterations": 20, "lr": 0.001}
    scenario = scenario_of(name)
    ours, plain = (
        engine(cells(n, 400, scenario=scenario, **settings), task=1)  # type: ignore[arg-type]
        for n in (name, "finetune")
    )
    cost = strategies.get(name).cost
    benchmark.extra_info.update({"strategy": name, "scenario": scenario, "batch": batch})
    assert compare(f"{name}, batch {batch}", "finetune", ours, plain, f"implied {cost:.2g}", 20, cost)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_share_of_a_whole_run_in_forward_backward_and_optimiser(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], optimiser: str
) -> None:
    """Five tasks, one epoch, batch 10, all tasks scored after each; the target is at least 85 %."""
    (spec,) = cells("finetune", 400, batch=10, optimiser=optimiser, epochs=1, lr=0.001)
    spent = {"forward": 0.0, "backward": 0.0, "optimiser": 0.0}

    def timed(kind: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[kind] += time.perf_counter() - start

        return call

    def run() -> float:
        for kind in spent:
            spent[kind] = 0.0
        start = time.perf_counter()
        run_group([spec], data=LARGE)
        return time.perf_counter() - start

    with pytest.MonkeyPatch.context() as patch:
        model = type(models.build(models.reference("mlp"), {}, (1, 28, 28), 10, [torch.Generator()]))
        patch.setattr(model, "forward", timed("forward", model.forward))
        base = strategies.get("finetune")
        # The loss is part of the forward pass; as a plain loop has it.
        patch.setattr(base, "cross_entropy", staticmethod(timed("forward", base.cross_entropy)))
        patch.setattr(torch.Tensor, "backward", timed("backward", torch.Tensor.backward))
        rule = {"sgd": "SGD", "adam": "Adam"}[optimiser]
        module = __import__("strategies.core.optimisers", fromlist=[rule])
        patch.setattr(getattr(module, rule), "step", timed("optimiser", getattr(module, rule).step))
        whole = benchmark.pedantic(run, rounds=3, iterations=1)
    shares = {kind: seconds / whole for kind, seconds in spent.items()}
    benchmark.extra_info.update({**shares, "sum": sum(shares.values()), "target": "at least 0.85"})
    with capsys.disabled():
        told = ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
        print(f"\n  whole run, {optimiser}: {told}; together {sum(shares.values()):.1%} (target 85 %)")
    assert 0 < sum(shares.values()) <= 1
