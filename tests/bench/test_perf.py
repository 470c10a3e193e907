"""``lethe perf``: what it measures, what it concludes, and which trees it compares."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from bench.checks import against as module
from bench.checks.against import Ratio
from bench.checks.steady_state import BARE_BATCH, BARE_STEPS, Setup, Turn, Workload, bare_loop, timed
from bench.checks.trees import checked_out, current, revision
from tests.conftest import Command, Refuses, refused
from tests.planted_slowness import METHOD, committed
from tests.scratch_repository import commit, git

DIGITS = Setup("digits", "er", seconds=0.001)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.10, 1.11, 1.09, 1.10), "slower"),
        ((0.90, 0.91, 0.89, 0.90), "faster"),
        ((1.00, 1.01, 0.99, 1.00), "same"),
        ((1.03, 1.031, 1.029, 1.03), "same"),  # within the margin, and known well
        ((1.00, 1.20, 0.90, 1.10), "unclear"),
        ((1.06, 1.30, 0.95, 1.02), "unclear"),  # above the margin, but its interval holds 1
    ],
)
def test_a_verdict_needs_the_ratio_and_its_interval(ratios: tuple[float, ...], verdict: str) -> None:
    found = Ratio(DIGITS, [math.log(r) for r in ratios])
    assert found.verdict(0.05) == verdict
    ratio, low, high = found.interval
    assert low < ratio < high
    assert ratio == pytest.approx(math.prod(ratios) ** (1 / len(ratios)))
    assert low * high == pytest.approx(ratio**2)  # symmetric on the scale of logarithms


def test_a_turn_times_steps_and_the_bare_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(DIGITS)
    assert work.rows == 16
    calls: list[str] = []
    monkeypatch.setattr(work, "ours", lambda: calls.append("ours"))
    monkeypatch.setattr(work, "bare", lambda: calls.append("bare"))
    work.repeats = work.bare_repeats = 2
    work.turn()
    work.turn(bare_first=True)
    assert calls == ["ours"] * 2 + ["bare"] * 4 + ["ours"] * 2
    assert Turn(0.003, 0.002).ratio == pytest.approx(1.5)


def test_time_is_that_of_this_process_alone() -> None:
    from time import sleep

    assert timed(lambda: sleep(0.2), torch.device("cpu")) < 0.1


def test_the_bare_loop_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    real = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        "torch.nn.functional.cross_entropy", lambda x, y: (losses.append(len(x)), real(x, y))[1]
    )
    bare_loop(torch.device("cpu"))()
    assert losses == [BARE_BATCH] * BARE_STEPS


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one method, whose current folder this is."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    committed(tmp_path, 0)
    return tmp_path


def test_a_revision_is_checked_out_and_removed(scratch: Path) -> None:
    committed(scratch, 3)
    (scratch / "mine.py").write_text("edited")
    with checked_out("HEAD~1") as old:
        assert (old.folder / "mine.py").read_text() == METHOD.format(work=0)
        assert old.revision == revision("HEAD~1")
        assert (old.python, current().python) == (current().python, current().python)
        assert old.environment["PYTHONPATH"].split(os.pathsep)[0] == str(old.top)
    assert not old.top.exists()
    assert git(scratch, "worktree", "list").count("\n") == 0
    assert (scratch / "mine.py").read_text() == "edited"
    refused("no revision 'nothing' in this repository", checked_out("nothing").__enter__)


def test_perf_beside_a_bare_loop(command: Command, refuses: Refuses) -> None:
    code, out, _ = command("perf digits -s er --turns 6 --json")
    assert code == 0
    (row,) = json.loads(out)["measured"]
    ratio, low, high = row["ratio"]
    assert 0 < low <= ratio <= high
    assert (len(row["turns"]), row["setup"]["strategy"], row["setup"]["lanes"]) == (6, "er", 1)
    refuses("cannot read --lanes '0'", "perf digits -s er --lanes 0")
    refuses("unknown strategy 'err'", "perf digits -s err")


@pytest.mark.slow
def test_perf_against_a_revision(
    scratch: Path, command: Command, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAIRS", (2, 2))
    monkeypatch.setattr(module, "BLOCKS", 2)
    committed(scratch, 2000)  # many times the work
    code, out, err = command("perf digits -s ./mine.py:Mine --against HEAD~1 --json")
    (row,) = json.loads(out)["measured"]
    assert (code, row["verdict"], row["pairs"]) == (1, "slower", 2)
    assert row["ratio"][0] > 1.5
    assert "pair 2 of 2 to 2 is measured" in err
    (scratch / "mine.py").write_text("import nothing_of_this_name")
    commit(scratch, "broken", "mine.py")
    (scratch / "mine.py").write_text(METHOD.format(work=0))
    refuses("cannot measure " + revision("HEAD")[:12], "perf digits -s ./mine.py:Mine --against HEAD")
