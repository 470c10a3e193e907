"""Where and with what a run is made: packages, revision, machine, time."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "lethe-bench", "torch", "numpy", "pandas", "scikit-learn", "scipy", "datasets",
    "transformers", "sacrebleu",
)  # fmt: skip


def now() -> str:
    """Return the time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def where(device: str) -> dict[str, Any]:
    """Return what a reader needs to tell whether two runs are alike: packages, revision, machine."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "git": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _git(*words: str) -> str:
    """Return what git says of the checkout this file is in, nothing where it is in none."""
    command = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""
