"""Git repositories that tests make."""

import subprocess
from pathlib import Path

_WHO = ("-c", "user.name=Lethe", "-c", "user.email=lethe@example.org")


def git(folder: Path, *words: str) -> str:
    """Run a git command in a folder and return what it prints."""
    command = ["git", *_WHO, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, subject: str, *files: str) -> None:
    """Commit the named files, or all of a folder if none is named; a commit may be empty."""
    git(folder, "add", *(files or ["-A"]))
    git(folder, "commit", "--quiet", "--allow-empty", "-m", subject)
