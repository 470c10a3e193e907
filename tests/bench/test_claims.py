"""Several commands on one folder: each cell is run once, by one of them, and nothing is lost."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.plan import Request
from bench.runner import dispatch
from bench.runner.dispatch import carry_out_plan
from bench.runner.options import Options
from bench.runner.planning import resolve_for
from bench.store import RunReader, claims as of_store
from bench.store.claims import BEAT, STALE, Claims, check_owner, running
from bench.train import saving
from lethe.testing import outcome
from tests.conftest import Command, ran, refused, tree

SMALL = Request("toy", ("finetune", "er[buffer=20]"), seeds=(0, 1, 2))
QUIET = {"jobs": 1, "quiet": True, "lanes": 1}
FORK = multiprocessing.get_context("fork")
"""Children have this process's toy suites, and start at once."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "claims").iterdir() if "." not in path.name)


def dead(claims: Claims, **changes: Any) -> Claims:
    """Return claims whose file names another owner; by default a process of this system that is gone."""
    claims.owner = replace(claims.owner, **{"started": "0"} | changes)
    claims._text = json.dumps(vars(claims.owner))
    return claims


def test_a_name_has_one_owner_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path, "a") as a, Claims(tmp_path, "b") as b:
        assert a.take(["x", "y"]) == {"x", "y"} == a.take(["x", "y"])
        assert b.take(["y", "z"]) == {"z"}
        assert f"process {os.getpid()} on " in b.holders(["y"])[0]
        a.release(["y", "not held"])
        assert b.take(["y", "z"]) == {"y", "z"}
        a.release(["y"])
        assert names(tmp_path) == ["x", "y", "z"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_claims_of_a_process_that_is_gone_are_free_at_once(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # a file system without hard links
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no")))
    with dead(Claims(tmp_path, "a")) as a, Claims(tmp_path, "b") as b:
        assert a.take(["x", "y"]) == {"x", "y"}
        assert b.take(["y"]) == {"y"}
        assert names(tmp_path) == ["y"]
        refused("another command runs its cells now", check_owner, a.path)
        refused("another command runs its cells now", a.take, ["z"])
        with b.alone("manifest") as alone:
            assert alone
    assert not (tmp_path / "claims").exists()


def test_claims_of_another_system_are_free_without_a_heartbeat(tmp_path: Path) -> None:
    assert STALE > 60 + BEAT  # a network file system may return times that are 60 s old
    with dead(Claims(tmp_path, "a"), system="another") as a, Claims(tmp_path, "b") as b:
        a.take(["x"])
        os.utime(a.path, (time.time() - STALE + 30,) * 2)
        assert b.take(["x"]) == set()
        with b.alone("manifest") as alone:
            assert not alone
        os.utime(a.path, (time.time() - STALE - 1,) * 2)
        assert b.take(["x"]) == {"x"}


def test_status_shows_cells_that_run_and_who_runs_them(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    ran(folder, SMALL)
    (cell, *_) = RunReader(folder).statuses()
    with Claims(folder, "a") as a, dead(Claims(folder, "b"), system="another") as b:
        a.take([cell, "manifest"])
        b.take(["x"])
        assert running(folder) == {cell: str(a.owner), "manifest": str(a.owner), "x": str(b.owner)}
        before = tree(folder)
        code, out, _ = command("status --json", str(folder))
        shown = {row["key"]: (row["state"], row["why"]) for row in json.loads(out)["cells"]}
        assert (code, shown[cell]) == (0, ("running", f"by {a.owner}"))
        assert json.loads(out)["counts"]["running"] == 1
        os.utime(b.path, (time.time() - STALE - 1,) * 2)
        assert running(folder).keys() == {cell, "manifest"}
        assert tree(folder) == before


def test_a_heartbeat_covers_all_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_store, "BEAT", 0.01)
    with Claims(tmp_path, "a") as a:
        a.take(["x", "y"])
        os.utime(a.path, (0, 0))
        deadline = time.monotonic() + 20
        while (tmp_path / "claims" / "x").stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "claims" / "y").stat().st_mtime > 1


def test_what_a_dead_command_was_removing_is_removed_with_it(tmp_path: Path) -> None:
    """The second dies after it renamed the file of the first, and before it removed its claims."""
    with dead(Claims(tmp_path, "a")) as a, dead(Claims(tmp_path, "b")) as b, Claims(tmp_path, "c") as c:
        a.take(["x"])
        a.path.rename(a.folder / f"{a.owner.token}.taken-by-{b.owner.token}")
        assert c.take(["x"]) == set()  # one command removes claims, and it is thought to be at work
        b.take(["y"])
        assert c.take(["y"]) == {"y"}
        assert c.take(["x"]) == {"x"}


def test_a_dead_command_s_claims_go_to_one_of_many(tmp_path: Path) -> None:
    cells = [f"{n:020x}" for n in range(40)]
    with dead(Claims(tmp_path, "dead")) as first:
        first.take(cells)
        others, found = [Claims(tmp_path, str(n)) for n in range(5)], {}

        def take(claims: Claims) -> None:
            for _ in range(3):
                found[claims.owner.token] = claims.take(cells)

        threads = [threading.Thread(target=take, args=(claims.__enter__(),)) for claims in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = Counter(name for held in found.values() for name in held)
        assert counts == dict.fromkeys(cells, 1)
        for claims in others:
            claims.__exit__(None, None, None)


def lines_per_cell(folder: Path) -> Counter[str]:
    lines = [line for path in (folder / "cells").glob("*.jsonl") for line in path.read_text().splitlines()]
    return Counter(json.loads(line)["key"] for line in lines)


def outcomes(folder: Path) -> list[Any]:
    return [outcome(record) for record in RunReader(folder).records()]


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 5])
def test_commands_at_once_share_the_cells(n: int, tmp_path: Path) -> None:
    ran(tmp_path / "whole", SMALL)
    folder = tmp_path / "shared"
    children = [FORK.Process(target=ran, args=(folder, SMALL), kwargs=QUIET) for _ in range(n)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * n
    assert outcomes(folder) == outcomes(tmp_path / "whole")
    assert set(lines_per_cell(folder).values()) == {1}
    assert len(RunReader(folder).manifest().commands) == n
    assert {path.partition("/")[0] for path in tree(folder)} == {"cells", "classes", "run.json"}


@pytest.mark.slow
def test_cells_of_a_killed_command_are_continued_by_the_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path / "whole", SMALL)
    folder, real = tmp_path / "shared", saving.save_checkpoint

    def save_and_sleep(*args: Any) -> None:
        real(*args)
        time.sleep(600)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", save_and_sleep)
        first = FORK.Process(target=ran, args=(folder, SMALL), kwargs=QUIET)
        first.start()
    deadline = time.monotonic() + 60
    while not list(folder.glob("checkpoints/*/facts.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (key,) = names(folder)
    (folder / "checkpoints" / key / ".abc.part").touch()
    (folder / ".abc.part").touch()
    second = FORK.Process(target=ran, args=(folder, SMALL), kwargs=QUIET | {"quiet": False})
    second.start()
    while len(lines_per_cell(folder)) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    assert second.is_alive()
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join()
    assert second.exitcode == 0
    said = f"waits for 1 cells that another command runs (process {first.pid} on "
    assert [said in line for line in capfd.readouterr().err.splitlines()].count(True) == 1
    assert outcomes(folder) == outcomes(tmp_path / "whole")
    assert set(lines_per_cell(folder).values()) == {1}
    assert (folder / ".abc.part").exists()  # perhaps of the command that was running
    ran(folder, SMALL)
    assert {path.partition("/")[0] for path in tree(folder)} == {"cells", "classes", "run.json"}


def test_a_plan_leaves_out_what_was_finished_since(tmp_path: Path) -> None:
    options = Options(**QUIET)
    plan = resolve_for([SMALL], tmp_path, options)
    ran(tmp_path, Request("toy", ("finetune",), seeds=(0, 1, 2)))
    assert carry_out_plan(plan, tmp_path, options, "test").counts == {"done": 6}
    assert set(lines_per_cell(tmp_path).values()) == {1}
    again = resolve_for([SMALL], tmp_path, Options(**QUIET, force=True))
    ran(tmp_path, SMALL, force=True)
    carry_out_plan(again, tmp_path, options, "test")
    assert set(lines_per_cell(tmp_path).values()) == {2}


def test_a_command_that_lost_its_claims_writes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*args: Any, **options: Any) -> Claims:
        return dead(Claims(*args, **options))

    real = saving.save_checkpoint

    def taken_over(*args: Any) -> None:
        with Claims(tmp_path, "other") as other:
            other.take([spec.key for spec in SMALL.cells()])
            real(*args)
            args[-1].wait()  # until it is written

    monkeypatch.setattr(dispatch, "Claims", stale)
    monkeypatch.setattr(saving, "save_checkpoint", taken_over)
    ended = ran(tmp_path, SMALL)
    assert ended.counts == {"not finished": 6}
    assert "another command runs its cells now, because this one gave no sign of life" in ended.unfinished[0]
    assert not RunReader(tmp_path).statuses()
