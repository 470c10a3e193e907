"""The guides on tracking a model or a training stack: their commands, as written, in a scratch repository."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli import perf
from tests.conftest import Command
from tests.scratch_repository import commit, git

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
ACTION = yaml.safe_load((GUIDES.parents[1] / "action.yml").read_text())


class Guide:
    """A guide whose file is in a repository, with its commands in the order of the page."""

    def __init__(self, name: str, folder: Path) -> None:
        self.page, self.folder = (GUIDES / name).read_text(), folder
        found = re.search(r"Put this into `([\w.]+)`.*?```\w+\n(.*?)```", self.page, re.DOTALL)
        assert found
        self.file, self.text = folder / found[1], found[2]
        blocks = re.findall(r"```sh\n(.*?)```", self.page, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        self._lines: Iterator[str] = iter(lines)
        folder.mkdir(exist_ok=True)
        git(folder, "init")
        self.write(self.text)
        commit(folder, "first")

    def write(self, text: str) -> None:
        assert text != (self.file.read_text() if self.file.exists() else "")
        self.file.write_text(text)

    def next(self, name: str) -> list[str]:
        """Return the words of the next command."""
        lethe, command, *words = next(self._lines).split()
        assert (lethe, command) == ("lethe", name)
        return [command, *words]

    def history(self, good: str, bad: str) -> str:
        """Commit the file five times, bad from the fourth on; return the hash of that commit."""
        for number in range(5):
            self.file.write_text(f"{good if number < 3 else bad}\n# {number}\n")
            commit(self.folder, f"commit {number}", self.file.name)
        return git(self.folder, "rev-parse", "HEAD~1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_is_tracked(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Guide("track-a-model.md", tmp_path)
    narrow = guide.text.replace("width: int = 100", "width: int = 4")
    monkeypatch.chdir(tmp_path)
    assert command("", *guide.next("run"))[0] == 0
    guide.write(narrow)
    assert command("", *guide.next("run"))[0] == 0
    code, out, _ = command("", *guide.next("compare"))
    assert code == 1
    assert "differs: plan: width: 100 in BASE, 4 in NEW" in out
    assert "differs: code: model.py:" in out
    assert "alarm: digits class er: acc is worse" in out
    first_bad = guide.history(guide.text, narrow)
    code, out, _ = command("", *guide.next("bisect"))
    assert (code, f"first bad revision: {first_bad[:7]} commit 3" in out) == (0, True)
    asked: list[Any] = []
    monkeypatch.setattr(perf, "_against", lambda *given: asked.extend(given))  # it takes minutes
    assert command("", *guide.next("perf"))[0] == 0
    assert (asked[0], [setup.title for setup in asked[1]]) == (
        "HEAD~1",
        ["digits class er, ./model.py:Net, 1 lane"],
    )
    words = guide.next("run")
    assert "--resume-from" in words  # tests/bench/test_serving.py continues from an exported model


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_stack_is_tracked(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a change of the optimiser, and of a version: its metadata is found before the installed one's."""
    guide = Guide("track-a-training-stack.md", tmp_path / "repository")
    newer = tmp_path / "newer"
    (newer / "scipy-99.0.dist-info").mkdir(parents=True)
    (newer / "scipy-99.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: scipy\nVersion: 99.0\n"
    )
    monkeypatch.chdir(guide.folder)
    assert command("", *guide.next("run"))[0] == 0
    guide.write(guide.text.replace('"adam"', '"adamw"'))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(newer)
        assert command("", *guide.next("run"))[0] == 0
    code, out, _ = command("", *guide.next("compare"))
    assert code == 0
    assert "differs: plan: optimiser: adam in BASE, adamw in NEW (all)" in out
    assert re.search(r"differs: versions: scipy: \S+ in BASE, 99\.0 in NEW", out), out
    first_bad = guide.history(guide.text, guide.text.replace("lr = 0.001", "lr = 0.00001"))
    code, out, _ = command("", *guide.next("bisect"))
    assert (code, f"first bad revision: {first_bad[:7]} commit 3" in out) == (0, True)


@pytest.mark.parametrize("name", ["track-a-model.md", "track-a-training-stack.md"])
def test_the_workflows_of_guides_use_inputs_of_the_action(name: str) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", (GUIDES / name).read_text(), re.DOTALL):
        found = yaml.safe_load(block)
        steps = found if isinstance(found, list) else found["jobs"]["compare"]["steps"]
        assert steps[-1]["with"].keys() <= ACTION["inputs"].keys()
