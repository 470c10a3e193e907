"""Metadata: the same in show, run and report, for built-ins, user files and entry points."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import strategies
import suites
from bench import models
from bench.cli.kinds import describe, registries
from bench.plan.source_files import files_behind
from bench.report import Layout
from bench.report.families import bounds, families
from bench.report.tables import markdown
from bench.results import load
from bench.store import RunReader
from strategies.core import shown
from suites.cache import read_cached, write_cached
from suites.description import Description
from suites.registry import import_file
from tests.conftest import Command, Refuses, refused

PLAIN = '''from __future__ import annotations

from typing import Literal

from lethe import NotNegative, Strategy


class Plain(Strategy):
    """Steps that are scaled."""

    family = "gradient"
    trains_on = "all"
    hint = 3

    scale: NotNegative = 0.5
    """How strongly."""
    way: Literal["up", "down"] = "up"

    def extra_loss(self, batch, raw_LBU):
        return self.scale * raw_LBU.square().mean((1, 2))
'''
CELLS = "--scenario class --seeds 2 --set epochs=1 --jobs 1"


def written(folder: Path, text: str, name: str = "own.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("decorator", ["", "from dataclasses import dataclass\n\n@dataclass\n"])
def test_show_run_and_report_agree_on_a_user_s_class(
    decorator: str, tmp_path: Path, command: Command
) -> None:
    text = PLAIN.replace("class Plain", f"{decorator}class Plain")
    own, out = f"{written(tmp_path, text)}:Plain", str(tmp_path / "run")
    shown = json.loads(command("show", own, "--json")[1])
    assert (shown["summary"], shown["metadata"]["family"]) == ("Steps that are scaled.", "gradient")
    assert shown["options"] == [
        {"name": "scale", "type": "number from 0 up", "default": 0.5, "help": "How strongly.", "search": ""},
        {"name": "way", "type": "up | down", "default": "up", "help": "", "search": ""},
    ]
    assert command(f"run digits -s {own}[scale=0.25] -s finetune {CELLS} --out {out}")[0] == 0
    records = RunReader(tmp_path / "run").records()
    assert {r["status"] for r in records} == {"done"}
    hyper = next(r["spec"]["hyper"] for r in records if r["spec"]["strategy"] == own)
    assert hyper == {"scale": 0.25, "way": "up"}
    said = json.loads((tmp_path / "run" / "run.json").read_text())["strategies"]
    said_of_own = {"summary": "Steps that are scaled.", "family": "gradient", "trains_on": "all"}
    assert said[own] == said_of_own | {"name": "Plain", "paper": "", "generates": False}
    table = markdown(load(out), ["acc"], Layout(by_family=True))
    assert table.index("*gradient*") < table.index("Plain")


def test_a_dataclass_inherits_hyper_parameters_of_a_plain_class(tmp_path: Path) -> None:
    more = "from dataclasses import dataclass\n\n\n@dataclass\nclass More(Plain):\n    further: float = 1.0\n"
    own = f"{written(tmp_path, PLAIN + more)}:More"
    assert [option.name for option in describe(own).options] == ["scale", "way", "further"]
    assert strategies.get(own)(scale=0.25).scale == 0.25  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("then", ["deleted", "acts"])
def test_reading_a_run_does_not_import_user_files(then: str, tmp_path: Path, command: Command) -> None:
    own, out, trace = written(tmp_path, PLAIN), str(tmp_path / "run"), tmp_path / "imported"
    assert command(f"run digits -s {own}:Plain -s finetune {CELLS} --out {out}")[0] == 0
    if then == "deleted":
        Path(own).unlink()
    else:
        Path(own).write_text(f"{PLAIN}\nopen({str(trace)!r}, 'w').close()\nLIMIT = 1 / 0\n")
        assert command("report", out, "--scores", "acc")[0] == 0
    assert "4 done" in command("status", out)[1]
    frames = load(out)
    assert families(frames) == {f"{own}:Plain": "gradient", "finetune": "baseline"}
    assert bounds(frames) == {f"{own}:Plain"}
    assert "*gradient*" in markdown(frames, ["acc"], Layout(by_family=True))
    assert not trace.exists()


@pytest.mark.slow
def test_a_method_of_a_file_can_be_part_of_a_sum(tmp_path: Path, command: Command) -> None:
    own, out = f"{written(tmp_path, PLAIN.replace('trains_on', 'other'))}:Plain", tmp_path / "run"
    assert command(f"run digits -s er[balance=sum]+{own}[scale=0.25] {CELLS} --out {out}")[0] == 0
    records = RunReader(out).records()
    assert {(r["status"], r["spec"]["hyper"]["Plain_scale"]) for r in records} == {("done", 0.25)}
    assert [o.help for o in describe(f"lwf+{own}").options if o.name == "Plain_scale"] == ["How strongly."]


def test_a_file_is_imported_once_and_again_after_a_change(tmp_path: Path) -> None:
    own = f"{written(tmp_path, PLAIN)}:Plain"
    first = strategies.get(own)
    assert strategies.get(own) is first
    assert strategies.get(f"{tmp_path}/../{tmp_path.name}/own.py:Plain") is first
    written(tmp_path, PLAIN.replace("0.5", "0.7"))
    assert strategies.get(own)().scale == 0.7  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]  # no bytecode is written


def test_a_class_without_a_name_is_named_after_itself(tmp_path: Path) -> None:
    text = "from strategies.replay.er import ER\nclass Mine(ER):\n    lam: float = 2.0\n"
    mine = strategies.get(f"{written(tmp_path, text)}:Mine")
    assert (mine.name, mine().lam, mine().buffer) == ("Mine", 2.0, 500)  # type: ignore[attr-defined]
    assert describe(f"{tmp_path}/own.py:Mine").about == ""
    assert strategies.get("er").name == "er"
    assert "Mine" not in strategies.names()


BASE = "from lethe import Strategy\nfrom dataclasses import dataclass, field\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import math\nLIMIT = 1 / 0\n", "own.py, line 2 cannot be imported: ZeroDivisionError: division"),
        ("def f(:\n", "own.py, line 1 cannot be imported: SyntaxError: "),
        ("import nothing_like_it\n", "own.py, line 1 cannot be imported: ModuleNotFoundError: No module"),
        ("raise SystemExit(3)\n", "own.py, line 1 cannot be imported: SystemExit: 3"),
        (f"{BASE}class Other(Strategy):\n    pass\n", "own.py has no strategy 'Own'; it has: Other"),
        ("Own = 3\n", "own.py has no strategy 'Own'"),
        (f"{BASE}class Own(Strategy):\n    x: float\n", "every hyper-parameter needs a default"),
        (f"{BASE}class Own(Strategy):\n    x: list = [1]\n", "cannot be hyper-parameters: ValueError"),
        (f"{BASE}class Own(Strategy):\n    x: tuple = (1, 2)\n", "x = (1, 2) cannot be a hyper-parameter"),
        (f"{BASE}class Own(Strategy):\n    x: int | None = None\n", "x = None cannot be a hyper-parameter"),
        (f"{BASE}class Own(Strategy):\n    x: float = float('inf')\n", "x = inf cannot be a hyper-parameter"),
        (f"{BASE}class Own(Strategy):\n    x: 'Unheard' = 1\n", "annotations cannot be read: NameError"),
        (f"{BASE}@dataclass\nclass Own(Strategy):\n    x: int = field(default=1, init=False)\n", "x = 1"),
    ],
)
@pytest.mark.parametrize("words", ["show", "run digits --out OUT -s"])
def test_an_unusable_file_is_an_error_of_one_line(
    words: str, text: str, says: str, tmp_path: Path, refuses: Refuses
) -> None:
    own = f"{written(tmp_path, text)}:Own"
    if words == "show":
        says = says.split(";")[0].replace("no strategy", "no suite, strategy or model")
    refuses(says, words.replace("OUT", str(tmp_path / "r")), own)
    assert not (tmp_path / "r").exists()


RAISES = """from lethe import Strategy

class Own(Strategy):
    def unsuitable(self, scenario, training):
        return half(0) if HOW == "plan" else None

    def begin_task(self, task):
        half(0)

def half(x):
    return 1 / x

HOW = "plan"
half(1)
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("half(1)", "half(0)"), "own.py, line 11 cannot be imported: ZeroDivisionError: division by zero"),
        (("", ""), "own.py, line 11: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_in_a_file_ends_in_the_file_s_own_lines(
    change: tuple[str, str], says: str, tmp_path: Path, command: Command
) -> None:
    own = f"{written(tmp_path, RAISES.replace(*change))}:Own"
    line = f"run digits --out {tmp_path / 'r'} -s {own}"
    code, _, err = command(line)
    assert code == 2
    assert err.splitlines()[-1].startswith("lethe: ")
    assert err.splitlines()[-1].endswith(says)
    assert err.count("  File ") == 2
    assert "/bench/" not in err
    code, _, err = command(line, "--debug")
    assert code == 2
    assert "/bench/" in err


def test_a_hook_that_raises_is_named_by_run_and_status(tmp_path: Path, command: Command) -> None:
    path, run = written(tmp_path, RAISES.replace('HOW = "plan"', "HOW = 'hook'")), tmp_path / "r"
    code, _, err = command(f"run toy --no-check --seeds 1 --out {run} -s {path}:Own")
    assert code == 1
    says = f"ZeroDivisionError: division by zero ({shown(path)}, line 11)"
    assert says in err
    assert "/bench/" not in err
    assert "/bench/" not in (found := command(f"status {run}"))[1]
    assert says in found[1]
    assert "/bench/" in command(f"status {run} --debug")[1]


def test_an_error_of_the_system_outside_of_cells_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cli.kinds.registries", partial(os.stat, "/no/such"))
    says = "lethe: FileNotFoundError: /no/such: No such file or directory\n"
    assert command("list") == (1, "", says)


def test_a_file_that_raised_is_imported_after_it_is_fixed(tmp_path: Path) -> None:
    own = written(tmp_path, "LIMIT = 1 / 0\n")
    for _ in range(2):
        refused("line 1 cannot be imported", import_file, own)
    written(tmp_path, PLAIN)
    assert strategies.get(f"{own}:Plain").name == "Plain"


def test_installed_entry_points_are_listed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, PLAIN, "installed_method.py")
    written(tmp_path, "LIMIT = 1 / 0\n", "installed_broken.py")
    monkeypatch.syspath_prepend(tmp_path)
    places = {"plain": "method:Plain", "broken": "broken:Any", "number": "method:Literal"}
    points = {n: EntryPoint(n, f"installed_{at}", "lethe.strategies") for n, at in places.items()}
    registry = strategies.REGISTRY
    monkeypatch.setattr(registry, "_installed", lambda: points)
    assert {"plain", "er"} <= set(strategies.names())
    listed = {d.name: d for d in registry.descriptions()}
    assert listed["plain"].metadata == {"defined_in": "installed_method:Plain"}
    assert "installed_method" not in sys.modules
    assert [o.name for o in describe("plain").options] == ["scale", "way"]
    assert strategies.get("plain")().scale == 0.5  # type: ignore[attr-defined]
    refused(r"number .* is not a strategy", strategies.get, "number")
    refused(r"broken .* cannot be imported: ZeroDivisionError", strategies.get, "broken")


def test_a_model_can_be_installed_as_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'def build(generators, shape, units, *, width: int = 3):\n    """Of `width` units."""\n'
    written(tmp_path, text, "installed_model.py")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("narrow", "installed_model:build", "lethe.models")
    monkeypatch.setattr(models.REGISTRY, "_installed", lambda: {"narrow": point})
    assert "narrow" in models.names()
    assert [(o.name, o.type) for o in describe("narrow").options] == [("width", "whole number from 1 up")]


@pytest.mark.slow
def test_list_imports_torch_only_to_make_the_index(tmp_path: Path) -> None:
    def listing(before: str = "") -> list[str]:
        code = (
            f"import sys\n{before}\nfrom bench.cli import main\nsys.argv = ['lethe', 'list', '--json']\n"
            "try:\n    main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
        )
        environment = os.environ | {"LETHE_CACHE": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    # A suite registered in a process is listed by that process only.
    toy = '   "name": "toy",'
    cold = listing("import lethe.testing")
    warm = listing()
    assert (cold[-1], warm[-1], toy in cold, toy in warm) == ("True", "False", True, False)
    assert set(warm[:-1]) <= set(cold)
    kinds = sorted(path.name.split("-")[1] for path in tmp_path.iterdir())
    assert kinds == ["models", "scores", "strategies", "suites"]


def scores() -> list[Description]:
    """Return the descriptions of the smallest registry, as a new process reads them."""
    known = registries()["scores"]
    return type(known)(*known._sources).descriptions()


DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda whole: "",
    "truncated": lambda whole: whole[:-9],
    "a list": lambda whole: "[]",
    "of other sources": lambda whole: whole.replace('"fingerprint": "', '"fingerprint": "0'),
    "of another version": lambda whole: whole.replace('"options"', '"choices"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_outdated_index_is_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    made = scores()
    (path,) = tmp_path.iterdir()
    whole, content = path.read_text(), (read_cached(path) or b"").decode()
    change = content.replace("final accuracy", "as it was saved").encode()
    write_cached(path, lambda file: file.write(change))
    assert scores() != made  # the cached index is read
    if damage.startswith("of "):
        write_cached(path, lambda file: file.write(DAMAGES[damage](content).encode()))
    else:
        path.write_text(DAMAGES[damage](whole))
    assert (scores(), path.read_text()) == (made, whole)  # the index is made again


def test_a_cache_that_cannot_be_written_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "file" / "cache"))
    assert len(scores()) > 10


def test_the_index_equals_descriptions_of_the_objects() -> None:
    for registry in registries().values():
        for name in registry.names() if registry.plural != "scores" else ():
            said: Any = registry.describe(name)
            assert said == registry.describe_value(name, registry.get(name))
    assert suites.REGISTRY.describe("digits").metadata["model"] == "mlp"
    assert strategies.REGISTRY.describe("bic").metadata["family"] == "class-incremental"


def test_a_file_imports_its_neighbours_which_count_as_its_code(tmp_path: Path) -> None:
    text = PLAIN + "\nfrom neighbour_of_own import SCALE\nPlain.hint = SCALE\n"
    own = written(tmp_path, text)
    (tmp_path / "neighbour_of_own.py").write_text("SCALE = 7")
    (tmp_path / "json.py").write_text("raise SystemExit")  # hides no module that Python has
    before = files_behind(Path(own))
    assert strategies.get(f"{own}:Plain").hint == 7
    assert {"own.py", "neighbour_of_own.py"} <= before.keys()
    assert "json.py" not in before
    other = tmp_path / "other"
    other.mkdir()
    (other / "neighbour_of_own.py").write_text("SCALE = 8")
    path = written(other, text)
    refused("both have a module neighbour_of_own: rename", strategies.get, f"{path}:Plain")


def test_a_file_in_a_folder_with_the_signs_of_selectors_runs(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "a+b" / "c[1]"
    folder.mkdir(parents=True)
    own = written(folder, PLAIN.replace('    trains_on = "all"\n', ""))
    code, _, err = command(
        f"run toy -s finetune+{own}:Plain[scale=0.25] --out {folder}/run --no-check {CELLS}"
    )
    assert code == 0, err
    (strategy,) = {record["spec"]["strategy"] for record in RunReader(folder / "run").records()}
    assert strategy == f"finetune+{own}:Plain"
    code, out, err = command(f"status {folder}/run")
    assert (code, out) == (0, f"{folder}/run: 2 done\n"), err
