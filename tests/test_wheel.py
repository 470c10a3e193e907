"""The wheel and the sdist contain all that the commands need outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
NEEDED = {
    "strategies/replay/er.py",
    "strategies/presets.toml",
    "suites/statistics.json",
    "lethe/py.typed",
    "lethe/__init__.pyi",
}
NEEDED |= {"bench/report/page/page.js", "bench/report/lethe.mplstyle", "bench/report/references.bib"}
BUILD = "from setuptools import build_meta as b; import sys; getattr(b, sys.argv[1])(sys.argv[2])"


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command and return what it prints."""
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    line = [str(word) for word in words]
    done = subprocess.run(line, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist from what an image is built from; return their folder."""
    copy = tmp_path_factory.mktemp("tree") / "lethe"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path, to = ROOT / line[1:], copy / line[1:]
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, to)
    out = tmp_path_factory.mktemp("built")
    for kind in ("build_sdist", "build_wheel"):
        run(sys.executable, "-c", BUILD, kind, out, cwd=copy)
    return out


def test_the_wheel_contains_code_data_and_licence(built: Path) -> None:
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    assert names >= NEEDED
    ends = {"data/share/lethe/published/three-types-split-mnist.toml", "licenses/LICENSE"}
    assert all(any(name.endswith(end) for name in names) for end in ends)
    assert not any(name.startswith(("tests/", "results/", "docs/")) for name in names)


def test_the_sdist_contains_the_sources_of_the_wheel(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= NEEDED | {"pyproject.toml", "LICENSE", "results/published/three-types-split-mnist.toml"}


def test_the_index_would_take_them(built: Path) -> None:
    pytest.importorskip("twine", reason="needs twine: pip install twine")
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)


def test_commands_run_from_the_wheel_outside_the_repository(built: Path, tmp_path: Path) -> None:
    """In a new environment with the dependencies installed here and without this checkout."""
    place = tmp_path / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = next(built.glob("*.whl"))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=tmp_path,
    )
    lethe = place / "bin" / "lethe"
    where = run(python, "-c", "import bench; print(bench.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert "ewc" in run(lethe, "list", cwd=tmp_path)
    few = ("--seeds=2", "--set=epochs=1", "--set=rows_per_class=20", "--jobs=1", "--out=run")
    run(lethe, "run", "digits", "-s", "er", *few, cwd=tmp_path)
    run(lethe, "report", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    assert "er" in run(lethe, "check", "er", "--only", "described", cwd=tmp_path)
    assert "split-mnist" in run(lethe, "verify", "three-types-split-mnist", "--dry-run", cwd=tmp_path)
    assert "chaudhry2019tiny" in run(lethe, "cite", "run", cwd=tmp_path)
