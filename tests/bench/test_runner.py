"""Runs on disk: resuming, kills, failures, damaged files."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import Mock

import pytest
import torch

import bench
from bench.cli.run import run as command
from bench.plan import Request, codes_of, selectors
from bench.results import load
from bench.runner import one_group
from bench.runner.options import Options, check_device
from bench.runner.planning import resolve_for
from bench.runner.progress import Notes, Progress, UnderWay
from bench.schema import CellRecord
from bench.store import RunFolder, RunReader
from bench.train import run_group
from lethe.testing import outcome, toy_cell
from suites import REGISTRY
from tests.conftest import Command, ran, refused, tree, unchecked

SMALL = Request("toy", ("finetune", "er[buffer=20]", "er[buffer=20,lr=0.02]"), seeds=(0, 1, 2))


def cells(folder: Path) -> dict[str, Any]:
    """Return the deterministic fields of all records, and their class counts."""
    run = RunReader(folder)
    found: dict[str, Any] = {}
    for record in run.records():
        classes = run.classes(record["key"])
        assert record["status"] != "done" or classes is not None
        found[record["key"]] = outcome(record)
        found[record["key"]]["classes"] = classes and {k: v for k, v in classes.items() if k != "written"}
    return found


def line_files(run: Path, folder: str = "cells") -> list[Path]:
    return sorted((run / folder).glob("*.jsonl"))


def test_only_missing_cells_are_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ran(run, SMALL).counts == {"done": 9}
    (path,) = line_files(run)
    _, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(rest)
    assert ran(run, SMALL).counts == {"done": 1}
    after = b"".join(p.read_bytes() for p in line_files(run))
    assert (after[: len(rest)], after.count(b"\n")) == (rest, 9)
    assert ran(run, SMALL).counts == {}
    assert ran(run, SMALL, force=True).counts == {"done": 9}
    assert list((run / "checkpoints").iterdir()) == []
    assert not (run / "progress").exists()


def stopped(monkeypatch: pytest.MonkeyPatch, tasks: int, folder: Path, request: Request, **how: Any) -> None:
    """Run until some tasks have begun, then press Ctrl-C."""
    left = iter(range(tasks, -1, -1))

    def note(*_: Any) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Notes, "task", note)
        with pytest.raises(KeyboardInterrupt):
            ran(folder, request, **how)


def begun(
    monkeypatch: pytest.MonkeyPatch, folder: Path, request: Request, **how: Any
) -> list[tuple[str, int]]:
    """Run, and return the first key and the number of tasks done of each group at its beginning."""
    found: dict[str, int] = {}
    monkeypatch.setattr(Notes, "task", lambda self, done, tasks: found.setdefault(self._path.name, done))
    ran(folder, request, **how)
    return list(found.items())


def test_force_stopped_and_repeated_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy suite has two tasks: the stopped run did one cell and a task of the next."""
    request, how = Request("toy", ("finetune",), seeds=(0, 1, 2)), {"force": True, "lanes": 1}
    first, second, third = (spec.key for spec in request.cells())
    ran(tmp_path, request)
    before = cells(tmp_path)
    stopped(monkeypatch, 4, tmp_path, request, **how)
    assert cells(tmp_path) == before
    lines = resolve_for([request], tmp_path, Options(**how)).lines()
    assert "1 of 3 cells have new records" in lines[-1]
    assert begun(monkeypatch, tmp_path, request, **how) == [(second, 1), (third, 0)]
    assert [key for key, _ in begun(monkeypatch, tmp_path, request, **how)] == [first, second, third]
    assert cells(tmp_path) == before


def test_force_keeps_an_old_checkpoint_until_a_new_one_is_written_and_does_not_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, run = Request("toy", ("finetune",), seeds=(0,)), RunReader(tmp_path)
    stopped(monkeypatch, 1, tmp_path, request)
    (old,) = run.checkpoints.headers().values()
    stopped(monkeypatch, 0, tmp_path, request, force=True)
    assert list(run.checkpoints.headers().values()) == [old]
    assert [done for _, done in begun(monkeypatch, tmp_path, request, force=True)] == [0]


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, True), (1e9, False)])
def test_checkpoints_are_written_as_often_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, saved: bool
) -> None:
    request = Request("toy", ("finetune",), seeds=(0,))
    stopped(monkeypatch, 1, tmp_path, request, checkpoint_every=seconds)
    assert bool(RunReader(tmp_path).checkpoints.headers()) == saved
    ran(tmp_path / "whole", request)
    ran(tmp_path, request, checkpoint_every=seconds)
    assert cells(tmp_path) == cells(tmp_path / "whole")
    defaults = [signature(of).parameters["checkpoint_every"].default for of in (Options, bench.run, command)]
    assert defaults == [1.0] * 3


def test_retry_failed_stopped_and_repeated_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, original, tried = Request("toy", ("finetune",), seeds=(0, 1, 2)), one_group.run_group, []

    def failing(specs: Any, **options: Any) -> Any:
        tried.append(specs[0].seed)
        if len(tried) == 5:
            raise KeyboardInterrupt
        if specs[0].seed < 2:
            raise RuntimeError("no")
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", failing)
    ran(tmp_path, request, lanes=1)
    again = partial(ran, tmp_path, request, lanes=1, retry_failed=True)
    with pytest.raises(KeyboardInterrupt):
        again()
    again()
    again()
    assert tried == [0, 1, 2, 0, 1, 1, 0, 1]


def test_finished_cells_are_read_twice_and_types_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once to plan, and once to find damaged ones."""
    request, read = replace(SMALL, seeds=tuple(range(9))), CellRecord.read
    ran(tmp_path, request)
    selectors._hints.cache_clear()
    types, reads = Mock(side_effect=get_type_hints), Mock(side_effect=read)
    monkeypatch.setattr(selectors, "get_type_hints", types)
    monkeypatch.setattr(CellRecord, "read", reads)
    assert ran(tmp_path, replace(request)).counts == {}
    assert (reads.call_count, types.call_count) == (2 * len(request.cells()), 2)  # of finetune and er


@pytest.mark.slow
def test_resuming_2_000_finished_cells_takes_under_2_s(tmp_path: Path) -> None:
    """In time of the processor: other tests may run at the same time."""
    names = ("finetune", "er", "ewc", "lwf")
    asked = tuple(f"{name}[lr={n / 100}]" for name in names for n in range(1, 51))
    request, one = Request("digits", asked, seeds=tuple(range(10))), Request("digits", ("er",), seeds=(0,))
    ran(tmp_path / "one", one)
    (done,) = RunReader(tmp_path / "one").records()
    own = {"schema", "key", "written", "spec", "identity", "has_classes"}
    measured = {name: done[name] for name in done.keys() - own}
    cells, run = request.cells(), RunFolder(tmp_path / "many")
    codes = codes_of(cells)
    code = {of.fingerprint: of.files for of in codes.values()}
    run.open(cells, request.shared(), RunReader(tmp_path / "one").manifest().data, "test", "cpu", code=code)
    made = {key: {"made_by": done["made_by"] | {"code": of.fingerprint}} for key, of in codes.items()}
    run.write_group((spec, measured | made[spec.key]) for spec in cells)
    began = time.process_time()
    assert ran(tmp_path / "many", replace(request)).counts == {}
    assert time.process_time() - began < 2


def test_jobs_and_lanes_do_not_change_a_result(tmp_path: Path) -> None:
    for lanes in (0, 1, 4):
        ran(tmp_path / str(lanes), SMALL, lanes=lanes)
    assert cells(tmp_path / "0") == cells(tmp_path / "1") == cells(tmp_path / "4")


@pytest.mark.slow
def test_only_the_cell_that_raises_fails_and_not_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = one_group.run_group

    def failing(specs: Any, **options: Any) -> Any:
        if any(s.seed == 1 for s in specs):
            raise RuntimeError("seed 1 is cursed\nsecond line")
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", failing)
    request = Request("toy", ("finetune",), seeds=(0, 1, 2))
    outcome, why = ran(tmp_path, request), "RuntimeError: seed 1 is cursed"
    assert outcome.counts == {"done": 2, "failed": 1}
    place = r"\(\S*test_runner.py, line \d+\)"
    assert re.fullmatch(f"toy class finetune seed 1: {why} {place}", *outcome.failures)
    of = "lanes from toy class finetune seed"
    assert outcome.halved == [f"{lanes} {of} {first} on: {why}" for lanes, first in ((3, 0), (2, 1))]
    (failed,) = [r for r in RunFolder(tmp_path).records() if r["status"] == "failed"]
    assert "in failing" in failed["error"]["traceback"]
    assert ran(tmp_path, request).counts == {}
    monkeypatch.setattr(one_group, "run_group", original)
    assert ran(tmp_path, request, retry_failed=True).counts == {"done": 1}


@pytest.mark.slow
def test_a_group_out_of_memory_is_run_as_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    original = one_group.run_group

    def narrow(specs: Any, **options: Any) -> Any:
        if len(specs) > 2:
            raise MemoryError("3 lanes do not fit")
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", narrow)
    code, out, err = command(f"run toy -s finetune --seeds 3 --jobs 1 --out {tmp_path / 'r'}")
    assert (code, "now: 3 done" in out) == (0, True)
    halved = "ran as halves: 3 lanes from toy class finetune seed 0 on: MemoryError: 3 lanes do not fit"
    assert err.splitlines()[-1] == halved
    assert sorted(record["timings"]["lanes"] for record in RunReader(tmp_path / "r").records()) == [1, 2, 2]


def test_damaged_records_are_set_aside_and_run_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran(run, SMALL)
    good = cells(run)
    (path,) = line_files(run)
    lines = unchecked(path.read_text()).splitlines()
    altered = json.loads(lines[3])
    altered["spec"]["seed"] = 99
    lines[0], lines[1], lines[3] = lines[0][:100], lines[2], json.dumps(altered)
    (run / "cells" / f"{json.loads(lines[1])['key'][::-1]}.json").write_text(lines[1])
    path.write_text("\n".join(lines) + "\n")
    (run / "cells" / "notes.json").write_text('{"hello": 1}')
    before = tree(run)
    opened = RunReader(run)
    assert len(opened.records()) == 9 - 3
    whys = "not complete JSON", "not the cell its name says", "its key does not match its spec"
    assert [sum(why in line for line in opened.unreadable) for why in whys] == [1, 1, 1]
    assert len(opened.unreadable) == 4
    assert tree(run) == before
    outcome = ran(run, SMALL)
    assert outcome.counts == {"done": 3}
    assert len(outcome.set_aside) == len(list((run / "set-aside").iterdir())) == 4
    assert cells(run) == good
    assert ran(run, SMALL).set_aside == []


def test_damaged_confusion_counts_are_made_again(tmp_path: Path) -> None:
    asked = Request("toy", ("finetune",), seeds=(0, 1))
    ran(tmp_path, asked)
    good = cells(tmp_path)
    (path,) = line_files(tmp_path, "classes")
    whole = path.read_bytes()
    assert whole.count(b"\n") == 2
    for damage, lost, named in (
        (whole.replace(b",4]", b",5]", 1), 1, True),
        (whole.replace(b"crc32", b"crc33", 1), 1, True),
        (whole[:-1], 2, False),
    ):
        shutil.rmtree(tmp_path / "set-aside", ignore_errors=True)
        path.write_bytes(damage)
        outcome = ran(tmp_path, asked)
        assert outcome.counts == {"done": lost}
        assert len(outcome.set_aside) == named
        assert cells(tmp_path) == good
    assert ran(tmp_path, asked).counts == {}


def identities(run: Path) -> list[str]:
    return sorted(str(spec["identity"]) for spec in (r["spec"] for r in RunFolder(run).each(dict).values()))


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_several_settings_in_a_folder_are_rows_of_their_own(tmp_path: Path, together: bool) -> None:
    """In one command or one after the other; what differs from the first is in identity and key."""
    run = tmp_path / "run"
    first = Request("toy", ("finetune", "er[epochs=2]"), settings={"lr": "0.02"})
    others = [
        Request("toy", ("finetune", "finetune[lr=0.02]"), settings={"epochs": "2"}),
        Request("toy", ("finetune[epochs=4]",), settings={"epochs": "2", "lr": "0.02"}),  # the first's
        Request("toy", ("er+lwf",), ("class",), settings={"model": "cnn", "width": "2", "hidden": "8"}),
        Request("toy", ("finetune",), ("task",), settings={"epochs": "2"}),  # the first of its scenario
    ]
    for tables in [[first, *others]] if together else [[table] for table in (first, *others)]:
        ran(run, *tables)
    lr = "lr=0.01"
    assert identities(run) == sorted(
        [
            "finetune",
            "er[epochs=2]",
            f"finetune[epochs=2,{lr}]",
            "finetune[epochs=2]",
            f"er[hidden=8,{lr},model=cnn,width=2]+lwf",
            "finetune",
        ]
    )
    rows = load(run).cells.groupby(["suite", "scenario", "identity"]).size()
    assert list(rows) == [1] * 6
    before = tree(run)
    assert ran(run, first, *others).counts == {}
    assert {k: v for k, v in tree(run).items() if "run.json" not in str(k)} == {
        k: v for k, v in before.items() if "run.json" not in str(k)
    }


def test_a_folder_has_one_version_of_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    ran(run, Request("toy", ("finetune",)))
    before = tree(run)
    monkeypatch.setitem(REGISTRY.entered, "toy", replace(REGISTRY.entered["toy"], version=2))
    says = "has toy/class with version = 1, not 2: choose another --out"
    refused(says, ran, run, Request("toy", ("er",)))
    assert tree(run) == before


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        refused(r"cannot write|is a file", ran, folder, Request("toy", ("finetune",)))


def test_unknown_and_unavailable_devices_are_refused() -> None:
    check_device("cpu")
    refused("unknown device 'gpu'", check_device, "gpu")
    if not torch.cuda.is_available():
        refused("no CUDA device is available", check_device, "cuda")


def test_a_run_can_be_started_and_loaded_from_python(tmp_path: Path) -> None:
    frames = bench.run("toy", ["er", "finetune"], seeds=2, out=tmp_path / "r", settings={"epochs": 2})
    assert frames.cells["status"].tolist() == ["done"] * 4
    assert bench.load(tmp_path / "r").scores.equals(frames.scores)


def started(words: str, out: Path, **options: Any) -> subprocess.Popen[str]:
    """Start ``lethe run`` in a new process."""
    line = [sys.executable, "-m", "bench", "run", "digits", *words.split(), "--out", str(out)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_run_killed_at_random_moments_resumes_to_the_same_records(tmp_path: Path) -> None:
    """Records equal those of an undisturbed run, except for timings."""
    bench.run("digits", ["er", "ewc"], seeds=3, out=tmp_path / "whole", settings={"epochs": 3})
    words = "-s er -s ewc --seeds 3 --set epochs=3 --jobs 2 --lanes 2 --checkpoint-every 0"
    broken = tmp_path / "broken"
    moments = random.Random(0)
    killed = 0
    for _ in range(3):
        process, deadline = started(words, broken, start_new_session=True), time.monotonic() + 60
        while not (broken / "progress").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 1.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed > 0
    last = started(words, broken)
    out, errors = last.communicate()
    assert last.returncode == 0, errors
    assert "cells" in errors or "nothing to do" in out
    assert cells(broken) == cells(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_with_130_and_says_how_to_resume(
    tmp_path: Path, sent: signal.Signals
) -> None:
    """Interrupted by Ctrl-C, or by the SIGTERM of a batch system."""
    # Tests run in the background ignore SIGINT, and so would their child processes.
    restore_sigint = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    words = "-s cumulative --seeds 4 --set epochs=60 --jobs 1 --checkpoint-every 0"
    process = started(words, tmp_path / "r", preexec_fn=restore_sigint)
    while not list(tmp_path.glob("r/checkpoints/*/facts.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors


def test_progress_names_the_method_steps_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a log; half of two of four cells is done, a quarter of the work: three times as long is left."""
    specs = Request("toy", ("er", "finetune"), seeds=(0, 1)).cells()
    monkeypatch.setattr("bench.runner.progress._SECONDS", -1.0)
    with Progress(tmp_path, specs, quiet=False) as progress:
        notes = Notes(tmp_path, [spec.key for spec in specs[:2]])
        notes.task(1, 3)
        notes.step(30, 60)
        (group,) = progress.under_way().values()
        assert group == UnderWay(lanes=2, task=1, tasks=3, step=30, steps=60)
        progress.began -= 100
        assert progress.left(progress.under_way()) == "about 5 min left"
        progress._update()
        progress.done(specs[:2])
        assert progress.under_way() == {}
        assert progress.left({}) == "about 100 s left"
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "0/4 cells, 100 s, about 5 min left: toy class er seed 0 and 1 more, task 2 of 3, step 30 of 60"
    )
    assert second == "2/4 cells, 100 s, about 100 s left: toy class er seed 0 and 1 more"


def test_steps_are_reported_while_a_group_learns() -> None:
    seen: list[tuple[int, int]] = []
    run_group([toy_cell("finetune", 0)], on_step=lambda step, steps: seen.append((step, steps)))
    steps = seen[0][1]
    assert seen[:steps] == [(n + 1, steps) for n in range(steps)]
