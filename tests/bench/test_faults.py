"""Faults of the environment: no outcome of a cell, and tried again by the next run."""

import errno
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.plan import Request
from bench.runner import faults, one_group, processes, suspects
from bench.runner.claimed_groups import ClaimedGroups
from bench.runner.progress import Notes
from bench.runner.run_outcome import Ended
from bench.store import Claims, RunReader
from lethe.testing import outcome
from strategies.core import Strategy
from suites.errors import UserError
from tests.conftest import Command, process, ran

TWO = Request("toy", ("finetune", "er[buffer=20]"), seeds=(0, 1))
FULL = partial(OSError, errno.ENOSPC, "No space left on device")


@dataclass
class Hooked(Strategy):
    """Raises what it is given in a hook."""

    name: ClassVar[str] = "hooked"

    def begin_task(self, task: Any) -> None:
        raise task


def met(act: Callable[..., object], *given: Any) -> str:
    """Return the fault of the environment behind what a call raises, empty for none."""
    try:
        act(*given)
    except Exception as error:
        return str(faults.fault_of(error) or "")
    raise AssertionError("it raises nothing")


def raised(error: BaseException, *_: Any, **__: Any) -> None:
    raise error


def caused(cause: Exception) -> None:
    try:
        raise cause
    except OSError as error:
        raise RuntimeError("the data cannot be made") from error


MISSING = partial(FileNotFoundError, errno.ENOENT, "No such file or directory", "data.csv")
NO_MEMORY = partial(OSError, errno.ENOMEM, "Cannot allocate memory")
GONE = partial(FileNotFoundError, "No usable temporary directory found in ['/tmp']")


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (raised, FULL, "No space left on device: free space there"),
        (Hooked().begin_task, FULL, "No space left on device: free space there"),
        (caused, FULL, "No space left on device: free space there"),
        (raised, MISSING, "data.csv: No such file"),
        (Hooked().begin_task, MISSING, ""),
        (raised, partial(UserError, "the mirror has no file"), "the mirror has no file"),
        (Hooked().begin_task, partial(UserError, "no"), ""),
        (Hooked().begin_task, GONE, "No usable temporary directory"),
        (raised, NO_MEMORY, ""),
        (raised, ValueError, ""),
        (raised, MemoryError, ""),
    ],
)
def test_an_error_is_the_cell_s_or_the_environment_s(act: Any, error: Any, says: str) -> None:
    found = met(act, error())
    assert says in found
    assert bool(found) == bool(says)


def test_a_folder_below_a_removed_temporary_folder_is_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = partial(FileNotFoundError, errno.ENOENT, "No such file or directory", str(tmp_path / "gone" / "x"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert met(Hooked().begin_task, gone())
    (tmp_path / "gone").mkdir()
    assert not met(Hooked().begin_task, gone())


@pytest.mark.parametrize(
    ("message", "broken", "lost"),
    [
        ("CUDA error: device-side assert triggered", True, False),
        ("CUDA error: uncorrectable ECC error encountered", True, True),
        ("CUDA error: no CUDA-capable device is detected", True, True),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", True, True),
        ("CUDA error: unknown error", True, True),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", False, False),
        ("mat1 and mat2 shapes cannot be multiplied", False, False),
    ],
)
def test_errors_of_a_device_are_distinguished(message: str, broken: bool, lost: bool) -> None:
    assert faults.breaks_process(RuntimeError(message), "cpu") == broken
    assert bool(faults.lost_device(message, "cuda:0")) == lost


def disk_full(*_: Any, **__: Any) -> None:
    raise FULL()


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "bench.store.checkpoints.write_tensors",
        "bench.store.run_folder.append",
        "bench.store.saved_models.write_tensors",
    ],
)
def test_a_full_disk_stops_the_run_and_the_next_one_finishes_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    undisturbed = ran(tmp_path / "whole", TWO)
    line = "run toy -s finetune -s er[buffer=20] --seeds 2 --jobs 1 --keep-models all --checkpoint-every 0"
    line += f" --out {tmp_path / 'r'}"
    with monkeypatch.context() as patch:
        patch.setattr(place, disk_full)
        code, out, err = command(line)
    assert (code, "now: 4 not finished" in out) == (1, True)
    says = f"lethe: not finished: toy class finetune seed 0, 3 more: cannot write into {tmp_path / 'r'}"
    assert err.splitlines()[-1].startswith(says)
    assert "No space left on device: free space there; the same command runs them" in err
    assert RunReader(tmp_path / "r").statuses() == {}
    assert command(line)[0] == 0
    records = [[outcome(r) for r in RunReader(tmp_path / name).records()] for name in ("whole", "r")]
    assert undisturbed.counts == {"done": 4}
    assert records[0] == records[1]


def test_missing_data_leaves_only_its_cells_and_force_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(tmp_path, TWO)
    original = one_group.run_group

    def missing(specs: Any, **options: Any) -> Any:
        if specs[0].strategy == "er":
            raise MISSING()
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", missing)
    ended = ran(tmp_path, TWO, force=True)
    assert ended.counts == {"done": 2, "not finished": 2}
    (why,) = ended.unfinished
    assert "data.csv: No such file or directory" in why
    assert ended.failures == {}


def test_a_removed_folder_is_not_made_again_and_a_closed_terminal_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    folder = tmp_path / "r"
    monkeypatch.setattr("sys.stderr", Closed())
    monkeypatch.setattr(Notes, "task", lambda *_: shutil.rmtree(folder, ignore_errors=True))
    ended = ran(folder, TWO, quiet=False)
    assert ended.counts == {"not finished": 4}
    assert f"cannot write into {folder}" in ended.unfinished[0]
    assert not folder.exists()
    monkeypatch.setattr(Notes, "task", lambda *_: None)
    assert ran(folder, TWO, quiet=False).counts == {"done": 4}


def test_a_manifest_that_cannot_be_written_says_what_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr("bench.store.run_folder.write_checked", disk_full)
    code, _, err = command(f"run toy -s finetune --seeds 1 --out {tmp_path / 'r'}")
    says = f"lethe: cannot write into {tmp_path / 'r'}: No space left on device: free space there\n"
    assert (code, err) == (1, says)


class Dying:
    """A worker whose process ends as a list of deaths says, then runs its group here."""

    deaths: ClassVar[list[str]] = []
    ran: ClassVar[list[int]] = []

    def __init__(self, device: str, jobs: int = 1) -> None:
        self.device = device

    def start(self) -> None:
        """Begin, or die before."""
        if self.deaths and self.deaths[0] == "at once":
            self.deaths.pop(0)
            raise TerminatedWorkerError("The exit codes of the workers are {EXIT(1)}")

    def submit(self, run: Any, group: Any, target: Any) -> Future[Ended]:
        """Run a group, or die."""
        future: Future[Ended] = Future()
        self.ran.append(len(group))
        if self.deaths and (how := self.deaths.pop(0)):
            future.set_exception(TerminatedWorkerError(f"The exit codes of the workers are {{{how}}}"))
        else:
            future.set_result(run(group, target, self.device))
        return future

    def stop(self) -> None:
        """Nothing to stop."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let workers die: the deaths of each attempt, empty for none; the first worker has died once."""
    for module in (processes, suspects):
        monkeypatch.setattr(module, "Worker", Dying)
    monkeypatch.setattr(suspects, "_run_suspect", one_group.run_one)  # its audit hook would stay
    Dying.deaths[:] = ["SIGKILL(-9)", ""]
    return Dying.deaths


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deaths", "counts", "says"),
    [
        ([], {"done": 4}, ""),
        (["SIGKILL(-9)", "SIGKILL(-9)"], {"done": 4}, ""),
        (["EXIT(3)"], {"done": 4}, ""),
        (["EXIT(3)", "EXIT(3)"], {"done": 4}, ""),
        (["EXIT(3)", "", "EXIT(3)"], {"done": 4}, ""),
        (["EXIT(3)"] * 3, {"done": 3, "failed": 1}, "alone in its process, the cell ended it: exit code 3"),
        (["SIGSEGV(-11)"] * 3, {"done": 3, "failed": 1}, "ended it: SIGSEGV"),
        (["at once"] * 2, {"done": 4}, ""),
        (["at once"] * 3, {"done": 2, "not finished": 2}, "ended 3 times (exit code 1)"),
        (["SIGKILL(-9)"] * 3, {"done": 2, "not finished": 2}, "ended 3 times (SIGKILL)"),
    ],
)
def test_a_cell_fails_that_ends_its_process_twice_alone(
    deaths: list[str], counts: dict[str, int], says: str, dying: list[str], tmp_path: Path
) -> None:
    """A group of two lanes dies alone, as halves one cell twice; a kill from outside is tried again."""
    dying += deaths
    ended = ran(tmp_path, TWO, jobs=2)
    assert ended.counts == counts
    assert says in "".join([*ended.failures, *ended.unfinished])
    assert ran(tmp_path, TWO).counts == ({"done": 2} if ended.unfinished else {})


@pytest.mark.slow
def test_a_kill_for_lack_of_memory_counts_as_the_cell_s(
    dying: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter(range(100))
    monkeypatch.setattr(suspects, "_kills_for_memory", lambda: next(kills))
    dying += ["SIGKILL(-9)"] * 3
    ended = ran(tmp_path, TWO, jobs=2)
    assert ended.counts == {"done": 3, "failed": 1}
    assert "SIGKILL, for lack of memory" in next(iter(ended.failures))


def test_suspects_run_before_a_wait_for_other_commands(
    dying: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two commands with a dead worker each would wait for each other."""
    ran(tmp_path, Request("toy", ("finetune",), seeds=(9,)))
    done_at_wait = []
    with Claims(tmp_path, "another command") as other:
        theirs = {spec.key for spec in TWO.cells() if spec.strategy == "er"}
        assert other.take(theirs) == theirs

        def wait(_: ClaimedGroups) -> None:
            done_at_wait.append(len(RunReader(tmp_path).statuses()))
            other.release(theirs)

        monkeypatch.setattr(ClaimedGroups, "wait", wait)
        dying[:] = ["SIGKILL(-9)"]
        assert ran(tmp_path, TWO, jobs=2).counts == {"done": 4}
    assert done_at_wait == [1 + 2]


@pytest.mark.slow
def test_a_device_that_breaks_is_used_by_other_processes(
    dying: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here without processes: an assertion of the device fails its cell, which is run twice alone."""
    dying.clear()
    original, tried = one_group.run_group, []

    def asserting(specs: Any, **options: Any) -> Any:
        tried.append((specs[0].strategy, [s.seed for s in specs]))
        if specs[0].strategy == "finetune" and specs[0].seed == 0:
            raise RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")
        return original(specs, **options)

    monkeypatch.setattr(one_group, "run_group", asserting)
    ended = ran(tmp_path, TWO)
    assert ended.counts == {"done": 3, "failed": 1}
    assert "CUDA error: device-side assert triggered" in next(iter(ended.failures))
    both, one = ("finetune", [0, 1]), ("finetune", [0])
    assert tried == [both, both, one, one, ("finetune", [1]), ("er", [0, 1])]


def test_a_lost_device_stops_the_run(
    dying: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(specs: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    monkeypatch.setattr(one_group, "run_group", lost)
    dying.clear()
    ended = ran(tmp_path, TWO)
    assert ended.counts == {"not finished": 4}
    (why,) = ended.unfinished
    assert "device cpu is lost: CUDA error: no CUDA-capable device is detected: check it" in why


class Unprintable(Exception):
    """An error without a message."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("caf\udce9"), r"ValueError: caf\udce9 ("),
        (ValueError("x" * 10**6), f"ValueError: {'x' * 1000} ("),
        (Unprintable(), "Unprintable ("),
        (SystemExit(3), "SystemExit: 3 ("),
    ],
)
def test_any_error_of_a_cell_is_recorded(
    error: BaseException, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_group, "run_group", partial(raised, error))
    ended = ran(tmp_path, TWO)
    assert ended.counts == {"failed": 4}
    assert says in next(iter(ended.failures))
    assert RunReader(tmp_path).unreadable == []


ENDS_ITSELF = """
import os, signal
from lethe import Strategy

class Ends(Strategy):
    how: str = "exit"

    def begin_task(self, task):
        if task == 1 and self.how == "exit":
            os._exit(3)
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_cells_that_end_their_process_fail_and_others_are_done(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS_ITSELF)
    own = ["-s", "./ends.py:Ends", "-s", "./ends.py:Ends[how=kill]"]
    done = process(
        "run digits -s finetune --seeds 1 --set epochs=1 --jobs 2 --no-check --out r", *own, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "now: 1 done, 2 failed" in done.stdout
    assert "process died: alone in its process, the cell ended it: exit code 3" in done.stderr
    assert "RuntimeError: the cell ends its own process: signal 9 (ends.py, line 12)" in done.stderr


@pytest.mark.slow
def test_workers_end_with_their_killed_parent(tmp_path: Path) -> None:
    """The end of its output shows that nobody holds the terminal any more."""
    words = "run digits -s cumulative -s joint --seeds 4 --set epochs=200 --jobs 2 --out r"
    line = [sys.executable, "-m", "bench", *words.split()]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path) as parent:
        while len(list(tmp_path.glob("r/progress/*"))) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=5)
