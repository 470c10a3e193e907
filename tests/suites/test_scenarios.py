from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import suites
from strategies.streams import LaneStreams
from suites.base import Stream, Training
from suites.errors import UserError
from suites.scenarios import by_class, by_permutation, by_rotation, rotation
from suites.sources import digits
from tests.toy import blobs

TRAINING = Training(validation=0.2)
SPLITS = {"class": by_class(5), "permutation": by_permutation(3), "rotation": by_rotation(3)}


def stream(kind: str, scenario: str, seed: int) -> Stream:
    return SPLITS[kind](digits(), scenario, seed, TRAINING)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPLITS)),
    scenario=st.sampled_from(["task", "domain", "class", "online"]),
    seed=st.integers(0, 1000),
)
def test_rows_and_units_add_up(kind: str, scenario: str, seed: int) -> None:
    made, data = stream(kind, scenario, seed), digits()
    n = len(data.x_N)
    used: list[int] = []
    for t, task in enumerate(made.tasks):
        train, held, test = (r.tolist() for r in (task.train_rows, task.validation_rows, task.test_rows))
        assert len(set(train) | set(held) | set(test)) == len(train) + len(held) + len(test)
        assert all(row // n == t for row in train + held + test)
        assert all(row % n < data.n_train for row in train + held)
        assert all(row % n >= data.n_train for row in test)
        assert len(held) == max(1, round(0.2 * (len(train) + len(held))))
        labels = data.y_N[torch.tensor(train + held + test) % n]
        assert set(labels.tolist()) == set(task.classes)
        units = made.unit_TC[t, labels]
        assert set(units.tolist()) == set(task.units)
        assert int(units.max()) < made.n_units
        used += train + held + test
    if kind == "class":
        assert sorted(row % n for row in used) == list(range(n))
        assert sorted(c for task in made.tasks for c in task.classes) == list(range(10))
    shared = {"class": 2, "permutation": 10, "rotation": 10}[kind]
    alone = {"class": 10, "permutation": 30, "rotation": 30}[kind]
    views_online = kind != "class" and scenario == "online"
    assert made.n_units == (shared if scenario == "domain" or views_online else alone)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_seed_names_a_stream(kind: str) -> None:
    torch.manual_seed(1)
    first = stream(kind, "domain", 3)
    torch.manual_seed(2)
    again, other = stream(kind, "domain", 3), stream(kind, "domain", 4)
    for a, b in zip(first.tasks, again.tasks, strict=True):
        assert torch.equal(a.train_rows, b.train_rows)
        assert torch.equal(a.validation_rows, b.validation_rows)
    assert any(a.classes != b.classes or not torch.equal(a.train_rows, b.train_rows)
               for a, b in zip(first.tasks, other.tasks, strict=True))  # fmt: skip
    if first.tap_TKD is not None:
        assert torch.equal(first.tap_TKD, again.tap_TKD)  # type: ignore[arg-type]


def test_permutations_permute() -> None:
    tap = stream("permutation", "domain", 0).tap_TKD
    assert tap is not None
    assert tap.shape == (3, 1, 64)
    for t in range(3):
        assert sorted(tap[t, 0].tolist()) == list(range(64))
    assert not torch.equal(tap[0], tap[1])


def test_rotation_by_nothing_is_the_identity_and_by_quarters_is_exact() -> None:
    image = torch.rand(2, 7, 7)

    def turned(degrees: float) -> torch.Tensor:
        tap, weight = rotation((2, 7, 7), degrees)
        return (weight * image.flatten()[tap]).sum(0).view_as(image)

    assert torch.equal(turned(0), image)
    torch.testing.assert_close(turned(90), torch.rot90(image, -1, (1, 2)))
    torch.testing.assert_close(turned(180), image.flip(1, 2))


@settings(deadline=None)
@given(st.floats(0, 180))
def test_rotation_never_adds_brightness(degrees: float) -> None:
    tap, weight = rotation((1, 9, 9), degrees)
    assert bool((weight >= -1e-6).all())
    assert float(weight.sum(0).max()) <= 1 + 1e-5
    assert int(tap.min()) >= 0
    assert int(tap.max()) < 81


def test_angles_lie_in_their_parts_of_the_half_turn() -> None:
    """Each task's angle lies in its own third of [0, 180), so tasks differ as in the paper."""
    made, data = stream("rotation", "domain", 5), digits()
    lanes = LaneStreams([made], TRAINING, "cpu")
    x = [lanes.pixels(torch.tensor([[t * len(data.x_N)]]))[0, 0] for t in range(3)]
    assert not torch.allclose(x[0], x[1])
    assert not torch.allclose(x[1], x[2])


def test_views_reach_the_batch() -> None:
    made, data = stream("permutation", "task", 1), digits()
    rows = torch.stack([made.tasks[t].train_rows[:4] for t in range(3)]).flatten().unsqueeze(0)
    batch = LaneStreams([made], TRAINING, "cpu").batch(rows)
    assert made.tap_TKD is not None
    for b, row in enumerate(rows[0].tolist()):
        task, index = divmod(row, len(data.x_N))
        raw = data.x_N[index].flatten().float() / 16
        assert torch.allclose(batch.x_LBX[0, b].flatten(), raw[made.tap_TKD[task, 0]])
        assert int(batch.y_LB[0, b]) == task * 10 + int(data.y_N[index])
        assert batch.active_LBU is not None
        assert batch.active_LBU[0, b].nonzero().flatten().tolist() == list(range(task * 10, task * 10 + 10))


def test_classes_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="4 classes cannot be split into 3 equal tasks"):
        by_class(3)(blobs(), "class", 0, TRAINING)


def test_registry() -> None:
    assert {"digits", "split-mnist", "permuted-mnist", "rotated-mnist", "split-fashion-mnist"} <= set(
        suites.names()
    )
    assert {"split-kmnist", "split-cifar10", "split-cifar100"} <= set(suites.names())
    for name in suites.names():
        suite = suites.get(name)
        assert suite.name == name
        assert suite.summary
        assert suite.source
    with pytest.raises(UserError, match="rotated-mnist has no class scenario"):
        suites.get("rotated-mnist").stream(digits(), "class", 0, TRAINING)
