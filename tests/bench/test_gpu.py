"""The script that checks a GPU: its dry run on the CPU and its imports. The real check needs a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import strategies
from bench.checks import gpu
from lethe.testing import SMALL, toy_cell

CODE = """
import json, sys
banned = "typer rich seaborn matplotlib datasets transformers jinja2 safetensors pyarrow huggingface_hub"
sys.modules |= dict.fromkeys(banned.split())  # to import one of them is an error
from dataclasses import replace
from bench.checks import gpu
cell, small = gpu.cell, json.loads(sys.argv[2])
def smaller(*of, **more):
    spec = cell(*of, **more)
    few = spec.training | {"rows_per_class": 20}
    return replace(spec, hyper=spec.hyper | small.get(spec.strategy, {}), training=few)
gpu.cell = smaller
gpu.QUICK = gpu.Size(1, 1, 2, (1, 2), 1)
sys.exit(gpu.main(["--device", "cpu", "--quick", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)  # runs every strategy in a new process
def test_the_dry_run_passes_on_the_cpu_with_its_six_packages_only(tmp_path: Path) -> None:
    """They are torch, numpy, pandas, scikit-learn, joblib and pydantic."""
    out = tmp_path / "gpu.json"
    words = [sys.executable, "-c", CODE, str(out), json.dumps(SMALL)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert [r["strategy"] for r in record["agreement"]] == gpu.of_any_model()
    assert all(r["largest_gap"] == 0 for r in record["agreement"])
    assert [r["strategy"] for r in record["waits"] if r["waits"] != "never"] == ["gem"]
    assert len(record["speed"]) == 2 * 3 * 2
    assert all(r["samples_per_second"] > 0 for r in record["speed"])


READS = """
from lethe import Strategy
class Reads(Strategy):
    def after_step(self, batch):
        if batch.learns_L.sum() > 0: pass
"""


@pytest.mark.slow
def test_steps_that_wait_for_the_device_are_found_on_the_cpu_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(READS)
    names = [name for name in strategies.names() if strategies.get(name).tunes]  # not in the dry run
    monkeypatch.setattr(gpu, "cell", lambda name, seed, scenario, model, **_: toy_cell(name, seed, scenario))
    monkeypatch.setattr(gpu, "of_any_model", lambda: [f"{tmp_path}/mine.py:Reads"])
    assert gpu.never_waits("cpu", gpu.QUICK)["waits"][0] == "__bool__ of a tensor waits for the device"
    monkeypatch.setattr(gpu, "of_any_model", lambda: names)
    by_the_model = {"__int__", "__bool__"}  # a transformer reads the width of its batch, and its mask
    monkeypatch.setattr(gpu._NoReads, "reads", gpu._NoReads.reads - by_the_model)
    assert set(gpu.never_waits("cpu", gpu.QUICK)["waits"]) == {"never"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is available")
def test_without_a_gpu_it_exits_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    printed = capsys.readouterr().err
    assert "no CUDA device is available" in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_check_passes_on_a_gpu(tmp_path: Path) -> None:
    assert gpu.main(["--quick", "--out", str(tmp_path / "gpu.json")]) == 0
