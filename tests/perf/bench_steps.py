"""Training steps against hand-written loops over the same tensors, and lanes against single runs."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

import strategies
from bench import models
from bench.checks.made_streams import scenario_of
from bench.plan import CellSpec, Value, one_cell
from bench.train import begin_task, learn_task, make_lanes, run_group, take_steps
from bench.train.background import Background
from bench.train.checkpointing import save_checkpoint
from strategies.core import OPTIMISERS
from suites import REGISTRY
from suites.base import Data, Suite
from suites.scenarios import by_class

STEPS = 60
Compare = Callable[..., float]


def mnist_like(n_train: int = 12_000, side: int = 28) -> Data:
    """Return random images of MNIST's shape, so that this runs anywhere."""
    random = torch.Generator().manual_seed(0)
    n = n_train + n_train // 6
    x_N = torch.randint(0, 256, (n, 1, side, side), generator=random, dtype=torch.uint8)
    return Data("random", x_N, torch.arange(n) % 10, n_train, tuple("0123456789"), 255.0, "random")


LARGE, SMALL = mnist_like(), mnist_like(3_000, 8)
SCENARIOS = ("task", "domain", "class")
for name, data in (("perf-large", LARGE), ("perf-small", SMALL)):
    made = Suite(name, 1, "random images", "made here", lambda d=data: d, by_class(5), SCENARIOS)
    REGISTRY.enter(name, made, __name__)


def cells(
    strategy: str, hidden: int, seeds: int = 1, suite: str = "perf-large", scenario: str = "class",
    **training: Value,
) -> list[CellSpec]:  # fmt: skip
    settings = {"hidden": hidden, "layers": 2, "validation": 0.0, **training}
    return [one_cell(suite, strategy, scenario, seed, settings) for seed in range(seeds)]


def engine(specs: list[CellSpec], task: int = 0) -> Callable[[], object]:
    """Return a function that takes the engine's steps of one task."""
    state = make_lanes(specs, "cpu", REGISTRY.get(specs[0].suite).load())
    for earlier in range(task):
        learn_task(state, earlier)
    schedule = begin_task(state, task)
    assert schedule is not None
    return lambda: take_steps(state, schedule)


class Unwritten:
    """Checkpoints that are not written."""

    def save(self, *of: Any) -> None:
        """Do nothing."""

    def load(self, key: str) -> None:
        """Return that there is none."""


BACKGROUND = Background()


def bare(data: Data, hidden: int, optimiser: str, fused: bool) -> Callable[[Tensor], None]:
    """Return a plain step: index, forward, backward, step."""
    sizes = [data.x_N[0].numel(), hidden, hidden, 10]
    layers = [layer for of in itertools.pairwise(sizes) for layer in (nn.Linear(*of), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    rule: type[torch.optim.Optimizer] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    update = rule(net.parameters(), lr=0.01 if optimiser == "sgd" else 0.001, fused=fused)

    def step(rows: Tensor) -> None:
        x = data.x_N[rows].float().div_(255).flatten(1)
        loss = F.cross_entropy(net(x), data.y_N[rows])
        update.zero_grad()
        loss.backward()
        update.step()

    return step


def bare_loop(batch: int, data: Data, *how: Any) -> Callable[[], None]:
    """Return a loop of such steps."""
    step, rows = bare(data, *how), torch.randint(0, data.n_train, (STEPS, batch))

    def loop() -> None:
        for index in rows:
            step(index)

    return loop


def bare_er(batch: int, fused: bool, slots: int = 500) -> Callable[[], None]:
    """Return plain experience replay: a reservoir in a loop over rows, one concatenated forward pass."""
    step, rows = bare(LARGE, 400, "sgd", fused), torch.randint(0, LARGE.n_train, (STEPS, batch))
    memory, seen = torch.randint(0, LARGE.n_train, (slots,)), 5_000

    def loop() -> None:
        nonlocal seen
        for index in rows:
            step(torch.cat([index, memory[torch.randint(0, slots, (batch,))]]))
            for row in index:
                seen += 1
                slot = int(torch.randint(0, seen, (1,)))
                if slot < slots:
                    memory[slot] = row

    return loop


@pytest.mark.parametrize("fused", [False, True], ids=["default", "fused"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("batch", [10, 128])
def test_finetune_against_a_bare_loop(compare: Compare, batch: int, optimiser: str, fused: bool) -> None:
    ours = engine(cells("finetune", 400, batch=batch, optimiser=optimiser, iterations=STEPS, lr=0.001))
    other = bare_loop(batch, LARGE, 400, optimiser, fused)
    title = f"finetune 784-400-400-10, batch {batch}, {optimiser}"
    kind = f"bare loop, {'fused' if fused else 'default'} {optimiser}"
    assert compare(title, kind, ours, other, "at most 1.10", STEPS)


@pytest.mark.parametrize("fused", [False, True], ids=["default", "fused"])
@pytest.mark.parametrize("batch", [10, 128])
def test_er_against_a_bare_loop(compare: Compare, batch: int, fused: bool) -> None:
    ours = engine(cells("er", 400, batch=batch, iterations=STEPS, lr=0.001), task=1)
    title, kind = f"er 784-400-400-10, batch {batch}", f"bare loop, {'fused' if fused else 'default'} sgd"
    assert compare(title, kind, ours, bare_er(batch, fused), "at most 1.2", STEPS)


@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_lanes_against_single_runs(compare: Compare, lanes: int) -> None:
    settings = {"suite": "perf-small", "batch": 10, "optimiser": "sgd", "iterations": STEPS, "lr": 0.001}
    together = engine(cells("finetune", 100, lanes, **settings))  # type: ignore[arg-type]
    loops = [bare_loop(10, SMALL, 100, "sgd", False) for _ in range(lanes)]

    def alone() -> None:
        for loop in loops:
            loop()

    assert compare(f"{lanes} lanes of 64-100-100-10", f"{lanes} bare runs", together, alone, "", STEPS)


@pytest.mark.parametrize("name", ["er", "ewc", "bi-r"])
def test_host_cost_of_a_group(compare: Compare, name: str) -> None:
    """What 20 lanes cost beside their steps: made, one task planned, its checkpoint copied.

    Writing the checkpoint takes no part: it goes on in the background.
    """
    specs = cells(name, 400, 20, batch=128, optimiser="adam", iterations=STEPS, lr=0.001)

    def beside_steps() -> None:
        state = make_lanes(specs, data=LARGE)
        begin_task(state, 0)
        save_checkpoint(state, Unwritten(), 0, BACKGROUND)

    loop = bare_loop(128, LARGE, 400, "adam", True)
    assert compare(
        f"{name}: 20 lanes beside their steps", f"{STEPS} bare steps", beside_steps, loop, "at most 3"
    )


@pytest.mark.parametrize("name", [name for name in strategies.names() if not strategies.get(name).tunes])
def test_strategies_against_finetune(benchmark: BenchmarkFixture, compare: Compare, name: str) -> None:
    """Measure what a step costs compared with what the definition implies (``Strategy.cost``)."""
    batch, scenario = 128, scenario_of(name)
    settings: Any = {"batch": batch, "optimiser": "adam", "iterations": 20, "lr": 0.001, "scenario": scenario}
    ours, plain = (engine(cells(n, 400, **settings), task=1) for n in (name, "finetune"))
    cost = strategies.get(name).cost
    benchmark.extra_info.update({"strategy": name, "scenario": scenario, "batch": batch})
    assert compare(f"{name}, batch {batch}", "finetune", ours, plain, f"implied {cost:.2g}", 20, cost)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_shares_of_a_whole_run(benchmark: BenchmarkFixture, capsys: Any, optimiser: str) -> None:
    """Five tasks, one epoch, batch 10, all tasks scored after each; the target is at least 85 %."""
    (spec,) = cells("finetune", 400, batch=10, optimiser=optimiser, epochs=1, lr=0.001)
    spent = {"forward": 0.0, "backward": 0.0, "optimiser": 0.0}

    def timed(kind: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            start = time.perf_counter()
            returned = function(*args, **options)
            spent[kind] += time.perf_counter() - start
            return returned

        return call

    def run() -> float:
        spent.update(dict.fromkeys(spent, 0.0))
        start = time.perf_counter()
        run_group([spec], data=LARGE)
        return time.perf_counter() - start

    with pytest.MonkeyPatch.context() as patch:
        model = type(models.build(models.reference("mlp"), {}, (1, 28, 28), 10, [torch.Generator()]))
        patch.setattr(model, "forward", timed("forward", model.forward))
        base = strategies.get("finetune")
        # As in a plain loop, the loss is part of the forward pass.
        patch.setattr(base, "cross_entropy", staticmethod(timed("forward", base.cross_entropy)))
        patch.setattr(torch.Tensor, "backward", timed("backward", torch.Tensor.backward))
        rule = OPTIMISERS[optimiser]
        patch.setattr(rule, "step", timed("optimiser", rule.step))
        whole = benchmark.pedantic(run, rounds=3, iterations=1)
    shares = {kind: seconds / whole for kind, seconds in spent.items()}
    benchmark.extra_info.update({**shares, "sum": sum(shares.values()), "target": "at least 0.85"})
    with capsys.disabled():
        shown = ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
        print(f"\n  whole run, {optimiser}: {shown}; together {sum(shares.values()):.1%} (target 85 %)")
    assert 0 < sum(shares.values()) <= 1
