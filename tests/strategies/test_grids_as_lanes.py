"""A grid that is trained as lanes of one program has the numbers of its settings, each trained alone."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

import strategies
from bench.checks.subjects import compared
from bench.plan import CellSpec
from bench.train import run_group
from lethe.testing import TOY, blobs, registered, toy_cell
from suites.values import taken_apart
from tests.strategies.test_effect import arranged, hints

RATES = "lr and weight_decay"
GRIDS = [
    (name, field) for name in strategies.names() for field in (*strategies.get(name).lane_fields(), RATES)
]
GRIDS += [("er+ewc", "ewc_lam"), ("er+ewc", RATES)]
ROUNDS = {"ogd"}
"""Their products over all parameters of a lane round by its address in memory."""
ROUND_SMALL = ROUNDS | {"generative-classifier", "gpm", "la-maml", "oml"}
"""Those, and methods with products of single rows or of few columns, which round by address as well."""
DENSE = [name for name in strategies.names() if not strategies.get(name).tunes]


def values(hint: Any, value: float) -> list[float]:
    """Return three values of a hyper-parameter within its bounds."""
    bounds = taken_apart(hint)[1]
    low, high = (getattr(bounds, end, None) for end in ("low", "high"))
    some = [value, value / 2 or 0.5, 2 * value or 0.25]
    return [max(low or 0.0, x if high is None else min(x, high)) for x in some]


def cells(name: str, field: str, **settings: Any) -> list[CellSpec]:
    """Return the cells of a grid over one hyper-parameter, or over rates and decays, with two seeds."""
    hyper, scenario, training = arranged(name, "" if field == RATES else field, None)
    settings = {"suite": "toy-three"} | training | {"epochs": 1} | settings
    if strategies.get(name).tunes:
        del settings["suite"]  # a transformer needs texts
    base = [replace(toy_cell(name, seed, scenario, **settings), hyper=hyper) for seed in (0, 1)]
    if field == RATES:
        rates = [{"lr": lr, "weight_decay": decay} for lr, decay in product((0.01, 0.003), (0.0, 0.1))]
        return [replace(c, training=c.training | rate) for c, rate in zip(base * 2, rates, strict=True)]
    found = values(hints(name)[field], hyper[field])
    return [replace(base[n % 2], hyper=hyper | {field: value}) for n, value in enumerate(found)]


def assert_equals_its_settings_alone(name: str, field: str, **settings: Any) -> None:
    with registered(replace(TOY, name="toy-three", load=lambda: blobs(6))):
        grid = cells(name, field, **settings)
        assert len({cell.group_key for cell in grid}) == 1
        for together, cell in zip(run_group(grid), grid, strict=True):
            assert together["status"] == "done"
            [alone] = run_group([cell])
            words = compared(together, alone, bool(strategies.get(name).tunes))
            own = field if field in cell.hyper else "lr"
            rounded = name in ROUNDS and words.endswith("by rounding")
            assert rounded or words == "", f"{own}={(cell.hyper | cell.training)[own]}: {words}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field"), GRIDS)
def test_a_grid_as_lanes_equals_its_settings_one_by_one(name: str, field: str) -> None:
    assert_equals_its_settings_alone(name, field)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adamw"])
def test_rates_and_decays_differ_between_lanes_in_every_optimiser(optimiser: str) -> None:
    assert_equals_its_settings_alone("er", RATES, optimiser=optimiser)
    with registered(replace(TOY, name="toy-three", load=lambda: blobs(6))):
        found = [record["loss"][0] for record in run_group(cells("er", RATES, optimiser=optimiser))]
    assert len(set(found)) == len(found)  # they have an effect


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE)
def test_five_lanes_of_a_wider_network_equal_each_alone(name: str) -> None:
    """With six parameters and 100 units torch adds and rounds in another way for five lanes than for one."""
    _, scenario, training = arranged(name, "", None)
    settings = training | {"suite": "digits", "rows_per_class": 40, "epochs": 2, "hidden": 100, "layers": 2}
    five = [toy_cell(name, seed, scenario, **settings) for seed in range(5)]
    for together, cell in zip(run_group(five), five, strict=True):
        words = compared(together, run_group([cell])[0])
        assert words == "" or (name in ROUND_SMALL and words.endswith("by rounding")), words
