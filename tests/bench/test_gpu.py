"""The script that checks a GPU, tried on the pretended device. It was not run on a real one yet."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import strategies
from bench.checks import gpu
from lethe.testing import pretended_device

BLOCKED = (
    "pydantic pydantic_core typer datasets rich seaborn matplotlib jinja2 pyarrow sacrebleu vl_convert altair"
)
CODE = """
import runpy, sys
sys.modules |= dict.fromkeys(sys.argv.pop(1).split())  # to import one of them is an error
sys.argv[0] = "gpu"
runpy.run_module("bench.checks.gpu", run_name="__main__")
"""
WAITS = """
from lethe import Strategy
class Waits(Strategy):
    def after_step(self, batch):
        if batch.learns_L.sum() > 0: pass
class Raises(Strategy):
    def after_step(self, batch):
        raise ArithmeticError("nothing to divide")
"""


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def trial(names: str, out: Path) -> list[str]:
    """Return the words of a quick trial of some strategies."""
    return ["--device", "pretended", "--quick", "--strategies", names, "--out", str(out)]


def only_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script measure next to nothing in the first part, and nothing in the others."""
    monkeypatch.setattr(gpu, "SECONDS", dict.fromkeys(gpu.SECONDS, -1.0) | {"strategies": 60.0})
    monkeypatch.setattr(gpu, "minilm", lambda: nullcontext(("", "none")))
    monkeypatch.setattr(gpu, "QUICK", gpu.Size(1, 1, 10, 1, (1,), 1, 1, 1, (), 200))


@pytest.mark.slow
def test_it_runs_with_its_six_packages_only(tmp_path: Path) -> None:
    """They are torch, numpy, pandas, scikit-learn, joblib and transformers; without MNIST it makes data."""
    env = os.environ | {"LETHE_DATA": str(tmp_path), "LETHE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", CODE, BLOCKED, *trial("er,gem", tmp_path / "gpu.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = lines_of(tmp_path / "gpu.jsonl")
    assert not [line for line in found if line["fault"]]
    of = {part: [line for line in found if line["part"] == part] for part in ("strategies", *gpu.SECONDS)}
    assert [(line["largest_gap"], line["waits"]) for line in of["strategies"]] == [
        (0, ""), (0, strategies.get("gem").waits),
    ]  # fmt: skip
    assert [line["name"] for line in of["lanes"]] == [
        f"er {model} {lanes} graph {graph}"
        for lanes in (1, 2)
        for model in ("mlp", "cnn")
        for graph in ("on", "off")
    ] + [f"er cnn {lanes} {way}" for lanes in (1, 2) for way in ("by product", "channels last")]
    assert all(line["samples_per_second"] > 0 < line["bytes_per_lane"] for line in of["lanes"] + of["lora"])
    assert of["table"][-1]["entries"] == 23
    assert [line["lanes"] for line in of["lora"]] == [1, 2]


def test_a_strategy_that_waits_or_raises_has_its_record_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only_strategies(monkeypatch)
    (tmp_path / "mine.py").write_text(WAITS)
    monkeypatch.chdir(tmp_path)
    names = "./mine.py:Waits,./mine.py:Raises,finetune"
    out = tmp_path / "gpu.jsonl"
    assert gpu.main(trial(names, out)) == 1
    waits, raises, finetune = [line for line in lines_of(out) if line["part"] == "strategies"]
    assert "a step waits" in waits["fault"]
    assert "mine.py:5" in waits["fault"]
    assert raises["fault"] == "ArithmeticError: nothing to divide"
    assert finetune["fault"] == ""
    assert "2 faults" in capsys.readouterr().out
    # A new process, after a fault of a kernel, leaves out what the file has.
    assert gpu.main([*trial(names, out), "--resume"]) == 1
    assert [line["name"] for line in lines_of(out) if line["part"] == "strategies"].count("finetune") == 1


def test_what_has_no_time_left_is_named(tmp_path: Path) -> None:
    report = gpu.Report(tmp_path / "gpu.jsonl")
    with pretended_device():
        report.each("lanes", "cuda", [("er", dict), ("ewc", dict)], seconds=-1)
    (line,) = lines_of(report.path)
    assert line["names"] == "er ewc"
    assert sum(gpu.SECONDS.values()) <= 6 * 60


def test_a_device_that_cannot_be_used_any_more_ends_the_process(tmp_path: Path) -> None:
    def damaging() -> dict[str, Any]:
        device.broken = "CUDA error: device-side assert triggered"
        raise IndexError("an index is out of range")

    with pretended_device() as device, pytest.raises(gpu.Broken, match="er: IndexError"):
        gpu.Report(tmp_path / "gpu.jsonl").each("strategies", "cuda", [("er", damaging)], seconds=9)
    assert lines_of(tmp_path / "gpu.jsonl")[0]["fault"] == "IndexError: an index is out of range"


@pytest.mark.slow
def test_the_cpu_s_side_is_that_of_this_code() -> None:
    """After a change that moves numbers: python -m bench.checks.gpu --cpu-side"""
    saved = json.loads(gpu.CPU_SIDE.read_text())
    assert list(saved) == strategies.names()
    for name in ("finetune", "er"):
        gap = max(
            abs(a - b)
            for a, b in zip(saved[name], gpu.last_row(gpu.cells(name, gpu.FULL), "cpu"), strict=True)
        )
        assert gap <= 0.01, name


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is available")
def test_without_a_gpu_it_exits_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert gpu.main(["--out", str(tmp_path / "gpu.jsonl")]) == 2
    printed = capsys.readouterr().err
    assert "no CUDA device is available" in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_check_passes_on_a_gpu(tmp_path: Path) -> None:
    assert gpu.main(["--quick", "--out", str(tmp_path / "gpu.jsonl")]) == 0
