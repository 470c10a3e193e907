"""Fingerprints of the code that a cell runs: which edits change which fingerprints."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import strategies
from bench.encode import model_inputs
from bench.plan import Request, code, code_of, source_files
from bench.plan.code import is_users
from bench.plan.source_files import files_behind
from bench.store import environment, where
from bench.train import run_group
from lethe.testing import toy_cell
from suites.syntax import digest_of
from tests.scratch_repository import git as git_in

ROOT = Path(__file__).parents[2]


UNCOUNTED = source_files._CHANGE_NO_NUMBER


def cell(strategy: str = "er", suite: str = "digits", model: str = "mlp") -> dict[str, str]:
    return {"strategy": strategy, "suite": suite, "model": model}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of Lethe's packages that a test may edit."""
    folder = tmp_path_factory.mktemp("elsewhere") / "checkout"
    for package in ("bench", "lethe", "strategies", "suites"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


NAMES = ("finetune", "er", "der", "ewc", "mas", "icarl", "er+lwf", "lwf")


def fingerprints() -> dict[tuple[str, str], str]:
    """Return the fingerprint of each strategy and model, without cached sources."""
    for known in (source_files._files_of_module, source_files._is_file, source_files._source):
        known.cache_clear()
    code._code_of_modules.cache_clear()
    return {(n, m): code_of(cell(n, model=m)).fingerprint for n in NAMES for m in ("mlp", "cnn")}


@pytest.mark.slow
def test_an_edit_changes_the_fingerprints_of_cells_that_run_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fingerprints()
    monkeypatch.setattr(source_files, "ROOT", checkout)
    before = fingerprints()
    assert before == here  # the folder does not matter

    def moved(name: str) -> set[tuple[str, str]]:
        path = checkout / name
        text = path.read_text()
        path.write_text(f"{text}\nedited = 1\n")
        after = fingerprints()
        path.write_text(text)
        return {key for key in before if after[key] != before[key]}

    edits: dict[str, set[str]] = {
        "strategies/replay/der.py": {"der"}, "strategies/regularisation/ewc.py": {"ewc"},
        "strategies/distillation/lwf.py": {"lwf", "er+lwf"}, "strategies/core/compose.py": {"er+lwf"},
        "strategies/parts/memory.py": {"er", "der", "icarl", "er+lwf"},
    }  # fmt: skip
    for name in ("strategies/core/strategy.py", "bench/train/loop.py", "suites/scenarios.py"):
        edits[name] = {*NAMES}
    of_none = "strategies/replay/__init__.py strategies/parts/__init__.py bench/models/resnet.py"
    for name in f"{of_none} bench/report/tables.py bench/train/clock.py suites/mnist.py".split():
        edits[name] = set()
    for name, strategies_moved in edits.items():
        assert moved(name) == {(n, m) for n in strategies_moved for m in ("mlp", "cnn")}, name
    assert moved("bench/models/cnn.py") == {(n, "cnn") for n in NAMES}
    monkeypatch.undo()
    fingerprints()


@pytest.mark.slow
def test_a_fingerprint_is_made_without_importing_torch() -> None:
    asked = f"import sys; from bench.plan import code_of; code_of({cell()}); sys.exit('torch' in sys.modules)"
    for _ in range(2):  # the first fills the index of names, which imports everything, if the cache has none
        done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_the_commit_recorded_is_that_of_lethe_s_own_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed in an environment inside another repository, Lethe has no commit."""
    git = partial(git_in, tmp_path)
    (tmp_path / "bench").mkdir()
    file = tmp_path / "bench" / "one.py"
    file.write_text("")
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    assert (where("cpu")["git"], where("cpu")["dirty"]) == ("", False)
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    (tmp_path / "notes.txt").write_text("not Lethe's")
    assert (where("cpu")["git"], where("cpu")["dirty"]) == (git("rev-parse", "HEAD"), False)
    file.write_text("x = 1")
    assert where("cpu")["dirty"]
    git("add", ".")
    git("commit", "-m", "two")
    assert not where("cpu")["dirty"]
    (tmp_path / ".git" / "index").write_bytes(b"damaged")
    assert where("cpu")["dirty"], "git cannot say, so it is not called clean"
    monkeypatch.setattr(environment, "_ROOT", tmp_path / "bench")
    assert (where("cpu")["git"], where("cpu")["dirty"]) == ("", False)


def test_git_that_takes_too_long_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert environment.git_output("log", at=tmp_path, seconds=0.2) == b""


def test_every_fingerprint_covers_the_strategy_the_loop_and_the_encoder() -> None:
    for name in strategies.names():
        files = code_of(cell(name)).files
        own = Path(str(sys.modules[strategies.get(name).__module__].__file__)).relative_to(ROOT)
        wanted = "bench/train/loop.py bench/encode/model_inputs.py suites/digits.py bench/models/mlp.py"
        assert {own.as_posix(), *wanted.split()} <= files.keys(), name
        assert not any(file.endswith("__init__.py") or is_users(file) for file in files), name


MINE = '''
from lethe import Strategy
from strategies.parts import Memory
import {helper}

class Mine(Strategy):
    """Text."""

    def loss(self, batch):
        """Text."""
        return {helper}.factor() * super().loss(batch)
'''


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        ("Text.", "Another text.", False),
        ("\n    def loss", "    # a comment\n\n    def loss", False),
        ("super().loss(batch)", "(\n            super().loss(batch,)\n        )", False),
        ("super().loss(batch)", "-super().loss(batch)", True),
        (".factor()", ".other()", True),
    ],
)
def test_only_edits_of_executed_code_change_the_fingerprint_of_a_user_s_file(
    tmp_path: Path, monkeypatch: Any, old: str, new: str, moves: bool
) -> None:
    helper, path = f"helper_{tmp_path.name}", tmp_path / "mine.py"
    (tmp_path / f"{helper}.py").write_text("import json, torch\nfrom numpy import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    path.write_text(MINE.format(helper=helper))
    before = code_of(cell(f"{path}:Mine"))
    assert {file for file in before.files if is_users(file)} == {"mine.py", f"{helper}.py"}
    assert {"strategies/core/strategy.py", "strategies/parts/memory.py"} <= before.files.keys()
    path.write_text(path.read_text().replace(old, new))
    assert (code_of(cell(f"{path}:Mine")).fingerprint != before.fingerprint) == moves
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(path, moved)
    assert code_of(cell(f"{moved / 'mine.py'}:Mine")) == code_of(cell(f"{path}:Mine"))


def test_imports_are_followed_through_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_methods").mkdir()
    for name, text in (
        ("__init__", "from .one import One\nfrom . import two\nRATE = 1\n"),
        ("one", "from .shared import help\nclass One: pass\n"),
        ("two", "from own_methods import RATE\n"),
        ("shared", "def help(): pass\n"),
    ):
        (tmp_path / "own_methods" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.py"

    def files(text: str) -> set[str]:
        path.write_text(text)
        return {file.removeprefix("own_methods/") for file in files_behind(path)} - {"mine.py"}

    assert files("from own_methods import One") == {"one.py", "shared.py"}
    assert files("from own_methods import RATE") >= {"__init__.py"}
    assert files("import own_methods") == {"__init__.py", "one.py", "shared.py", "two.py"}
    assert files("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import own_methods") == set()


def test_the_code_of_the_checks_has_a_fingerprint_too() -> None:
    """Results of checks are cached by the code of the checks."""
    files = files_behind("bench.checks.targets").keys()
    parts = "conformance", "made_streams", "one_check", "pretended_tensor", "subjects", "targets"
    assert {f"bench/checks/{name}.py" for name in parts} <= files
    assert not any(file.startswith("bench/report") for file in files)


def test_digests_are_the_same_in_every_python_version(tmp_path: Path) -> None:
    """A Python version with another digest would make every record stale."""
    path = tmp_path / "mine.py"
    path.write_text('x = f"{1.0!r:>{2}}" "a"\n@d\nasync def f(*, a: int = -1): ...\n')
    assert files_behind(path) == {"mine.py": "942e1a6f81f693ec1c98"}


def test_the_metadata_of_a_suite_does_not_change_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"

    def digest(arguments: str) -> dict[str, str]:
        path.write_text(f"MINE = Suite({arguments})\n")
        return files_behind(path)

    plain = digest("'mine', version=1, summary='mine', source='ours'")
    assert digest("'mine', version=1, summary='ours', licence='MIT', needs='a mirror'") == plain
    assert digest("'mine', version=2, summary='mine', source='ours'") != plain


@pytest.mark.slow
def test_cached_features_are_named_after_the_encoder_s_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an edited encoder would go on using the features of the old code."""

    def first(x: int) -> int:
        """Text."""
        return x  # a comment

    before = digest_of(first)
    names = []
    for code_now in ("a", "b", "a"):
        monkeypatch.setattr(model_inputs, "_code", lambda code_now=code_now: code_now)
        model_inputs._key.cache_clear()
        names.append(model_inputs._key(("one", "two"), "tiny-bert", 16, "mean"))
    model_inputs._key.cache_clear()
    assert names[0] == names[2] != names[1]

    def first(x: int) -> int:  # type: ignore[no-redef]
        return x

    assert digest_of(first) == before

    def first(x: int) -> int:  # type: ignore[no-redef]
        return -x

    assert digest_of(first) != before


@pytest.mark.parametrize(
    "selector", ["er+lwf", "icarl", "packnet", "la-maml", "dgr", "ewc", "gpm", "sparse-er"]
)
def test_every_file_that_a_cell_runs_is_in_its_fingerprint(selector: str) -> None:
    """That is every file of Lethe of which a function is called, except those that change no number."""
    text = {"suite": "toy-text"} if selector == "sparse-er" else {"suite": "digits", "rows_per_class": 12}
    if "+" in selector:
        (spec,) = Request("digits", (selector,), settings={"epochs": "1", "rows_per_class": "12"}).cells()
    else:
        spec = toy_cell(selector, epochs=1, **text)
    called: set[str] = set()
    sys.setprofile(lambda frame, event, value: called.add(frame.f_code.co_filename))
    try:
        run_group([spec])
    finally:
        sys.setprofile(None)
    files = {Path(name).relative_to(ROOT) for name in called if name.startswith(f"{ROOT}/")}
    ours = {file.as_posix() for file in files if file.parts[0] in source_files.LETHE}
    modules = {name: name.removesuffix(".py").replace("/", ".") for name in ours if "__init__" not in name}
    counted = {n for n, m in modules.items() if not any(f"{m}.".startswith(f"{x}.") for x in UNCOUNTED)}
    assert {"bench/train/loop.py", "strategies/core/strategy.py"} <= counted
    assert counted <= code_of(vars(spec)).files.keys()
