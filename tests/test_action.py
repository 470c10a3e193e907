"""The composite action for other repositories: its ``run`` lines, in a repository with its own method."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scratch_repository import commit, git

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
GUIDE = (ROOT / "docs" / "guides" / "track-your-own-method.md").read_text()
METHOD = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL).group(1)  # type: ignore[union-attr]
WORDS = "digits -s ./tracked.py:Shrunk --seeds 5 --set epochs=2 --jobs 1 --no-check"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit of the guide's method, and with programs that stand for pip and gh."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "tracked.py").write_text(METHOD)
    git(folder, "init")
    commit(folder, "first")
    programs = tmp_path / "bin"
    programs.mkdir()
    note = f'echo "$0 $@ in $PWD" >> {tmp_path}/called\n'
    lines = {"python": note, "gh": note, "lethe": f'exec {sys.executable} -P -m bench "$@"\n'}
    for name, line in lines.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}")
        (programs / name).chmod(0o755)
    return folder


def run_action(folder: Path, **inputs: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run all steps whose condition holds; return the exit code of the last one, and the outputs of each."""
    place = folder.parent
    given = {name: of.get("default", "") for name, of in ACTION["inputs"].items()} | inputs
    outputs: dict[str, dict[str, str]] = {}

    def value(expression: str) -> Any:
        """Return the value of an expression of GitHub: names, literals, ==, <, && and ||."""
        event = {"github.event.pull_request.base.sha": "", "github.event_name": "pull_request"}
        event |= {"github.token": "token", "github.event.pull_request.number": "7"}

        def one(text: str) -> Any:
            text = text.strip()
            if text.startswith("'"):
                return text.strip("'")
            if text.startswith("inputs."):
                return given[text.removeprefix("inputs.")]
            if text.startswith("steps."):
                _, step, _, name = text.split(".")
                return outputs.get(step, {}).get(name, "")
            return event[text]

        def all_of(text: str) -> Any:
            if "==" in text:
                left, right = text.split("==")
                return one(left) == one(right)
            if "<" in text:
                left, right = text.split("<")
                return one(left) != "" and int(one(left)) < int(right)
            return one(text)

        if "&&" in expression:
            return all(all_of(part) for part in expression.split("&&"))
        return next((found for part in expression.split("||") if (found := all_of(part))), "")

    code = 0
    for step in ACTION["runs"]["steps"]:
        if "if" in step and not value(step["if"]):
            continue
        own = {
            k: re.sub(r"\$\{\{(.*?)\}\}", lambda m: str(value(m[1])), v)
            for k, v in step.get("env", {}).items()
        }
        files = {name: place / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        files["GITHUB_OUTPUT"].write_text("")
        files["GITHUB_STEP_SUMMARY"].touch()
        paths = {"RUNNER_TEMP": str(place / "temp"), "GITHUB_WORKSPACE": str(folder)}
        paths |= {name: str(path) for name, path in files.items()}
        paths |= {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        (place / "temp").mkdir(exist_ok=True)
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(words, cwd=folder, env=os.environ | paths | own, capture_output=True, text=True)
        code = done.returncode
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs[step.get("id", step["name"])] = dict(line.split("=", 1) for line in lines)
        if code:
            break
    return code, outputs


@pytest.mark.slow
def test_the_action_fails_where_a_method_became_worse(repository: Path) -> None:
    (repository / "tracked.py").write_text(METHOD.replace("0.001", "1000.0"))
    commit(repository, "much stronger")
    code, outputs = run_action(repository, run=WORDS, scores="learning_acc")
    assert (code, outputs["compare"]["status"]) == (1, "1")
    said = Path(outputs["compare"]["markdown"]).read_text()
    assert "### Lethe: 1 alarm" in said
    assert (repository.parent / "github_step_summary").read_text() == said
    badge = json.loads(Path(outputs["compare"]["badge"]).read_text())
    assert badge == {"schemaVersion": 1, "label": "lethe", "message": "1 alarm", "color": "red"}
    assert 'failures="1"' in Path(outputs["compare"]["junit"]).read_text()
    called = (repository.parent / "called").read_text().splitlines()
    assert called[0].endswith(f"python -m pip install --quiet lethe-bench in {repository}")
    assert f"gh pr comment 7 --body-file {outputs['compare']['markdown']}" in called[1]


@pytest.mark.slow
def test_the_action_passes_without_a_change_and_for_a_new_method(repository: Path) -> None:
    (repository / "other.txt").write_text("nothing of the method")
    commit(repository, "another file")
    words = "-c constraints.txt lethe-bench"
    code, outputs = run_action(repository, run=WORDS, **{"base-install": words})
    assert (code, outputs["compare"]["status"]) == (0, "0")
    base, called = repository.parent / "temp" / "base", (repository.parent / "called").read_text()
    assert f"python -m venv {base}-environment in {base}\n" in called
    assert f"python -m pip install --quiet {words} in {base}\n" in called
    (repository / "newer.py").write_text(METHOD)
    commit(repository, "a new method")
    git(repository, "worktree", "remove", "--force", "../temp/base")
    code, outputs = run_action(repository, run=WORDS.replace("tracked", "newer"))
    assert (code, outputs["base"]) == (0, {"found": "false"})
    assert "compare" not in outputs


def test_the_guide_names_the_inputs_and_outputs() -> None:
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"`{name}`" in GUIDE
    used = yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert used["jobs"]["compare"]["steps"][-1]["with"].keys() <= ACTION["inputs"].keys()
