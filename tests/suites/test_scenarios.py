from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

import suites
from lethe.testing import TOY, TOY_PAIRS
from strategies.core import LaneStreams
from suites.base import BLEU, PROPORTION, Data, Score, Stream, Suite, Training
from suites.digits import digits
from suites.errors import UserError
from suites.scenarios import by_class, by_domain, by_permutation, by_rotation, rotation

TRAINING = Training(validation=0.2)
SPLITS = {"class": by_class(5), "permutation": by_permutation(3), "rotation": by_rotation(3)}


def stream(kind: str, scenario: str, seed: int) -> Stream:
    return SPLITS[kind](digits(), scenario, seed, TRAINING)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPLITS)),
    scenario=st.sampled_from(["task", "domain", "class", "online"]),
    seed=st.integers(0, 1000),
)
def test_every_task_has_valid_rows_and_units_without_overlap(kind: str, scenario: str, seed: int) -> None:
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
def test_a_stream_depends_only_on_its_seed(kind: str) -> None:
    torch.manual_seed(1)
    first = stream(kind, "domain", 3)
    torch.manual_seed(2)
    again, other = stream(kind, "domain", 3), stream(kind, "domain", 4)
    for a, b in zip(first.tasks, again.tasks, strict=True):
        assert all(map(torch.equal, (a.train_rows, a.validation_rows), (b.train_rows, b.validation_rows)))
    both = zip(first.tasks, other.tasks, strict=True)
    assert any(a.classes != b.classes or not torch.equal(a.train_rows, b.train_rows) for a, b in both)
    if first.tap_TKD is not None:
        assert torch.equal(first.tap_TKD, again.tap_TKD)


def test_permutations_contain_every_pixel_once() -> None:
    tap = stream("permutation", "domain", 0).tap_TKD
    assert torch.equal(tap.sort(2).values, torch.arange(64).expand(3, 1, 64))
    assert not torch.equal(tap[0], tap[1])


def test_rotation_by_0_90_and_180_degrees_is_exact() -> None:
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
    assert 0 <= int(tap.min()) <= int(tap.max()) < 81


def test_tasks_of_rotated_images_differ() -> None:
    """As in the paper, each task's angle is in its own third of [0, 180)."""
    made, data = stream("rotation", "domain", 5), digits()
    lanes = LaneStreams([made], TRAINING, "cpu")
    x = [lanes.pixels(torch.tensor([[t * len(data.x_N)]]))[0, 0] for t in range(3)]
    assert not any(map(torch.allclose, x[:2], x[1:]))


def test_batches_have_the_pixels_and_units_of_each_row_s_view() -> None:
    made, data = stream("permutation", "task", 1), digits()
    rows = torch.stack([made.tasks[t].train_rows[:4] for t in range(3)]).flatten().unsqueeze(0)
    batch = LaneStreams([made], TRAINING, "cpu").batch(rows)
    for b, row in enumerate(rows[0].tolist()):
        task, index = divmod(row, len(data.x_N))
        raw = data.x_N[index].flatten().float() / 16
        assert torch.allclose(batch.x_LBX[0, b].flatten(), raw[made.tap_TKD[task, 0]])
        assert int(batch.y_LB[0, b]) == task * 10 + int(data.y_N[index])
        assert batch.active_LBU[0, b].nonzero().flatten().tolist() == list(range(task * 10, task * 10 + 10))


def domains() -> Data:
    """Return 60 rows of three classes in three domains; the last domain lacks a class; some have none."""
    n = 60
    domain_N = torch.arange(n) % 3
    y_N = (torch.arange(n) // 3) % torch.tensor([3, 3, 2])[domain_N]
    y_N[45::5] = -1
    x_N, texts = torch.empty(n, 0, dtype=torch.uint8), tuple(f"text {i}" for i in range(n))
    domains = {"domain_N": domain_N, "domain_names": ("books", "films", "toys")}
    return Data("domains", x_N, y_N, 45, ("a", "b", "c"), 1.0, "", texts=texts, **domains)


@given(scenario=st.sampled_from(["task", "domain", "class", "online"]), seed=st.integers(0, 100))
def test_by_domain_makes_a_task_for_each_domain(scenario: str, seed: int) -> None:
    data = domains()
    made = by_domain()(data, scenario, seed, TRAINING)
    assert (len(made.tasks), made.scenario) == (3, scenario)
    order = []
    for t, task in enumerate(made.tasks):
        rows = torch.cat([task.train_rows, task.validation_rows, task.test_rows])
        assert (rows // 60 == t).all()
        (domain,) = data.domain_N[rows % 60].unique().tolist()
        order.append(domain)
        assert task.classes == ((0, 1) if domain == 2 else (0, 1, 2))
        assert len(rows) == int(((data.domain_N == domain) & (data.y_N >= 0)).sum())
        assert made.unit_TC[t, list(task.classes)].tolist() == list(task.units)
        if scenario != "task":
            assert task.units == task.classes
    assert sorted(order) == [0, 1, 2]
    assert made.n_units == (8 if scenario == "task" else 3)
    assert {u for task in made.tasks for u in task.units} == {*range(made.n_units)}
    assert made.outside_rows.tolist() == [45, 50, 55]


def test_domains_with_the_same_classes_are_domain_incremental() -> None:
    data = domains()
    data.y_N[data.domain_N == 2] = 2
    data.y_N[2::12] = 0
    data.y_N[5::12] = 1
    assert by_domain()(data, "online", 0, TRAINING).scenario == "domain"


def test_the_order_of_domains_is_given_by_the_seed() -> None:
    orders = (("toys", "books", "films"), ("films", "toys", "books"))
    data = domains()
    for seed in range(4):
        made = by_domain(orders)(data, "class", seed, TRAINING)
        firsts = [data.domain_N[task.train_rows[0] % 60] for task in made.tasks]
        assert tuple(data.domain_names[d] for d in firsts) == orders[seed % 2]
    shuffled = [by_domain()(data, "class", seed, TRAINING).tasks for seed in range(20)]
    assert len({tuple(task.classes for task in tasks) for tasks in shuffled}) == 3


def test_rows_of_no_class_are_in_no_task() -> None:
    data = domains()
    made = by_class(3)(data, "class", 0, TRAINING)
    used = torch.cat([r for t in made.tasks for r in (t.train_rows, t.validation_rows, t.test_rows)]) % 60
    assert set(used.tolist()).isdisjoint({45, 50, 55})
    assert made.outside_rows.tolist() == [45, 50, 55]
    assert stream("class", "class", 0).outside_rows.tolist() == []


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([*sorted(SPLITS), "domains"]),
    seed=st.integers(0, 1000),
    shots=st.integers(0, 8),
    rows_per_class=st.sampled_from([0, 4, 20, 10_000]),
)
def test_shots_and_rows_per_class_limit_the_rows_of_each_class(
    kind: str, seed: int, shots: int, rows_per_class: int
) -> None:
    """The rows are a subset of the rows without limits, up to the limit or all that the class has."""
    data = domains() if kind == "domains" else digits()
    split = by_domain() if kind == "domains" else SPLITS[kind]
    asked = Training(validation=0.2, shots=shots, rows_per_class=rows_per_class)
    full, made, again = (split(data, "class", seed, t) for t in (TRAINING, asked, asked))
    n = len(data.x_N)
    for whole, task, same in zip(full.tasks, made.tasks, again.tasks, strict=True):
        for name in ("train_rows", "validation_rows", "test_rows"):
            assert torch.equal(getattr(task, name), getattr(same, name))
        learned, held, test = task.train_rows, task.validation_rows, task.test_rows
        whole_train = torch.cat([whole.train_rows, whole.validation_rows])
        assert set(torch.cat([learned, held]).tolist()) <= set(whole_train.tolist())
        assert set(test.tolist()) <= set(whole.test_rows.tolist())
        assert set(learned.tolist()).isdisjoint(held.tolist())
        for c in task.classes:
            n_held, n_learned = int((data.y_N[held % n] == c).sum()), int((data.y_N[learned % n] == c).sum())
            n_train, n_test = (int((data.y_N[r % n] == c).sum()) for r in (whole_train, whole.test_rows))
            most = rows_per_class or n
            assert int((data.y_N[test % n] == c).sum()) == min(n_test, most)
            assert n_learned == min(shots or n, min(n_train, most) - n_held)
        if not shots and not rows_per_class:
            assert torch.equal(learned, whole.train_rows)


def test_the_seed_draws_the_shots() -> None:
    asked = Training(shots=3, rows_per_class=50)
    one, other = (by_permutation(1)(digits(), "domain", seed, asked).tasks[0] for seed in (0, 1))
    assert len(one.train_rows) == len(other.train_rows) == 30
    assert set(one.train_rows.tolist()) != set(other.train_rows.tolist())
    assert set(one.test_rows.tolist()) == set(other.test_rows.tolist())  # a class has fewer than 50 test rows
    few = [by_permutation(1)(digits(), "domain", s, Training(rows_per_class=9)).tasks[0] for s in (0, 1)]
    assert set(few[0].test_rows.tolist()) != set(few[1].test_rows.tolist())


def test_built_in_suites_are_registered_and_described() -> None:
    known = "digits split-mnist permuted-mnist rotated-mnist split-fashion-mnist split-kmnist split-cifar10"
    assert {*known.split(), "split-cifar100"} <= set(suites.names())
    for name in suites.names():
        suite = suites.get(name)
        assert (suite.name, bool(suite.summary), bool(suite.source)) == (name, True, True)
    with pytest.raises(UserError, match="rotated-mnist has no class scenario"):
        suites.get("rotated-mnist").stream(digits(), "class", 0, TRAINING)


@pytest.mark.parametrize(("suite", "score"), [(TOY, BLEU), (TOY_PAIRS, PROPORTION)])
def test_a_suite_declares_before_loading_whether_texts_are_generated(suite: Suite, score: Score) -> None:
    data = suite.load()
    assert suite.generates is data.generates
    wrong = replace(suite, score=score)
    with pytest.raises(UserError, match=f"is scored by {score.title} and its data has (no )?targets"):
        wrong.stream(data, "domain", 0, TRAINING)
