"""Options of running a plan."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.engines import LOCAL, SLURM
from bench.plan import Checked
from bench.schema import Fields
from bench.store import WHICH
from suites.errors import UserError, unknown


@dataclass(frozen=True)
class Options:
    """How a plan is run; no option changes a result beyond rounding."""

    device: str = "cpu"
    jobs: int = 0
    """Processes; 0 for one per core, or per GPU."""
    per_device: int = 0
    """Groups that a GPU runs at once, each in a process of its own; 0 for one, unless ``jobs`` are more."""
    lanes: int = 0
    """Largest number of lanes of a group; 0 for the fixed rule."""
    force: bool = False
    """Run cells again that have a record."""
    retry_failed: bool = False
    """Run cells again that failed or diverged."""
    stale: str = ""
    """``rerun`` or ``keep`` stale cells; see bench.plan."""
    quiet: bool = False
    on: str = LOCAL
    """Where groups run: here, or the address of an engine; see bench.engines."""
    share: int = 0
    """Which share of the groups this command begins with, counted from 0; it does not wait for others."""
    shares: int = 1
    """How many commands run the plan, each with a share of its own."""
    check_method: Callable[[str], Checked] | None = None
    """Checks a method of a user's file before its cells run; None for no check."""
    keep_models: str = ""
    """Save trained models after the ``last`` task or after ``all``; empty for none."""
    on_record: Callable[[Fields], None] | None = None
    """Called in this process with each record that this command's cells wrote; see bench.report.trackers."""
    checkpoint_every: float = 1.0
    """Seconds between two checkpoints of a group at least; 0 for one after every task."""
    graph: bool = True
    """On a GPU, capture steps that are alike once and replay them."""
    until: int = 0
    """Stop every cell at its checkpoint after this many tasks, without a record; 0 for its last task."""

    @property
    def in_jobs(self) -> bool:
        """Whether jobs of a batch system run the plan, each a share of it."""
        return self.on.partition("://")[0] == SLURM

    def check(self) -> None:
        """Raise UserError for a device that is not available and for values out of range."""
        if self.on == LOCAL:  # else the device is that of the workers
            check_device(self.device)
        if min(self.jobs, self.lanes, self.per_device, self.checkpoint_every) < 0:
            raise UserError("jobs, lanes, per-device and checkpoint-every must be 0 or more")
        if self.per_device and not self.device.startswith("cuda"):
            raise UserError(f"--per-device is for GPUs, not for {self.device}: use --jobs, or --device cuda")
        if self.keep_models not in ("", *WHICH):
            raise unknown("value for --keep-models", self.keep_models, list(WHICH))


def check_device(device: str) -> None:
    """Raise UserError for a device that is not available."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; use cpu, cuda, cuda:1 ...") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available; leave out --device or use --device cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device} does not exist; CUDA devices: {torch.cuda.device_count()}")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r} is not supported; use cpu or cuda")
