"""Groups run on engines as on one machine: the same records, and nothing lost or made twice unsaid."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import lethe
from bench.engines import Lost, Refused, engine_at
from bench.plan import Request
from bench.runner import dispatch, on_engine, there
from bench.store import Claims, RunReader
from lethe.testing import outcome
from suites import REGISTRY
from tests import many_cells
from tests.conftest import Command, Refuses, ran, refused
from tests.dask_cluster import ROOT, DaskCluster, free_port
from tests.network_namespaces import TwoHosts

SMALL = Request("toy", ("finetune", "er[buffer=20]"), seeds=(0, 1, 2))
DIGITS = [
    *("digits", "-s", "finetune", "-s", "ewc", "--seeds", "4", "--lanes", "2"),
    *("--set", "epochs=1", "--set", "rows_per_class=20"),
]


class Threads:
    """An engine of threads, whose calls are first handed to ``before``."""

    def __init__(self, before: Callable[[there.Asked], Any] = lambda asked: asked) -> None:
        self.pool, self.before, self.calls = ThreadPoolExecutor(2), before, 0
        self.without: Collection[str] = ()

    def slots(self) -> int:
        return 2

    def submit(
        self, call: Callable[..., Any], asked: there.Asked, without: Collection[str] = ()
    ) -> Future[Any]:
        self.calls += 1
        self.without = without
        return self.pool.submit(lambda: call(self.before(asked)))

    def cancel(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.pool.shutdown()


def ran_on(engine: Threads, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setattr(dispatch, "engine_at", lambda *_: engine)
    return ran(folder, SMALL, on="dask://here", lanes=1, **options)


def outcomes(folder: Path) -> list[Any]:
    return [outcome(record) for record in RunReader(folder).records()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("whole")
    ran(folder, SMALL, lanes=1)
    return outcomes(folder)


@pytest.mark.slow
def test_records_are_those_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    engine = Threads()
    assert ran_on(engine, tmp_path, monkeypatch).counts == {"done": 6}
    assert (outcomes(tmp_path), engine.calls) == (whole, 6)
    assert not (tmp_path / "claims").exists()
    again = Threads()
    ran_on(again, tmp_path, monkeypatch)
    assert again.calls == 0


def test_a_worker_without_the_folder_sends_its_records_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    def elsewhere(asked: there.Asked) -> there.Asked:
        models = type(asked.target.models)(tmp_path / "not on this machine")
        return replace(asked, target=replace(asked.target, models=models))

    folder = tmp_path / "run"
    assert ran_on(Threads(elsewhere), folder, monkeypatch).counts == {"done": 6}
    assert outcomes(folder) == whole
    run = RunReader(folder)
    assert all(run.classes(record["key"]) is not None for record in run.records())
    assert not (tmp_path / "not on this machine").exists()


@pytest.mark.slow
def test_a_group_whose_worker_died_is_run_again_and_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    deaths = dict.fromkeys(range(3), "left")

    def dies(asked: there.Asked) -> there.Asked:
        if deaths:
            deaths.popitem()
            raise Lost("its worker died")
        return asked

    assert ran_on(Threads(dies), tmp_path / "some", monkeypatch, quiet=False).counts == {"done": 6}
    assert outcomes(tmp_path / "some") == whole
    assert "submitted again: its worker died" in capsys.readouterr().err

    def always(asked: there.Asked) -> there.Asked:
        if asked.group[0].strategy == "er":
            raise Lost("its worker died")
        return asked

    found = ran_on(Threads(always), tmp_path / "never", monkeypatch)
    assert found.counts == {"done": 3, "not finished": 3}
    assert "submitted 4 times without an answer: its worker died" in found.unfinished[0]


def test_a_group_that_an_engine_runs_again_is_not_computed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    """Dask runs a call again whose worker died, even where the records were written just before."""

    def twice(asked: there.Asked) -> there.Asked:
        there.run_there(asked)
        (tmp_path / "progress").mkdir(exist_ok=True)
        (tmp_path / "progress" / asked.group[0].key).touch()  # as a worker leaves it that dies
        return asked

    assert ran_on(Threads(twice), tmp_path, monkeypatch).counts == {"done": 6}
    lines = [line for path in (tmp_path / "cells").iterdir() for line in path.read_bytes().splitlines()]
    assert (len(lines), outcomes(tmp_path)) == (6, whole)


def test_a_worker_that_its_engine_has_given_up_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its network was cut: another worker runs its group, and then it goes on."""
    real, given_up = there.run_one, dict[str, Any]()

    def run_one(group: Any, target: Any, device: str) -> Any:
        if not given_up:
            given_up["asked"] = group, target, device
            raise Lost("its network was cut")
        return real(group, target, device)

    monkeypatch.setattr(there, "run_one", run_one)
    monkeypatch.setattr(there, "is_noted", lambda *_: bool(given_up))
    engine = Threads()
    engine.pool = ThreadPoolExecutor(1)
    assert ran_on(engine, tmp_path, monkeypatch, quiet=False).counts == {"done": 6}
    assert "were run again: the worker that had begun them vanished" in capsys.readouterr().err
    ended = real(*given_up["asked"])  # it goes on, after its command has ended
    assert (ended.keys, ended.stops) == ([], True)
    with Claims(tmp_path, "again") as claims:
        group, target, device = given_up["asked"]
        there.Attempt.begin(tmp_path, group[0].key)
        ended = real(group, replace(target, owner=claims.path), device)  # or while another worker is at it
    assert "another worker runs this group now" in next(iter(ended.unfinished.values()))
    lines = [line for path in (tmp_path / "cells").iterdir() for line in path.read_bytes().splitlines()]
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda a: replace(a, target=replace(a.target, maker=replace(a.target.maker, torch="1.0"))),
            "has torch",
        ),
        (lambda a: replace(a, codes=dict.fromkeys(a.codes, "0" * 20)), "has other code of finetune"),
        (lambda a: replace(a, data={"toy": "0" * 64}), "has other data of toy"),
    ],
)
def test_a_worker_of_other_versions_code_or_data_refuses(
    change: Any,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ran_on(Threads(change), tmp_path, monkeypatch, quiet=False)
    assert found.counts == {"not finished": 6}
    assert any(words in line for line in found.unfinished)
    assert RunReader(tmp_path).statuses() == {}
    assert words in capsys.readouterr().err


def test_a_group_that_many_workers_refuse_is_run_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    left = [f"worker {n}" for n in range(9)]  # more than a group's tries

    def refuses(asked: there.Asked) -> there.Asked:
        if asked.group[0].seed == 2 and asked.group[0].strategy == "er" and left:
            refused = Refused("has another version")
            refused.worker = left.pop()
            raise refused
        return asked

    engine = Threads(refuses)
    assert ran_on(engine, tmp_path, monkeypatch).counts == {"done": 6}
    assert (outcomes(tmp_path), engine.calls, len(engine.without)) == (whole, 6 + 9, 9)


def test_a_group_does_not_begin_after_its_command_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(asked: there.Asked) -> there.Asked:
        return replace(asked, target=replace(asked.target, owner=tmp_path / "gone"))

    assert ran_on(Threads(gone), tmp_path, monkeypatch).counts == {"not finished": 6}
    assert RunReader(tmp_path).statuses() == {}


def test_many_cells_are_submitted_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m tests.many_cells`` resolves and submits 100,000 in this way."""
    engine = Threads()
    monkeypatch.setattr(dispatch, "engine_at", lambda *_: engine)
    with patch.dict(REGISTRY.entered):
        for name, act in islice(many_cells.stages(tmp_path / "many", 2, 3, 44, on="dask://here"), 2):
            assert name in ("resolve", "submit")
            act()
    assert engine.calls == 2 * 3  # 132 lanes in groups of 64
    assert list(RunReader(tmp_path / "many").statuses().values()) == ["done"] * 2 * 3 * 44


def test_stopped_runs_wait_for_groups_that_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, specs: Any) -> None:
        if specs:
            raise KeyboardInterrupt

    monkeypatch.setattr(dispatch.Progress, "done", stop)
    engine = Threads()
    with pytest.raises(KeyboardInterrupt):
        ran_on(engine, tmp_path, monkeypatch)
    assert 2 <= len(RunReader(tmp_path).statuses()) == engine.calls < 6


def test_without_workers_a_command_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_engine, "PATIENCE", 0.0)
    monkeypatch.setattr(Threads, "slots", lambda self: 0)
    found = ran_on(Threads(), tmp_path, monkeypatch)
    assert found.counts == {"not finished": 6}
    assert "no worker of the engine" in found.unfinished[0]


def test_addresses_that_are_none_are_refused(refuses: Refuses, tmp_path: Path) -> None:
    for address, words in {
        "desk://a:1": "cannot run on 'desk://a:1'; use one of: local, dask://HOST:PORT",
        "dask": "cannot run on 'dask'",
        "slurm": "sbatch is not found; slurm://local",
        "slurm://local,rows=3": "unknown setting of --on slurm 'rows'",
        "slurm://local,shares=x": "shares of --on slurm must be a whole number above 0, not 'x'",
    }.items():
        refuses(words, "run toy -s finetune --seeds 1 --out", str(tmp_path), "--on", address)
    assert not (tmp_path / "run.json").exists()
    refuses("cannot read --share '3/2'", "run toy -s finetune --share 3/2 --out", str(tmp_path))
    refused("cannot run on", engine_at, "local")
    refused("use lethe run ... --on slurm", lethe.run, "toy", "finetune", seeds=1, on="slurm")


@pytest.mark.slow
def test_a_share_begins_in_its_place_and_does_not_wait_for_the_others(
    tmp_path: Path, whole: list[Any]
) -> None:
    ran(tmp_path, SMALL, lanes=1)
    first = [record["key"] for record in sorted(RunReader(tmp_path).records(), key=lambda r: r["written"])]
    folder = tmp_path / "shares"
    with Claims(folder, "another") as another:
        another.take(first[:2])
        assert ran(folder, SMALL, lanes=1, share=1, shares=2).counts == {"done": 4}
    times = {record["key"]: record["written"] for record in RunReader(folder).records()}
    assert sorted(times, key=times.__getitem__) == [*first[3:], first[2]]
    assert ran(folder, SMALL, lanes=1, share=0, shares=2).counts == {"done": 2}
    assert outcomes(folder) == whole


# Real ones, in processes of their own.


def run_lethe(*words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lethe", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("digits")
    assert run_lethe("run", *DIGITS, "--jobs", "1", "--out", str(folder)).returncode == 0
    return outcomes(folder)


@pytest.fixture
def dask() -> Iterator[DaskCluster]:
    pytest.importorskip("distributed", reason="needs the extra dask")
    with ExitStack() as stack:
        yield DaskCluster(stack)


@pytest.mark.slow
def test_dask_gives_the_same_records_and_survives_a_worker_and_the_scheduler(
    dask: DaskCluster, tmp_path: Path, digits: list[Any]
) -> None:
    first = dask.new_worker()
    words = [*DIGITS, "--on", f"dask://{dask.address}", "--out", str(tmp_path / "run")]
    command = dask.start("lethe", "run", *words)
    cells = tmp_path / "run" / "progress"
    deadline = time.monotonic() + 120
    while not (cells.is_dir() and any(cells.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    dask.new_worker()
    assert command.wait(timeout=240) == 0
    assert outcomes(tmp_path / "run") == digits


def until(happened: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def lines_of(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "cells").glob("*.jsonl"))


@pytest.mark.slow
def test_ctrl_c_lets_groups_end_that_have_begun_and_another_terminal_goes_on(
    dask: DaskCluster, tmp_path: Path, digits: list[Any]
) -> None:
    worker = dask.new_worker()
    engine, run = engine_at(f"dask://{dask.address}"), tmp_path / "run"
    until(engine.slots)
    words = [*DIGITS, "--on", f"dask://{dask.address}", "--out", str(run)]
    with (tmp_path / "log").open("wb") as log:
        command = dask.start("lethe", "run", *words, log=log)
        until(lambda: (run / "progress").is_dir())
        worker.send_signal(signal.SIGSTOP)  # in the middle of a group, and another one waits there
        shown = run_lethe("status", str(run)).stdout
        command.send_signal(signal.SIGINT)
        time.sleep(1)
        worker.send_signal(signal.SIGCONT)
        assert command.wait(timeout=120) == 130
    assert " 4 running" in shown, shown
    assert "the same command continues" in (tmp_path / "log").read_text()
    assert 2 <= lines_of(run) < len(digits)
    assert not (run / "claims").exists()
    again = run_lethe("run", *words)
    assert again.returncode == 0, again.stderr
    engine.close()
    assert (outcomes(run), lines_of(run)) == (digits, len(digits))


@pytest.mark.slow
def test_a_network_that_is_cut_and_healed_changes_nothing(tmp_path: Path, digits: list[Any]) -> None:
    """A worker on another host is cut off for longer than Dask waits; it goes on, and so does its group."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    with ExitStack() as stack:
        try:
            hosts = TwoHosts(stack)
        except PermissionError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "12s"
        )
        log, run = stack.enter_context((tmp_path / "log").open("wb")), tmp_path / "run"
        cluster = DaskCluster(stack, log=log, host=hosts.ADDRESSES[0], before=hosts.on(0))
        far = cluster.new_worker(before=hosts.on(1))
        words = [*DIGITS, "--on", f"dask://{cluster.address}", "--out", str(run)]
        command = cluster.start("lethe", "run", *words)
        until(lambda: (run / "progress").is_dir())
        far.send_signal(signal.SIGSTOP)  # in the middle of its group
        hosts.cut()
        near = cluster.new_worker()
        until(lambda: lines_of(run) > 2)  # also of the group that the other one had begun, or the next
        hosts.heal()
        far.send_signal(signal.SIGCONT)
        assert command.wait(timeout=240) == 0
        assert near.poll() is None
    assert (outcomes(run), lines_of(run)) == (digits, len(digits))


@pytest.mark.slow
def test_ray_gives_the_same_records(tmp_path: Path, digits: list[Any]) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    ray, port = [sys.executable, "-m", "ray.scripts.scripts"], free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    try:
        done = run_lethe("run", *DIGITS, "--on", f"ray://127.0.0.1:{port}", "--out", str(tmp_path))
    finally:
        subprocess.run([*ray, "stop", "--force"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert outcomes(tmp_path) == digits


@pytest.mark.slow
def test_slurm_jobs_by_submitit_give_the_same_records(tmp_path: Path, digits: list[Any]) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    done = run_lethe("run", *DIGITS, "--on", "slurm://local,shares=2", "--jobs", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "submitted jobs" in done.stderr
    assert outcomes(tmp_path) == digits
    assert len([*(tmp_path / "jobs").glob("*_result.pkl")]) == 2


@pytest.mark.slow
def test_the_commands_of_the_documents_for_dask_run_as_written(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    text = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    block = text.partition("## Dask\n")[2].partition("```sh\n")[2].partition("```")[0]
    block = block.replace("8786", str(free_port())).replace("results/runs", str(tmp_path))
    *started, command = [
        [str(Path(sys.executable).with_name(program)), *words]
        for program, *words in map(str.split, block.splitlines())
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        for words in started:
            process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, cwd=ROOT)
            stack.callback(process.wait)
            stack.callback(process.terminate)  # a worker with a nanny, which ends it
        assert [words[1] for words in started] == ["scheduler", "worker"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(outcomes(tmp_path / "dask")) == 40


def test_the_kubernetes_job_of_the_documents_runs_shares(command: Command, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="comes with most packages that read it")
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "clusters.md").read_text(), re.DOTALL)
    job = yaml.safe_load(block)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["spec"]["completionMode"] == "Indexed"  # else there is no JOB_COMPLETION_INDEX
    words = container["command"][-1].removeprefix("lethe ").replace("/runs/first", str(tmp_path))
    n = job["spec"]["completions"]
    assert f"$JOB_COMPLETION_INDEX/{n}" in words
    code, out, _ = command(words.replace("$JOB_COMPLETION_INDEX", str(n - 1)) + " --dry-run")
    assert (code, "40 cells, 40 to run" in out) == (0, True)
