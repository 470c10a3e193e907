"""The environment of a run: packages, revision, machine, time."""

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from bench.schema import Fields

_PACKAGES = (
    "lethe-bench", "torch", "numpy", "pandas", "scikit-learn", "scipy", "datasets",
    "transformers", "sacrebleu",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]
_OURS = ("bench", "lethe", "strategies", "suites")


def now() -> str:
    """Return the time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def moment() -> str:
    """Return the time, in UTC, as precise as in records."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def where(device: str) -> dict[str, Any]:
    """Return packages, revision and machine, so that readers can compare the environments of runs."""
    top, _, commit = _git("rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not top or Path(top).resolve() != _ROOT:  # installed, in an environment that lies in another checkout
        commit = ""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "git": commit,
        # With --branch there is one line if nothing has changed, and none if git cannot say.
        "dirty": bool(commit)
        and len(_git("status", "--porcelain", "--branch", "--", *_OURS).splitlines()) != 1,
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@dataclass(frozen=True)
class Maker:
    """The provenance that all records of one command share."""

    lethe: str
    commit: str
    dirty: bool
    torch: str
    numpy: str
    command: str

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> Self:
        """Return the provenance of a command in the manifest."""
        packages = command["packages"]
        versions = (
            packages["lethe-bench"],
            command["git"],
            command["dirty"],
            packages["torch"],
            packages["numpy"],
        )
        return cls(*versions, command["command"])

    def record(self, code: str, began: str) -> Fields:
        """Return ``made_by`` of a record that is written now."""
        return {"code": code, "began": began, "ended": now(), **asdict(self)}


def git_output(*words: str, at: Path, seconds: float | None = None) -> bytes:
    """Return what a git command prints in a folder; empty if it fails or takes too long."""
    try:
        done = subprocess.run(["git", *words], cwd=at, capture_output=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _git(*words: str) -> str:
    """Return revision and state of Lethe's checkout by git; empty if it is not a checkout."""
    return git_output(*words, at=_ROOT, seconds=10).decode(errors="replace").strip()
