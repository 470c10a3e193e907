"""No code is run that nobody asked for: users' files, model folders, spreadsheets, pages of other sites."""

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import lethe
from bench.export import Predictor
from bench.export.predict_files import write_answers
from bench.models import pretrained, seq2seq
from bench.plan import Request
from bench.report.csv_text import csv_text
from bench.report.live_server import Live, server
from suites.errors import UserError
from suites.registry import NotImported, only_files
from suites.spreadsheets import safe_cell
from tests.conftest import Command, ran, refused

METHOD = """
from dataclasses import dataclass
from pathlib import Path
from lethe import Strategy

Path("imported").write_text("")

@dataclass
class Plain(Strategy):
    \"\"\"Plain training.\"\"\"
"""
SUITE = (
    METHOD
    + """
from lethe.testing import TOY
from dataclasses import replace
SUITE = replace(TOY, name="mine")
"""
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file that leaves a mark where it is imported."""
    monkeypatch.chdir(tmp_path)
    text = f"{METHOD}\n# {tmp_path}\n"  # a content that no other test has imported
    Path("evil.py").write_text(text)
    return tmp_path


def _experiment(**table: object) -> Path:
    fields = {"suite": "toy", "strategies": ["finetune", "./evil.py:Plain"], "seeds": 2} | table
    path = Path("experiment.toml")
    path.write_text("[[run]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in fields.items()))
    return path


@pytest.mark.parametrize("sum_", ["./evil.py:Plain", "finetune+./evil.py:Plain"])
def test_a_dry_run_of_an_experiment_imports_no_file(here: Path, command: Command, sum_: str) -> None:
    path = _experiment(strategies=["finetune", sum_])
    code, out, err = command(f"run {path} --dry-run")
    assert code == 0, err
    assert f"unresolved: ./evil.py (toy class {sum_}, seeds 0, 1)" in out
    assert "2 cells, 2 to run" in out
    assert not Path("imported").exists()
    code, out, err = command(f"run {path} --dry-run --trust")
    assert (code, Path("imported").exists()) == (0 if "+" not in sum_ else code, True), err
    assert "unresolved" not in out


@pytest.mark.parametrize("table", [{"suite": "./evil.py:SUITE"}, {"set": None}])
def test_a_dry_run_imports_no_suite_and_no_model(here: Path, command: Command, table: dict[str, str]) -> None:
    path = _experiment(**{k: v for k, v in table.items() if v})
    if "set" in table:
        path.write_text(f'{path.read_text()}\n[run.set]\nmodel = "./evil.py:build"')
    code, out, err = command(f"run {path} --dry-run")
    assert code == 0, err
    assert out.count("unresolved: ./evil.py") == 2
    assert not Path("imported").exists()


def test_a_file_named_on_the_command_line_is_trusted_and_so_is_an_experiment_that_is_run(
    here: Path, command: Command
) -> None:
    code, out, err = command("run toy -s ./evil.py:Plain --dry-run")
    assert (code, "unresolved" in out, Path("imported").exists()) == (0, False, True), err
    Path("evil.py").write_text(Path("evil.py").read_text() + "# other")
    Path("imported").unlink()
    code, _, err = command(f"run {_experiment(seeds=1)} --no-check --jobs 1 --out run")
    assert (code, Path("imported").exists()) == (0, True), err


NETWORK = """
from pathlib import Path
Path("imported").write_text("")
from bench.models.mlp import mlp as build
"""


@pytest.fixture
def exported(here: Path) -> None:
    """The folder ``model`` with an export whose network is in a file, not imported as it is now."""
    Path("net.py").write_text(NETWORK)
    lethe.run("toy", "finetune", seeds=1, settings={"model": "./net.py:build"}, out="run", keep_models="last")
    lethe.export("run", "finetune/0", "model")
    Path("net.py").write_text(f"{NETWORK}# {here}")
    Path("imported").unlink()


@pytest.mark.usefixtures("exported")
def test_a_network_named_by_an_exported_model_is_not_run_without_trust(command: Command) -> None:
    line = "run toy -s er --seeds 1 --resume-from model --jobs 1 --out next"
    code, _, err = command(line)
    assert (code, Path("imported").exists()) == (2, False)
    assert "unresolved: ./net.py" in err
    assert "--trust" in err
    code, _, err = command(f"{line} --trust")
    assert (code, Path("imported").exists()) == (0, True), err


TABLE = """
title = "A"
citation = "B, 2020"
suite = "toy"
score = "acc"
spread = "sem"
published_seeds = 5
first_seed = 0
[[entry]]
method = "Plain"
run = "./evil.py:Plain"
class = {mean = 90.0, spread = 0.5}
[[entry]]
method = "Finetune"
run = "finetune"
class = {mean = 90.0, spread = 0.5}
"""


@pytest.mark.parametrize("words", ["--look-only --out run", "--records run", "--dry-run --out run"])
def test_a_look_at_a_published_table_imports_no_file(here: Path, command: Command, words: str) -> None:
    ran(here / "run", Request("toy", ("finetune",)))
    Path("table.toml").write_text(TABLE)
    code, out, err = command(f"verify ./table.toml --seeds 1 {words}")
    assert code == ("dry-run" not in words), err
    assert "unresolved: ./evil.py" in " ".join(out.split())
    assert not Path("imported").exists()
    command(f"verify ./table.toml --seeds 1 {words} --trust")
    assert Path("imported").exists()


def test_status_imports_no_suite_of_a_record(here: Path, command: Command) -> None:
    Path("evil.py").write_text(SUITE)
    ran(here / "run", Request("./evil.py:SUITE", ("finetune",)))
    Path("imported").unlink()
    Path("evil.py").write_text(f"{SUITE}\n# {here}")
    for words, imported in (("", False), ("--trust", True)):
        code, out, err = command(f"status run {words}")
        assert (code, Path("imported").exists()) == (0, imported), out + err


def test_only_the_named_files_can_be_imported(here: Path) -> None:
    with only_files(["./evil.py:Plain"]):
        assert Request("toy", (f"{here}/evil.py:Plain",)).cells()
    Path("other.py").write_text(f"{METHOD}# {here}")
    request = Request("toy", ("./other.py:Plain",))
    with only_files(["./evil.py:Plain"]), pytest.raises(NotImported, match=r"\./other\.py.*--trust"):
        request.exported, request._cell(__import__("suites").get("toy"), "class", "./other.py:Plain")
    with only_files():
        refused("unresolved: ./other.py .*--trust", ran, here / "run", request)


@pytest.mark.usefixtures("exported")
def test_an_exported_model_whose_network_is_in_a_file_needs_trust() -> None:
    refused("net.py is not imported.*--trust", Predictor.load, "model")
    assert not Path("imported").exists()
    assert Predictor.load("model", trust=True).labels
    assert Path("imported").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers with a small network and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    pretrained._encoder("tiny-bert").save_pretrained(folder)
    pretrained.tokenizer("tiny-bert").save_pretrained(folder)
    return folder


EVIL = """
open("imported", "w").close()
from transformers import BertConfig as C, BertModel as M, ByT5Tokenizer as T
"""


def _with_code(folder: Path) -> None:
    (folder / "evil.py").write_text(EVIL)
    for name, classes in (
        ("config.json", {"AutoConfig": "evil.C", "AutoModel": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.T", None]}),
    ):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": classes}))


def _unknown_kind(folder: Path) -> None:
    _with_code(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"model_type": "evil"}))


def _kernel(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"attn_implementation": "some/kernel"}))


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


# Earlier versions of transformers do not read the name of a kernel.
_READ_NOW = pytest.param(_kernel, marks=pytest.mark.pinned)


@pytest.mark.parametrize("change", [_with_code, _unknown_kind, _READ_NOW, _pickle])
def test_a_model_folder_runs_no_code_and_asks_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    folder = Path(shutil.copytree(model, tmp_path / "m"))
    change(folder)
    if change is _with_code:
        assert pretrained.backbone(str(folder), "mean").transformer.config.hidden_size == 32
    else:
        refused("model .*m", pretrained.backbone, str(folder), "mean")
    with pytest.raises(UserError):
        seq2seq.loaded(str(folder))
    assert not Path("imported").exists()


CELLS = {
    "=1+1": "'=1+1", "+cmd|x": "'+cmd|x", "-x": "'-x", "@a": "'@a", "\ta": "'\ta", "\ra": "'\ra",
    "-3.2": "-3.2", "+1e5": "+1e5", "a=1": "a=1", "": "",
}  # fmt: skip


def test_text_that_a_spreadsheet_would_run_is_escaped(tmp_path: Path) -> None:
    assert {text: safe_cell(text) for text in CELLS} == CELLS
    assert safe_cell(-3.2) == -3.2
    frame = pd.DataFrame({"name": ["=1+1", "er"], "=value": [-3.2, 1.0]})
    assert csv_text(frame) == "name,'=value\n'=1+1,-3.2\ner,1.0\n"
    assert list(frame.columns) == ["name", "=value"]
    write_answers(tmp_path / "a.csv", ["text", "label"], [["=1+1", "@b"], ["ok", "-1"]])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["text,label", "'=1+1,'@b", "ok,-1"]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    ran(tmp_path / "run", Request("toy", ("finetune",)))
    serving = server(Live([tmp_path / "run"], lambda: "page"))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving.server_address[1]
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_the_live_page_answers_only_to_this_machine(port: int) -> None:
    def status(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/state", headers={"Host": host})
        with connection.getresponse() as answer:
            return answer.status

    assert [status(host) for host in (f"127.0.0.1:{port}", "localhost", "[::1]:8000")] == [200] * 3
    evil = (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "",
        "[",
        "localhost@evil.example",
    )
    assert [status(host) for host in evil] == [403] * len(evil)
