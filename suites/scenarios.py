"""Splits of a data set into tasks: by class, by domain, by permutation of the pixels, by rotation.

Axes: N images or texts, T tasks, C raw classes, K taps, D pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal

import torch
from torch import Tensor

from suites.errors import UserError, unknown
from suites.seeds import generator
from suites.task_rows import OptionsOfSplit, outside_rows, with_rows
from suites.task_streams import Data, Scenario, Stream
from suites.training import Training
from suites.values import Bounds, Count, CountOrNone, only_if, unless, whole_numbers

Split = Callable[[Data, Scenario, int, Training], Stream]


def by_class(n_tasks: int) -> ByClass:
    """Return a split into tasks with equal numbers of classes, in an order shuffled by the seed.

    Args:
        n_tasks: Number of tasks; the number of classes must be a multiple of it.

    Returns:
        A function for ``Suite.split``. It raises UserError if the classes cannot be divided equally.

    Example:
        ```python
        lethe.Suite(..., split=lethe.by_class(5), scenarios=("task", "domain", "class", "online"))
        ```
    """
    return ByClass(tasks=n_tasks)


def by_domain(orders: tuple[tuple[str, ...], ...] = ()) -> ByDomain:
    """Return a split into one task per domain, with the classes of that domain.

    Domains share the units of the classes that they share; in a task-incremental stream each domain has its
    own units.

    Args:
        orders: Orders of the names of domains: seed s takes ``orders[s % len(orders)]``. If empty, the seed
            shuffles the domains.

    Returns:
        A function for ``Suite.split``. It raises UserError for a data set without domains and for unknown
        names.
    """
    return ByDomain(orders=orders)


def by_permutation(n_tasks: int) -> ByPermutation:
    """Return a split into tasks that have all classes, each with its own permutation of the pixels.

    Every task is permuted, including the first (van de Ven & Tolias 2019), so that none is easier.

    Args:
        n_tasks: Number of tasks.

    Returns:
        A function for ``Suite.split``. It raises UserError for texts.
    """
    return ByPermutation(tasks=n_tasks)


def by_rotation(n_tasks: int) -> ByRotation:
    """Return a split into tasks that have all classes, each rotated by its own angle.

    [0, 180) degrees are divided into equal parts; the angle of task t is drawn from part t (Lopez-Paz &
    Ranzato 2017).

    Args:
        n_tasks: Number of tasks.

    Returns:
        A function for ``Suite.split``. It raises UserError for texts.
    """
    return ByRotation(tasks=n_tasks)


@dataclass(frozen=True, kw_only=True)
class ByClass(OptionsOfSplit):
    """Tasks of some classes each."""

    tasks: Annotated[Count, only_if("groups", "")]
    """Number of tasks."""
    order: Annotated[str, only_if("slots", 0)] = "shuffled"
    """Order of the classes: shuffled by the seed, fixed (0, 1, 2 ...), or their numbers: 3-1-4-0-2."""
    first: Annotated[CountOrNone, only_if("groups", ""), only_if("slots", 0)] = 0
    """Classes of the first task; the others are divided equally among the later tasks. 0 for equal tasks."""
    groups: Annotated[str, only_if("slots", 0)] = ""
    """Number of classes of each task, 5-3-2; it replaces tasks and first. Empty for equal tasks."""
    blurry: Annotated[float, Bounds(0.0, 1.0), only_if("slots", 0)] = 0.0
    """i-Blurry (Koh et al. 2022), M: share of the training rows of blurry classes that are spread evenly over
    all tasks. 0 for clear boundaries."""
    disjoint: Annotated[float, Bounds(0.0, 1.0), unless("blurry", 0.0)] = 0.5
    """i-Blurry, N: share of each task's classes that are not blurry."""
    slots: CountOrNone = 0
    """Classes of each task if classes come back (slot-based generator, Hemati et al. 2023): every class is in
    equally many tasks, and its training rows are divided among them. 0 for classes that do not come back."""

    def __call__(self, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed; raises UserError if the classes cannot be divided so."""
        n_classes = len(data.class_names)
        order = order_of(self.order, n_classes, "classes", seed)
        if (self.slots or self.blurry) and scenario in ("task", "domain"):
            named = "slots" if self.slots else "blurry"
            raise UserError(f"{named} needs the class or the online scenario: tasks share classes")
        groups = self._groups(order, seed)
        unit_TC = torch.full((len(groups), n_classes), -1)
        tasks = []
        parts = self._parts(data, groups, seed) if self.slots else None
        for t, classes in enumerate(groups):
            # Tasks share units in domain-incremental streams; in all others each class has its own.
            units = tuple(range(len(classes))) if scenario == "domain" else classes
            unit_TC[t, list(classes)] = torch.tensor(units)
            index = torch.isin(data.y_N, torch.tensor(classes)).nonzero().flatten()
            if parts is not None:
                index = torch.cat([parts[t], index[index >= data.n_train]])
            tasks.append(self.task(data, t, classes, units, index, seed, training, order))
        n_units = max(map(len, groups)) if scenario == "domain" else n_classes
        made = Stream(seed, scenario, data, tuple(tasks), n_units, unit_TC, outside_rows=outside_rows(data))
        return self.finished(self._blurred(made, groups) if self.blurry else made)

    def _groups(self, order: Sequence[int], seed: int) -> list[tuple[int, ...]]:
        """Return the classes of each task."""
        if self.slots:
            return self._repeated(len(order), seed)
        ends = [*accumulate(self._sizes(len(order)))]
        return [tuple(order[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def _sizes(self, n_classes: int) -> list[int]:
        """Return the number of classes of each task."""
        if self.groups:
            sizes = whole_numbers("groups", self.groups)
            if sum(sizes) != n_classes or 0 in sizes:
                raise UserError(
                    f"groups={self.groups} has {sum(sizes)} classes; the data set has {n_classes}"
                )
            return sizes
        alike, left = self.tasks - bool(self.first), n_classes - self.first
        if alike == 0 and left == 0:
            return [self.first]
        if left <= 0 or alike == 0 or left % alike:
            after = f" after a first task of {self.first}" if self.first else ""
            raise UserError(f"{max(left, 0)} classes cannot be split into {alike} equal tasks{after}")
        return [*([self.first] if self.first else []), *[left // alike] * alike]

    def _repeated(self, n_classes: int, seed: int) -> list[tuple[int, ...]]:
        """Return ``slots`` different classes for each task, so that every class is in equally many tasks."""
        whole = self.tasks * self.slots
        if self.slots > n_classes or whole % n_classes:
            raise UserError(
                f"{self.tasks} tasks of {self.slots} classes cannot have each of {n_classes} classes equally "
                "often: choose tasks * slots as a multiple of the number of classes, and slots not above it"
            )
        random = generator(seed, "slots")
        left_C, found = torch.full((n_classes,), whole // n_classes), []
        for remaining in range(self.tasks, 0, -1):
            # A class with as many slots left as there are tasks must be in every one of them.
            drawn_C = torch.rand(n_classes, generator=random) + (left_C == remaining) - 2.0 * (left_C == 0)
            chosen = drawn_C.topk(self.slots).indices
            left_C[chosen] -= 1
            found.append(tuple(chosen.tolist()))
        return found

    def _parts(self, data: Data, groups: Sequence[Sequence[int]], seed: int) -> list[Tensor]:
        """Return the indices of each task's training rows: an equal part of those of each of its classes."""
        times = sum(c == groups[0][0] for of in groups for c in of)
        found: list[list[Tensor]] = [[] for _ in groups]
        for c in range(len(data.class_names)):
            index = (data.y_N[: data.n_train] == c).nonzero().flatten()
            shuffled = index[torch.randperm(len(index), generator=generator(seed, f"slots/{c}"))]
            having = [t for t, of in enumerate(groups) if c in of]
            for t, part in zip(having, shuffled.tensor_split(times), strict=True):
                found[t].append(part)
        return [torch.cat(parts).sort().values for parts in found]

    def _blurred(self, stream: Stream, groups: Sequence[Sequence[int]]) -> Stream:
        """Return a stream in which a share of the rows of blurry classes is spread over all tasks."""
        data, stay, spread = stream.data, [], []
        for task, classes in zip(stream.tasks, groups, strict=True):
            blurry = torch.tensor(classes[math.floor(len(classes) * self.disjoint) :], dtype=torch.long)
            rows = task.train_rows
            is_blurry = torch.isin(data.y_N[data.index_of(rows)], blurry)
            n_spread = math.floor(int(is_blurry.sum()) * self.blurry)
            spread.append(rows[is_blurry][:n_spread])
            stay.append(torch.cat([rows[~is_blurry], rows[is_blurry][n_spread:]]))
        pooled = torch.cat(spread)
        pooled = pooled[torch.randperm(len(pooled), generator=generator(stream.seed, "blurry"))]
        both = zip(stay, pooled.tensor_split(len(groups)), strict=True)
        return with_rows(stream, [torch.cat(parts) for parts in both])


@dataclass(frozen=True, kw_only=True)
class ByDomain(OptionsOfSplit):
    """One task for each domain."""

    order: str = "shuffled"
    """Order of the domains: shuffled by the seed (or the suite's own orders, if it has any), fixed, or their
    numbers: 2-0-1."""
    orders: tuple[tuple[str, ...], ...] = ()

    def __call__(self, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed; raises UserError for a data set without domains."""
        if data.domain_N is None:
            raise UserError(f"{data.name} has no domains: by_domain needs domain_N and domain_names")
        if self.orders and self.order == "shuffled":
            wanted = self.orders[seed % len(self.orders)]
            for name in wanted:
                if name not in data.domain_names:
                    raise unknown(f"domain of {data.name}", name, list(data.domain_names))
            order = [data.domain_names.index(name) for name in wanted]
        else:
            order = order_of(self.order, len(data.domain_names), "domains", seed)
        n_classes = len(data.class_names)
        unit_TC = torch.full((len(order), n_classes), -1)
        tasks, n_own = [], 0
        for t, domain in enumerate(order):
            index = ((data.domain_N == domain) & (data.y_N >= 0)).nonzero().flatten()
            classes = tuple(data.y_N[index].unique().tolist())
            own = tuple(range(n_own, n_own + len(classes)))
            units = own if scenario == "task" else classes
            unit_TC[t, list(classes)] = torch.tensor(units)
            tasks.append(self.task(data, t, classes, units, index, seed, training))
            n_own += len(classes)
        # If all domains have all classes, all units of an online stream are active from the start.
        alike = all(len(task.classes) == n_classes for task in tasks)
        kind: Scenario = "domain" if scenario == "online" and alike else scenario
        n_units = n_own if scenario == "task" else n_classes
        made = Stream(seed, kind, data, tuple(tasks), n_units, unit_TC, outside_rows=outside_rows(data))
        return self.finished(made)


@dataclass(frozen=True, kw_only=True)
class ByView(OptionsOfSplit):
    """Tasks that have all classes, each seen through another view of the pixels."""

    tasks: Count
    """Number of tasks."""

    def views(self, data: Data, seed: int) -> tuple[Tensor, Tensor]:
        """Return taps and weights of all tasks, (T, K, D) each."""
        raise NotImplementedError

    def __call__(self, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed; raises UserError for texts."""
        if data.texts:
            raise UserError(f"{data.name} has texts: only pixels can be permuted or rotated")
        n_tasks, n_classes, n = self.tasks, len(data.class_names), len(data.x_N)
        shared = scenario in ("domain", "online")
        unit_TC = torch.arange(n_classes).repeat(n_tasks, 1)
        if not shared:
            unit_TC += torch.arange(n_tasks).unsqueeze(1) * n_classes
        tap_TKD, weight_TKD = self.views(data, seed)
        index, outside = (data.y_N >= 0).nonzero().flatten(), outside_rows(data)
        classes = tuple(range(n_classes))
        tasks = [
            self.task(data, t, classes, tuple(unit_TC[t].tolist()), index, seed, training)
            for t in range(n_tasks)
        ]
        n_units = n_classes if shared else n_classes * n_tasks
        # All tasks have the same classes, so all units of an online stream are active from the start.
        kind: Scenario = "domain" if scenario == "online" else scenario
        seen = torch.cat([outside + t * n for t in range(n_tasks)])  # through each task's view
        made = Stream(seed, kind, data, tuple(tasks), n_units, unit_TC, tap_TKD, weight_TKD, seen)
        return self.finished(made)


@dataclass(frozen=True, kw_only=True)
class ByPermutation(ByView):
    """Tasks with permuted pixels."""

    plain_first: bool = False
    """Leave the pixels of the first task as they are."""

    def views(self, data: Data, seed: int) -> tuple[Tensor, Tensor]:
        """Return the permutations."""
        n_pixels = math.prod(data.x_N.shape[1:])
        random = generator(seed, "permutations")
        drawn = [torch.randperm(n_pixels, generator=random) for _ in range(self.tasks)]
        if self.plain_first:
            drawn[0] = torch.arange(n_pixels)
        return torch.stack(drawn).unsqueeze(1), torch.ones(self.tasks, 1, n_pixels)


@dataclass(frozen=True, kw_only=True)
class ByRotation(ByView):
    """Tasks with rotated images."""

    degrees: Annotated[float, Bounds(0.0, 360.0)] = 180.0
    """Angles are from 0 up to this."""
    angles: Literal["sorted", "unsorted", "equal"] = "sorted"
    """sorted draws the angle of task t from part t of equal parts, unsorted draws each from the whole range,
    equal takes multiples: 0, 10, 20 ... for degrees=180, tasks=18."""
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    """How pixels between those of the image are computed."""

    def views(self, data: Data, seed: int) -> tuple[Tensor, Tensor]:
        """Return the rotations."""
        random = generator(seed, "angles")
        draw_T = torch.rand(self.tasks, generator=random, dtype=torch.float64).tolist()
        part = self.degrees / self.tasks
        places = {
            "sorted": [part * (t + draw) for t, draw in enumerate(draw_T)],
            "unsorted": [self.degrees * draw for draw in draw_T],
            "equal": [part * t for t in range(self.tasks)],
        }[self.angles]
        shape = tuple(data.x_N.shape[1:])
        turned = [rotation(shape, angle, self.interpolation) for angle in places]
        return torch.stack([tap for tap, _ in turned]), torch.stack([weight for _, weight in turned])


def order_of(order: str, n: int, of: str, seed: int) -> list[int]:
    """Return an order of 0 to ``n`` - 1.

    Args:
        order: ``shuffled``, ``fixed``, or the numbers.
        n: How many there are.
        of: What is ordered, which is the axis of the seed.
        seed: The seed of the stream.

    Raises:
        UserError: ``order`` is anything else.
    """
    if order == "shuffled":
        return torch.randperm(n, generator=generator(seed, of)).tolist()
    if order == "fixed":
        return list(range(n))
    found = whole_numbers("order", order)
    if sorted(found) != list(range(n)):
        raise UserError(f"order={order} must have each of the {of} 0 to {n - 1} once; or fixed, or shuffled")
    return found


def rotation(
    shape: tuple[int, ...], degrees: float, interpolation: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """Return taps and weights, (4, D) each, that rotate an image about its centre; (1, D) for ``nearest``.

    Weights of pixels beyond the border are 0.
    """
    if len(shape) != 3:
        raise UserError(f"only images of shape (channels, height, width) can be rotated, not {shape}")
    channels, height, width = shape
    angle = math.radians(degrees)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    from_x = math.cos(angle) * (x - middle_x) + math.sin(angle) * (y - middle_y) + middle_x
    from_y = -math.sin(angle) * (x - middle_x) + math.cos(angle) * (y - middle_y) + middle_y
    # Rounded, so that a rotation by 0 degrees gives the pixels themselves.
    from_x, from_y = (from_x * 1e9).round() / 1e9, (from_y * 1e9).round() / 1e9
    around: Sequence[tuple[int, int]] = [(down, right) for down in (0, 1) for right in (0, 1)]
    if interpolation == "nearest":
        from_x, from_y, around = (from_x + 0.5).floor(), (from_y + 0.5).floor(), [(0, 0)]
    taps, weights = [], []
    for down, right in around:
        row, column = from_y.floor() + down, from_x.floor() + right
        weight = (1 - (from_y - row).abs()) * (1 - (from_x - column).abs())
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        taps.append((row * width + column).long().where(inside, 0).flatten())
        weights.append(weight.where(inside, 0).flatten())
    offset = torch.arange(channels).repeat_interleave(height * width) * height * width
    tap_KD = torch.stack(taps).repeat(1, channels) + offset
    return tap_KD, torch.stack(weights).repeat(1, channels).float()
