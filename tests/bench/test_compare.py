"""lethe compare: verdicts against formulas computed another way, what differs, alarms, formats."""

import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

import lethe
from bench.schema import Comparison, Project
from bench.stats import judge
from bench.stats.verdicts import seeds_to_settle
from bench.store import pack_run
from lethe.testing import not_done, timings, toy_cell, write_run
from tests.bench.test_one_n import DATA, MADE, cells
from tests.bench.test_report import record
from tests.conftest import Command, Refuses, refused

STEADY, LOWER = [60, 62, 58, 61, 59], [40, 43, 37, 42, 39]


def test_verdicts_use_the_paired_t_test_with_holm_and_the_margin() -> None:
    rng = np.random.default_rng(0)
    means = [-3.0, -0.9, 0.0, 0.3, 4.0, 0.0]
    pairs = [rng.normal(size=(2, 6)) * [[1.0], [0.3]] for _ in means]
    changes = [np.array(m) + b - b.mean() for m, (_, b) in zip(means, pairs, strict=True)]
    found = judge(changes, [1.0] * len(means))
    for direction in ("less", "greater"):
        p = [stats.ttest_1samp(d, 0, alternative=direction).pvalue for d in changes]
        order = np.argsort(p)
        adjusted = np.maximum.accumulate([(len(p) - k) * p[i] for k, i in enumerate(order)]).clip(max=1)
        for place, i in enumerate(order):
            if (changes[i].mean() < 0) == (direction == "less"):
                assert found[i].p_holm == pytest.approx(adjusted[place])
    for d, judged in zip(changes, found, strict=True):
        low, high = stats.ttest_1samp(d, 0).confidence_interval()
        assert (judged.low, judged.high) == (pytest.approx(low), pytest.approx(high))
    # -0.9 is significant, but is neither beyond the margin nor shown to be within it.
    assert [f.verdict for f in found] == ["worse", "unclear", "same", "same", "better", "same"]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [([0, 0], "same"), ([0], "unclear"), ([-5], "unclear"), ([-5, -5], "worse"), ([0.5, 0.5], "same"),
     ([9, -9, 8, -8], "unclear")],
)  # fmt: skip
def test_verdicts_on_few_or_constant_differences(differences: list[float], verdict: str) -> None:
    [found] = judge([differences], [1.0])
    assert (found.verdict, found.nothing) == (verdict, not any(differences))
    assert math.isnan(found.low) == (len(differences) == 1)
    assert (found.seeds_needed is not None) == (verdict == "unclear" and len(differences) > 1)


@pytest.mark.parametrize(("mean", "sd", "family"), [(-2.0, 2.0, 1), (-3.0, 2.0, 20), (0.2, 1.0, 1)])
def test_the_number_of_seeds_settles_four_studies_of_five(mean: float, sd: float, family: int) -> None:
    n = seeds_to_settle(mean, sd, 1.0, family)
    assert n is not None
    rng = np.random.default_rng(0)

    def settled(n: int) -> float:
        studies = rng.normal(mean, sd, (2000, n))
        m, sem = np.abs(studies.mean(1)), stats.sem(studies, axis=1)
        same = m + stats.t.ppf(0.975, n - 1) * sem < 1
        p = stats.ttest_1samp(studies, 0, axis=1).pvalue
        found = (p * max(1, family / 2) < 0.05) & (m >= 1)
        return float((same | found).mean())

    assert 0.75 < settled(n) < 0.9
    assert settled(n - 1) < 0.85
    assert seeds_to_settle(1.0, 1.0, 1.0) is None


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs: er is much worse in the second, ewc is equal, and finetune failed."""
    old = cells("er", STEADY, data=DATA) + cells("ewc", STEADY) + cells("finetune", STEADY[:1])
    new = cells("er", LOWER, data=DATA) + cells("ewc", STEADY)
    spec = cells("finetune", [1])[0][0]
    base = write_run(tmp_path / "base", old)
    return base, write_run(tmp_path / "new", [*new, (spec, not_done(spec, "failed"))])


def test_a_worse_strategy_and_a_failed_cell_are_alarms(runs: tuple[Path, Path]) -> None:
    found = lethe.compare(*runs)
    of = {(s.strategy, s.score): s for s in found.scores}
    # Final scores are the means of (final, 80): a loss of 20 of 100 rows is 10 points of acc.
    worse = of["er", "acc"]
    assert (worse.verdict, worse.n, round(worse.difference, 6)) == ("worse", 5, -9.9)
    assert (worse.low or 0) < worse.difference
    assert (of["er", "forgetting"].verdict, round(of["er", "forgetting"].difference, 6)) == ("worse", 19.8)
    assert (of["er", "learning_acc"].verdict, of["er", "learning_acc"].why[:18]) == (
        "same",
        "no difference in a",
    )
    assert of["ewc", "acc"].why == "equal bit for bit in 5 seeds"
    assert (found.cells, found.equal_cells, found.exit_code) == (10, 5, 1)
    assert [lost.cell for lost in found.lost] == ["toy class finetune seed 0"]
    assert any("finetune seed 0 is failed: made up" in words for words in found.alarms)


def test_improvements_are_alarms_only_if_the_same_is_expected(runs: tuple[Path, Path]) -> None:
    assert lethe.compare(*reversed(runs)).exit_code == 0
    found = lethe.compare(*reversed(runs), expect="same")
    assert {s.verdict for s in found.scores} == {"better", "same"}
    assert found.exit_code == 1
    assert lethe.compare(*runs, expect="equal").unequal == ["toy class er"]
    assert lethe.compare(runs[1], runs[1], expect="equal").exit_code == 0


def test_margins_of_lethe_toml_go_from_suite_and_score_to_any(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lethe.toml").write_text("[margins.any]\nany = 2\nacc = 3\n[margins.toy]\nforgetting = 50\n")
    assert {s.score: s.margin for s in lethe.compare(*runs).scores} == {
        "acc": 3, "aia": 2, "learning_acc": 2, "forgetting": 50,
    }  # fmt: skip
    assert {s.margin for s in lethe.compare(*runs, margins={}).scores} == {1}
    Path("lethe.toml").write_text("[margins.toy]\nacuracy = 3\n")
    refused("unknown score 'acuracy'", lethe.compare, *runs)
    refused("greater than 0", lethe.compare, *runs, margins={"any": {"acc": 0}})


def test_the_margins_of_the_page_are_used_in_the_order_that_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "regressions.md").read_text()
    toml = re.search(r"```toml\n(\[margins.*?)```", page, re.DOTALL)
    assert toml
    project = Project.read({"schema": 1} | tomllib.loads(toml[1]))[0]
    asked = (
        ("digits", "forgetting"),
        ("digits", "acc"),
        ("toy", "acc"),
        ("toy", "forgetting"),
        ("toy", "seconds_per_seed"),
    )
    assert [project.margin(*of, default=1.0) for of in asked] == [3, 2, 0.5, 1, 10]


@pytest.mark.parametrize(
    ("toml", "words", "alarms"),
    [
        ("acc = 9", "", 1),
        ("acc = 10", "", 0),
        ("any = 10", "", 0),
        ("acc = 10", "--margin 9", 1),
        ("acc = 9", "--margin 10", 0),
    ],
)
def test_a_margin_decides(
    toml: str,
    words: str,
    alarms: int,
    runs: tuple[Path, Path],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """er loses 9.9 points of acc; --margin is used instead of the file."""
    monkeypatch.chdir(runs[0].parent)
    Path("lethe.toml").write_text(f"[margins.toy]\n{toml}\n")
    code, out, _ = command(f"compare base new --scores acc {words}")
    assert (code, out.count("acc is worse")) == (1, alarms)  # a failed cell is an alarm, too


def test_sizes_and_times_are_compared_in_per_cent(tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> Path:
        made = [
            (toy_cell("er", seed), record([[50, 40], [90, 45], [60, 80]], timings=timings(**changes)))
            for seed in range(3)
        ]
        return write_run(tmp_path / name, made)

    base, new = run("base"), run("new", seconds_per_seed=0.6, samples_per_second=4000.0, lanes=1)
    found = lethe.compare(base, new, scores=["seconds_per_seed", "samples_per_second", "memory_bytes"])
    of = {s.score: (s.verdict, round(s.difference, 6), s.unit) for s in found.scores}
    assert of == {
        "seconds_per_seed": ("worse", 20.0, "%"), "samples_per_second": ("worse", -20.0, "%"),
        "memory_bytes": ("same", 0.0, "%"),
    }  # fmt: skip
    assert [(d.what, d.base, d.new) for d in found.setup] == [("lanes", "2", "1")]


def test_what_differs_is_named_before_any_number(tmp_path: Path, command: Command) -> None:
    base = cells("er", STEADY, code="a" * 20)
    new = [
        (replace(spec, training=spec.training | {"epochs": 99}), facts)
        for spec, facts in cells("er", STEADY, code="b" * 20)
    ]
    for spec, facts in new:
        facts["made_by"] = MADE | {"code": "b" * 20, "commit": "b-commit", "torch": "3"}
        facts["timings"] = timings(device="H200")
        if spec.seed == 0:
            facts["test"] = {"right": facts["test"]["right"], "total": [[100, 99]] * 3}
    found = lethe.compare(write_run(tmp_path / "base", base), write_run(tmp_path / "new", new[:4]))
    assert {(d.what, d.name, d.base, d.new) for d in found.setup} == {
        ("plan", "epochs", "4", "99"), ("code", "source files", "aaaaaaaaaa", "b-commit"),
        ("versions", "torch", "2", "3"), ("device", "device", "cpu", "H200"),
        ("streams", "rows of tasks", "its own", "others at the same seed"), ("seeds", "seeds", "0-4", "0-3"),
    }  # fmt: skip
    _, out, _ = command(f"compare {tmp_path / 'base'} {tmp_path / 'new'}")
    assert out.index("differs: plan: epochs: 4 in BASE, 99 in NEW") < out.index("scores:")
    refused(
        "equal records cannot be expected: epochs",
        lethe.compare,
        tmp_path / "base",
        tmp_path / "new",
        expect="equal",
    )


def test_other_numbers_of_steps_are_an_alarm_if_groups_and_streams_are_equal(tmp_path: Path) -> None:
    def run(name: str, lanes: int, steps: int) -> Path:
        made = [
            (
                toy_cell("er", s),
                record([[50, 40], [90, 45], [60, 80]], timings=timings(lanes=lanes, steps=steps)),
            )
            for s in range(2)
        ]
        return write_run(tmp_path / name, made)

    base = run("base", 2, 1000)
    assert lethe.compare(base, run("other", 2, 950)).alarms == [
        "toy class er took 950 training steps, not 1,000, with equal settings"
    ]
    assert lethe.compare(base, run("alone", 1, 950)).alarms == []  # a group has the steps of its longest lane


def test_seeds_that_repeat_each_other_are_an_alarm(tmp_path: Path) -> None:
    base, new = cells("er", STEADY), cells("er", [60] * 5)
    found = lethe.compare(write_run(tmp_path / "base", base), write_run(tmp_path / "new", new))
    assert found.repeated == ["toy class er"]
    assert lethe.compare(tmp_path / "base", tmp_path / "new", seeds=2).cells == 2
    assert found.exit_code == 1
    assert lethe.compare(tmp_path / "new", tmp_path / "new").repeated == []  # as in BASE


def test_records_of_equal_code_that_are_not_equal_are_named(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(n), cells("er", f, code="a" * 20)) for n, f in enumerate([STEADY, LOWER])
    ]
    assert [d.what for d in lethe.compare(*runs).setup] == ["records"]


def test_runs_are_found_packed_and_by_name(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    (tmp_path / "results" / "reference").mkdir(parents=True)
    pack_run(runs[0], tmp_path / "results" / "reference" / "known.lethe.gz")
    monkeypatch.chdir(tmp_path)
    assert lethe.compare("known", "base").equal_cells == 11
    refuses("unknown is not a run: give its folder, or one of known", "compare unknown base")
    refuses("unknown score 'ac'", "compare base new --scores ac")
    refuses("unknown expectation 'equals'", "compare base new --expect equals")
    other = write_run(tmp_path / "other", cells("lwf", STEADY))
    refuses("have no done cell of the same", f"compare base {other}")


def test_a_comparison_is_written_as_text_markdown_json_and_junit(
    runs: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    files = tmp_path / "c.md", tmp_path / "c.xml"
    code, out, _ = command(f"compare {runs[0]} {runs[1]} --markdown {files[0]} --junit {files[1]}")
    assert (code, "9.90" in out, "alarm: toy class er: acc is worse: by 9.90 points" in out) == (
        1,
        True,
        True,
    )
    assert "ewc" not in out
    assert "ewc" in command(f"compare {runs[0]} {runs[1]} --all")[1]
    text = files[0].read_text()
    assert text.startswith("### Lethe: 4 alarms\n\n- BASE")
    assert "| toy | class | er | acc | 5 | 70.00 | 60.10 | -9.90 |" in text
    suite = ElementTree.fromstring(files[1].read_text())[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert suite.attrib == {
        "name": "lethe compare",
        "tests": "9",
        "failures": "4",
        "skipped": "0",
        "errors": "0",
    }
    assert failed == ["acc", "aia", "forgetting", "toy class finetune seed 0 is failed"]
    code, out, _ = command(f"compare {runs[0]} {runs[1]} --json")
    assert (code, Comparison.read(json.loads(out))[0]) == (1, lethe.compare(*map(str, runs)))
