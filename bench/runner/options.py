"""How a plan is carried out, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.store import WHICH
from suites.errors import UserError, unknown


@dataclass(frozen=True)
class Checked:
    """What is known of a method before its cells run."""

    words: str
    """For the records: which check was made, and that it passed."""
    fault: str = ""
    """Why its cells fail without being run; empty for a method that passed."""


@dataclass(frozen=True)
class Options:
    """How a plan is carried out: nothing here changes a result."""

    device: str = "cpu"
    jobs: int = 0
    """Processes; 0 for one a core, or one a GPU."""
    lanes: int = 0
    """Lanes of a group at most; 0 for the fixed rule."""
    force: bool = False
    """Run cells again that have a record."""
    retry_failed: bool = False
    """Run cells again that failed or diverged."""
    stale: str = ""
    """What becomes of cells that are not of today's code and data: ``rerun`` or ``keep``; see bench.plan."""
    quiet: bool = False
    check_method: Callable[[str], Checked] | None = None
    """Checks a method of a user's file before its cells run; none is made without it."""
    keep_models: str = ""
    """Save trained models, the ``last`` or those after ``all`` tasks; empty for none. See bench.store."""

    def check(self) -> None:
        """Raise UserError for a device that is not available and for values out of range."""
        check_device(self.device)
        if self.jobs < 0 or self.lanes < 0:
            raise UserError("jobs and lanes must not be below 0")
        if self.keep_models not in ("", *WHICH):
            raise unknown("value for --keep-models", self.keep_models, list(WHICH))


@dataclass(frozen=True)
class Outcome:
    """What became of the cells that were run or skipped now."""

    counts: dict[str, int]
    failures: list[str]
    """A line for each failed cell."""
    set_aside: list[str]
    """A line for each file of the folder that could not be read and was set aside."""
    halved: list[str]
    """A line for each group that failed as a whole and ran as halves: the one departure from a plan."""


def check_device(device: str) -> None:
    """Raise UserError for a device that is not available."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; there are cpu, cuda, cuda:1 ...") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available here; leave out --device or use --device cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no {device}; CUDA devices here: {torch.cuda.device_count()}")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r} is not supported; there are cpu and cuda")
