"""The data set of the last group on each GPU, which stays there for the next group of the same data."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor


class Resident:
    """A tensor of a data set on a device, and what was made from it there.

    On a GPU it stays until that of another data set is asked for, or the data set is gone from the host.
    """

    _on: ClassVar[dict[int, Resident]] = {}
    """By the number of the GPU."""

    def __init__(self, host: Tensor, device: torch.device) -> None:
        self.tensor = host.to(device)
        self._made: dict[Any, Tensor] = {}
        self._host = weakref.ref(host)

    @classmethod
    def of(cls, host: Tensor, device: torch.device) -> Resident:
        """Return a tensor of the host on a device: what is there, if it is the same one's."""
        if device.type != "cuda":
            return cls(host, device)
        number = torch.cuda.current_device() if device.index is None else device.index
        if number not in cls._on or cls._on[number]._host() is not host:
            cls._on.pop(number, None)  # before there are two
            cls._on[number] = cls(host, device)
            weakref.finalize(host, cls._on.pop, number, None).atexit = False
        return cls._on[number]

    @classmethod
    def release(cls) -> None:
        """Remove what is on GPUs."""
        cls._on.clear()

    def made(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """Return what was made from the tensor, under the key of how; it is made once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
