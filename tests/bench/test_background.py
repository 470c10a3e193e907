"""Checkpoints that are written while the next task is trained."""

import threading
from typing import Any

import pytest
import torch

from bench.checks.pretended_device import pretended_device
from bench.train import learn_task, make_lanes, run_group
from bench.train.background import Background
from bench.train.checkpointing import save_checkpoint
from lethe.testing import Checkpoints, outcome, toy_cell


def test_work_is_done_one_piece_after_the_other_and_errors_are_raised_by_the_caller() -> None:
    done: list[str] = []
    may_go_on = threading.Event()

    def slow() -> None:
        assert may_go_on.wait(60)
        done.append("slow")

    def fails() -> None:
        raise OSError("no space")

    with Background() as background:
        background.start(slow)
        assert done == []
        may_go_on.set()
        background.start(fails)
        assert done == ["slow"]
        with pytest.raises(OSError, match="no space"):
            background.start(slow)
        background.start(slow)
    assert done == ["slow", "slow"]
    with pytest.raises(OSError, match="no space"), Background() as background:
        background.start(fails)


def test_what_ended_a_run_is_raised_and_not_what_failed_in_the_background() -> None:
    def fails() -> None:
        raise OSError("no space")

    background = Background()
    background.start(fails)
    background.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


class Late(Checkpoints):
    """Writes a checkpoint only when the next task has been trained."""

    def __init__(self, trained: threading.Event) -> None:
        super().__init__()
        self.trained = trained

    def save(self, *of: Any) -> None:
        assert self.trained.wait(60)
        assert threading.current_thread() is not threading.main_thread()
        super().save(*of)


@pytest.mark.parametrize("name", ["er", "ewc"])
def test_a_checkpoint_is_of_its_task_though_training_goes_on(name: str) -> None:
    cells, prompt = [toy_cell(name, seed, epochs=2) for seed in range(2)], Checkpoints()
    expected = [outcome(record) for record in run_group(cells, checkpoints=prompt)]
    trained = threading.Event()
    late = Late(trained)

    def last_step(number: int, steps: int) -> None:
        tasks.append(number == steps)
        if sum(tasks) == 2:
            trained.set()

    tasks: list[bool] = []
    assert [outcome(r) for r in run_group(cells, checkpoints=late, on_step=last_step)] == expected
    for key, (tensors, _) in late.after[1].items():
        before = prompt.after[1][key][0]
        assert tensors.keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert [outcome(r) for r in run_group(cells, checkpoints=late.at(1))] == expected


def test_a_checkpoint_that_cannot_be_written_ends_the_run() -> None:
    class Full(Checkpoints):
        def save(self, *of: Any) -> None:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        run_group([toy_cell("finetune", epochs=1)], checkpoints=Full())


def test_a_checkpoint_is_copied_without_a_wait_for_the_device() -> None:
    """Only what has not changed so far, such as a rate, is compared with what setup made."""
    with pretended_device() as device, Background() as background:
        saved = Checkpoints()
        state = make_lanes([toy_cell("ewc", seed, epochs=1) for seed in range(2)], "cuda")
        for task in range(2):
            learn_task(state, task)
            device.reset()
            save_checkpoint(state, saved, task + 1, background)
        assert {wait.file for wait in device.waits} == {"strategies/core/saved_state.py"}
        assert len(device.waits) < 10  # of some thirty tensors
        background.wait()
    assert len(saved.after[2]) == 2
    assert not any(tensor.is_cuda for tensors, _ in saved.after[2].values() for tensor in tensors.values())


def test_what_a_strategy_holds_on_the_host_is_copied_as_well() -> None:
    """Its next task may change it in place while the checkpoint is written."""
    trained = threading.Event()
    late = Late(trained)
    with pretended_device(), Background() as background:
        state = make_lanes([toy_cell("finetune", epochs=1)], "cuda")
        state.strategy.on_host_L = torch.zeros(1)  # type: ignore[attr-defined]
        learn_task(state, 0)
        save_checkpoint(state, late, 1, background)
        state.strategy.on_host_L += 1  # type: ignore[attr-defined]
        trained.set()
    ((tensors, _),) = late.after[1].values()
    assert tensors["strategy/on_host_L"].item() == 0
