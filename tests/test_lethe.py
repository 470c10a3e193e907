"""The public face: its names, the names of 0.1.0, and packages that hide Lethe's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lethe
from suites.aliases import ALIASES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", lethe.__all__)
def test_public_names(name: str) -> None:
    assert getattr(lethe, name) is not None
    assert name in dir(lethe)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lethe.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_lethe_imports_nothing_heavy() -> None:
    done = _python("import sys, lethe; print({'torch', 'pandas', 'numpy'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


def test_names_of_0_1_0() -> None:
    """Every import that its README and docs showed."""
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


def test_a_command_of_0_1_0() -> None:
    done = _run(["-m", "bench.gpu", "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout


@pytest.mark.parametrize("old", ALIASES)
def test_old_names_are_modules_of_today(old: str) -> None:
    done = _python(f"import {old}, {ALIASES[old]} as new, sys; assert sys.modules[{old!r}] is new")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hidden", ["suites.py", "bench/__init__.py", "strategies/__init__.py"])
def test_a_folder_that_hides_a_package(hidden: str, tmp_path: Path) -> None:
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
def test_documents_import_from_lethe_alone(page: Path) -> None:
    shown = "\n".join(block.split("```")[0] for block in page.read_text().split("```python\n")[1:])
    assert not re.findall(r"^\s*(?:from|import) (?:bench|strategies|suites)\b.*", shown, re.MULTILINE)


def _python(source: str, first: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with ``first`` before Lethe's own folder on its path."""
    return _run(["-c", source], first)


def _run(words: list[str], first: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{first}:{ROOT}", "PATH": ""}
    full = [sys.executable, *words]
    return subprocess.run(full, capture_output=True, text=True, check=False, cwd=first, env=environment)
