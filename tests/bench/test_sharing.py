"""Groups share GPUs: each process sees its own alone, and as many run at once as fit into its memory."""

import threading
from collections import Counter, deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from bench.engines import engine_at
from bench.runner import processes
from bench.runner.processes import number_of_processes
from bench.runner.run_outcome import Ended
from bench.runner.sharing import Sharing, share_of_memory
from lethe.testing import pretended_device
from tests.conftest import Refuses


def test_a_gpu_runs_one_group_until_its_memory_is_measured_then_those_that_fit() -> None:
    sharing = Sharing(4)
    assert sharing.at_once("cuda:0") == 1
    for share, at_once in ((0.01, 4), (0.3, 3), (0.2, 3), (0.44, 2), (0.6, 1), (1.2, 1)):
        sharing.note("cuda:0", share)
        assert sharing.at_once("cuda:0") == at_once
    assert sharing.at_once("cuda:1") == 1
    assert Sharing().at_once("cuda:0") == float("inf")


def test_the_share_is_that_of_the_pretended_gpu_s_memory() -> None:
    assert share_of_memory("cpu") == 0.0
    with pretended_device(memory=2**31):
        taken = torch.zeros(2**28, device="cuda:0")  # 1 GiB of 2, and half a GiB for CUDA itself
        assert share_of_memory("cuda:0") == pytest.approx(0.75, abs=0.01)
        del taken


@pytest.mark.parametrize("seen", ["", "4, GPU-7"])
def test_a_process_sees_its_own_gpu_alone_before_it_imports_anything(
    seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    worker = processes.Worker("cuda:1")

    def environment(*given: Any) -> Any:
        begun_with = Path("/proc/self/environ").read_bytes().split(b"\0")  # when the process was started
        return given[-1], [pair for pair in begun_with if pair.startswith(b"CUDA_VISIBLE_DEVICES=")]

    try:
        found: Any = worker.submit(environment, [], None).result()  # type: ignore[arg-type]
    finally:
        worker.stop()
    assert found == ("cuda:0", [b"CUDA_VISIBLE_DEVICES=" + (b"GPU-7" if seen else b"1")])


class Waiting(deque[str]):
    """Groups of which none is claimed by others."""

    fault = None

    def take(self) -> Any:
        return [self.popleft()] if self else None


class Slow:
    """A worker whose groups need 0.4 of the memory of its device, and a moment."""

    now, most, first = Counter[str](), Counter[str](), dict[str, int]()

    def __init__(self, device: str, jobs: int) -> None:
        self.device = device

    def submit(self, run: Any, group: Any, target: Any) -> Future[Ended]:
        future = Future[Ended]()
        self.now[self.device] += 1
        self.most[self.device] = max(self.now[self.device], self.most[self.device])

        def end() -> None:
            self.first.setdefault(self.device, self.most[self.device])
            self.now[self.device] -= 1
            future.set_result(Ended(group, memory=0.4))

        threading.Timer(0.02, end).start()
        return future

    def stop(self) -> None:
        """Nothing to stop."""


def test_as_many_groups_run_on_each_gpu_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "Worker", Slow)
    devices = ["cuda:0", "cuda:1"]
    monkeypatch.setattr(processes, "_devices", lambda device: devices)
    assert number_of_processes("cuda", 0, 3) == 6
    groups: Any = Waiting(map(str, range(20)))
    ended = [key for of in processes.in_processes(groups, None, "cuda", 0, 3) for key in of.keys]  # type: ignore[arg-type]
    assert sorted(ended, key=int) == [str(n) for n in range(20)]
    assert Slow.first == dict.fromkeys(devices, 1)
    assert Slow.most == dict.fromkeys(devices, 2)


def test_a_call_on_ray_takes_its_share_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    asked = dict[str, Any]()

    def remote(**given: Any) -> Any:
        asked.update(given)
        return lambda call: Mock(remote=Mock(return_value=Mock(future=Future)))

    monkeypatch.setattr(ray, "init", Mock())
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0, "GPU": 2.0})
    engine = engine_at("ray://here:1", gpus=1 / 4)
    assert engine.slots() == 8
    engine.submit(print)
    assert (asked["num_gpus"], asked["num_cpus"]) == (0.25, 1)
    assert engine_at("ray://here:1").slots() == 16


def test_per_device_is_for_gpus(refuses: Refuses, tmp_path: Path) -> None:
    line = f"run toy -s finetune --seeds 1 --out {tmp_path / 'r'} --per-device 2"
    refuses("--per-device is for GPUs, not for cpu: use --jobs, or --device cuda", line)
