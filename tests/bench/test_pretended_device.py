"""The pretended device behaves like one of CUDA in what it pretends, and whole runs on it equal the CPU's."""

import copy
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import strategies
from bench.checks.launches import launches, why_not_replayed
from bench.checks.made_streams import made_streams
from lethe.testing import device_cells, device_findings, launches_per_step, pretended_device
from strategies.core import send

ROOT = Path(__file__).parents[2]
WAITING: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.any()),
    "int": lambda x: int(x.sum()),
    "float": lambda x: float(x[0, 0]),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "read by mask": lambda x: x[x > 0],
    "write by mask": lambda x: x.index_put_((x > 0,), x[0, :1].expand(int(torch.ones(1)) * 2)[:1].repeat(8)),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().flatten().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x[:, 0].long(), 0),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "eigh": lambda x: torch.linalg.eigh(x.T @ x),
    "cholesky": lambda x: torch.linalg.cholesky(torch.eye(4, device=x.device)),
    "made on the host": lambda x: torch.tensor([1, 2], device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "index of the host": lambda x: x[[0, 1]],
    "copied from the host": lambda x: x.copy_(torch.ones(2, 4)),
    "one_hot": lambda x: nn.functional.one_hot(x.long()),
    "synchronize": lambda x: torch.cuda.synchronize(),
}
NOT_WAITING: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x * 2 + 1).softmax(1).sum(),
    "views": lambda x: x[0, 1:].view(1, -1).expand(2, -1),
    "sizes": lambda x: len(x) + x.shape[1],
    "set by mask": lambda x: x.masked_fill(x > 0, 0.0).__setitem__(x > 0, 1.0),
    "factories": lambda x: torch.arange(3, device=x.device) + torch.zeros_like(x)[0, :3],
    "number of the host": lambda x: x * torch.tensor(2.0),
    "sent": lambda x: send(torch.tensor([1, 2]), x.device),
    "one_hot": lambda x: nn.functional.one_hot(x.long(), 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noted_with_its_line(name: str) -> None:
    with pretended_device() as device:
        x = torch.ones(2, 4, device="cuda")
        device.reset()
        WAITING[name](x)
        assert device.waits, f"{name} waits"
        assert {w.file for w in device.waits} == {"tests/bench/test_pretended_device.py"}
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match="synchronizing"):
            WAITING[name](x)


@pytest.mark.parametrize("name", NOT_WAITING)
def test_what_does_not_wait_is_not_noted(name: str) -> None:
    with pretended_device() as device:
        x = torch.ones(2, 4, device="cuda")
        device.refuse_waits = True
        NOT_WAITING[name](x)
        assert not device.waits


@pytest.mark.parametrize("other", ["cpu", "cuda:1"])
@pytest.mark.parametrize("mix", [torch.add, torch.matmul, lambda a, b: torch.where(a > 0, a, b)])
def test_tensors_of_two_devices_cannot_be_mixed(other: str, mix: Callable[..., Tensor]) -> None:
    with pretended_device():
        with pytest.raises(RuntimeError, match=f"at least two devices, .*{other}"):
            mix(torch.ones(2, 2, device="cuda:0"), torch.ones(2, 2, device=other))
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            torch.ones(2, device="cuda").numpy()
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.ones(2, device="cuda:2")


def test_memory_is_counted_freed_and_runs_out() -> None:
    with pretended_device(memory=1000) as device:
        x = torch.zeros(100, device="cuda")
        view = x.view(10, 10)[2:]
        assert torch.cuda.memory_allocated() == 400
        with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate 400 bytes"):
            (x + 1) + (x + 2)
        gc.collect()
        del x
        assert device.used == [400, 0], "a view keeps the memory"
        del view
        assert device.used == [0, 0]
        assert torch.cuda.max_memory_allocated() == 800
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 0


def test_modules_move_and_have_the_gradients_of_the_cpu() -> None:
    torch.manual_seed(0)
    here, x = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(6, 4)
    with pretended_device() as device:
        there = copy.deepcopy(here).to("cuda:1")
        again = copy.deepcopy(there)
        assert {str(t.device) for t in [*there.parameters(), *again.buffers()]} == {"cuda:1"}
        assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in again.parameters())
        for net in (here, there, again):
            net(x.to(next(net.parameters()).device)).square().sum().backward()
        for net in (there, again):
            for p, q in zip(here.parameters(), net.parameters(), strict=True):
                assert p.grad is not None
                assert q.grad is not None
                assert q.grad.is_cuda
                torch.testing.assert_close(p.grad, q.grad.cpu(), rtol=0, atol=0)
        device.reset()
        there(x.to("cuda:1"))
        assert device.launches == {
            "copy between devices": 1, "addmm": 2, "native_batch_norm": 1, "relu": 1, "add_": 1,
        }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("ewc", "cnn"), ("finetune", "resnet18"), ("er", "head")])
def test_whole_runs_equal_those_of_the_cpu_and_do_not_wait(name: str, form: str) -> None:
    with made_streams():
        assert not [*device_findings(device_cells(name, form))]


def test_weights_that_depend_on_the_device_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def after_step(self: Any, batch: Any) -> None:
        if self.streams.device.type == "cuda":
            next(self.model.parameters()).data.mul_(0.99)

    monkeypatch.setattr(strategies.get("finetune"), "after_step", after_step)
    with made_streams():
        found = [*device_findings(device_cells("finetune", "mlp"))]
    assert sum(words.startswith("saved models differ from those of the CPU: ") for words in found) == 2, found


def test_launches_do_not_grow_with_lanes() -> None:
    with made_streams():
        few, many = (launches_per_step(device_cells("er", "cnn", lanes)) for lanes in (2, 3))
    assert few.keys() == many.keys()
    assert abs(sum(many.values()) - sum(few.values())) < 0.1 * sum(few.values())


@pytest.mark.parametrize("name", ["finetune", "er"])
def test_the_record_of_launches_is_that_of_the_code(name: str) -> None:
    """If this fails after a change of the steps: ``make launches``, then ``make docs``."""
    steps = json.loads((ROOT / "results" / "reference" / "launches.json").read_text())["strategies"]
    assert set(steps) == {n for n in strategies.names() if not strategies.get(n).tunes}
    assert abs(launches(name) - steps[name]["launches"]) < 2  # versions of torch differ by an operator
    assert steps[name]["one_by_one"] == why_not_replayed(name) == ""
