"""Budgets of memory and compute: sizes, reasons, and the records of sized methods."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

import lethe
import strategies
from bench.checks.made_streams import scenario_of
from bench.plan import Budget, Present, Request, Stored, read_experiment, resolve
from bench.plan.budget import size_in_words
from bench.report import tables
from bench.train import StoredWhenFull, make_lanes, run_group
from bench.train.loop import begin_task, step
from lethe.testing import SMALL, toy_cell
from suites.errors import UserError

NAMES = strategies.names()
SUMS = ["er+lwf", "ewc+er"]
SIZED = [*(name for name in NAMES if "memory" in strategies.get(name).sized_by), *SUMS]


def selector(name: str, **more: Any) -> str:
    """Return a selector with small sizes of what a budget does not set."""
    cls = strategies.get(name)
    own = {k: v for k, v in SMALL.get(name, {}).items() if k not in cls.sized_by.values()} | more
    return f"{name}[{','.join(f'{k}={v}' for k, v in own.items())}]" if own else name


def request(name: str, budget: Budget, **more: Any) -> Request:
    """Return a request of a toy suite with two seeds, whose tasks differ in rows."""
    settings = {"epochs": "1", "hidden": "8"} | more
    return Request("toy", (selector(name),), (scenario_of(name),), (0, 1), settings, budget=budget)


def sized(asked: Request) -> Any:
    """Return the plan of a request."""
    return resolve([asked], Present(), stored=StoredWhenFull())


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZED)
def test_records_of_sized_methods_fit_and_one_more_would_not(name: str) -> None:
    field, free = strategies.get(name).sized_by["memory"], request(name, None)  # type: ignore[arg-type]
    cell, probe = free.cells()[0], StoredWhenFull()
    few = replace(cell, hyper=cell.hyper | {field: 13 if "buffer" in field else 5})
    found = probe(few, (0, 1))
    assert isinstance(found, Stored)
    most = found.bytes + 3
    plan = sized(replace(free, budget=Budget(memory=most)))
    records = run_group(list(plan.cells))
    assert all(0 < record["resources"]["memory_bytes"] <= most for record in records)
    assert max(record["resources"]["memory_bytes"] for record in records) == found.bytes
    (value,) = {cell.hyper[field] for cell in plan.cells}
    assert f"{field.split('_', 1)[1] if name in SUMS else field}={value}" in plan.cells[0].identity
    more = [replace(cell, hyper=cell.hyper | {field: value + 1}) for cell in plan.cells]
    assert max(record["resources"]["memory_bytes"] for record in run_group(more)) > most


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIZED])
def test_what_a_method_of_one_size_stores_is_known_before_it_runs(name: str) -> None:
    cell = toy_cell(name, 0, scenario_of(name), epochs=1)
    found = StoredWhenFull()(cell, (0,))
    resources = run_group([cell])[0]["resources"]
    assert isinstance(found, Stored)
    assert (found.rows, found.bytes) == (resources["memory_samples"], resources["memory_bytes"])


@pytest.mark.parametrize("write", ["class-balanced", "ring", "per-class"])
def test_what_a_full_memory_stores_is_known_before_it_runs(write: str) -> None:
    cells = [toy_cell("er", seed, "class", epochs=1, buffer=13, write=write) for seed in range(2)]
    found = StoredWhenFull()(cells[0], (0, 1))
    assert isinstance(found, Stored)
    assert {r["resources"]["memory_samples"] for r in run_group(cells)} == {found.rows}
    assert found.rows == (13 if write == "class-balanced" else 12)


def test_a_memory_is_no_larger_than_the_stream() -> None:
    plan = sized(request("er", Budget(memory=10**6)))
    streams = make_lanes(list(plan.cells)).streams.streams
    assert plan.cells[0].hyper["buffer"] == min(sum(len(t.train_rows) for t in s.tasks) for s in streams)


def test_methods_that_do_not_fit_are_skipped_with_the_reason() -> None:
    names = ("finetune", "joint", "ewc", "er", "icarl", "ogd", "hat")
    asked = replace(request("er", Budget(memory=2000)), strategies=names, scenarios=("class",))
    plan, network = sized(asked), 4 * (64 * 8 + 8 + 8 * 4 + 4)
    assert {spec.identity: plan.skipped.get(spec.key, "runs") for spec in plan.cells if spec.seed == 1} == {
        "finetune": "runs",
        "joint": "runs",
        "ewc": f"it stores {2 * network / 1000:g}kB, more than the budget of 2kB, and none of its "
        "hyper-parameters sizes its memory",
        "er[buffer=27]": "runs",
        "icarl": f"it needs buffer=4 or more, and stores {(network + 4 * 72) / 1000:g}kB with that: more "
        "than the budget of 2kB",
        "ogd": f"it needs directions=1 or more, and stores {network / 1000:g}kB with that: more than the "
        "budget of 2kB",
        "hat": "hat has no class-incremental form; it has: task",
    }
    assert "sized to memory=2kB: er[buffer=27]" in str(plan).splitlines()


@pytest.mark.parametrize(
    ("compute", "name", "expected"),
    [
        (1.5, "er", "er[batch=4]"), (2, "er", "er"), (3, "er", "er[batch=16]"), (1, "er", "er[epochs=2]"),
        (1.5, "finetune", "finetune[epochs=6]"), (1, "finetune", "finetune"), (2, "der", "der"),
        (1.5, "lwf", "lwf"), (1.25, "sparse-er", "sparse-er[every=4]"), (30, "rar", "rar[repeats=15]"),
        (1, "joint", "joint"), (1, "ncm", "ncm"), (2, "er+lwf", "er[batch=5]+lwf"),
        (9, "mer", "mer[steps=3]"), (4, "mer", "mer[steps=1]"),
    ],
)  # fmt: skip
def test_compute_sizes_a_hyper_parameter_or_else_the_epochs(compute: float, name: str, expected: str) -> None:
    """New batches have 8 rows, and finetune makes 4 epochs."""
    asked = Request("toy", (name,), ("class",), settings={"epochs": "4"}, budget=Budget(compute=compute))
    assert [spec.identity for spec in sized(asked).cells] == [expected]


def test_compute_that_a_method_cannot_keep_within_is_a_reason() -> None:
    settings = {"epochs": "1"}
    names = ("dgr", "gdumb", "mer", "finetune[epochs=2]")
    plan = sized(Request("toy", names, ("class",), settings=settings, budget=Budget(compute=1.5)))
    assert [plan.skipped[spec.key] for spec in plan.cells] == [
        "it takes 7 times the passes of finetune, more than the budget of 1.5",
        "it trains at the end of tasks, which its cost of a step does not count",
        "it takes 10 times the passes of finetune, more than the budget of 1.5, whatever steps",
        "it takes 2 times the passes of finetune, more than the budget of 1.5",
    ]


def flops(name: str, **hyper: Any) -> float:
    """Return the operations of matrix products in the third step of the second task."""
    cell = toy_cell(name, 0, scenario_of(name), model_options={"hidden": 64, "layers": 4}, **hyper)
    state = make_lanes([cell])
    for task in range(2):
        schedule = begin_task(state, task)
        assert schedule is not None
        for number in range(3):
            with FlopCounterMode(display=False) as counted:
                step(state, schedule, number)
        state.strategy.end_task(task)
    return counted.get_total_flops()


BESIDE = {
    "gss": "ten stored rows, with which new ones are compared, are more than the eight new ones",
    "hal": "anchors, a few for each task, are not counted",
    "scr": "products between all rows and the second network are most of a step of so small a network",
}
"""Work that ``cost`` leaves out because it is small beside passes over many rows."""
COMPUTE = [
    name for name in NAMES if "compute" in strategies.get(name).sized_by and not strategies.get(name).tunes
]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPUTE)
def test_a_step_s_cost_is_that_of_its_matrix_products(name: str) -> None:
    """Of two values of what a budget sizes, counted by torch; and the difference between them."""
    cls, field = strategies.get(name), strategies.get(name).sized_by["compute"]
    values = (4, 24) if field == "batch" else (1, 3) if field in ("steps", "repeats") else (1,)
    hyper = [SMALL.get(name, {}) | {field: value} for value in values]
    expected, plain = [cls(**of).step_cost(8) for of in hyper], flops("finetune")
    counted = [flops(name, **of) / plain for of in hyper]
    if name not in BESIDE:
        assert counted == pytest.approx(expected, rel=0.2)
    if name != "scr":
        assert counted[-1] - counted[0] == pytest.approx(expected[-1] - expected[0], rel=0.2)


def test_the_cost_at_the_defaults_is_that_of_the_formula() -> None:
    """``cost`` is at a batch of 128 new rows, which docs/costs.md measures."""
    for name in [*NAMES, "er+lwf"]:
        cls = strategies.get(name)
        assert cls().step_cost(128) == pytest.approx(cls.cost, abs=0.006), name
        assert cls.sized_by.keys() <= {"memory", "compute"}
        assert {*cls.sized_by.values()} <= cls.__dataclass_fields__.keys()


def test_a_method_that_one_of_two_budgets_refuses_is_skipped() -> None:
    plan = sized(request("gdumb", Budget(memory=2000, compute=1.5)))
    assert not plan.to_run
    assert {*plan.skipped.values()} == {
        "it trains at the end of tasks, which its cost of a step does not count"
    }


def test_a_selector_cannot_set_what_the_budget_sets() -> None:
    asked = request("er", Budget(memory=5000, compute=1.5))
    for text, kind in (("er[buffer=500]", "memory sets buffer"), ("er[batch=4]", "compute sets batch")):
        with pytest.raises(UserError, match=f"the budget of {kind}: leave it out"):
            sized(replace(asked, strategies=(text,)))
    preset = sized(replace(asked, strategies=("er[preset=vandeven2022]",))).cells[0]
    assert (preset.hyper["buffer"], preset.hyper["batch"], preset.hyper["write"]) == (71, 4, "per-class")


def test_sizes_of_a_grid_are_those_of_each_setting() -> None:
    asked = replace(request("er", Budget(memory=5000)), strategies=("der[alpha=0.1|1]",))
    plan = sized(asked)
    assert plan.selectors == {
        "toy/class": {"der[alpha=0.1|1]": ["der[alpha=0.1,buffer=56]", "der[alpha=1,buffer=56]"]}
    }


def test_a_budget_without_data_waits_for_it() -> None:
    asked = request("er", Budget(memory=5000))
    plan = resolve([asked], Present())
    assert not plan.cells
    assert "sized to memory=5kB: methods of toy, once its data is available" in str(plan)
    assert sized(request("er", Budget(compute=1.5))).cells


def test_a_folder_has_one_budget(tmp_path: Path) -> None:
    settings = {"epochs": 1, "hidden": 8, "rows_per_class": 10}
    run = {"settings": settings, "seeds": 2, "out": tmp_path / "run"}
    with pytest.warns(UserWarning, match=r"sized to memory=3kB: er\[buffer=41\]"):
        frames = lethe.run("digits", ["finetune", "er", "ewc"], budget={"memory": "3kB"}, **run)  # type: ignore[arg-type]
    cells = frames.cells.set_index("identity")
    assert [*cells.loc["er[buffer=41]", "memory_bytes"]] == [2952, 2952]
    assert set(cells.loc["ewc", "status"]) == {"skipped"}
    assert frames.manifest.shared["digits/class"]["budget"] == "memory=3kB"
    said = "Budget: memory=3kB; each method but bounds has the largest size that fits."
    assert said in tables(frames).caption
    plain = lethe.run("digits", "finetune", **run | {"out": tmp_path / "plain"})  # type: ignore[arg-type]
    assert "Budget" not in tables(plain).caption
    both = tables(lethe.load(tmp_path / "run", tmp_path / "plain"))
    assert "Budgets: memory=3kB and none; rows of different budgets are not comparable." in both.caption
    assert [row[0].text for row in both.shown[0].rows] == ["er[buffer=41]", "finetune", "ewc"]
    with pytest.raises(UserError, match="has digits/class with budget = memory=3kB, not None"):
        lethe.run("digits", "finetune", **run)  # type: ignore[arg-type]


def test_an_experiment_file_has_budgets(tmp_path: Path) -> None:
    file = tmp_path / "runs.toml"
    file.write_text(
        '[[run]]\nsuite = "digits"\nstrategies = ["er"]\n[run.budget]\nmemory = "2MB"\ncompute = 1.5\n'
    )
    assert read_experiment(file).requests[0].budget == Budget(2_000_000, 1.5)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"memory": "2MB"}, "memory=2MB"), (["memory=1.5 MiB"], "memory=1.573MB"), ([], "None"),
        (["compute=1.50", "memory=500 kB"], "memory=500kB, compute=1.5"), (["memory=12B"], "memory=12B"),
        (["time=3"], "unknown kind of budget"), (["memory=2"], "is not a size"), (["compute=0"], "above 0"),
        (["memory"], "cannot read the budget"), (["compute=1", "compute=2"], "given twice"),
        ({"compute": True}, "above 0"), (["compute=nan"], "above 0"),
    ],
)  # fmt: skip
def test_the_notation_of_budgets(given: Any, found: str) -> None:
    try:
        assert str(Budget.read(given)) == found
    except UserError as error:
        assert found in str(error)  # noqa: PT017


def test_sizes_in_words() -> None:
    assert [size_in_words(n) for n in (999, 1000, 1_048_576, 2_000_000_000)] == [
        "999B",
        "1kB",
        "1.049MB",
        "2GB",
    ]


@pytest.mark.parametrize("named", ["size", "share"])
def test_a_user_s_method_must_name_a_whole_number(tmp_path: Path, named: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from lethe import Strategy\n\n\nclass M(Strategy):\n    share: float = 0.5\n"
        f'    sized_by = {{"memory": "{named}"}}\n'
    )
    asked = Request("toy", (f"{tmp_path}/mine.py:M",), budget=Budget(memory=100))
    with pytest.raises(UserError, match=f"M: sized_by names {named} for memory, which is no hyper-parameter"):
        sized(asked)
