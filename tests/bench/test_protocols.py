"""Papers' protocols without Python: presets of suites, commands of the guide, ``lethe init protocol``."""

import re
import shlex
from pathlib import Path

import pytest

import suites
from bench.plan import Present, Request, read_experiment, resolve
from suites.base import Training
from tests.conftest import Command

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "paper-protocol.md"
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("lethe run ")
]
PRESETS = [
    (d.name, preset)
    for d in suites.REGISTRY.descriptions()
    for preset in re.findall(r"([\w-]+) \(", d.metadata.get("presets", ""))
]


@pytest.mark.parametrize("line", [line for line in COMMANDS if "FILE" not in line])
def test_protocols_are_one_command_each(
    line: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("", *shlex.split(line)[1:], "--dry-run")
    assert code == 0, err
    suite = shlex.split(line)[2]
    seeds = int(re.search(r"--seeds (\d+)", line)[1]) if "--seeds" in line else 10  # type: ignore[index]
    n_cells = line.count(" -s ") * seeds
    assert f"{n_cells} cells, {n_cells} to run" in out
    assert suites.REGISTRY.spelled(suite) in out


def test_the_guide_has_the_protocols_of_the_papers() -> None:
    said = " ".join(COMMANDS)
    for words in (
        "split-mnist[order=fixed]", "init=xavier", "batch=10", "permuted-mnist[tasks=20]", "batch=128",
        "rotated-mnist[tasks=20]", "split-cifar100[first=50,tasks=11]", "schedule=multi-step", "dropout=0.5",
        "prequential=true",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(("suite", "preset"), PRESETS)
def test_presets_stand_in_suite_training_and_model_of_a_cell(suite: str, preset: str) -> None:
    scenario = "domain" if suite.startswith(("rotated", "permuted")) else "class"
    (cell,) = Request(f"{suite}[preset={preset}]", ("finetune",), (scenario,)).cells()
    options = suites.get(cell.suite).options
    asked = suites.get(suite).presets[preset]
    for name, value in asked.items():
        assert {**options, **cell.training, **cell.model_options}[name] == value
    assert "preset" not in cell.suite
    written = [f"{k}={v}" for k, v in asked.items() if k in options]
    (same,) = Request(
        f"{suite}[{','.join(written)}]",
        ("finetune",),
        (scenario,),
        settings={k: str(v) for k, v in asked.items() if k not in options},
    ).cells()
    assert same.key == cell.key
    assert cell.identity == "finetune"
    (other,) = Request(
        f"{suite}[preset={preset}]", ("finetune",), (scenario,), settings={"lr": "0.5"}
    ).cells()
    assert other.training["lr"] == 0.5


def test_there_are_presets() -> None:
    assert len(PRESETS) > 8


def test_the_template_of_a_protocol_is_an_experiment(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("init protocol")[0] == 0
    template = read_experiment(tmp_path / "protocol.toml")
    assert template.out == Path("results/runs/protocol")
    plan = resolve(template.requests, Present())
    assert len(plan.cells) == 25
    assert {spec.identity for spec in plan.cells if spec.training["epochs"] == 1} == {
        "er[batch=10,buffer=200,epochs=1,first_task=0,optimiser=sgd,schedule=constant,warmup=0]"
    }
    code, shown, _ = command("run protocol.toml --dry-run")
    assert code == 0
    assert "25 cells, 25 to run" in shown


def test_one_pass_over_a_table_by_date_has_prequential_scores(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two months, written in the reverse order of time, are learned and tested first by date."""
    monkeypatch.chdir(tmp_path)
    days = [f"2024-{month:02}-{day:02}" for month in (3, 2) for day in range(28, 0, -1)]
    rows = [f"{'apple bread' if n % 2 else 'river ocean'} {n},{n % 2},{day}" for n, day in enumerate(days)]
    Path("table.csv").write_text("\n".join(["text,label,date", *rows]))
    (line,) = (line for line in COMMANDS if "FILE" in line)
    words = [word.replace("FILE", "table") for word in shlex.split(line)[1:]]
    code, out, err = command("", *words, "--dry-run")
    assert code == 0, err
    (suite,) = set(re.findall(r"^run +(\S.*) online ", out, re.MULTILINE))
    stream = suites.get(suite).stream(suites.get(suite).load(), "online", 0, Training(validation=0.1))
    learned = [stream.data.texts[int(i)] for t in stream.tasks for i in stream.data.index_of(t.train_rows)]
    dates = [days[int(text.rsplit(" ", 1)[1])] for text in learned]
    assert dates == sorted(dates)
    assert len({*dates}) == len(dates) == 40
