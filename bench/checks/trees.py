"""Source trees of a git repository at one revision, and an environment for each."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suites.cache import cache_folder
from suites.errors import UserError

_DEPENDENCIES = ("pyproject.toml", "constraints.txt")


def git(
    *words: str, at: Path | None = None, environment: Mapping[str, str] | None = None, fails: bool = False
) -> str:
    """Return the output of a git command.

    Args:
        words: The command.
        at: The folder; the current one without it.
        environment: More environment variables.
        fails: Whether it may fail.

    Raises:
        UserError: It fails, in the words of its last line, or git is not installed.
    """
    # Git sets GIT_DIR for what it starts, which would name another worktree here.
    free = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    error = None if fails else subprocess.PIPE  # what is run for a bisection shows its progress there
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=at,
            env=free | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
        )
    except FileNotFoundError:
        raise UserError("git is not installed, and revisions are read with it") from None
    if done.returncode and not fails:
        raise UserError(f"git {words[0]}: {last_line(done.stderr, done.returncode).removeprefix('fatal: ')}")
    return done.stdout.strip()


def last_line(said: str, code: int) -> str:
    """Return the last line of what a program said, or its exit code."""
    return (said.strip().splitlines() or [f"exit code {code}"])[-1]


@dataclass(frozen=True)
class Tree:
    """A source tree: the folder to work in, the top of its repository, and the Python that runs it."""

    top: Path
    folder: Path
    python: Path
    revision: str
    """Full hash; empty for the tree that is edited."""

    @property
    def title(self) -> str:
        """The revision in words."""
        return self.revision[:12] if self.revision else "the current tree"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables under which Python imports from this tree first, with one thread."""
        path = os.pathsep.join(filter(None, [str(self.top), os.environ.get("PYTHONPATH")]))
        return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}


def current() -> Tree:
    """Return the tree of the current folder; raises UserError outside a git repository."""
    top = Path(git("rev-parse", "--show-toplevel"))
    return Tree(top, Path.cwd(), Path(sys.executable), "")


def revision(name: str) -> str:
    """Return the full hash of a revision; raises UserError if there is none of that name."""
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except UserError:
        raise UserError(
            f"no revision {name!r} in this repository; git log --oneline lists revisions"
        ) from None


@contextmanager
def checked_out(name: str) -> Iterator[Tree]:
    """Check a revision out into a temporary worktree, which is removed at the end."""
    here, of = current(), revision(name)
    scratch = Path(tempfile.mkdtemp(prefix="lethe-tree-"))
    place = scratch / of[:12]
    try:
        git("worktree", "add", "--detach", "--quiet", str(place), of, at=here.top)
        yield Tree(place, place / here.folder.relative_to(here.top), python_of(place, here), of)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        git("worktree", "prune", at=here.top)


def python_of(top: Path, here: Tree) -> Path:
    """Return a Python with what a tree depends on: this one if both depend on the same, else one made for it.

    An environment is made once for each content of pyproject.toml and constraints.txt, in the cache folder.
    """
    wanted = _dependencies(top)
    if wanted == _dependencies(here.top):
        return here.python
    place = cache_folder() / "environments" / wanted
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"installing what {top.name} depends on into {place}", file=sys.stderr)
        venv.create(place, clear=True, with_pip=True)
        constraints = ["-c", "constraints.txt"] if (top / "constraints.txt").exists() else []
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install = [str(python), *pip, *constraints, "."]
        done = subprocess.run(install, cwd=top, capture_output=True, text=True)
        if done.returncode:
            why = last_line(done.stderr, done.returncode)
            raise UserError(f"what {top.name} depends on cannot be installed: {why}")
        (place / "complete").touch()
    return python


def _dependencies(top: Path) -> str:
    found = hashlib.blake2b(digest_size=10)
    for name in _DEPENDENCIES:
        found.update((top / name).read_bytes() if (top / name).is_file() else b"")
        found.update(b"\0")
    return found.hexdigest()
