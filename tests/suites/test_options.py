"""Options of suites, ``digits[tasks=2,order=fixed]``, and the streams that they make."""

import math
import re
from dataclasses import replace

import pytest
import torch

import suites
from bench.plan import Request
from strategies.core import LaneStreams
from suites.base import Stream, Task, Training
from suites.bracketed import take_apart
from suites.scenarios import rotation
from tests.conftest import refused

TRAINING = Training(validation=0.1)


def stream(options: str, scenario: str = "class", seed: int = 0, suite: str = "digits") -> Stream:
    made = suites.get(f"{suite}[{options}]")
    return made.stream(made.load(), scenario, seed, TRAINING)  # type: ignore[arg-type]


def sizes(made: Stream) -> list[int]:
    return [len(task.classes) for task in made.tasks]


def labels(made: Stream, rows: torch.Tensor) -> list[int]:
    return made.data.y_N[made.data.index_of(rows)].tolist()


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("digits", "digits"),
        ("digits[]", "digits"),
        ("digits[tasks=5]", "digits"),
        ("digits[tasks=1e1]", "digits[tasks=10]"),
        ("digits[ tasks = 2 , order=fixed]", "digits[order=fixed,tasks=2]"),
        ("digits[disjoint=0.2]", "digits"),
        ("digits[groups=5-3-2,tasks=2]", "digits[groups=5-3-2]"),
    ],
)
def test_a_name_with_options_has_one_spelling_which_is_in_the_cell_and_its_key(
    given: str, canonical: str
) -> None:
    assert suites.REGISTRY.spelled(given) == suites.get(given).name == canonical
    (cell,) = Request(given, ("er",)).cells()
    (plain,) = Request("digits", ("er",)).cells()
    assert cell.suite == canonical
    assert (cell.key == plain.key) is (canonical == "digits")
    assert suites.REGISTRY.defined_in(given) == suites.REGISTRY.defined_in("digits")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits[task=2]", "unknown option of digits 'task'"),
        ("digits[tasks]", "cannot read 'tasks' in 'digits[tasks]'; write options like tasks=10"),
        ("digits[tasks=0]", "digits: tasks must be at least 1, not 0"),
        ("digits[tasks=2,tasks=3]", "tasks is given twice"),
        ("digits[preset=none]", "unknown preset of digits 'none'"),
        ("dogits[tasks=2]", "unknown suite 'dogits'"),
    ],
)
def test_an_unknown_option_is_refused(name: str, words: str) -> None:
    refused(re.escape(words), suites.get, name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("tasks=3", "10 classes cannot be split into 3 equal tasks"),
        ("first=4,tasks=5", "6 classes cannot be split into 4 equal tasks after a first task of 4"),
        ("groups=5-4", "groups=5-4 has 9 classes; the data set has 10"),
        ("groups=5-x", "cannot read groups=5-x; write numbers like 3-1-4"),
        ("order=1-2", "order=1-2 must have each of the classes 0 to 9 once; or fixed, or shuffled"),
        ("order=sorted", "cannot read order=sorted"),
        ("slots=3", "5 tasks of 3 classes cannot have each of 10 classes equally often"),
        ("groups=1-9,noise=0.1", "noise needs two classes in each task, and task 1 has 1"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(options: str, words: str) -> None:
    refused(words, stream, options)


def test_classes_are_divided_as_written() -> None:
    for seed in (0, 1):
        made = stream("order=fixed", seed=seed)
        assert [task.classes for task in made.tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    written = stream("order=9-8-7-6-5-4-3-2-1-0,first=4,tasks=4")
    assert [t.classes for t in written.tasks] == [(9, 8, 7, 6), (5, 4), (3, 2), (1, 0)]
    assert sizes(stream("groups=1-6-3")) == [1, 6, 3]
    domain = stream("groups=1-6-3", "domain")
    assert (domain.n_units, domain.tasks[2].units) == (6, (0, 1, 2))
    assert sizes(stream("first=10,tasks=1")) == [10]


def test_rows_limits_the_training_rows_of_a_task_and_not_its_test_rows() -> None:
    made, whole = stream("rows=100"), stream("tasks=5")
    for few, all_ in zip(made.tasks, whole.tasks, strict=True):
        assert (len(few.train_rows), len(few.validation_rows)) == (90, 10)
        assert torch.equal(few.test_rows, all_.test_rows)
    assert not torch.equal(made.tasks[0].train_rows, stream("rows=100", seed=1).tasks[0].train_rows)


@pytest.mark.parametrize("tail", ["shuffled", "ordered"])
def test_imbalance_shrinks_classes_exponentially(tail: str) -> None:
    """n_k = n_max * imbalance ** (-k / (C - 1)) (Cao et al. 2019), here of each class's own rows."""
    made, whole = stream(f"imbalance=10,tail={tail}"), stream("tasks=5")
    counts, full = (
        torch.bincount(torch.tensor([y for t in s.tasks for y in labels(s, rows(t))]), minlength=10)
        for s, rows in ((made, _trained), (whole, _trained))
    )
    share = counts / full
    order = share.argsort(descending=True)
    expected = [round(float(full[c]) * 10 ** (-k / 9)) for k, c in enumerate(order)]
    assert counts[order].tolist() == expected
    in_stream = [c for task in made.tasks for c in task.classes]
    assert (order.tolist() == in_stream) is (tail == "ordered")


def _trained(task: Task) -> torch.Tensor:
    return torch.cat([task.train_rows, task.validation_rows])


def test_noise_gives_a_share_of_the_training_rows_another_label_of_their_task() -> None:
    made = stream("noise=0.3,tasks=2")
    lanes = LaneStreams([made], TRAINING, "cpu")
    for t, task in enumerate(made.tasks):
        rows = _trained(task)
        true = made.unit_TC[t, torch.tensor(labels(made, rows))]
        given = lanes.units_of(0, rows)
        assert int((given != true).sum()) == round(0.3 * len(rows)) == len(task.wrong_rows)
        assert set(given.tolist()) == set(task.units)
        tested = made.unit_TC[t, torch.tensor(labels(made, task.test_rows))]
        assert torch.equal(lanes.units_of(0, task.test_rows), tested)
    few = stream("noise=1,tasks=5")
    task = few.tasks[0]
    flipped = LaneStreams([few], TRAINING, "cpu").units_of(0, task.train_rows)
    other = [task.classes[1 - task.classes.index(c)] for c in labels(few, task.train_rows)]
    assert flipped.tolist() == other


def test_blurry_classes_are_spread_evenly_over_all_tasks() -> None:
    """i-Blurry-N-M: N of the classes are disjoint; M of the rows of the others are in any task."""
    made, clear = stream("blurry=0.3,disjoint=0.5"), stream("tasks=5")
    pooled = 0
    for task in clear.tasks:
        blurry = [y for y in labels(clear, task.train_rows) if y == task.classes[1]]
        pooled += math.floor(0.3 * len(blurry))
    of = {c: t for t, task in enumerate(clear.tasks) for c in task.classes}
    elsewhere, arrived = 0, []
    for t, task in enumerate(made.tasks):
        ys = labels(made, task.train_rows)
        foreign = [y for y in ys if of[y] != t]
        assert not {*foreign} & {other.classes[0] for other in made.tasks}  # disjoint classes stay
        assert set(task.also_units) == set(foreign)
        stayed = math.floor(0.3 * sum(y == task.classes[1] for y in labels(clear, clear.tasks[t].train_rows)))
        arrived.append(len(ys) - len(clear.tasks[t].train_rows) + stayed)
        elsewhere += len(foreign)
    assert sum(arrived) == pooled
    assert max(arrived) - min(arrived) <= 1
    assert 0 < elsewhere <= pooled
    learned = torch.cat([task.train_rows for task in made.tasks]).sort().values
    assert torch.equal(learned, torch.cat([task.train_rows for task in clear.tasks]).sort().values)
    refused("blurry needs the class or the online scenario", stream, "blurry=0.3", "task")
    seen = LaneStreams([made], replace(TRAINING, active="seen"), "cpu")
    seen.begin_task(0)
    assert all(bool(seen.seen_L1U[0, 0, y]) for y in labels(made, made.tasks[0].train_rows))


def test_classes_come_back_equally_often_and_each_row_is_learned_once() -> None:
    """The slot-based generator: tasks * slots slots, equally many for each class, which divide its rows."""
    made = stream("tasks=8,slots=5")
    assert sizes(made) == [5] * 8
    assert [len(set(task.classes)) for task in made.tasks] == [5] * 8
    times = torch.bincount(torch.tensor([c for task in made.tasks for c in task.classes]))
    assert times.tolist() == [4] * 10
    indices = [int(i) for task in made.tasks for i in made.data.index_of(_trained(task))]
    assert sorted(indices) == list(range(made.data.n_train))
    for c in range(10):
        parts = [labels(made, _trained(task)).count(c) for task in made.tasks if c in task.classes]
        assert max(parts) - min(parts) <= 1
    tested = made.tasks[0]
    assert sorted(labels(made, tested.test_rows)) == sorted(
        y for y in made.data.y_N[made.data.n_train :].tolist() if y in tested.classes
    )
    assert sizes(stream("tasks=4,slots=10")) == [10] * 4


def test_blend_mixes_neighbouring_tasks_more_and_each_row_is_learned_once() -> None:
    clear = stream("tasks=5,in_order=true")
    of_row = {int(row): t for t, task in enumerate(clear.tasks) for row in task.train_rows}
    for deviation in (0.0001, 0.3):
        made = stream(f"blend={deviation}")
        assert made.in_order
        assert [len(t.train_rows) for t in made.tasks] == [len(t.train_rows) for t in clear.tasks]
        rows = torch.cat([task.train_rows for task in made.tasks]).tolist()
        assert sorted(rows) == sorted(of_row)
        share = torch.zeros(5, 5)
        for s, task in enumerate(made.tasks):
            for row in task.train_rows.tolist():
                share[s, of_row[row]] += 1 / len(task.train_rows)
        if deviation < 0.001:
            assert torch.allclose(share, torch.eye(5))
        else:  # P(|z| < 0.5 / 0.3) = 0.904 of a task's rows are learned in its own time
            assert 0.8 < float(share.diagonal().mean()) < 0.97
            assert float(share.diagonal(1).mean()) > 10 * float(share.diagonal(2).mean())


def test_rows_in_order_are_learned_in_the_order_of_the_data_set() -> None:
    from bench.train.schedule import schedule_task
    from strategies import get

    made = stream("in_order=true,tasks=1")
    lanes = LaneStreams([made], replace(TRAINING, batch=10), "cpu")
    schedule = schedule_task(lanes, 0, get("finetune")())
    assert schedule is not None
    n = len(made.tasks[0].train_rows)
    assert torch.equal(schedule.rows_SLB[:, 0].flatten()[:n], made.tasks[0].train_rows)
    assert torch.equal(made.tasks[0].train_rows, made.tasks[0].train_rows.sort().values)
    other = schedule_task(lanes, 0, get("joint")())
    assert other is not None
    assert not torch.equal(other.rows_SLB, schedule.rows_SLB)


def test_validation_rows_of_the_data_set_s_authors_are_used() -> None:
    suite = suites.get("digits")
    data = suite.load()
    own = replace(
        data,
        validation_N=(torch.arange(len(data.x_N)) % 7 == 0) & (torch.arange(len(data.x_N)) < data.n_train),
    )
    made = suite.stream(own, "class", 3, TRAINING)
    for task in made.tasks:
        assert bool((data.index_of(task.validation_rows) % 7 == 0).all())
        assert bool((data.index_of(task.train_rows) % 7 != 0).all())
    none = suite.stream(own, "class", 3, replace(TRAINING, validation=0.0))
    assert [len(t.validation_rows) for t in none.tasks] == [0] * 5
    assert [len(t.train_rows) for t in none.tasks] == [len(t.train_rows) for t in made.tasks]


def test_angles_and_permutations_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from suites.scenarios import ByPermutation, ByRotation

    data = suites.get("digits").load()

    def turned(seed: int = 0, **options: object) -> list[float]:
        made = ByRotation(tasks=6, interpolation="nearest", **options)(data, "domain", seed, TRAINING)  # type: ignore[arg-type]
        assert made.tap_TKD is not None
        assert made.tap_TKD.shape[1] == 1
        known = {tuple(rotation((1, 8, 8), a, "nearest")[0][0].tolist()): a for a in range(0, 360, 10)}
        return [known.get(tuple(tap[0].tolist()), -1) for tap in made.tap_TKD]

    assert turned(angles="equal", degrees=180) == [0, 30, 60, 90, 120, 150]
    drawn: list[float] = []

    def noted(
        shape: tuple[int, ...], degrees: float, interpolation: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.append(degrees)
        return rotation(shape, degrees, interpolation)

    monkeypatch.setattr("suites.scenarios.rotation", noted)
    for seed in range(20):
        ByRotation(tasks=6, angles="unsorted", degrees=90)(data, "domain", seed, TRAINING)
    assert len(drawn) == 120
    assert all(0 <= angle < 90 for angle in drawn)
    assert any(drawn[n : n + 6] != sorted(drawn[n : n + 6]) for n in range(0, 120, 6))
    taps = ByPermutation(tasks=3, plain_first=True)(data, "domain", 0, TRAINING).tap_TKD
    assert taps is not None
    assert torch.equal(taps[0, 0], torch.arange(64))
    assert not torch.equal(taps[1, 0], torch.arange(64))


def test_nearest_rotation_reads_the_pixel_nearest_to_where_each_comes_from() -> None:
    taps, weights = rotation((1, 7, 5), 33.0, "nearest")
    angle = math.radians(33.0)
    for row in range(7):
        for column in range(5):
            y, x = row - 3, column - 2
            at_x = round(math.cos(angle) * x + math.sin(angle) * y + 2)
            at_y = round(-math.sin(angle) * x + math.cos(angle) * y + 3)
            place = row * 5 + column
            inside = 0 <= at_x < 5 and 0 <= at_y < 7
            assert bool(weights[0, place]) is inside
            if inside:
                assert int(taps[0, place]) == at_y * 5 + at_x


def test_options_of_a_suite_in_a_file(tmp_path: object) -> None:
    path = f"{tmp_path}/own.py"
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "import lethe\nfrom dataclasses import replace\nfrom suites.digits import DIGITS\n"
            "OWN = replace(DIGITS, name='own')\n"
            "PLAIN = replace(DIGITS, name='plain', split=lambda *given: DIGITS.split(*given))\n"
        )
    made = suites.get(f"{path}:OWN[tasks=2]")
    assert sizes(made.stream(made.load(), "class", 0, TRAINING)) == [5, 5]
    assert take_apart(suites.REGISTRY.spelled(f"{path}:OWN[tasks=2]"))[1] == {"tasks": "2"}
    refused(
        "suite plain has no options: its split is a function of its own", suites.get, f"{path}:PLAIN[tasks=2]"
    )
