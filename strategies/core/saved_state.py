"""Saves a method's state as a JSON tree and named tensors, without pickle, and restores it.

All attributes of a strategy are state, except those it was given (model, streams, draws, optimiser) and those
named in ``not_saved``. Containers are searched: lists, tuples, dictionaries, sets, objects, modules,
optimisers, random generators. A tensor with lanes first is saved lane by lane; any other is saved only if
it has changed since ``setup``. Restoring writes into the objects that ``setup`` made, so that aliases stay
aliases. A value that cannot be restored exactly raises an error that names it, as early as possible: after
``setup`` or at the end of a task.

Axes: L lanes.
"""

from __future__ import annotations

import copy
import enum
import functools
import hashlib
import math
import random
import re
import sys
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from strategies.core.contract import ContractBroken, mentioned_at
from strategies.core.optimisers import Optimiser
from strategies.core.strategy import Strategy
from strategies.core.streams import Batch

Node = Any
"""JSON: a plain value, or a dictionary whose first key is the kind of the value."""
_CONSTANT = (
    type, types.BuiltinFunctionType, types.MethodType, types.ModuleType, functools.partial, torch.dtype,
    torch.device, torch.Size, range, slice, PurePath, re.Pattern, enum.Enum, bytes, complex,
)  # fmt: skip
"""Types that cannot change: ``setup`` makes the value again, so it is only checked to be equal."""
_CONTAINERS: dict[str, type] = {
    kind.__name__: kind for kind in (list, tuple, set, frozenset, deque, dict, OrderedDict, Counter)
}
_RANDOM: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "torch": (
        torch.Generator,
        lambda g: g.get_state().numpy().tobytes().hex(),
        lambda g, s: g.set_state(torch.frombuffer(bytearray.fromhex(s), dtype=torch.uint8)),
    ),
    "numpy": (
        np.random.Generator,
        lambda g: g.bit_generator.state,
        lambda g, s: setattr(g.bit_generator, "state", s),
    ),
    "python": (random.Random, lambda g: g.getstate(), lambda g, s: g.setstate(s)),
}
_CHANGED = "changed"
"""In place of the digest of a tensor with lanes first: it has changed since setup, and is always saved."""
_OF_TORCH = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}
"""Attributes of every module that belong to torch, such as hooks; they are not saved."""


_NO_PLACE = (
    "which cannot be saved: store numbers, text or tensors instead; if it is made again before it is read, "
    "write {} in the class"
)


class SavedState:
    """Saves and restores one strategy; it must be created right after ``setup``.

    Raises:
        ContractBroken: ``setup`` made a value that cannot be saved.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy, self.lanes = strategy, strategy.streams.lanes
        self.given = dict(_given(strategy))
        self.name_of = {id(value): name for name, value in self.given.items()}
        tensors = ((name, t) for name, t in self.given.items() if isinstance(t, Tensor))
        self.storages = {t.untyped_storage().data_ptr(): name for name, t in tensors if t.numel()}
        self.made: dict[str, Any] = {}
        """What ``setup`` made, by path: the digest of a tensor, the type of an object, or a constant."""
        self.tree = _Writer(self, at_setup=True).tree()
        """The tree before training; if only tensors differ, groups can restore each other's lanes."""

    def save(self) -> tuple[Node, dict[str, Tensor], dict[str, Tensor]]:
        """Return the tree, the tensors with lanes first and those without, by name.

        Raises:
            ContractBroken: A value cannot be saved.
        """
        writer = _Writer(self)
        return writer.tree(), writer.lane_tensors, writer.whole_tensors

    def load(self, tree: Node, tensors: dict[str, Tensor]) -> None:
        """Restore what ``save`` returned; tensors with lanes first are those of this group's lanes.

        Raises:
            ContractBroken: ``setup`` makes other values than when the tree was saved.
        """
        _Reader(self, tensors).load(tree)

    def refused(self, path: str, why: str) -> ContractBroken:
        """Return the error for an attribute that cannot be saved."""
        attribute = re.split(r"[.\[]", re.sub(r"^parts\[\d+\]\.", "", path))[0]
        where = mentioned_at(type(self.strategy), attribute) or self.strategy.name
        return ContractBroken(
            f"{where}: self.{path} of {self.strategy.name} {why.format(f'not_saved = ({attribute!r},)')}"
        )


def tensor_names(tree: Node) -> tuple[set[str], set[str]]:
    """Return the names of the tensors that belong to a tree: with lanes first, and without."""
    lanes: set[str] = set()
    whole: set[str] = set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if "at" in node:
                (whole if "whole" in node else lanes).add(node["at"])
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    return lanes, whole


def lane_by_lane(tree: Node) -> Node:
    """Return the part of a tree that must be equal for lanes of several groups to be restored as one group.

    Tensors with lanes first may differ. Anything else that has changed since ``setup`` may depend on the
    whole group.
    """
    if isinstance(tree, list):
        return [lane_by_lane(node) for node in tree]
    if not isinstance(tree, dict):
        return tree
    first = "lanes" in tree and "dtype" in tree
    return {k: lane_by_lane(v) for k, v in tree.items() if not (first and k in ("setup", "at"))}


class _Writer:
    def __init__(self, owner: SavedState, at_setup: bool = False) -> None:
        self.owner, self.at_setup = owner, at_setup
        self.lane_tensors: dict[str, Tensor] = {}
        self.whole_tensors: dict[str, Tensor] = {}
        self.seen: dict[int, str] = {}
        self.copies: list[str] = []
        """Paths of copies of the network, whichever way they were made."""
        self.alive: list[Any] = []
        """Objects seen, kept alive so that no new object gets the id of one of them."""

    def tree(self) -> Node:
        return self.attributes(self.owner.strategy, "")

    def attributes(self, value: Any, path: str) -> Node:
        """Return an object's attributes; a strategy's without those in ``not_saved``."""
        found = vars(value)
        if isinstance(value, nn.Module):
            found = {k: v for k, v in found.items() if k not in _OF_TORCH}
        if isinstance(value, Strategy):
            found = {k: v for k, v in found.items() if k not in value.not_saved}
            self.class_attributes(type(value), path)
        return {k: self.node(v, f"{path}.{k}" if path else k) for k, v in found.items()}

    def class_attributes(self, cls: type[Strategy], path: str) -> None:
        """Raise an error for a changed list or dictionary of the class, which all runs of a process share."""
        for name in {k for c in cls.__mro__ if c not in Strategy.__mro__ for k in vars(c)}:
            value, at = getattr(cls, name, None), f"{path}.{name}" if path else name
            if isinstance(value, list | dict | set | deque) and not name.startswith("__"):
                words = repr(value)
                if self.at_setup:
                    self.owner.made[f"class {at}"] = words
                elif self.owner.made[f"class {at}"] != words:
                    raise self.owner.refused(
                        at, "belongs to the class, so that all runs share it: make it in setup"
                    )

    def node(self, value: Any, path: str) -> Node:
        owner = self.owner
        if (given := owner.name_of.get(id(value))) is not None:
            return {"given": given}
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            return value if abs(value) < 2**53 else {"int": str(value)}
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.generic):
            return {"scalar": value.dtype.str, "value": self.node(value.item(), path)}
        if isinstance(value, _CONSTANT) or (isinstance(value, types.FunctionType) and not value.__closure__):
            return self.constant(value, path)
        if id(value) in self.seen:
            return {"same": self.seen[id(value)]}
        self.seen[id(value)] = path
        self.alive.append(value)
        if isinstance(value, Tensor):
            return self.tensor(value, path)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"array": self.tensor(torch.from_numpy(np.ascontiguousarray(value)), path)}
        if isinstance(value, Optimiser):
            self.record_type(
                value, path, late="is an optimiser made after setup: make it in setup, and reset() it"
            )
            return {"optimiser": {k: self.tensor(t, f"{path}.{k}") for k, t in value.state().items()}}
        for kind, (type_, state_of, _) in _RANDOM.items():
            if type(value) is type_:
                self.record_type(value, path, late="is a random generator made after setup: make it in setup")
                return {"random": kind, "state": self.node(state_of(value), f"{path}.state")}
        if isinstance(value, list | tuple | set | frozenset | deque | dict) and not hasattr(value, "_fields"):
            return self.container(value, path)
        if hasattr(value, "__dict__") and not isinstance(value, types.FunctionType):
            return self.object(value, path)
        raise owner.refused(path, f"is a {type(value).__name__}, {_NO_PLACE}")

    def constant(self, value: Any, path: str) -> Node:
        if self.at_setup:
            self.owner.made[path] = value
        elif self.owner.made.get(path) != value:
            raise self.owner.refused(path, f"is a {type(value).__name__} set after setup, {_NO_PLACE}")
        return {"setup": ""}

    def tensor(self, value: Tensor, path: str) -> Node:
        owner = self.owner
        if value.is_complex() or value.layout is not torch.strided or value.is_quantized:
            raise owner.refused(
                path, "is a tensor that is complex, sparse or quantized: save dense real ones"
            )
        if value.numel() and (of := owner.storages.get(value.untyped_storage().data_ptr())) is not None:
            return {"view": of, "of": [[*value.size()], [*value.stride()], value.storage_offset()]}
        flags = {"parameter": True} if isinstance(value, nn.Parameter) else {}
        flags |= {"grad": True} if value.is_leaf and value.requires_grad else {}
        first = value.dim() > 0 and len(value) == owner.lanes
        about = {"lanes": [*value.shape[1:]], "dtype": str(value.dtype)} if first else {}
        mark = "" if first and owner.made.get(path) == _CHANGED else _digest(value)
        if self.at_setup:
            owner.made[path] = mark
        if owner.made.get(path) == mark:
            return {"setup": "" if first else mark, **about, **flags}
        if first:
            owner.made[path] = _CHANGED  # a digest of a large tensor takes longer than a copy
            self.lane_tensors[path] = value.detach()
            return {**about, "at": path, **flags}
        self.whole_tensors[path] = value.detach()
        return {"whole": path, "at": path, **flags}

    def container(self, value: Any, path: str) -> Node:
        kind = type(value).__name__
        if _CONTAINERS.get(kind) is not type(value):
            self.record_type(value, path, late=f"is a {kind} made after setup: make it in setup")
        extra = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
        if isinstance(value, dict):
            names = [repr(k) if isinstance(k, str | int) else f"#{i}" for i, k in enumerate(value)]
            keys = [self.node(k, f"{path}[key {n}]") for k, n in zip(value, names, strict=True)]
            items = [self.node(v, f"{path}[{n}]") for v, n in zip(value.values(), names, strict=True)]
            return {"items": items, "keys": keys, "type": kind}
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return {"items": [self.node(v, f"{path}[{i}]") for i, v in enumerate(items)], "type": kind, **extra}

    def object(self, value: Any, path: str) -> Node:
        name, owner = type(value).__qualname__, self.owner
        late = "is a module made after setup: make it in setup"
        if isinstance(value, nn.Module) and type(value) is type(owner.strategy.model):
            self.copies.append(path)  # it is restored by copying the network
        if isinstance(value, nn.Module):
            self.record_type(value, path, late)
        elif _class_named(owner.strategy, name) is not type(value):
            late = f"is a {name} made after setup: make it in setup, or store its tensors and numbers instead"
            self.record_type(value, path, late=late)
        return {"object": name, "attributes": self.attributes(value, path)}

    def record_type(self, value: Any, path: str, late: str) -> None:
        """Record the type of a value of ``setup``; afterwards, raise an error ``late`` for another type."""
        if self.at_setup:
            self.owner.made[path] = type(value)
        elif self.owner.made.get(path) is not type(value) and not any(
            path == copy or path.startswith(f"{copy}.") for copy in self.copies
        ):
            raise self.owner.refused(path, late)


class _Reader:
    def __init__(self, owner: SavedState, tensors: dict[str, Tensor]) -> None:
        self.owner, self.tensors = owner, tensors
        self.restored: dict[str, Any] = {}
        self.filled: set[int] = set()
        """Ids of objects already written into: one object of ``setup`` may be two by the time of saving."""

    @torch.no_grad()
    def load(self, tree: Node) -> None:
        self.attributes(tree, self.owner.strategy, "")

    def attributes(self, nodes: dict[str, Node], value: Any, path: str) -> None:
        fresh = vars(value)
        own = _OF_TORCH if isinstance(value, nn.Module) else getattr(value, "not_saved", ())
        for name in [k for k in fresh if k not in nodes and k not in own]:
            del fresh[name]
        for name, node in nodes.items():
            fresh[name] = self.value(node, fresh.get(name), f"{path}.{name}" if path else name)

    def value(self, node: Node, fresh: Any, path: str) -> Any:
        if not isinstance(node, dict):
            return node
        kind, content = next(iter(node.items()))
        if kind == "given":
            return self.owner.given[content]
        if kind == "same":
            return self.restored[content]
        if kind in ("int", "float"):
            return int(content) if kind == "int" else float(content)
        if kind == "scalar":
            return np.dtype(content).type(node["value"])
        if kind == "view":
            return self.owner.given[content].detach().as_strided(*node["of"])
        self.restored[path] = made = getattr(self, kind)(node, fresh, path)
        return made

    def setup(self, node: Node, fresh: Any, path: str) -> Any:
        if node["setup"] and not (isinstance(fresh, Tensor) and _digest(fresh) == node["setup"]):
            raise ContractBroken(f"setup of {self.owner.strategy.name} no longer makes the same self.{path}")
        return fresh

    def lanes(self, node: Node, fresh: Any, path: str) -> Any:
        return self.filled_in(self.tensors[node["at"]], node, fresh)

    whole = lanes

    def filled_in(self, saved: Tensor, node: Node, fresh: Any) -> Any:
        """Return the tensor that ``setup`` made, with the saved values if it fits, else the saved tensor."""
        if (
            isinstance(fresh, Tensor)
            and (fresh.shape, fresh.dtype) == (saved.shape, saved.dtype)
            and isinstance(fresh, nn.Parameter) == ("parameter" in node)
            and id(fresh) not in self.filled
            and not any(
                step == 0 and size > 1 for step, size in zip(fresh.stride(), fresh.shape, strict=True)
            )
        ):
            self.filled.add(id(fresh))
            fresh.detach().copy_(saved)
        else:
            fresh = saved.to(self.owner.strategy.streams.device)
            fresh = nn.Parameter(fresh, requires_grad=False) if "parameter" in node else fresh.clone()
        if fresh.is_leaf:
            fresh.requires_grad_("grad" in node)
        return fresh

    def array(self, node: Node, fresh: Any, path: str) -> Any:
        inner = node["array"]
        if "setup" in inner:
            return fresh
        saved = self.tensors[inner["at"]].cpu().numpy().copy()
        if isinstance(fresh, np.ndarray) and (fresh.shape, fresh.dtype) == (saved.shape, saved.dtype):
            fresh[...] = saved
            return fresh
        return saved

    def optimiser(self, node: Node, fresh: Optimiser, path: str) -> Optimiser:
        saved = {k: self.tensors[inner["at"]] for k, inner in node["optimiser"].items() if "at" in inner}
        fresh.load_state({**fresh.state(), **saved})
        return fresh

    def random(self, node: Node, fresh: Any, path: str) -> Any:
        _RANDOM[node["random"]][2](fresh, self.value(node["state"], None, f"{path}.state"))
        return fresh

    def items(self, node: Node, fresh: Any, path: str) -> Any:
        kind: Any = _CONTAINERS.get(node["type"], type(fresh))
        same = type(fresh) is kind and id(fresh) not in self.filled
        if "keys" in node:
            named = [repr(k) if isinstance(k, str | int) else f"#{i}" for i, k in enumerate(node["keys"])]
            keys = [self.value(k, None, f"{path}[key {n}]") for k, n in zip(node["keys"], named, strict=True)]
            made = fresh if same else kind()
            self.restored[path] = made
            known = dict(fresh) if same else {}
            made.clear()
            for key, name, item in zip(keys, named, node["items"], strict=True):
                made[key] = self.value(item, known.get(key), f"{path}[{name}]")
            return made
        before = [*fresh] if type(fresh) is kind else []
        before += [None] * (len(node["items"]) - len(before))
        if kind in (tuple, frozenset):
            return kind(self.value(n, before[i], f"{path}[{i}]") for i, n in enumerate(node["items"]))
        made = fresh if same else deque(maxlen=node["maxlen"]) if kind is deque else kind()
        self.filled.add(id(made))
        self.restored[path] = made
        found = [self.value(n, before[i], f"{path}[{i}]") for i, n in enumerate(node["items"])]
        made.clear()
        made.update(found) if isinstance(made, set) else made.extend(found)
        return made

    def object(self, node: Node, fresh: Any, path: str) -> Any:
        strategy, name = self.owner.strategy, node["object"]
        if type(fresh).__qualname__ != name or id(fresh) in self.filled:
            if name == type(strategy.model).__qualname__:
                fresh = copy.deepcopy(strategy.model)
            else:
                cls = _class_named(strategy, name)
                if cls is None:
                    raise ContractBroken(f"setup of {strategy.name} no longer makes self.{path}, a {name}")
                fresh = object.__new__(cls)
        self.filled.add(id(fresh))
        self.restored[path] = fresh
        self.attributes(node["attributes"], fresh, path)
        return fresh


def _given(strategy: Strategy) -> Iterator[tuple[str, Any]]:
    """Yield, by name, what a strategy is given and the modules and tensors in it; it is not saved."""
    model, streams, data = strategy.model, strategy.streams, strategy.streams.data
    yield from (
        (name, getattr(strategy, name)) for name in ("streams", "draws", "optimiser", "context", "autocast")
    )
    for part in (model.named_modules, model.named_parameters, model.named_buffers):
        yield from ((f"model.{name}", value) for name, value in part())
    yield from (("streams.data", data), ("streams.streams", streams.streams), ("training", streams.training))
    yield from ((f"streams.streams[{i}]", stream) for i, stream in enumerate(streams.streams))
    for name, owner in (("streams", streams), ("data", data), ("optimiser", strategy.optimiser)):
        yield from ((f"{name}.{k}", v) for k, v in vars(owner).items() if isinstance(v, Tensor))


def _class_named(strategy: Strategy, name: str) -> type | None:
    """Return the class with a name in the modules that define a strategy, or Batch; None if there is none."""
    for cls in type(strategy).__mro__:
        found = vars(sys.modules.get(cls.__module__, types)).get(name.split(".")[0])
        for part in name.split(".")[1:]:
            found = getattr(found, part, None)
        if isinstance(found, type) and not issubclass(found, nn.Module | Strategy):
            return found
    return Batch if name == "Batch" else None


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().flatten()
    if flat.device.type != "cpu" or flat.stride() != (1,):
        # A copy, because contiguous() on one column of one lane leaves strides that view() refuses.
        flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(flat)
    digest = hashlib.sha256(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
