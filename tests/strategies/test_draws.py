import re
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

import strategies
from bench.checks.made_streams import scenario_of
from bench.train import run_group
from lethe.testing import assert_equal, toy_cell
from strategies.core import Draws, splitmix64
from strategies.core.draws import STREAMS, _signed
from strategies.parts.noise import GaussianNoise

MASK = 2**64 - 1


def reference(z: int) -> int:
    """Return SplitMix64's output in whole numbers, as its authors published it."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_seed_0_gives_the_published_sequence() -> None:
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([_signed(golden * i) for i in (1, 2, 3)])
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(v) & MASK for v in splitmix64(states)] == published


@settings(deadline=None)
@given(st.integers(0, MASK))
def test_draws_equal_whole_number_arithmetic(z: int) -> None:
    assert int(splitmix64(torch.tensor([_signed(z)]))[0]) & MASK == reference(z)


def test_draws_are_uniform() -> None:
    values = torch.cat([Draws([seed], "cpu").uniform("a", 5000).flatten() for seed in (7, 8)])
    assert 0 <= float(values.min()) <= float(values.max()) < 1
    assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01


def test_a_lane_s_draws_do_not_depend_on_other_lanes() -> None:
    together, alone = Draws([3, 1, 2], "cpu"), Draws([1], "cpu")
    for _ in range(130):  # more than two blocks computed in advance
        assert torch.equal(together.uniform("x", 3)[1:2], alone.uniform("x", 3))


def test_draws_differ_by_name_task_seed_and_call() -> None:
    draws = Draws([1, 2], "cpu")
    seen = [draws.uniform("a", 4), draws.uniform("a", 4), draws.uniform("b", 4)]
    draws.begin(1)
    seen.append(draws.uniform("a", 4))
    rows = torch.cat(seen).flatten()
    assert len(rows.unique()) == len(rows)
    draws.begin(0)
    assert torch.equal(draws.uniform("a", 4), seen[0])


def test_draws_of_different_lengths_from_one_name_are_distinct() -> None:
    """The first length used has the name's own numbers; another length has different ones."""
    draws, plain = Draws([1, 2], "cpu"), Draws([1, 2], "cpu")
    mixed = [draws.uniform("a", n) for n in (3, 5, 3, 5, 4)]
    assert len(torch.cat(mixed, 1).unique()) == 2 * 20
    assert_equal((mixed[0], mixed[2], mixed[4]), [plain.uniform("a", n) for n in (3, 3, 4)])


@pytest.mark.slow
def test_the_list_of_random_streams_equals_those_that_methods_draw_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, scenarios = set(), {name: scenario_of(name) for name in strategies.names()}

    def noting(original: Any) -> Any:
        def noted(of: Any, name: str, *rest: Any) -> Any:
            drawn.add(re.sub(r"(?<=[/ ])\d+", "{}", name))
            return original(of, name, *rest)

        return noted

    monkeypatch.setattr(Draws, "uniform", noting(Draws.uniform))
    monkeypatch.setattr(GaussianNoise, "__init__", noting(GaussianNoise.__init__))
    for path, module in list(sys.modules.items()):
        if path.startswith("strategies.") and path not in ("strategies.core.draws", "strategies.parts.noise"):
            for name in {"generator", "derive", "hashed_uniform"} & vars(module).keys():
                monkeypatch.setattr(module, name, noting(getattr(module, name)))
    more = [
        ("er", {"write": "class-balanced"}),
        ("er", {"write": "per-class"}),
        ("er", {"augment": True}),
    ]
    more += [("bi-r", {"scenario": "domain"}), ("redo", {"every": 2, "tau": 0.9})]
    more += [("finetune", {"dropout": 0.5})]
    for name, changes in [*((name, {}) for name in scenarios), *more]:
        run_group([toy_cell(name, **{"scenario": scenarios[name], "epochs": 2} | changes)])
    assert drawn - {"augment"} == STREAMS.keys()  # the training loop augments new rows


def test_below_draws_every_number_below_its_limit() -> None:
    limit = torch.tensor([1, 10, 0])
    draws = Draws([1, 2, 3], "cpu")
    got = torch.cat([draws.below("n", limit, 50) for _ in range(20)], 1)
    assert (got.amin(1).tolist(), got.amax(1).tolist()) == ([0, 0, 0], [0, 9, 0])
