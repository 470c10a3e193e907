"""Published numbers: read with their kind of spread, run, and compared by the rule."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.plan import Request
from bench.report.published_numbers import caption, rows
from bench.results import load
from bench.results.published import TABLES, Entry, Verdict, as_sem, compare, names, read
from bench.runner import Options, carry_out
from tests.conftest import process, refused

TABLE = """
title = "A table"
citation = "Somebody 2020"
suite = "toy"
score = "acc"
spread = "{spread}"
published_seeds = 4
first_seed = 1
set = {{ epochs = 1 }}

[[entry]]
method = "None"
run = "finetune"
class = {{ mean = 50.0, spread = 2.0 }}
domain = {{ mean = 70.0 }}

[[entry]]
method = "Replay"
run = "er[buffer=20]"
class = {{ mean = 99.0, spread = 0.01, note = "known" }}
"""


def table_file(folder: Path, spread: str = "sd", **changes: str) -> Path:
    text = TABLE.format(spread=spread)
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "table.toml"
    path.write_text(text)
    return path


def test_every_kind_of_spread_becomes_a_standard_error() -> None:
    found = [as_sem(*of) for of in ((2.0, "sem", 4), (2.0, "sd", 4), (1.96, "ci95", 4))]
    assert found == pytest.approx([2.0, 1.0, 1.0], rel=1e-4)


def test_requests_of_a_table_are_by_scenario_from_its_first_seed(tmp_path: Path) -> None:
    table = read(str(table_file(tmp_path)))
    assert table.requests(3) == [
        Request("toy", ("finetune",), ("domain",), (1, 2, 3), {"epochs": "1"}),
        Request("toy", ("finetune", "er[buffer=20]"), ("class",), (1, 2, 3), {"epochs": "1"}),
    ]
    assert [r.strategies for r in table.requests(1, ["Replay"])] == [("er[buffer=20]",)]
    (only,) = table.requests(1, (), ["domain"])
    assert (only.strategies, only.scenarios) == (("finetune",), ("domain",))
    refused("unknown scenario of table 'task'", table.requests, 1, (), ["task"])
    refused("unknown method of table 'Repla'; did you mean Replay", table.requests, 1, ["Repla"])


def test_verdicts_follow_the_rule(tmp_path: Path) -> None:
    """|difference| <= max(3 sqrt(SEM_published^2 + SEM_ours^2), 0.3 points), from the records alone."""
    table = read(str(table_file(tmp_path)))
    run = tmp_path / "run"
    carry_out(table.requests(3), run, Options(jobs=1, quiet=True), "test")
    frames = load(run)
    verdicts = compare(table, frames, 3)
    names = [(v.entry.method, v.entry.scenario) for v in verdicts]
    assert names == [("None", "domain"), ("None", "class"), ("Replay", "class")]
    for v in verdicts:
        either = (f"{v.entry.selector}[epochs=1]", v.entry.selector)
        own = frames.scores.query(f"score == 'acc' and scenario == '{v.entry.scenario}'")
        mine = own[own["identity"].isin(either)]["value"]
        assert v.n == len(mine) == 3
        assert [v.mean, v.sem] == pytest.approx([100 * mine.mean(), 100 * mine.std() / math.sqrt(3)])
        known = {("None", "class"): 1.0, ("Replay", "class"): 0.005}
        # Without a published spread: four seeds with our standard deviation.
        theirs = known.get((v.entry.method, v.entry.scenario), 100 * mine.std() / math.sqrt(4))
        assert v.allowed == pytest.approx(max(3 * math.sqrt(theirs**2 + v.sem**2), 0.3))
    assert verdicts[2].agrees is False
    assert rows(verdicts)[1][2] == "50.00 ± 1.00"
    # One seed has no spread, and a method that was not run has no verdict.
    one = compare(table, frames, 1)[1]
    assert (math.isnan(one.allowed), one.agrees, one.words) == (True, None, "cannot tell: 2 seeds are needed")
    later = compare(read(str(table_file(tmp_path, **{"first_seed = 1": "first_seed = 9"}))), frames, 2)
    assert {(v.agrees, v.words) for v in later} == {(None, "not run")}
    assert rows(later)[0][3:] == ("–", "0", "–", "–", "–", "not run")
    assert "standard error (SEM)" in caption(table, [])


def verdict(ours: float, sd: float, n: int, mean: float = 50.0, sem: float | None = 0.1) -> Verdict:
    return Verdict(Entry("M", "class", "er", mean, sem, ""), n, ours, sd, published_seeds=20, least=2.0)


@pytest.mark.parametrize(
    ("v", "agrees", "words"),
    [
        (verdict(50.5, 0.5, 5), True, "agrees"),
        (verdict(51.5, 0.5, 5), False, "differs"),
        (verdict(50.2, 0.0, 5, sem=0.0), True, "agrees"),  # within 0.3 points, whatever the spread
        # A difference of 12 points is allowed, as one of 0.1 is, so nothing is known. By hand: n is
        # the smallest whole number above 13^2 / ((2 / 3.8416)^2 - 0.1^2) = 647.4.
        (verdict(62.0, 13.0, 5), None, "cannot tell: 648 seeds would"),
        (verdict(50.1, 13.0, 5), None, "cannot tell: 648 seeds would"),
        # The published spread is too wide to detect 2 points, whatever our number of seeds.
        (verdict(52.0, 9.0, 5, sem=1.5), None, "cannot tell: 20 seeds see 9.6 points, no number sees 2"),
        (verdict(52.0, 9.0, 25, sem=1.5), None, "cannot tell: at best 5.8 points are seen"),
        (verdict(51.0, 2.0, 5, sem=None), None, "cannot tell: 57 seeds would"),
    ],
)
def test_a_verdict_needs_enough_seeds_to_detect_two_points(
    v: Verdict, agrees: bool | None, words: str
) -> None:
    assert (v.agrees, v.words) == (agrees, words)
    # By simulation: in 80 % of studies the detectable difference exceeds the allowed one.
    draws = np.random.default_rng(0).standard_normal((2, 20_000))
    ours = v.entry.mean + v.seen + v.sem * draws[0]
    found = np.abs(ours - v.entry.mean - v.published_sem * draws[1]) > v.allowed
    assert found.mean() == pytest.approx(0.8 if v.sem else 1.0, abs=0.01 if v.sem else 1.0)
    if (n := v.seeds_to_see(2.0)) is not None and agrees is None:
        assert replace(v, n=n, mean=50.0).words == "agrees"
        assert replace(v, n=n - 1, mean=50.0).words.startswith("cannot tell")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({'spread = "sd"': 'spread = "std"'}, "spread must be 'sem', 'sd' or 'ci95', not 'std'"),
        ({'score = "acc"': 'score = "accuracy"'}, "unknown score in"),
        ({'citation = "Somebody 2020"': ""}, "citation"),
        ({"published_seeds = 4": "published_seeds ="}, "is not TOML"),
    ],
)
def test_an_invalid_table_file_is_refused(tmp_path: Path, change: dict[str, str], says: str) -> None:
    refused(re.escape(says), read, str(table_file(tmp_path, **change)))


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    refused("did you mean three-types-split-mnist", read, "three-types-splitmnist")


@pytest.mark.parametrize("name", names())
def test_tables_of_lethe_can_be_run(name: str) -> None:
    """Every selector makes cells, and spreads are small beside the numbers."""
    table = read(name)
    assert (TABLES / f"{name}.toml").is_file()
    for request in table.requests(2):
        assert request.cells()
    for entry in table.entries:
        assert 0 < entry.mean <= 100
        assert entry.sem is None or 0 < entry.sem < 10


@pytest.mark.slow
def test_lethe_verify_exits_with_1_unless_all_entries_agree(tmp_path: Path) -> None:
    path = table_file(tmp_path, **{'suite = "toy"': 'suite = "digits"'})
    line = f"verify {path} --seeds 2 --only Replay"
    done = process(f"{line} --out {tmp_path / 'run'}")
    assert done.returncode == 1
    for words in (
        "Replay",
        "differs",
        "Replay, class: known",
        "of 1 entries 0 agree, 1 differ, and 0 cannot",
    ):
        assert words in done.stdout
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert process(f"{line} --records {tmp_path / 'run'}").stdout == done.stdout
    assert process(f"{line} --out {tmp_path / 'run'} --look-only").stdout == done.stdout
    (entry,) = json.loads(process(f"{line} --out {tmp_path / 'run'} --look-only --json").stdout)["entries"]
    assert (entry["method"], entry["agrees"], type(entry["published"])) == ("Replay", False, float)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    # Without --out it writes to results/runs, never to committed records.
    assert "2 cells, 2 to run" in process(f"{line} --dry-run").stdout
    assert process("verify nonesuch").returncode == 2
