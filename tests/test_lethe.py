"""The package ``lethe``: its names, the names of 0.1.0, and other packages that hide Lethe's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lethe
from suites.aliases import ALIASES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", lethe.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(lethe, name) is not None
    assert name in dir(lethe)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lethe.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_lethe_does_not_import_torch() -> None:
    done = _python("import sys, lethe; print({'torch', 'pandas', 'numpy'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.slow
def test_imports_of_0_1_0_still_work() -> None:
    """Every import that the README and docs of 0.1.0 showed."""
    done = _python("""
from bench import classes, load, run, serve
from strategies.base import NotNegative, Strategy
from strategies.lanes import gradients, per_lane
from suites.base import Data, Suite, Training
from suites.scenarios import by_class
from suites.sources import fingerprint
import lethe
assert (load, run, Strategy) == (lethe.load, lethe.run, lethe.Strategy)
assert serve.load == lethe.Predictor.load""")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_commands_of_0_1_0_still_work() -> None:
    done = _run(["-m", "bench.gpu", "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("old", ALIASES)
def test_old_module_names_are_the_new_modules(old: str) -> None:
    done = _python(f"import {old}, {ALIASES[old]} as new, sys; assert sys.modules[{old!r}] is new")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hidden", ["suites.py", "bench/__init__.py", "strategies/__init__.py"])
def test_a_folder_that_hides_a_package_of_lethe_is_named(hidden: str, tmp_path: Path) -> None:
    path = tmp_path / hidden
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    name = hidden.split("/")[0].removesuffix(".py")
    # A name on the command line puts the folder first on the path, as ``python -m`` does.
    done = _run(["-m", "lethe", "list"], tmp_path)
    assert done.returncode == 2
    hides = rf"lethe: .*{hidden.removesuffix('/__init__.py')} hides Lethe's package '{name}': .*\n"
    assert re.fullmatch(hides, done.stderr)
    imported = _python("import lethe; lethe.run", tmp_path)
    assert f"hides Lethe's package '{name}'" in imported.stderr.splitlines()[-1]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_documents_import_only_from_lethe(page: Path) -> None:
    shown = "\n".join(block.split("```")[0] for block in page.read_text().split("```python\n")[1:])
    assert not re.findall(r"^\s*(?:from|import) (?:bench|strategies|suites)\b.*", shown, re.MULTILINE)


def _python(source: str, first: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with ``first`` before Lethe's own folder on its path."""
    return _run(["-c", source], first)


def _run(words: list[str], first: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{first}:{ROOT}", "PATH": ""}
    full = [sys.executable, *words]
    return subprocess.run(full, capture_output=True, text=True, check=False, cwd=first, env=environment)
