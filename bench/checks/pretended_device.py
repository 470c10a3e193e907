"""A pretended CUDA device in the place of real ones, for tests on machines without one.

Within a block, functions of torch make tensors of the device (``pretended_tensor``), and ``torch.cuda`` is
about it. Numbers are those of the CPU's kernels. Not pretended: the rounding of CUDA's kernels, concurrency,
speed, ``torch.compile``, graphs and custom kernels.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode

from bench.checks.pretended_tensor import IN_PYTHON, IN_USE, NO_LAUNCH, DeviceTensor, PretendedDevice, current
from strategies.core import Resident

NAME = "pretended CUDA device"
_MADE_ON_HOST = ("tensor", "as_tensor", "asarray", "from_numpy")
_DEFAULT_BYTES = 1 << 34


class _Factories(TorchFunctionMode):
    """Makes new tensors on the pretended device where it is asked for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch; ``device="cuda"`` makes its result a tensor of the pretended device."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in ("to", "cuda", "cpu", "pin_memory", "is_pinned"):
            return IN_PYTHON[name](func, *args, **kwargs)
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        device = kwargs.get("device")
        if device is None or name == "__get__":
            return func(*args, **kwargs)
        now = current()
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type != "cuda":
            return func(*args, **kwargs)
        place = now.place(device)
        if args and isinstance(args[0], DeviceTensor) and name not in _MADE_ON_HOST:
            made = func(*args, **{**kwargs, "device": None})  # zeros_like, new_zeros
            return now.moved(made, place, non_blocking=True)
        if name in _MADE_ON_HOST:
            plain = func(*args, **{**kwargs, "device": None})
            return now.moved(plain, place)
        made = func(*args, **{**kwargs, "device": torch.device("cpu")})
        if name not in NO_LAUNCH:
            now.launches[name] += 1
        requires = made.requires_grad
        return now.wrap(made.detach(), place).requires_grad_(requires)


class _Event:
    """An event in the stream of a device; times are the host's."""

    def __init__(self, enable_timing: bool = False, **given: Any) -> None:
        self.device: int | None = None
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        """Record the event in a stream, that of the current device by default."""
        self.device = current().current if stream is None else stream.device.index
        self.at = time.perf_counter()

    def elapsed_time(self, end: Self) -> float:
        """Return milliseconds to another event of the same device."""
        if self.device is None or self.device != end.device:
            raise RuntimeError(f"CUDA error: events of devices {self.device} and {end.device}")
        return 1000 * (end.at - self.at)

    def synchronize(self) -> None:
        """Wait for the event; in another thread it holds up no step."""
        if threading.current_thread() is threading.main_thread():
            current().wait("Event.synchronize")

    def query(self) -> bool:
        """Return that the event has happened."""
        return True

    def wait(self, stream: Any = None) -> None:
        """Let the stream wait for the event; the host does not."""


class _Stream:
    """A stream; work is done when it is submitted."""

    def __init__(self, device: Any = None, **given: Any) -> None:
        self.device = current().place(device)

    def synchronize(self) -> None:
        """Wait for the stream."""
        current().wait("Stream.synchronize")

    def wait_stream(self, other: Any) -> None:
        """Let this stream wait for another one; the host does not."""

    def wait_event(self, event: Any) -> None:
        """Let this stream wait for an event; the host does not."""

    def record_event(self, event: Any = None) -> _Event:
        """Record an event."""
        recorded: _Event = event or _Event()
        recorded.record()
        return recorded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _patches(now: PretendedDevice) -> dict[str, Any]:
    """Return what replaces functions of ``torch.cuda``."""

    def at(device: Any = None) -> int:
        index: int = now.place(device).index
        return index

    def set_device(device: Any) -> None:
        now.current = at(device)

    @contextmanager
    def on_device(device: Any) -> Iterator[None]:
        before, now.current = now.current, at(device)
        try:
            yield
        finally:
            now.current = before

    def reset_peak(device: Any = None) -> None:
        now.peak[at(device)] = now.used[at(device)]

    def sync_debug(mode: int | str) -> None:
        now.refuse_waits = mode in ("error", 2)

    def synchronize(device: Any = None) -> None:
        now.wait("torch.cuda.synchronize")
        if now.broken:
            raise RuntimeError(now.broken)

    properties = SimpleNamespace(
        name=NAME, total_memory=now.memory, major=9, minor=0, multi_processor_count=1
    )
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": lambda: None,
        "device_count": lambda: now.count,
        "current_device": lambda: now.current,
        "set_device": set_device,
        "device": on_device,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (9, 0),
        "is_bf16_supported": lambda *args, **kwargs: True,
        "synchronize": synchronize,
        "memory_allocated": lambda device=None: now.used[at(device)],
        "max_memory_allocated": lambda device=None: now.peak[at(device)],
        "memory_reserved": lambda device=None: now.used[at(device)],
        "max_memory_reserved": lambda device=None: now.peak[at(device)],
        "reset_peak_memory_stats": reset_peak,
        "mem_get_info": lambda device=None: (now.memory - now.used[at(device)], now.memory),
        "empty_cache": lambda: None,
        "set_sync_debug_mode": sync_debug,
        "get_sync_debug_mode": lambda: 2 if now.refuse_waits else 0,
        "is_current_stream_capturing": lambda: False,
        "Event": _Event,
        "Stream": _Stream,
        "current_stream": _Stream,
        "default_stream": _Stream,
        "stream": lambda stream: stream,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }


@contextmanager
def pretended_device(count: int = 2, memory: int = _DEFAULT_BYTES) -> Iterator[PretendedDevice]:
    """Return a context in which ``cuda`` is a pretended device.

    Args:
        count: The number of devices.
        memory: Bytes of each.
    """
    now, autocast = PretendedDevice(count, memory), torch.autocast
    with ExitStack() as stack:
        for name, value in _patches(now).items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        # Kernels are the CPU's, so its autocast acts on them.
        stack.enter_context(patch.object(torch, "autocast", lambda kind, **given: autocast("cpu", **given)))
        # Module.to exchanges parameters, since those of the host cannot become tensors of another class.
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        Resident.release()
        stack.callback(Resident.release)
        IN_USE.append(now)
        stack.callback(IN_USE.remove, now)
        stack.enter_context(_Factories())
        yield now
