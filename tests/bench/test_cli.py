import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

import lethe
import suites
from bench import models
from bench.cli.asked import HOW
from bench.cli.commands_page import commands
from bench.runner import Options
from bench.schema import RunTable, TuneTable
from suites.own.declaration import OPTIONS
from tests.conftest import Command, Refuses, process

ROOT = Path(__file__).parents[2]


def imported(code: str, slow: str) -> tuple[list[str], set[str]]:
    """Run code in a new process; return what it prints and which of the slow modules it imports."""
    code = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *printed, modules = done.stdout.splitlines()
    return printed, {*slow.split()} & {*modules.split()}


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["list"], ["show", "ewc"], ["run", "--help"], ["--version"]])
def test_short_commands_import_nothing_slow(words: list[str]) -> None:
    assert process("list").returncode == 0  # fills the index in the cache
    code = f"import sys\nfrom bench.cli import main\nsys.argv = ['lethe', *{words!r}]\n"
    code += "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code"
    printed, slow = imported(code, "torch pandas seaborn sklearn datasets scipy")
    assert printed
    assert slow == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "tune"])
def test_bad_input_is_refused_before_slow_imports(name: str) -> None:
    code = f"import sys\nfrom bench.cli import main\nsys.argv = ['lethe', {name!r}, 'digits']\n"
    code += "try:\n    main()\nexcept SystemExit as e:\n    assert e.code == 2, e.code"
    assert imported(code, "torch pandas datasets scipy") == ([], set())


@pytest.mark.parametrize("name", ["run", "tune"])
def test_every_option_that_says_what_is_run_is_refused_beside_a_file(name: str, refuses: Refuses) -> None:
    options = {p.name: p for p in commands()[name].params if p.opts[0].startswith("-") and p.name != "help"}
    refused = {max(p.opts, key=len): p for key, p in options.items() if key not in HOW}
    of_file = {"strategy", "scenario", "settings", *OPTIONS, *RunTable.model_fields, *TuneTable.model_fields}
    assert of_file & options.keys() <= {p.name for p in refused.values()}
    assert not {p.name for p in refused.values()} & {of_run.name for of_run in fields(Options)}
    for word, option in refused.items():
        given = [word] if option.is_flag else [word, "1"]
        refuses(f"leave out {word}, or change study.toml", f"{name} study.toml", *given)
    refuses("leave out --seeds, --set, or", f"{name} study.toml --set epochs=1 --seeds=3 --out x --dry-run")


HEAVY = {"bench.report": "matplotlib seaborn torch", "bench.report.page": "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("module", HEAVY)
def test_importing_the_report_imports_nothing_slow(module: str) -> None:
    assert imported(f"import {module}", HEAVY[module]) == ([], set())


@pytest.mark.slow
def test_list_and_show_print_names_and_metadata(command: Command) -> None:
    listed = json.loads(process("list", "--json").stdout)
    assert {"suites", "strategies", "models", "scores"} == set(listed)
    names = {kind: {e["name"] for e in entries} for kind, entries in listed.items()}
    assert {"finetune", "joint", "er", "der", "der++", "agem", "lwf", "ewc", "si"} <= names["strategies"]
    assert {"digits", "split-mnist", "permuted-mnist", "rotated-mnist"} <= names["suites"]
    assert process("list", "models").stdout.startswith("cnn")
    for name, message in (
        ("ewc", "Kirkpatrick et al. 2017"),
        ("ewc", "lam = 1000.0"),
        ("ewc", "Strength of the penalty."),
        ("ewc", "exact | sampled | true | batched"),
        ("ewc", "needs boundaries: true\n"),
        ("digits", "model options: hidden=100, layers=2\n"),
        ("digits", "groups = (empty)  (text)\n"),
        ("digits", "used if iterations is 0."),
        ("mlp", "Units of each hidden layer."),
        ("er", "presets: vandeven2022 (buffer=1000, write=per-class,"),
    ):
        assert message in command("show", name)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run digts -s er --out OUT", "unknown suite 'digts'; did you mean digits?"),
        ("run rotated-mnist -s er --scenario class --out OUT", "rotated-mnist has no class scenario"),
        ("run digits -s er --device cuda:7 --out OUT", "CUDA"),
        ("run digits -s er --seeds none --out OUT", "cannot read seeds 'none'"),
        ("run digits -s er --set epochs --out OUT", "cannot read --set 'epochs'"),
        ("run digits -s er --out FILE", "is a file or is in one"),
        ("run digits -s er", "choose the folder of the run with --out"),
        ("run digits --out OUT", "choose at least one strategy"),
        ("run split-mnist -s er --data NOWHERE --out OUT", "is not a folder"),
        ("run split-mnist -s er --data EMPTY --out OUT", "the mirror has no"),
        ("run none.toml --out OUT", "cannot read none.toml"),
        ("list things", "unknown kind 'things'"),
        ("show nothing-like-it", "unknown name"),
        ("report OUT", "is not a run's folder"),
        ("status OUT", "is not a run's folder"),
    ],
)
def test_bad_input_is_an_error_of_one_line_and_writes_nothing(
    words: str, message: str, tmp_path: Path, refuses: Refuses
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"OUT": "out", "FILE": "file", "EMPTY": "empty", "NOWHERE": "nowhere"}
    before = sorted(tmp_path.rglob("*"))
    placed = [str(tmp_path / places[w]) if w in places else w for w in words.split()]
    refuses(message, *placed)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("word", ["--sead", "-s"])
def test_bad_input_exits_with_2_and_no_traceback(word: str, tmp_path: Path) -> None:
    done = process("run", "digits", word, "erx", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_run_then_status_then_report(tmp_path: Path, command: Command) -> None:
    out = str(tmp_path / "r")
    cells = "-s finetune -s er[buffer=50] --scenario class --seeds 2 --set epochs=2 --jobs 1"
    line = f"run digits {cells} --out {out}"
    code, message, _ = command(f"{line} --dry-run")
    assert (code, "4 cells, 4 to run" in message) == (0, True)
    assert not Path(out).exists()
    done = process(line)
    assert done.returncode == 0, done.stderr
    assert "4/4 cells" in done.stderr
    assert re.search(r"digits, class-incremental.*er\[buffer=50\]", done.stdout, re.DOTALL)
    assert "4 done" in command("status", out)[1]
    assert "4 cells, 0 to run" in command(f"{line} --dry-run")[1]
    made = process(f"report {out} --scores acc,bwt")
    assert made.returncode == 0, made.stderr
    report = tmp_path / "r" / "report"
    assert "| er\\[buffer=50\\] | 2 |" in (report / "table.md").read_text()
    assert (report / "figures" / "digits-class-stream.pdf").stat().st_size > 1000
    assert command(f"report {out} --scores akk")[0] == 2


@pytest.mark.slow
def test_the_examples_of_the_readme_run(tmp_path: Path) -> None:
    """The method of the README and the suite of its guide, copied from their text."""
    pages = ROOT / "README.md", ROOT / "docs" / "guides" / "own-suite.md"
    method, suite = (p.read_text().split("```python\n")[1].split("```")[0] for p in pages)
    (tmp_path / "my_method.py").write_text(method)
    (tmp_path / "my_suite.py").write_text(suite)
    words = "-s ./my_method.py:PullBack[strength=0.3] -s finetune --seeds 2 --jobs 1 --set epochs=3 --out"
    done = process(f"run ./my_suite.py:SHAPES {words} r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pull-back[strength=0.3]" in done.stdout  # the name that the class declares
    bad = process(f"run ./my_suite.py:SHAPE {words} q", cwd=tmp_path)
    assert bad.returncode == 2
    assert "has no suite 'SHAPE'" in bad.stderr


@pytest.mark.slow
def test_show_prints_the_training_settings_of_a_suite() -> None:
    shown = json.loads(process("show", "split-cifar100", "--json").stdout)
    budget = asdict(suites.get("split-cifar100").training)
    assert {o["name"]: o["default"] for o in shown["options"]} == budget
    assert shown["metadata"]["version"] == suites.get("split-cifar100").version


def test_every_option_of_a_model_has_help(command: Command) -> None:
    for name in models.names():
        shown = json.loads(command("show", name, "--json")[1])
        assert [o["name"] for o in shown["options"] if not o["help"]] == [], name


def test_every_model_has_a_summary_of_its_own() -> None:
    summaries = [described.summary for described in models.REGISTRY.descriptions()]
    assert len({*summaries}) == len(summaries) > 5


def test_h_is_help_and_commands_are_in_the_order_of_use(command: Command) -> None:
    shown = command("-h")[1]
    assert "Usage: lethe run" in command("run", "-h")[1]
    places = [shown.index(f"\n  {name} ") for name in ("list", "run", "report", "compare", "pack")]
    assert places == sorted(places)


def test_a_shell_completes_commands_and_names(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, at, found in (
        ("lethe ru", 1, "run"),
        ("lethe run dig", 2, "digits"),
        ("lethe run digits -s er-a", 4, "er-ace\ner-aml"),
        ("lethe show learning", 2, "learning_acc"),
    ):
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(at), "_LETHE_COMPLETE": "complete_bash"}
        with monkeypatch.context() as patched:
            for name, value in asked.items():
                patched.setenv(name, value)
            assert command("")[1].strip() == found


def test_completion_is_installed_by_a_command(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command("completion", "bash")[0] == 0
    (script,) = (p for p in tmp_path.rglob("*") if p.is_file() and "_LETHE_COMPLETE" in p.read_text())
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_every_command_has_json() -> None:
    without = [name for name, of in commands().items() if not any("--json" in p.opts for p in of.params)]
    assert without == ["completion"]


def test_json_holds_numbers_as_numbers(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, packed = tmp_path / "r", tmp_path / "r.lethe.gz"

    def read(line: str, *words: object) -> Any:
        code, text, err = command(line, *map(str, words), "--json")
        assert code == 0, err
        return json.loads(text)

    cells = "run toy -s finetune -s er --seeds 2 --set epochs=1 --jobs 1 --out"
    assert len(read(f"{cells} {out} --dry-run")["cells"]) == 4
    ran = read(f"{cells} {out}")
    acc = [row for row in ran["table"] if row["column"] == "acc"]
    assert ran["now"] == {"done": 4}
    assert {type(row["mean"]) for row in acc} == {float}
    assert next(row for row in ran["table"] if row["column"] == "forgetting")["n"] == 2
    state = read("status", out)
    assert (state["counts"], state["stale"]) == ({"done": 4}, 0)
    assert {row["state"] for row in state["cells"]} == {"done"}
    assert read("rerun", out, "er/0")["equal"] is True
    assert read("pack", out, packed)["cells"] == 4
    monkeypatch.chdir(out)  # the folder itself
    assert read("status .")["counts"] == {"done": 4}
    assert lethe.load(".").scores.equals(lethe.load(out).scores)
    packed.unlink()
    assert read("pack .") == {"file": str(packed), "cells": 4, "bytes": packed.stat().st_size, "missing": 0}
    assert read("unpack", packed, tmp_path / "again") == {"run": str(tmp_path / "again")}
    assert "Lethe" in read("cite", out)["bibtex"]
    (first, *_) = read("check finetune --only alone")
    assert (first["target"], first["findings"]) == ("finetune", [])
    assert {o["name"]: o["default"] for o in read("show ewc")["options"]}["lam"] == 1000.0
    assert all(isinstance(suite["version"], int) for suite in read("list suites"))


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_tables_name_methods_of_own_files_as_declared(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = "from lethe import Strategy\n\n\nclass Mine(Strategy):\n    name = 'slow-learner'\n    k: int = 1\n"
    (tmp_path / "a.py").write_text(own)
    (tmp_path / "b.py").write_text(own.replace("slow-learner", "er"))
    words = "-s ./a.py:Mine -s ./a.py:Mine[k=2] -s ./b.py:Mine -s er --seeds 2 --set epochs=1 --jobs 1"
    code, out, err = command(f"run toy {words} --no-check --out r")
    assert code == 0, err
    report = command("report r --scores acc")[1]
    for shown in (out, report):
        names = re.findall(r"^│ (\S+)", shown, re.MULTILINE)
        assert sorted(names) == ["./b.py:Mine", "er", "slow-learner", "slow-learner[k=2]"]
    assert "slow-learner[k=2]" in (tmp_path / "r" / "report" / "table.csv").read_text()
    assert command("power r slow-learner er --difference 50")[2] == ""
