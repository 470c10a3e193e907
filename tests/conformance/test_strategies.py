"""What every registered strategy must do: a new file is tested without writing a test."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import strategies
from bench.plan import CellSpec, Request
from bench.results.outcome import score_matrix
from bench.stats.scores import acc, forgetting
from bench.train import run_group
from strategies.core import Unsuitable
from suites.base import Training
from tests.conftest import outcome, toy_cell
from tests.toy import TOY, blobs, sentences

ALL = [*strategies.names(), "er+lwf", "ewc+er"]
"""Everything registered, and two sums."""
SCENARIOS = ("task", "domain", "class", "online")


def suitable(name: str, scenario: str, **training: Any) -> bool:
    return strategies.get(name)().unsuitable(scenario, Training(**training)) is None


@pytest.fixture(params=ALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def agree(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Return whether outcomes are the same: exactly, but for transformers, whose products round by size."""
    if not strategies.get(name).tunes:
        return ours == theirs
    pairs = list(zip(ours, theirs, strict=True))
    losses = [np.array([a["loss"], b["loss"]], dtype=float) for a, b in pairs]
    right = [np.array([a["test"]["right"], b["test"]["right"]], dtype=float) for a, b in pairs]
    return all(np.allclose(*of, rtol=1e-2, atol=1e-3) for of in losses) and all(
        np.nanmax(np.abs(of[0] - of[1])) <= 3 for of in right
    )


def scenario_of(name: str) -> str:
    """Return a scenario the strategy can do, class-incremental where it can."""
    return next(s for s in ("class", "task", "domain", "online") if suitable(name, s))


def short(name: str) -> dict[str, int]:
    """Return as few epochs as have every method at work; transformers' own number for the toy is 1."""
    return {} if strategies.get(name).tunes else {"epochs": 2}


class Kept:
    """Checkpoints in memory; keeps all, so that a run can be taken up after any task."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Any]] = {}
        self.current: dict[str, Any] = {}

    def save(self, key: str, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
        saved = {k: v.clone() for k, v in tensors.items()}, facts
        self.after.setdefault(facts["tasks_done"], {})[key] = saved

    def load(self, key: str) -> Any:
        return self.current.get(key)


def test_lane_invariance(name: str) -> None:
    """A lane's outcome is the same among five, alone, and in another grouping: exactly.

    Seeds differ from lane to lane, and so do rates and float hyper-parameters; the first two differ in a
    rate alone.
    """
    cells = []
    lr, decay, values = (0.01, 0.003, 0.01, 0.01, 0.003), (0, 0, 0.01, 0, 0.01), (0.5, 0.5, 0.9, 0.9, 0.5)
    for seed, rate, weight_decay, value in zip((0, 0, 1, 2, 3), lr, decay, values, strict=True):
        changes = {"lr": rate, "weight_decay": float(weight_decay), "score_every": 5, **short(name)}
        hyper = dict.fromkeys(strategies.get(name).lane_fields(), value)
        cells.append(toy_cell(name, seed, scenario_of(name), **changes, **hyper))
    together = [outcome(r) for r in run_group(cells)]
    alone = [outcome(run_group([cells[lane]])[0]) for lane in (0, 2, 4)]
    assert agree(name, alone, [together[0], together[2], together[4]])
    assert agree(name, [outcome(r) for r in run_group([cells[3], cells[1]])], [together[3], together[1]])
    if not strategies.get(name).one_pass:  # what only counts has no rate
        assert together[0]["loss"] != together[1]["loss"]


def test_rows_of_every_task_are_given_to_units_of_their_own_task(name: str) -> None:
    """Also those of tasks to come: forward transfer compares their score with that before any training."""
    if not suitable(name, "task"):
        pytest.skip(str(strategies.get(name)().unsuitable("task", Training())))
    data, cell = (sentences if strategies.get(name).tunes else blobs)(6), toy_cell(name, 0, "task", epochs=1)
    record = run_group([cell], data=data)[0]
    stream = TOY.stream(data, "task", 0, Training())
    answers = {(task, answer) for _, task, _, answer, _ in record["classes"]["test"]}
    assert answers <= {(t, unit) for t, task in enumerate(stream.tasks, 1) for unit in task.units}


@pytest.mark.parametrize("suite", ["toy-uneven", "toy-again"])
def test_lanes_whose_tasks_have_other_numbers_of_classes(name: str, suite: str) -> None:
    """The order of tasks follows from the seed: beside others and alone a lane gives the same, exactly."""
    scenario = scenario_of(name)
    if strategies.get(name).tunes or scenario == "domain":
        pytest.skip("the suites are of images, and have no domain-incremental stream")
    cells = [toy_cell(name, seed, scenario, suite=suite, **short(name)) for seed in range(4)]
    together = [outcome(r) for r in run_group(cells)]
    assert {r["status"] for r in together} == {"done"}
    for lane in (1, 2):
        assert outcome(run_group([cells[lane]])[0]) == together[lane]


def test_lane_invariance_of_convolutions_within_rounding(name: str) -> None:
    """Grouped convolutions round differently: losses within 1e-3 relative, scores within two rows."""
    small = {"model": "cnn", "model_options": {"width": 4, "hidden": 8}, "epochs": 1, "lr": 0.003}
    cells = [toy_cell(name, seed, scenario_of(name), **small) for seed in range(5)]
    try:
        together = run_group(cells)
    except Unsuitable as reason:
        pytest.skip(str(reason))
    for seeds in ([1], [4], [3, 0, 2]):
        for seed, one in zip(seeds, run_group([cells[seed] for seed in seeds]), strict=True):
            losses = np.array([one["loss"], together[seed]["loss"]], dtype=float)
            np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
            right = np.array([one["test"]["right"], together[seed]["test"]["right"]], dtype=float)
            assert np.nanmax(np.abs(right[0] - right[1])) <= 2


@pytest.mark.parametrize("tuned", [name for name in ALL if strategies.get(name).tunes])
def test_two_runs_alike(tuned: str) -> None:
    """What differs from grouping to grouping is the same again in the same; the others never differ."""
    cells = [toy_cell(tuned, seed, scenario_of(tuned)) for seed in (3, 4)]
    assert [outcome(r) for r in run_group(cells)] == [outcome(r) for r in run_group(cells)]


def test_resume_equals_going_straight_through(name: str) -> None:
    cells = [toy_cell(name, seed, scenario_of(name), **short(name)) for seed in (0, 1)]
    data, kept = (sentences if strategies.get(name).tunes else blobs)(6), Kept()
    straight = [outcome(r) for r in run_group(cells, checkpoints=kept, data=data)]
    assert sorted(kept.after) == [1, 2]
    for done, states in kept.after.items():
        again = Kept()
        again.current = states
        assert [outcome(r) for r in run_group(cells, checkpoints=again, data=data)] == straight, done
    # Lanes go on in another grouping as well.
    again.current = kept.after[2]
    assert agree(name, [outcome(run_group(cells[1:], checkpoints=again, data=data)[0])], straight[1:])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_beats_chance(name: str, scenario: str) -> None:
    """Two easy tasks are learned better than by guessing among the units."""
    if not suitable(name, scenario):
        pytest.skip(str(strategies.get(name)().unsuitable(scenario, Training())))
    if strategies.get(name).tunes:
        pytest.skip("a random transformer beside a few trained numbers learns little: see test_text")
    # Plain methods keep the last of two tasks of two classes: half right is what chance cannot do.
    epochs = 24 if scenario == "online" else 12
    records = run_group([toy_cell(name, seed, scenario, epochs=epochs) for seed in range(4)])
    chance = 0.5 if scenario in ("task", "domain") else 0.25
    assert all(r["status"] == "done" for r in records)
    learned = np.mean([acc(score_matrix(r)) for r in records])
    assert learned > chance + 0.2


def forgetful(name: str, scenario: str = "") -> list[CellSpec]:
    """Return cells in which plain training forgets: on the toy, heads of their own would keep all."""
    scenario = scenario or scenario_of(name)
    if scenario != "task":
        return [toy_cell(name, seed, scenario, epochs=8) for seed in range(5)]
    return Request("digits", (f"{name}[lr=0.01,epochs=5]",), (scenario,), tuple(range(5))).cells()


def test_replay_and_isolation_forget_less_than_finetune(name: str) -> None:
    cls = strategies.get(name)
    if cls.family not in ("replay", "isolation"):
        pytest.skip(f"{name} is neither replay nor isolation, but {cls.family}")
    own, plain = forgetful(name), forgetful("finetune", scenario_of(name))
    theirs, ours = ([forgetting(score_matrix(r)) for r in run_group(cells)] for cells in (plain, own))
    less = np.subtract(theirs, ours)
    assert np.mean(less) > 0.1
    assert sum(d > 0 for d in less) >= 4


def test_memory_stays_within_its_budget(name: str) -> None:
    cls = strategies.get(name)
    if "buffer" not in [f.name for f in fields(cls)]:
        pytest.skip(f"{name} has no memory of rows")
    record = run_group([toy_cell(name, 0, scenario_of(name), buffer=10)])[0]
    assert 0 < record["resources"]["memory_samples"] <= 10
    assert record["resources"]["memory_bytes"] >= 64 * record["resources"]["memory_samples"]


def test_hyper_parameters_round_trip_through_the_identity(name: str) -> None:
    parts = strategies.split(name)
    own = {part: [f"{f}=0.75" for f in strategies.get(part).lane_fields()] for part in parts}
    own[parts[0]].insert(0, "lr=0.02")
    selector = "+".join(f"{p}[{','.join(reversed(own[p]))}]" for p in parts)
    first = Request("toy", (selector,), (scenario_of(name),)).cells()[0]
    again = Request("toy", (first.identity,), (scenario_of(name),)).cells()[0]
    assert again == first
    assert first.training["lr"] == 0.02
    assert Request("toy", (name,)).cells()[0].identity == name


def test_scenarios_it_cannot_do_are_told_plainly(name: str) -> None:
    strategy = strategies.get(name)()
    for scenario in SCENARIOS:
        reason = strategy.unsuitable(scenario, Training())
        assert (reason is None) == (scenario in strategy.scenarios)
    if strategy.needs_boundaries:
        reason = strategy.unsuitable(scenario_of(name), Training(boundaries="hidden"))
        assert "tasks begin and end" in str(reason)


def test_hidden_boundaries(name: str) -> None:
    scenario = scenario_of(name)
    if not suitable(name, scenario, boundaries="hidden"):
        pytest.skip(f"{name} needs to be told where tasks begin and end")
    record = run_group([toy_cell(name, 0, scenario, boundaries="hidden")])[0]
    assert record["status"] == "done"


def test_is_described(name: str) -> None:
    """Summary, paper and a help for every hyper-parameter: what `lethe show` prints."""
    entry = strategies.REGISTRY.describe(name)
    assert entry.summary.endswith((".", ":"))
    assert entry.metadata["paper"]
    assert all(option.help for option in entry.options)
    assert [o.name for o in entry.options] == [f.name for f in fields(strategies.get(name))]


@pytest.mark.parametrize("tune", ["head", "lora"])
def test_texts_are_learned_or_refused_with_a_reason(name: str, tune: str) -> None:
    """Features and tokens: what a method cannot do is told at the start, and nothing fails on the way."""
    texts = {"suite": "toy-text", "epochs": 1, "model_options": {"tune": tune, "max_tokens": 16}}
    try:
        records = run_group([toy_cell(name, seed, scenario_of(name), **texts) for seed in range(2)])
    except Unsuitable as reason:
        pytest.skip(str(reason))
    assert all(r["status"] == "done" for r in records)
