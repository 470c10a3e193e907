"""What Python sees of a strategy: only steps that change none of it can be replayed."""

import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from strategies.core import Draws, LaneStreams, NotAlike, Optimiser

_CONSTANT = (
    Draws, LaneStreams, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType,
    type, torch.dtype, torch.device,
)  # fmt: skip
_OF_TORCH = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}


def seen_by_python(strategy: Any) -> Iterator[tuple[str, Any]]:
    """Yield what Python sees of a strategy between two steps, by path: numbers, and where tensors are.

    Raises:
        NotAlike: It draws from a random generator, whose state cannot be seen.
    """
    met: set[int] = {id(strategy.context), *map(id, strategy.draws.sources)}
    left: deque[tuple[str, Any]] = deque([("", strategy)])
    while left:
        path, value = left.popleft()
        if isinstance(value, Tensor) or value is None or isinstance(value, str | int | float | bytes):
            yield path, value
        elif isinstance(value, torch.Generator):
            raise NotAlike(f"{path.lstrip('.')} is a random generator of the host")
        elif id(value) in met or isinstance(value, _CONSTANT):
            continue
        elif isinstance(value, dict):
            met.add(id(value))
            left += [(f"{path}[{key!r}]", item) for key, item in value.items()]
            yield f"len {path}", len(value)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            met.add(id(value))
            left += [(f"{path}[{n}]", item) for n, item in enumerate(value)]
            yield f"len {path}", len(value)
        elif isinstance(value, Optimiser):
            met.add(id(value))
            left += [(f"{path}.{name}", t) for name, t in value.state().items()]
            yield f"{path}.steps on the host", value.steps_were_read
        elif hasattr(value, "__dict__"):
            met.add(id(value))
            own = _OF_TORCH if isinstance(value, nn.Module) else frozenset()
            left += [(f"{path}.{name}", item) for name, item in vars(value).items() if name not in own]


def check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise NotAlike if a step changed what Python sees of a strategy."""
    for path in dict.fromkeys([*before, *after]):
        was, now = before.get(path, NotAlike), after.get(path, NotAlike)
        if isinstance(was, Tensor) and isinstance(now, Tensor):
            same = all(of(was) == of(now) for of in (Tensor.data_ptr, Tensor.size, Tensor.stride))
        else:
            same = type(was) is type(now) and was == now
        if not same or (path.endswith("steps on the host") and now):
            name = path.removeprefix("len ").lstrip(".")
            raise NotAlike(f"Python reads {name}, which changes at every step")
