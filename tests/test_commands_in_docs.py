"""Every command in the documents is accepted: quick ones are run, long ones as dry runs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import commands_page
from tests.conftest import Command, process

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(
    r"(?:[Pp]ut this into|, in) `(\w+\.(?:py|toml))`.*?```(?:python|toml)\n(.*?)```", re.DOTALL
)
_PLACEHOLDER = re.compile(r"\b(RUN|DIR|TABLE|SUITE|MIRROR|NAME|FILE|CELL|KEY|STRATEGY|TARGET|[A-Z])\b|\.\.\.")
DRY = {"run", "tune", "verify"}
ELSEWHERE = {
    "export": "test_serving", "predict": "test_serving", "check": "test_check", "perf": "test_perf",
    "bisect": "test_bisect", "init": "test_networks",
}  # fmt: skip
"""Commands that need a trained model, a git repository, a new folder or minutes, and the tests of them."""


def commands(text: str) -> set[str]:
    """Return the lethe commands of a page, in code blocks and in text, without comments."""
    blocks = [block for language, block in _FENCED.findall(text) if language in ("", "sh")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines() + re.findall(r"`(lethe [^`]+)`", text)
    plain = (" ".join(line.removeprefix(".venv/bin/").split("  #")[0].split()) for line in lines)
    # A name alone, or with the name of an option, is not a command.
    mention = re.compile(r"lethe \w+( --[\w-]+)?$")
    return {c for c in plain if c.startswith("lethe ") and (c == "lethe list" or not mention.match(c))}


INSTALLED = {"lethe run shapes"}
"""Commands that need another package."""
ALL = {
    c: page
    for page in PAGES
    for c in sorted(commands(page.read_text()) - INSTALLED)
    if not _PLACEHOLDER.search(c)
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the pages and a run under every name that they use."""
    folder = tmp_path_factory.mktemp("docs")
    for page in PAGES:
        for name, code in _FILE.findall(page.read_text()):
            (folder / name).write_text(code)
            if name.startswith("make_"):  # it makes the data of later commands
                subprocess.run([sys.executable, name], cwd=folder, check=True, timeout=60)
    run = "run digits -s finetune -s er -s der++ -s ewc --scenario class --seeds 6 --set epochs=1 --jobs 1"
    done = process(f"{run} --set rows_per_class=20 --out {folder / 'made'}")
    assert done.returncode == 0, done.stderr
    read = (c for c in ALL if c.split()[1] != "unpack")  # unpack makes its folder itself
    names = {word for c in read for word in shlex.split(c) if word.startswith("results/runs/")}
    for name in names:
        if not name.endswith(".lethe.gz"):
            shutil.copytree(folder / "made", folder / name, dirs_exist_ok=True)
    assert process(f"pack {folder / 'made'} {folder / 'results/runs/first.lethe.gz'}").returncode == 0
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference", dirs_exist_ok=True)
    return folder


def test_commands_are_found_in_the_documents() -> None:
    assert len(ALL) > 100
    assert {c.split()[1] for c in ALL} >= {"run", "report", "status", "list", "show", "check", "verify"}


@pytest.mark.pinned
def test_every_command_and_option_is_in_the_documents() -> None:
    """If this fails after a change of an option: ``python -m bench.cli.commands_page docs/commands.md``."""
    text = (ROOT / "docs" / "commands.md").read_text()
    assert text == commands_page.page()
    for name, command in commands_page.commands().items():
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        options = [option for p in command.params for option in p.opts if option.startswith("-")]
        assert all(f"`{option}`" in part for option in options if option not in ("-h", "--help"))


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(ALL))
def test_every_command_in_the_documents_is_accepted(
    line: str, place: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("bench.report.trackers.feed.find_spec", str)  # a dry run imports no tracker
    words = shlex.split(line.split(" > ")[0])[1:]
    name = words[0]
    if name in ELSEWHERE or "--resume-from" in words:
        words = [name, "--help"]
    elif name in DRY and "--records" not in words[2:]:
        words += ["--dry-run"] if "--dry-run" not in words else []
        # The folder of that name may have a run of other settings.
        if "--out" in words:
            words[words.index("--out") + 1] = str(tmp_path / "new")
    elif name == "completion":
        words += ["--show"]  # without it a file in the home folder is changed
    elif name in ("pack", "unpack", "report", "cite"):
        monkeypatch.chdir(shutil.copytree(place, tmp_path / "copy"))
    code, _, err = command("", *words)
    # They exit with 1 if an entry differs, or a score is worse.
    assert code == 0 or (name in ("verify", "compare") and code == 1), f"{ALL[line].name}: {line}: {err}"
