"""``lethe bisect``: it finds a planted fault, skips what cannot be run, and continues."""

import json
from pathlib import Path

import pytest

from bench.checks import bisection
from bench.checks.bisection import Bisection, Found
from bench.checks.steady_state import Setup
from bench.checks.trees import git
from suites.errors import EnvironmentFault
from tests.conftest import Command, Refuses
from tests.planted_bisections import history
from tests.planted_slowness import METHOD

GOOD = METHOD.format(work=0)
NO_MEMORY = GOOD.replace("strategies.replay.er import ER", "lethe import Strategy as ER")
WORDS = "-- digits -s ./mine.py:Mine --seeds 3 --set epochs=3 --score acc"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the commits of a repository in the current folder: from 3 on it forgets, 2 is broken."""
    monkeypatch.chdir(tmp_path)
    return history(tmp_path, GOOD, NO_MEMORY, first=3, broken=2, commits=6)


@pytest.mark.slow
def test_bisect_finds_the_first_bad_revision(
    repository: list[str], command: Command, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = f"--good {repository[0]} --bad {repository[5]}"
    code, out, _ = command(f"bisect {ends} {WORDS}")
    assert code == 1  # the broken commit is just before the first bad one
    assert f"skipped {repository[2][:7]} commit 2: cannot run at {repository[2][:12]}" in out
    assert f"one of {repository[2][:12]}, {repository[3][:12]}" in out or (
        f"one of {repository[3][:12]}, {repository[2][:12]}" in out
    )
    held = json.loads(Path("results/runs/bisect/bisect.json").read_text())["verdicts"]
    assert {held[name]["verdict"] for name in repository[3:] if name in held} == {"bad"}
    assert git("worktree", "list").count("\n") == 0
    # It continues: nothing is run again.
    monkeypatch.setattr(Bisection, "_results_of", None)
    assert command(f"bisect {ends} {WORDS}")[1] == out
    refuses("holds another bisection", f"bisect {ends} {WORDS.replace('acc', 'aia')}")
    refuses(
        "is not an ancestor of", f"bisect --good {repository[5]} --bad {repository[0]} --out other {WORDS}"
    )


@pytest.mark.pinned  # the words of click
def test_bisect_refuses_wrong_words(repository: list[str], command: Command, refuses: Refuses) -> None:
    ends = f"--good {repository[0]} --bad {repository[5]}"
    code, _, err = command(f"bisect {ends} -- digits -s er --sed 5")
    assert (code, "Usage: lethe run" in err, "No such option: --sed" in err) == (2, True, True)
    refuses("--score needs the name of a score", f"bisect {ends} -- digits -s er --score")
    refuses("no revision 'v9'", f"bisect --good v9 --bad HEAD {WORDS}")


def test_a_bisection_is_read_as_written(tmp_path: Path) -> None:
    asked = Bisection(
        tmp_path, "a" * 40, "b" * 40, [], ["acc"], [Setup("digits", "er", settings={"batch": "8"})]
    )
    asked.verdicts["c" * 40] = Found("skip", "cannot run")
    asked.write()
    assert Bisection.read(tmp_path) == asked


def test_a_fault_of_the_environment_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise EnvironmentFault("no space left: free space there")

    monkeypatch.chdir(tmp_path)  # main goes there, and the test must come back
    asked = Bisection(tmp_path, "a" * 40, "b" * 40, [], ["acc"])
    asked.write()
    monkeypatch.setattr(Bisection, "run_at", full)
    monkeypatch.setattr(bisection, "git", lambda *_: "c" * 40)
    assert bisection.main([str(tmp_path), str(tmp_path)]) == 128
    assert Bisection.read(tmp_path).verdicts == {}
