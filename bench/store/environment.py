"""Where and with what a run is made: packages, revision, machine, time."""

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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


def where(device: str) -> dict[str, Any]:
    """Return what a reader needs to tell whether two runs are alike: packages, revision, machine."""
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
        "dirty": bool(commit and _git("status", "--porcelain", "--", *_OURS)),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@dataclass(frozen=True)
class Maker:
    """What the records of one command say of how they were made."""

    lethe: str
    commit: str
    dirty: bool
    torch: str
    numpy: str
    command: str

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> Self:
        """Return that of a command, as the manifest describes it."""
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
        """Return ``made_by`` of a record that ends now."""
        return {"code": code, "began": began, "ended": now(), **asdict(self)}


def _git(*words: str) -> str:
    """Return what git says of the folder that Lethe lies in, nothing where that is no checkout."""
    command = ["git", "-C", str(_ROOT), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""
