"""Grids: their notation, and the cells, plans and times that follow from it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lethe
from bench.checks.subjects import Subject
from bench.cli.completion import selectors
from bench.plan import Present, Request, ResolvedPlan, Timing, expected_time, one_cell, resolve
from bench.plan.expected_time import work
from bench.plan.experiment_file import read_experiment
from bench.plan.grid_notation import suites_of, values_of
from lethe.testing import toy_cell
from tests.conftest import Command, Refuses, refused


def identities(*selectors: str, suite: str = "toy", **more: Any) -> list[str]:
    return [cell.identity for cell in Request(suite, selectors, **more).cells()]


LAMS = ["ewc[lam=1]", "ewc[lam=10]", "ewc[lam=100]", "ewc"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("ewc[lam=1|10|100|1e3]", LAMS),
        ("ewc[ lam = 1 | 10 |100|1e3 ]", LAMS),
        ("ewc[lam=1..1000:log4]", LAMS),
        ("ewc[lam=1|10..1e3:log3]", LAMS),
        ("ewc[lam=1e-1..1e4:log6]", ["ewc[lam=0.1]", *LAMS, "ewc[lam=10000]"]),
        ("ewc[lam=1..10:log3]", ["ewc[lam=1]", "ewc[lam=3.16]", "ewc[lam=10]"]),
        ("ewc[lam=10..1:log2]", ["ewc[lam=10]", "ewc[lam=1]"]),
        ("ewc[lam=0..1:4]", ["ewc[lam=0]", "ewc[lam=0.333333]", "ewc[lam=0.666667]", "ewc[lam=1]"]),
        ("er[buffer=2..4]", ["er[buffer=2]", "er[buffer=3]", "er[buffer=4]"]),
        ("er[buffer=10..1000:log4]", ["er[buffer=10]", "er[buffer=46]", "er[buffer=215]", "er[buffer=1000]"]),
        ("er[lr=0.01|0.03,buffer=20|500]", ["er[buffer=20]", "er", "er[buffer=20,lr=0.03]", "er[lr=0.03]"]),
        ("er[hidden=8|9]", ["er[hidden=8]", "er[hidden=9]"]),
        ("er[write=ring|reservoir]", ["er[write=ring]", "er"]),
        ("ewc[half=true|false]", ["ewc", "ewc[half=false]"]),
        ("er[buffer=9|8]+lwf[lam=2|3]", [f"er[buffer={b}]+lwf[lam={v}]" for b in (9, 8) for v in (2, 3)]),
    ],
)  # fmt: skip
def test_a_grid_is_its_settings_each_an_ordinary_cell(selector: str, found: list[str]) -> None:
    assert identities(selector) == found
    for cell in Request("toy", (selector,)).cells():
        assert cell.key == Request("toy", (cell.identity,)).cells()[0].key


def test_one_notation_in_selectors_settings_files_and_python(tmp_path: Path) -> None:
    wanted = ["er[buffer=20,lr=0.1]", "er[buffer=20,lr=0.2]", "er[lr=0.1]", "er[lr=0.2]"]
    assert identities("er[buffer=20|500,lr=0.1|0.2]") == wanted
    assert identities("er[buffer=20|500]", settings={"lr": "0.1..0.2:2"}) == wanted
    head, path = '[[run]]\nsuite = "toy"\n', tmp_path / "e.toml"
    for rest in (
        'strategies = ["er[buffer=20|500,lr=0.1|0.2]"]',
        "strategies = [{ er = { buffer = [20, 500], lr = [0.1, 0.2] } }]",
        "[run.strategies.er]\nbuffer = [20, 500]\nlr = [0.1, 0.2]",
        "[run.strategies]\ner.buffer = [20, 500]\n[run.set]\nlr = [0.1, 0.2]",
    ):
        path.write_text(head + rest)
        assert [cell.identity for cell in read_experiment(path).requests[0].cells()][: 4 * 10 : 10] == wanted
    for given, settings in (
        ({"er": {"buffer": [20, 500], "lr": (0.1, 0.2)}}, {}),
        ({"er": {"buffer": (b for b in (20, 500))}}, {"lr": [0.1, "0.2"]}),
        ("er[buffer=20|500]", {"lr": "0.1|0.2"}),
    ):
        frames = lethe.run("toy", given, settings=settings, seeds=1, dry_run=True)  # type: ignore[arg-type]
        assert frames.plan is not None
        assert [cell.identity for cell in frames.plan.cells] == wanted


def test_a_grid_of_set_is_in_the_brackets_of_every_strategy_that_does_not_set_it_itself() -> None:
    request = Request("toy", ("er", "er[lr=7]", "ncm", "er+lwf"), settings={"lr": "0.1|0.2", "epochs": "2"})
    found = ["er[lr=0.1]", "er[lr=0.2]", "er[lr=7]", "ncm", "er[lr=0.1]+lwf", "er[lr=0.2]+lwf"]
    assert [cell.identity for cell in request.cells()] == found
    assert {cell.training["epochs"] for cell in request.cells()} == {2}
    assert request.remarks == [
        "ncm[lr=0.1] is run as ncm, ncm[lr=0.2] is run as ncm: lr has no effect with gradient_free=true"
    ]
    assert request.shared() == replace(request, settings={"epochs": "2"}).shared()


def test_values_that_are_equal_are_run_once_with_a_remark() -> None:
    request = Request("toy", ("er[lr=0.1|1e-1|0.10|.1]",))
    assert [cell.identity for cell in request.cells()] == ["er[lr=0.1]"]
    twice = "is listed twice and run once, as er[lr=0.1]"
    assert request.remarks == [f"er[lr=1e-1] {twice}, er[lr=0.10] {twice}, 1 more"]
    idle = Request("toy", ("er[balance=sum|concatenated,lam=1|2]",))
    assert [cell.identity for cell in idle.cells()] == ["er[balance=sum]", "er[balance=sum,lam=2]", "er"]
    assert idle.remarks == [
        "er[balance=concatenated,lam=2] is run as er: lam has no effect unless balance=sum"
    ]


WAYS = "; write lam=1|10|100, lam=1..100:log3 (evenly in the logarithm) or lam=1..5:3 (evenly)"


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("ewc[lam=1..10]", f"cannot read the range lam=1..10: it needs a number of values{WAYS}"),
        ("ewc[lam=1..x:3]", f"it is not of that form{WAYS}"),
        ("ewc[lam=1....9:3]", "it is not of that form"),
        ("ewc[lam=1..9:lin3]", "it is not of that form"),
        ("ewc[lam=1..1:3]", "its ends must be two different numbers"),
        ("ewc[lam=1..1e999:3]", "its ends must be two different numbers"),
        ("ewc[lam=0..10:log3]", "no logarithm of 0: write the 0 apart, as in 0|1..100:log3"),
        ("ewc[lam=-1..10:log3]", "no logarithm of -1"),
        ("er[buffer=-1e308..1e308]", "the number of values must be from 2 to 10,000, not inf"),
        ("ewc[lam=-1e308..1e308:3]", "its ends are too far apart"),
        ("ewc[lam=1..10:1]", "the number of values must be from 2 to 10,000, not 1"),
        ("er[buffer=1..99999]", "the number of values must be from 2 to 10,000, not 99,999"),
        ("ewc[lam=1|]", "lam=1| has an empty value; write values like lam=1|10|100"),
        ("er[lr=0.1..1:101,buffer=1..200]", "is a grid of 20,200 settings, and at most 10,000 are possible"),
        ("er[buffer=0..4:log3]", "no logarithm of 0"),
        ("er[buffer=0..4]", "er: buffer must be at least 1, not 0"),
        ("er[buffer=1|2.5]", "er: buffer must be a whole number, not '2.5'"),
        ("er[bufer=1|2]", "unknown hyper-parameter of er 'bufer'; did you mean buffer?"),
        ("er[write=ring|rong]", "unknown value for er: write 'rong'; did you mean ring?"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_read_is_an_error_of_one_line(selector: str, says: str) -> None:
    refused(re.escape(says), identities, selector)


def test_several_models_are_refused_where_one_is_needed_and_so_are_empty_lists() -> None:
    says = re.escape("model=mlp|cnn names several models, and one is needed here")
    refused(says, identities, "er", settings={"model": "mlp|cnn"})
    asked: dict[str, Any] = {"settings": {"model": "mlp|cnn"}, "dry_run": True}
    refused("toy@tuning class er is tuned twice, with other settings", lethe.tune, "toy", "er", **asked)
    refused("lr has no values; write a list", lethe.run, "toy", "er", settings={"lr": []})
    refused("ewc: lam must be a number", lethe.run, "toy", {"ewc": {"lam": [1, None]}})


@pytest.mark.slow
def test_a_grid_of_models_has_rows_for_each(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"model": ["mlp", "cnn"], "epochs": 1}
    frames = lethe.run("toy", ["er[buffer=5|9]", "lwf"], settings=asked, seeds=1, out=tmp_path)
    names = {"er[buffer=5|9]", "er[buffer=5|9,model=cnn]", "lwf", "lwf[model=cnn]"}
    assert {*frames.table()["strategy"]} == names
    assert {c.model for c in frames.plan.cells} == {"mlp", "cnn"}  # type: ignore[union-attr]
    refused("unknown setting 'layers'", lethe.run, "toy", "er", settings=asked | {"layers": 1})


def test_grids_that_differ_in_settings_beside_them_are_two_rows(tmp_path: Path) -> None:
    for epochs in (1, 2):
        frames = lethe.run("toy", "er[buffer=5|9]+lwf", settings={"epochs": epochs}, seeds=2, out=tmp_path)
    names = {"er[buffer=5|9]+lwf", "er[buffer=5|9,epochs=2]+lwf"}
    assert {*frames.table()["strategy"]} == names == {*frames.settings_of_grids["grid"]}
    assert frames.settings_of_grids["grid"].value_counts().tolist() == [2, 2]


def test_a_grid_of_suites_is_a_request_for_each(tmp_path: Path, refuses: Refuses) -> None:
    file = tmp_path / "f.toml"
    file.write_text(
        '[[run]]\nsuite = "digits[noise=0|0.1..0.3:2,tasks=2|5]"\nstrategies = ["er"]\nseeds = 1\n'
    )
    of_file = [cell.suite for request in read_experiment(file).requests for cell in request.cells()]
    assert of_file == [
        "digits[tasks=2]", "digits", "digits[noise=0.1,tasks=2]", "digits[noise=0.1]",
        "digits[noise=0.3,tasks=2]", "digits[noise=0.3]",
    ]  # fmt: skip
    frames = lethe.run("digits[noise=0|0.1..0.3:2,tasks=2|5]", "er", seeds=1, dry_run=True)
    assert frames.plan is not None
    assert [cell.suite for cell in frames.plan.cells] == of_file
    assert suites_of("./gone.py:S[tasks=1|2]") == ["./gone.py:S[tasks=1]", "./gone.py:S[tasks=2]"]
    assert suites_of("t.csv[label=a|b,text=x..y]") == ["t.csv[label=a|b,text=x..y]"]
    refuses("empty value", "run digits[tasks=5|] -s er --dry-run")
    refuses("tasks must be a whole number", "run digits[tasks=5|x] -s er --dry-run")


def test_a_shell_completes_what_brackets_may_hold() -> None:
    assert selectors("ew") == ["ewc"]
    assert selectors("er+ewc[lam=1|2,ga") == ["er+ewc[lam=1|2,gamma="]
    assert {"ewc[lam=", "ewc[lr=", "ewc[epochs="} <= {*selectors("ewc[")}


def test_a_grid_is_refused_where_one_setting_is_needed() -> None:
    says = re.escape("ewc[lam=1|2] is a grid of 2 settings, and one is needed here, such as ewc[lam=1]")
    refused(says, one_cell, "toy", "ewc[lam=1|2]")
    refused(says, Subject, "ewc[lam=1|2]")


def test_text_with_two_dots_is_no_range() -> None:
    assert values_of("features", "../features", str) == ["../features"]


def test_lanes_differ_only_in_what_may_and_other_settings_split_into_groups() -> None:
    plan = resolve(
        [Request("toy", ("er[lr=0.1|0.2,buffer=20|30]", "ewc[lam=1|10]"), seeds=(0, 1))], Present()
    )
    groups = [{plan.by_key[key].identity for key in group.keys} for group in plan.groups]
    assert groups == [
        {"er[buffer=20,lr=0.1]", "er[buffer=20,lr=0.2]"}, {"er[buffer=30,lr=0.1]", "er[buffer=30,lr=0.2]"},
        {"ewc[lam=1]", "ewc[lam=10]"},
    ]  # fmt: skip
    assert "grid er[buffer=20|30,lr=0.1|0.2] on toy class: 4 settings, 8 cells, 2 groups" in plan.lines()
    assert "grid ewc[lam=1|10] on toy class: 2 settings, 4 cells, 1 group" in plan.lines()
    assert ResolvedPlan.from_json(plan.to_json()).lines() == plan.lines()


def timed(seconds: float, lanes: int, **changes: Any) -> Timing:
    return Timing(work(vars(toy_cell("er", **changes))), seconds, lanes)


def test_the_time_expected_is_that_of_records_of_the_same_work_or_unknown() -> None:
    request = Request("toy", ("er[lr=0.1|0.2]", "ewc"), seeds=(0, 1, 2))
    plan = resolve([request], Present(), parameter_count=lambda spec: 1)  # groups of 6 and 3 lanes

    def expected(*timings: Timing, processes: int = 2) -> str:
        return expected_time(plan, timings, "here", processes)

    why = "no record of {} with this suite, model and training in here"
    assert expected() == expected(timed(9, 6, epochs=9)) == f"unknown: {why.format('er, ewc')}"
    only_er = (
        f"at least about 60 s in 2 processes, by records in here; unknown for the rest: {why.format('ewc')}"
    )
    assert expected(timed(10, 6), timed(99, 2), timed(10, 6, lr=5)) == only_er
    ewc = Timing(work(vars(toy_cell("ewc"))), 30.0, 3)
    assert expected(timed(10, 6), ewc) == "about 90 s in 2 processes, by records in here"
    assert expected(timed(10, 6), ewc, processes=1) == "about 2 min in 1 process, by records in here"
    # Of a group of one lane: six lanes take at least as long, and at most six times that.
    assert expected(timed(100, 1), ewc, processes=1) == "3 min to 12 min in 1 process, by records in here"
    assert expected(timed(20, 12), ewc, processes=1) == "4 min to 6 min in 1 process, by records in here"
    assert expected_time(resolve([], Present()), [], "here", 2) == ""


def test_a_dry_run_shows_grids_groups_and_the_time_expected(command: Command, tmp_path: Path) -> None:
    line = f"run toy -s ewc[lam=1|2] --seeds 2 --set epochs=1 --jobs 1 --out {tmp_path / 'run'}"
    code, out, _ = command(f"{line} --dry-run")
    assert code == 0
    assert out.splitlines()[4:7] == [
        "grid ewc[lam=1|2] on toy class: 2 settings, 4 cells, 1 group", "4 cells, 4 to run",
        "groups: 1 x 4 lanes",
    ]  # fmt: skip
    assert out.splitlines()[7].startswith("time expected: unknown: no record of ewc with this suite")
    assert command(line)[0] == 0
    _, out, _ = command(line.replace("lam=1|2", "lam=3|4") + " --dry-run")
    words = rf"time expected: about \d+ s in 1 process, by records in {re.escape(str(tmp_path / 'run'))}"
    assert re.fullmatch(words, out.splitlines()[-1])
