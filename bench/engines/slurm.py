"""Slurm (https://slurm.schedmd.com) by submitit: an array of jobs, each running ``lethe run`` on a share.

Nothing of it stays connected: jobs go on when the command that submitted them has ended.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.errors import UserError, unknown

SLURM = "slurm"
_PARAMETERS = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "minutes": "timeout_min",
    "cpus": "cpus_per_task",
    "gpus": "gpus_per_node",
    "memory": "slurm_mem",
}
_SHARES = 16


class Array:
    """The jobs of one command.

    Args:
        settings: ``shares=8,partition=short,minutes=60,cpus=2,gpus=1,memory=8GB``, any of them; with
            ``local`` the jobs are processes of this machine, by submitit's local executor.
        folder: Where job scripts and their output are written.

    Raises:
        UserError: A setting is unknown, or Slurm or submitit is not installed.
    """

    def __init__(self, settings: str, folder: Path) -> None:
        try:
            from submitit import AutoExecutor
        except ModuleNotFoundError:
            raise UserError("--on slurm needs submitit: pip install 'lethe-bench[slurm]'") from None
        pairs = dict(part.partition("=")[::2] for part in filter(None, settings.split(",")))
        local = pairs.pop("local", None) is not None
        self.shares = _whole("shares", pairs.pop("shares", str(_SHARES)))
        for name in pairs:
            if name not in _PARAMETERS:
                raise unknown("setting of --on slurm", name, ["local", "shares", *_PARAMETERS])
        if not local and shutil.which("sbatch") is None:
            try_ = "slurm://local runs the same jobs as processes of this machine"
            raise UserError(f"Slurm is not installed here: sbatch is not found; {try_}")
        self._executor = AutoExecutor(folder=folder, cluster="local" if local else "slurm")
        self._executor.update_parameters(name="lethe", **_given(pairs, local))
        self.jobs: list[Any] = []

    def submit(self, words: Sequence[str], shares: int) -> None:
        """Submit ``lethe WORDS --share I/N`` for each of N shares, as one array."""
        with self._executor.batch():
            self.jobs = [self._executor.submit(_share, [*words], i, shares) for i in range(shares)]

    def names(self) -> str:
        """Return the numbers of the jobs, as Slurm prints them."""
        first, *rest = [str(job.job_id) for job in self.jobs]
        return f"{first} to {rest[-1]}" if rest else first

    def under_way(self) -> int:
        """Return how many jobs have not ended."""
        return sum(not job.done() for job in self.jobs)

    def failures(self) -> list[str]:
        """Return a line for each job that did not run its command to its end."""
        found = []
        for job in self.jobs:
            error = job.exception()
            how = type(error).__name__ if error else f"exit code {job.result()}"
            if error or job.result() not in (0, 1):  # 1: some of its cells failed, and the run says so
                found.append(f"job {job.job_id} ended with {how}, see {job.paths.stderr}")
        return found

    def cancel_waiting(self) -> None:
        """Cancel the jobs that have not begun."""
        for job in self.jobs:
            if job.state in ("PENDING", "UNKNOWN"):
                job.cancel()


def _share(words: Sequence[str], share: int, shares: int) -> int:
    """Run a share of a command in a job; its output is the job's."""
    return subprocess.run([sys.executable, "-m", "lethe", *words, "--share", f"{share}/{shares}"]).returncode


def _given(pairs: Mapping[str, str], local: bool) -> dict[str, Any]:
    """Return the parameters of submitit; those of Slurm alone are nothing to the local executor."""
    whole = {"minutes", "cpus", "gpus"}
    found = {_PARAMETERS[k]: _whole(k, v) if k in whole else v for k, v in pairs.items()}
    return {k: v for k, v in found.items() if not (local and k.startswith("slurm_"))}


def _whole(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{name} of --on slurm must be a whole number above 0, not {text!r}")
    return int(text)
