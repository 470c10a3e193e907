"""Faults, memory, timings and arithmetic of CUDA devices, on pretended ones."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import lethe
from bench.runner import one_group, processes
from bench.runner.run_outcome import Ended
from bench.runner.widths import Widths
from bench.train import LaneState, arithmetic, make_lanes, run_group
from lethe.testing import blobs, outcome, pretended_device, toy_cell
from suites.base import Data, Training
from tests.conftest import Command

CYCLE = """
from lethe import Strategy
class Cycle(Strategy):
    def setup(self):
        self.model.register_forward_hook(self.seen)
    def seen(self, *of):
        pass
"""


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python's collector of cycles is off, as between two of its runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["er", "hat", "./cycle.py:Cycle"])
def test_cells_that_run_out_of_memory_succeed_as_halves(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_collection: None
) -> None:
    """Eight cells need more than there is; four fit, if nothing of the eight is left in memory."""
    (tmp_path / "cycle.py").write_text(CYCLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(one_group, "WIDTHS", Widths())
    asked: dict[str, Any] = {"scenarios": "task", "settings": {"epochs": 1}, "seeds": 8, "lanes": 8}
    asked |= {"device": "cuda", "check": False}
    with pretended_device(1) as device:
        alone = lethe.run("toy", name, **asked)
        needed = device.peak[0]
        gc.collect()
    with pretended_device(1, memory=int(0.6 * needed)) as device:
        halved = lethe.run("toy", name, **asked)
        assert len(halved.failed) == len(halved.unfinished) == 0
        assert 0.4 * needed < device.peak[0] <= 0.6 * needed
    assert halved.scores.value.equals(alone.scores.value)


@pytest.mark.slow
def test_the_width_that_fits_is_learned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three groups of at most four the first fails, its halves and the parts of the others do not."""
    asked: dict[str, Any] = {"scenarios": "task", "settings": {"epochs": 1}, "device": "cuda", "check": False}
    monkeypatch.setattr(one_group, "WIDTHS", Widths())
    with pretended_device(1) as device:
        lethe.run("toy", "er", seeds=4, lanes=4, **asked)
        needed = device.peak[0]
    spy = Mock(wraps=one_group.run_group)
    monkeypatch.setattr(one_group, "run_group", spy)
    with pretended_device(1, memory=int(0.6 * needed)):
        frames = lethe.run("toy", "er", seeds=9, lanes=4, **asked)
        assert len(frames.failed) == len(frames.unfinished) == 0
        lethe.run("toy", "finetune", seeds=4, lanes=4, **asked)  # another strategy may fit
    assert [len(call.args[0]) for call in spy.call_args_list][:7] == [4, 2, 2, 2, 2, 1, 4]


def test_data_stays_on_a_device_until_another_is_asked_for() -> None:
    def lanes(name: str, of: Data, place: str = "cuda") -> LaneState:
        return make_lanes([toy_cell(name, 0, epochs=1)], place, of)

    mine, other = blobs(), blobs()
    with pretended_device(2) as device:
        first, second = lanes("finetune", mine).streams, lanes("er", mine).streams
        assert first.x_N is second.x_N
        assert first._float_N is second._float_N is not None
        assert lanes("er", mine, "cuda:1").streams.x_N is not first.x_N
        data, size = weakref.ref(first.x_N), first.x_N.nbytes
        del first, second
        gc.collect()
        assert data() is not None
        assert device.used[0] >= size
        lanes("finetune", other)
        gc.collect()
        assert data() is None
        used = device.used[0]
        del other
        gc.collect()
        assert device.used[0] <= used - size


@pytest.mark.slow
def test_a_cell_too_large_alone_fails_with_the_reason(tmp_path: Path) -> None:
    with pretended_device(1, memory=20_000), pytest.warns(UserWarning, match="out of memory"):
        frames = lethe.run("toy", "finetune", seeds=2, device="cuda", out=tmp_path)
    assert len(frames.failed) == 2


def test_peak_memory_is_that_of_the_group() -> None:
    with pretended_device(1):
        (large, *_) = run_group([toy_cell("finetune", s, epochs=1) for s in range(8)], device="cuda")
        (small,) = run_group([toy_cell("finetune", 0, epochs=1)], device="cuda")
    assert small["timings"]["peak_bytes"] < large["timings"]["peak_bytes"] / 4


def test_work_and_its_timings_are_on_the_device_asked_for() -> None:
    """Events on the current device, cuda:0, would make elapsed_time fail."""
    with pretended_device(2) as device:
        (record,) = run_group([toy_cell("er", 0)], device="cuda:1")
        assert device.peak[0] == 0 < device.peak[1]
    assert outcome(record) == outcome(run_group([toy_cell("er", 0)])[0])
    assert 0 < record["timings"]["first_steps_seconds"] < record["timings"]["train_seconds"]


def test_after_a_fault_of_a_kernel_its_cells_go_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that a cell meets may say anything: every later call of CUDA fails in this process."""
    alone: list[Any] = []

    def run_alone(group: Any, target: Any, device: str) -> Ended:
        alone.append(group)
        return Ended([spec.key for spec in group])

    def damaging(group: Any, device: str = "", **given: Any) -> Any:
        assert not device_.broken, "a later group runs in the damaged process"
        device_.broken = "CUDA error: an illegal memory access was encountered"
        raise ValueError("a shape is odd")

    monkeypatch.setattr(processes, "run_alone", run_alone)
    monkeypatch.setattr(one_group, "run_group", damaging)
    with pretended_device(1) as device_:
        frames = lethe.run("toy", "finetune", seeds=3, lanes=1, device="cuda", check=False)
    assert [len(group) for group in alone] == [1, 1, 1]
    assert len(frames.failed) == 0


def test_graphs_can_be_left_out_and_the_record_says_so(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pretended_device(1):
        (record,) = run_group([toy_cell("finetune", epochs=1)], device="cuda", graph=False)
        (other,) = run_group([toy_cell("finetune", epochs=1)], device="cuda")
    told = [(r["timings"]["replayed_steps"], r["timings"]["not_replayed"]) for r in (record, other)]
    assert told == [(0, "--no-graph"), (0, "there are no graphs on this device")]
    (cpu,) = run_group([toy_cell("finetune", epochs=1)], graph=False)
    assert "replayed_steps" not in cpu["timings"]
    spy = Mock(wraps=one_group.run_group)
    monkeypatch.setattr(one_group, "run_group", spy)
    line = "run toy -s finetune --seeds 1 --jobs 1 --out"
    assert command(line, str(tmp_path / "with"))[0] == 0
    assert command(line, str(tmp_path / "without"), "--no-graph")[0] == 0
    lethe.run("toy", "finetune", seeds=1, graph=False)
    assert [call.kwargs["graph"] for call in spy.call_args_list] == [True, False, False]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_arithmetic_is_what_the_settings_say_whatever_it_was(precision: Any, deterministic: bool) -> None:
    def switches() -> tuple[bool, ...]:
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return *found, torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()

    before, training = switches(), Training(precision=precision, deterministic=deterministic)
    with arithmetic(training, "cuda"):
        tf32 = precision == "tf32"
        assert switches() == (tf32, tf32, deterministic, deterministic)
    assert switches() == before
    with arithmetic(training, "cpu"):
        assert switches() == before


def test_the_settings_of_arithmetic_are_in_the_record_and_leave_older_keys() -> None:
    plain = toy_cell()
    assert "deterministic" not in plain.training
    assert toy_cell(deterministic=True).key != plain.key != toy_cell(precision="tf32").key
    with pretended_device(1):
        records = [
            run_group([toy_cell(epochs=1, **of)], device="cuda")[0]
            for of in ({}, {"precision": "tf32"}, {"deterministic": True})
        ]
    assert outcome(records[0]) == outcome(records[1]) == outcome(records[2])
