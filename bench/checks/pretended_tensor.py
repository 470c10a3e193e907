"""Tensors of a pretended CUDA device, backed by the CPU's memory, and what the device notes of them.

Its tensors report ``cuda``, refuse to be mixed with tensors of the CPU or of another device, and live in a
memory with a limit. It counts launches, by operator, and waits: places where the host needs a value or a size
that a real device has not computed yet, or copies between host and device and waits for the copy to end.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TORCH, _ROOT = Path(torch.__file__).parent, Path(__file__).resolve().parents[2]
_OWN = {Path(__file__), Path(__file__).with_name("pretended_device.py")}
NO_LAUNCH = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh",
    "set_", "detach_", "is_same_size", "_local_scalar_dense", "record_stream",
}  # fmt: skip
"""Operators that submit nothing, besides views."""
_SIZE_DEPENDS_ON_DATA = {
    "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "unique_dim_consecutive", "bincount", "combinations",
}  # fmt: skip
_READS_VALUES = {
    "_local_scalar_dense", "equal", "allclose", "is_nonzero", "multinomial", "_linalg_check_errors",
    "_linalg_eigh", "linalg_eig", "_linalg_svd", "linalg_lstsq", "linalg_eigvals",
}  # fmt: skip


@dataclass(frozen=True)
class Wait:
    """A place where the host waited for the device."""

    operator: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.operator} at {self.file}:{self.line}"


@dataclass
class PretendedDevice:
    """What was done on the pretended device since it was made, or since ``reset``."""

    count: int
    """The number of devices, ``cuda:0`` to ``cuda:count-1``."""
    memory: int
    """Bytes of each device."""
    launches: Counter[str] = field(default_factory=Counter)
    """Kernels that were submitted, by operator; one that CUDA runs as several counts once."""
    waits: list[Wait] = field(default_factory=list)
    refuse_waits: bool = False
    """Whether a wait is an error, as with ``torch.cuda.set_sync_debug_mode("error")``."""
    current: int = 0
    broken: str = ""
    """An error that every operator raises from now on, as after a fault of a CUDA kernel."""
    used: list[int] = field(init=False)
    """Bytes of each device in use."""
    peak: list[int] = field(init=False)
    _known: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.used, self.peak = [0] * self.count, [0] * self.count

    def reset(self) -> None:
        """Set the counts to zero."""
        self.launches.clear()
        self.waits.clear()

    def place(self, device: Any) -> torch.device:
        """Return a device with its index, the current one by default."""
        index = device if isinstance(device, int) else None if device is None else torch.device(device).index
        index = self.current if index is None else index
        if not 0 <= index < self.count:
            raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{index} of {self.count}")
        return torch.device("cuda", index)

    def wait(self, operator: str) -> None:
        """Note a wait and where it was; raise RuntimeError if waits are refused."""
        waited = _caller(operator)
        self.waits.append(waited)
        if self.refuse_waits:
            raise RuntimeError(f"called a synchronizing CUDA operation: {waited}")

    def wrap(self, plain: Tensor, device: torch.device) -> DeviceTensor:
        """Return a tensor of the device on the memory of a tensor of the CPU.

        Raises:
            torch.cuda.OutOfMemoryError: The device has no room for it.
        """
        storage = plain.untyped_storage()
        size, at, index = storage.nbytes(), storage._cdata, device.index
        if at not in self._known and size:
            if self.used[index] + size > self.memory:
                raise torch.cuda.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {size} bytes on {device}: {self.used[index]} of "
                    f"{self.memory} are in use"
                )
            self._known.add(at)
            self.used[index] += size
            self.peak[index] = max(self.peak[index], self.used[index])
            weakref.finalize(storage, self._free, at, size, index).atexit = False
        made: DeviceTensor = Tensor._make_subclass(DeviceTensor, plain)
        made._place = device
        return made

    def _free(self, at: int, size: int, index: int) -> None:
        self._known.discard(at)
        self.used[index] -= size

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator on tensors of the device, and note what a real device would do."""
        if self.broken:
            raise RuntimeError(self.broken)
        name = func._schema.name.split("::")[1]
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        places = {t._place for t in tensors if isinstance(t, DeviceTensor)}
        hosts = [t for t in tensors if not isinstance(t, DeviceTensor) and t.dim()]
        place = next(iter(places))
        if name == "copy_":
            place = _place_of(args[0])
            if (len(places) > 1 or not isinstance(args[1], DeviceTensor) or place.type == "cpu") and not (
                kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            ):
                self.wait("copy_ between devices")
        elif len(places) > 1 or (hosts and name not in ("index", "index_put_", "_index_put_impl_")):
            names = sorted({str(p) for p in places} | ({"cpu"} if hosts else set()))
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"{names[0]} and {names[1]}! ({name})"
            )
        elif reason := _why_waits(name, func, args, kwargs, hosts):
            self.wait(reason)
        if name not in NO_LAUNCH and not func.is_view:
            self.launches[name] += 1
        with torch._C._DisableTorchDispatch():
            out = func(*args, **kwargs)
        return out if place.type == "cpu" else self._wrapped(out, place)

    def _wrapped(self, out: Any, place: torch.device) -> Any:
        if isinstance(out, Tensor):
            return out if isinstance(out, DeviceTensor) else self.wrap(out, place)
        if isinstance(out, list | tuple):
            return type(out)(self._wrapped(o, place) for o in out)
        return out

    def moved(self, tensor: Tensor, device: Any, dtype: Any = None, non_blocking: bool = False) -> Tensor:
        """Return a tensor on another device, as ``Tensor.to`` does."""
        here = _place_of(tensor)
        there = here if device is None else torch.device(device)
        there = self.place(there) if there.type == "cuda" else there
        if there == here:
            return tensor if dtype is None else tensor.to(dtype)
        if not non_blocking:
            self.wait(f"copy from {here.type} to {there.type}")
        self.launches["copy between devices"] += 1
        moved: Tensor = _Moved.apply(tensor, there, dtype or tensor.dtype, self)  # type: ignore[no-untyped-call]
        return moved

    def move(self, tensor: Tensor, there: torch.device, dtype: torch.dtype) -> Tensor:
        """Copy the numbers to another device."""
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunctionSubclass():
            plain = torch.empty_like(tensor, dtype=dtype).copy_(tensor)
        return self.wrap(plain, there) if there.type == "cuda" else plain


class _Moved(torch.autograd.Function):
    """A copy between devices, whose gradient is copied back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, there: torch.device, dtype: torch.dtype, device: Any) -> Tensor:
        ctx.back, ctx.device = (_place_of(tensor), tensor.dtype), device
        moved: Tensor = device.move(tensor.detach(), there, dtype)
        return moved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return ctx.device.move(gradient, *ctx.back), None, None, None


class DeviceTensor(Tensor):
    """A tensor of the pretended device."""

    _place: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The pretended device."""
        return self._place

    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator on the pretended device."""
        return current().run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch with what a tensor of a CUDA device does differently in Python."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        with torch._C.DisableTorchFunctionSubclass():
            if name in IN_PYTHON:
                return IN_PYTHON[name](func, *args, **kwargs)
            return func(*args, **kwargs)


IN_USE: list[PretendedDevice] = []
"""The pretended devices of open blocks; tensors belong to the last one."""


def current() -> PretendedDevice:
    """Return the device of the innermost block; raises RuntimeError outside of all blocks."""
    if not IN_USE:
        raise RuntimeError("the pretended device of this tensor has ended")
    return IN_USE[-1]


def _place_of(tensor: Tensor) -> torch.device:
    return tensor._place if isinstance(tensor, DeviceTensor) else torch.device("cpu")


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _why_waits(name: str, func: Any, args: Any, kwargs: Any, hosts: Sequence[Tensor]) -> str:
    """Return what an operator waits for on a real device; empty if it does not."""
    if name in _READS_VALUES:
        return "item (int, bool or float of a tensor)" if name == "_local_scalar_dense" else name
    if name in _SIZE_DEPENDS_ON_DATA:
        return f"{name} (its size depends on data)"
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        by_tensor = func._schema.overload_name in ("Tensor", "self_Tensor")
        return "repeat_interleave without output_size" if by_tensor else ""
    if name in ("index", "index_put_", "_index_put_impl_"):
        masks = any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if masks and not (name != "index" and args[2].numel() == 1):
            return f"{name} with a mask (its size depends on data)"
        if any(t.dim() for t in hosts if t is not args[0]):
            return f"{name} with an index of the host"
    return ""


def _caller(operator: str) -> Wait:
    """Return the innermost frame outside torch and the pretended device."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = Path(frame.f_code.co_filename)
        if file not in _OWN and not file.is_relative_to(_TORCH) and file.name != "contextlib.py":
            break
        frame = frame.f_back
    file = Path(frame.f_code.co_filename)
    shown = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
    return Wait(operator, str(shown), frame.f_lineno)


# What differs in Python between tensors of a CUDA device and of the CPU, by the name of the function.


def _to(func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    like = args[0] if args else kwargs.get("other")
    if isinstance(like, Tensor):
        args, kwargs = args[1:], {**kwargs, "device": _place_of(like), "dtype": like.dtype}
        kwargs.pop("other", None)
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(
        *args, **{k: v for k, v in kwargs.items() if k != "copy"}
    )
    moved: Tensor
    if device is None or device == _place_of(tensor):
        moved = tensor if dtype is None else func(tensor, dtype, copy=kwargs.get("copy", False))
    else:
        moved = current().moved(tensor, device, dtype, non_blocking)
    return moved if layout is None else moved.contiguous(memory_format=layout)


def _cpu(func: Any, tensor: Tensor, **kwargs: Any) -> Tensor:
    return current().moved(tensor, "cpu")


def _cuda(func: Any, tensor: Tensor, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> Tensor:
    return current().moved(tensor, current().place(device), non_blocking=non_blocking)


def _refuse(func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    if func.__name__ == "tolist":
        return current().moved(tensor.detach(), "cpu").tolist()
    raise TypeError(
        f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
        "host memory first."
    )


def _one_hot(func: Any, tensor: Tensor, num_classes: int = -1) -> Tensor:
    now = current()
    if num_classes < 0:
        now.wait("one_hot without a number of classes")
    now.launches["one_hot"] += 1
    with torch._C._DisableTorchDispatch():
        plain = func(tensor, num_classes)
    return now.wrap(plain, _place_of(tensor))


def _new_tensor(func: Any, tensor: Tensor, data: Any, **kwargs: Any) -> Tensor:
    made = torch.tensor(data, **{"dtype": tensor.dtype, **kwargs})
    return current().moved(made, _place_of(tensor))


def _deepcopy(func: Any, tensor: Tensor, memo: Any) -> Tensor:
    if id(tensor) not in memo:
        copied = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        if getattr(tensor, "_is_param", False):
            vars(copied)["_is_param"] = True
        memo[id(tensor)] = copied
    found: Tensor = memo[id(tensor)]
    return found


IN_PYTHON: dict[str, Any] = {
    "to": _to, "cpu": _cpu, "cuda": _cuda, "tolist": _refuse, "numpy": _refuse, "__array__": _refuse,
    "__deepcopy__": _deepcopy,
    "pin_memory": lambda func, tensor, *args: tensor, "is_pinned": lambda func, tensor, *args: False,
    "get_device": lambda func, tensor: tensor.device.index,
    "is_shared": lambda func, tensor: True, "one_hot": _one_hot, "new_tensor": _new_tensor,
}  # fmt: skip
