"""A resolved plan: states of cells, groups of lanes, and running the plan in another process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import strategies
from bench.plan import Checkpoint, Present, RecordHead, Request, ResolvedPlan, code_of, resolve
from bench.plan.resolved import lane_width
from bench.runner import Options, carry_out_plan, one_group, resolve_for
from bench.store import RunReader
from lethe.testing import TOY, blobs, outcome, registered, toy_cell
from suites.base import Data
from suites.errors import UserError
from tests.conftest import Command, ran, refused

QUIET = Options(jobs=1, quiet=True)
FIVE = Request("toy", ("finetune",), seeds=(0, 1, 2, 3, 4))


def head(request: Request, status: str = "done", **changes: Any) -> RecordHead:
    """Return the head of a record that was made by the current code."""
    return RecordHead(status, **{"code": code_of(vars(request.cells()[0])).fingerprint, **changes})


HIDDEN = "ewc needs to know where tasks begin and end"


def small(spec: Any) -> int:
    return 100


def keys(plan: ResolvedPlan) -> list[list[str]]:
    return [list(group.keys) for group in plan.groups]


def test_a_cell_is_run_or_not_according_to_its_record() -> None:
    done, failed, diverged, skipped, missing = FIVE.cells()
    statuses = {done.key: "done", failed.key: "failed", diverged.key: "diverged", skipped.key: "skipped"}
    present = Present(records={key: head(FIVE, status) for key, status in statuses.items()})
    plan = resolve([FIVE], present, parameter_count=small)
    assert keys(plan) == [[missing.key]]
    assert (plan.existing, plan.skipped, plan.done) == (statuses, {}, [done])
    again = resolve([FIVE], present, retry_failed=True, parameter_count=small)
    assert again.to_run == [failed, diverged, missing]
    assert again.existing == {done.key: "done", skipped.key: "skipped"}
    forced = resolve([FIVE], present, force=True, parameter_count=small)
    assert (forced.to_run, forced.existing) == (FIVE.cells(), {})
    hidden = replace(FIVE, strategies=("ewc",), seeds=(0,), settings={"boundaries": "hidden"})
    unable = resolve([hidden], Present())
    assert (list(unable.skipped.values()), unable.groups) == ([HIDDEN], ())


def test_lanes_of_a_group_differ_only_in_rates_and_seeds() -> None:
    request = Request("toy", ("finetune", "er[buffer=20]", "er[buffer=20,lr=0.02]"), seeds=(2, 0, 1))
    plan = resolve([request], Present(), parameter_count=small)
    assert sorted(map(len, keys(plan))) == [3, 6]
    for group in plan.groups:
        specs = [plan.by_key[key] for key in group.keys]
        assert len({spec.group_key for spec in specs}) == 1
        assert [(s.identity, s.seed) for s in specs] == sorted((s.identity, s.seed) for s in specs)
    assert [len(g) for g in keys(resolve([FIVE], Present(), lanes=2))] == [2, 2, 1]


def test_cells_resume_in_groups_with_an_equal_number_of_tasks_done() -> None:
    cells = FIVE.cells()
    done = Checkpoint(1, head(FIVE).code, "")
    present = Present(checkpoints={cells[1].key: done, cells[3].key: done})
    plan = resolve([FIVE], present, parameter_count=small)
    assert {group.tasks_done: len(group.keys) for group in plan.groups} == {0: 3, 1: 2}
    assert "from a checkpoint: 2 cells" in plan.lines()
    forced = resolve([FIVE], present, force=True, parameter_count=small)
    assert [(group.tasks_done, len(group.keys)) for group in forced.groups] == [(0, 5)]


def test_the_number_of_lanes_follows_a_fixed_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, head = toy_cell(), toy_cell(suite="toy-text", model_options={"tune": "head"})
    for spec, device, asked, parameters, width in (
        (cell, "cpu", 0, 49_999, 64), (cell, "cpu", 0, 50_000, 1), (cell, "cpu", 7, None, 7),
        (cell, "cuda:1", 0, None, 256), (cell, "cpu", 0, None, None), (head, "cpu", 0, None, 64),
    ):  # fmt: skip
        assert lane_width(spec, device, asked, lambda spec, n=parameters: n) == width
    monkeypatch.setattr(strategies.get("finetune"), "max_lanes", 3)
    assert lane_width(cell, "cpu", 0, small) == 3


def test_groups_that_need_data_are_decided_once_the_data_is_available() -> None:
    plan = resolve([FIVE], Present())
    whole = plan.completed(lambda suite: "mark", lambda spec: 10**6)
    for of, groups, data, line in (
        (plan, [(5, None)], {}, "groups of toy: decided once its data is available"),
        (whole, [(1, 1)] * 5, {"toy": "mark"}, "groups: 5 x 1 lanes"),
    ):
        assert [(len(group.keys), group.width) for group in of.groups] == groups
        assert (of.data, of.lines()[-1]) == (data, line)
    refused("fingerprint other, but the plan mark", whole.completed, lambda suite: "other", small)


def test_identities_name_what_differs_from_the_settings_of_the_folder() -> None:
    shared = FIVE.shared()
    plain = resolve([FIVE], Present(shared=shared))
    assert plain.cells == tuple(FIVE.cells())
    other = {"toy/class": shared["toy/class"] | {"epochs": 2}}
    named = resolve([FIVE], Present(shared=other))
    assert [spec.key for spec in named.cells] == [spec.key for spec in plain.cells]
    assert all("epochs=4" in spec.identity for spec in named.cells)
    assert named.shared == other
    newer = {"toy/class": shared["toy/class"] | {"version": 2}}
    with pytest.raises(UserError, match="there has toy/class with version = 2, not 1: choose another --out"):
        resolve([FIVE], Present(folder=Path("there"), shared=newer))


@settings(deadline=None, max_examples=30)
@given(
    lam=st.floats(0, 1e12, allow_nan=False),
    lr=st.floats(1e-12, 1e3) | st.integers(1, 9),
    statuses=st.lists(st.sampled_from(["done", "failed", "diverged", "missing"]), min_size=3, max_size=3),
    code=st.sampled_from(["", head(FIVE).code]),
)
def test_a_plan_is_read_back_as_it_was_written(lam: float, lr: float, statuses: list[str], code: str) -> None:
    request = Request("toy", (f"er[lam={lam!r},lr={lr!r}]", "ewc[half=true]"), seeds=(0, 1, 2))
    cells = request.cells()
    present = Present(
        records={c.key: RecordHead(s) for c, s in zip(cells, statuses, strict=False) if s != "missing"},
        checkpoints={cells[-1].key: Checkpoint(1, code, "mark")},
    )
    plan = resolve([request], present, fingerprint=lambda suite: "mark")
    again = ResolvedPlan.from_json(plan.to_json())
    assert (again, list(again.by_key)) == (plan, list(plan.by_key))
    types = [{k: type(v) for k, v in (s.hyper | s.training).items()} for s in (cells[0], again.cells[0])]
    assert types[0] == types[1]


def test_text_that_is_not_a_plan_is_refused() -> None:
    plan = resolve([FIVE], Present())
    for change in ({"groups": []}, {"cells": 3}, {"device": None}):
        with pytest.raises(UserError, match="not a resolved plan of this version"):
            ResolvedPlan.from_json(json.dumps(json.loads(plan.to_json()) | change))


def test_a_dry_run_prints_exactly_what_the_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    request = Request("toy", ("er", "ewc"), seeds=(0, 1, 2), settings={"boundaries": "hidden"})
    plan = resolve_for([request], tmp_path, QUIET, download=False)
    out = command(f"run toy -s er -s ewc --seeds 3 --set boundaries=hidden --dry-run --out {tmp_path}")[1]
    assert out.splitlines() == plan.lines()
    assert plan.lines()[-3:-1] == ["6 cells, 3 to run", "groups: 1 x 3 lanes"]
    assert plan.lines()[-1].startswith("time expected: unknown: no record of er")
    assert f"skip      toy class ewc seed 0: {HIDDEN}" in plan.lines()
    carried: list[list[str]] = []
    original = one_group.run_group

    def recording(specs: Any, **options: Any) -> Any:
        carried.append([spec.key for spec in specs])
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", recording)
    ran(tmp_path, request)
    assert (carried, RunReader(tmp_path).manifest().data) == (keys(plan), plan.data)
    assert {r["reason"] for r in RunReader(tmp_path).records() if r["status"] == "skipped"} == {HIDDEN}


ELSEWHERE = """
import sys
from pathlib import Path
from bench.plan import ResolvedPlan
from bench.runner import Options, carry_out_plan
plan = ResolvedPlan.from_json(Path(sys.argv[1]).read_text())
print(carry_out_plan(plan, Path(sys.argv[2]), Options(jobs=1, quiet=True), "elsewhere").counts)
"""


@pytest.mark.slow
def test_another_process_can_run_a_plan(tmp_path: Path) -> None:
    request = Request("digits", ("er", "hat"), ("class",), (0, 1), {"epochs": "1", "rows_per_class": "10"})
    plan = resolve_for([request], None, QUIET)
    (tmp_path / "plan.json").write_text(plan.to_json())
    words = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "plan.json"), str(tmp_path / "there")]
    path = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=path)
    assert done.returncode == 0, done.stderr
    carry_out_plan(plan, tmp_path / "here", QUIET, "here")
    here, there = (list(map(outcome, RunReader(tmp_path / name).records())) for name in ("here", "there"))
    assert (len(here), here) == (4, there)


def test_a_suite_is_loaded_once_for_all_of_its_streams() -> None:
    """A user's suite may read its data again at each call of ``load``."""
    loads = []

    def counted() -> Data:
        loads.append(1)
        return blobs()

    with registered(replace(TOY, name="toy-counted", load=counted)):
        found = []
        for seeds in (1, 20):
            request = Request("toy-counted", ("er", "ewc"), ("class", "task"), tuple(range(seeds)))
            loads.clear()
            plan = resolve_for(request.alternatives, None, Options(quiet=True), download=False)
            assert len(plan.to_run) == 4 * seeds
            found.append(len(loads))
    assert found[0] == found[1] < 8  # of 4 groups of lanes, whose memory and fingerprint are asked for, too
