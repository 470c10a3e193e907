"""How many groups a GPU runs at once: the number asked for, or fewer if they need too much memory."""

from dataclasses import dataclass, field

import torch

_CONTEXT = 2**29
"""Bytes that CUDA itself needs for each process."""
_USABLE = 0.9
"""The share of a GPU's memory that groups may use together."""


@dataclass
class Sharing:
    """The groups that run at once on each device: one until its memory is measured, then those that fit."""

    most: int = 0
    """Groups of one device at once; 0 for the number of processes, without measuring."""
    shares: dict[str, float] = field(default_factory=dict)
    """The largest share of its memory that a group of each device has needed."""

    def at_once(self, device: str) -> int | float:
        """Return how many groups a device may run now."""
        if not self.most:
            return float("inf")
        share = self.shares.get(device)
        return 1 if share is None else max(1, min(self.most, int(_USABLE / max(share, 1e-9))))

    def note(self, device: str, share: float) -> None:
        """Learn from a group that has ended."""
        self.shares[device] = max(share, self.shares.get(device, 0.0))


def share_of_memory(device: str) -> float:
    """Return the share of a GPU's memory that this process has needed at most; 0 for a CPU."""
    if torch.device(device).type != "cuda":
        return 0.0
    return (torch.cuda.max_memory_reserved(device) + _CONTEXT) / torch.cuda.mem_get_info(device)[1]
