"""Splits of a data set into tasks: by class, by domain, by permutation of the pixels, by rotation.

Axes: N images or texts, T tasks, C raw classes, K taps, D pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from suites.base import Data, Scenario, Stream, Task, Training, generator
from suites.errors import UserError, unknown

Split = Callable[[Data, Scenario, int, Training], Stream]


def by_class(n_tasks: int) -> Split:
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

    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        n_classes = len(data.class_names)
        per_task = n_classes // n_tasks
        if per_task * n_tasks != n_classes:
            raise UserError(f"{n_classes} classes cannot be split into {n_tasks} equal tasks")
        order = torch.randperm(n_classes, generator=generator(seed, "classes")).tolist()
        unit_TC = torch.full((n_tasks, n_classes), -1)
        tasks = []
        for t in range(n_tasks):
            classes = tuple(order[t * per_task : (t + 1) * per_task])
            # Tasks share units in domain-incremental streams; in all others each class has its own.
            units = tuple(range(per_task)) if scenario == "domain" else classes
            unit_TC[t, list(classes)] = torch.tensor(units)
            index = torch.isin(data.y_N, torch.tensor(classes)).nonzero().flatten()
            tasks.append(_task(data, t, classes, units, index, seed, training))
        n_units = per_task if scenario == "domain" else n_classes
        return Stream(seed, scenario, data, tuple(tasks), n_units, unit_TC, outside_rows=_outside_rows(data))

    return split


def by_domain(orders: tuple[tuple[str, ...], ...] = ()) -> Split:
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

    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        if data.domain_N is None:
            raise UserError(f"{data.name} has no domains: by_domain needs domain_N and domain_names")
        if orders:
            wanted = orders[seed % len(orders)]
            for name in wanted:
                if name not in data.domain_names:
                    raise unknown(f"domain of {data.name}", name, list(data.domain_names))
            order = [data.domain_names.index(name) for name in wanted]
        else:
            order = torch.randperm(len(data.domain_names), generator=generator(seed, "domains")).tolist()
        n_classes = len(data.class_names)
        unit_TC = torch.full((len(order), n_classes), -1)
        tasks, n_own = [], 0
        for t, domain in enumerate(order):
            index = ((data.domain_N == domain) & (data.y_N >= 0)).nonzero().flatten()
            classes = tuple(data.y_N[index].unique().tolist())
            own = tuple(range(n_own, n_own + len(classes)))
            units = own if scenario == "task" else classes
            unit_TC[t, list(classes)] = torch.tensor(units)
            tasks.append(_task(data, t, classes, units, index, seed, training))
            n_own += len(classes)
        # If all domains have all classes, all units of an online stream are active from the start.
        alike = all(len(task.classes) == n_classes for task in tasks)
        kind: Scenario = "domain" if scenario == "online" and alike else scenario
        n_units = n_own if scenario == "task" else n_classes
        return Stream(seed, kind, data, tuple(tasks), n_units, unit_TC, outside_rows=_outside_rows(data))

    return split


def by_permutation(n_tasks: int) -> Split:
    """Return a split into tasks that have all classes, each with its own permutation of the pixels.

    Every task is permuted, including the first (van de Ven & Tolias 2019), so that none is easier.

    Args:
        n_tasks: Number of tasks.

    Returns:
        A function for ``Suite.split``. It raises UserError for texts.
    """

    def views(data: Data, seed: int) -> tuple[Tensor, Tensor]:
        n_pixels = math.prod(data.x_N.shape[1:])
        random = generator(seed, "permutations")
        tap_TD = torch.stack([torch.randperm(n_pixels, generator=random) for _ in range(n_tasks)])
        return tap_TD.unsqueeze(1), torch.ones(n_tasks, 1, n_pixels)

    return _by_view(n_tasks, views)


def by_rotation(n_tasks: int) -> Split:
    """Return a split into tasks that have all classes, each rotated by its own angle.

    [0, 180) degrees are divided into equal parts; the angle of task t is drawn from part t (Lopez-Paz &
    Ranzato 2017).

    Args:
        n_tasks: Number of tasks.

    Returns:
        A function for ``Suite.split``. It raises UserError for texts.
    """

    def views(data: Data, seed: int) -> tuple[Tensor, Tensor]:
        part = 180 / n_tasks
        draw_T = torch.rand(n_tasks, generator=generator(seed, "angles"), dtype=torch.float64)
        turned = [rotation(tuple(data.x_N.shape[1:]), part * (t + float(draw_T[t]))) for t in range(n_tasks)]
        return torch.stack([tap for tap, _ in turned]), torch.stack([weight for _, weight in turned])

    return _by_view(n_tasks, views)


def rotation(shape: tuple[int, ...], degrees: float) -> tuple[Tensor, Tensor]:
    """Return taps (4, D) and weights (4, D) that rotate an image about its centre, interpolated bilinearly.

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
    taps, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = from_y.floor() + down, from_x.floor() + right
            weight = (1 - (from_y - row).abs()) * (1 - (from_x - column).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            taps.append((row * width + column).long().where(inside, 0).flatten())
            weights.append(weight.where(inside, 0).flatten())
    offset = torch.arange(channels).repeat_interleave(height * width) * height * width
    tap_KD = torch.stack(taps).repeat(1, channels) + offset
    return tap_KD, torch.stack(weights).repeat(1, channels).float()


def _by_view(n_tasks: int, views: Callable[[Data, int], tuple[Tensor, Tensor]]) -> Split:
    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        if data.texts:
            raise UserError(f"{data.name} has texts: only pixels can be permuted or rotated")
        n_classes, n = len(data.class_names), len(data.x_N)
        shared = scenario in ("domain", "online")
        unit_TC = torch.arange(n_classes).repeat(n_tasks, 1)
        if not shared:
            unit_TC += torch.arange(n_tasks).unsqueeze(1) * n_classes
        tap_TKD, weight_TKD = views(data, seed)
        index, outside = (data.y_N >= 0).nonzero().flatten(), _outside_rows(data)
        classes = tuple(range(n_classes))
        tasks = [
            _task(data, t, classes, tuple(unit_TC[t].tolist()), index, seed, training) for t in range(n_tasks)
        ]
        n_units = n_classes if shared else n_classes * n_tasks
        # All tasks have the same classes, so all units of an online stream are active from the start.
        kind: Scenario = "domain" if scenario == "online" else scenario
        seen = torch.cat([outside + t * n for t in range(n_tasks)])  # through each task's view
        return Stream(seed, kind, data, tuple(tasks), n_units, unit_TC, tap_TKD, weight_TKD, seen)

    return split


def _task(
    data: Data,
    task: int,
    classes: tuple[int, ...],
    units: tuple[int, ...],
    index: Tensor,
    seed: int,
    training: Training,
) -> Task:
    """Return a task with its row numbers; validation rows are split from the training rows by the seed.

    At most ``training.rows_per_class`` training rows (before the validation rows are split off) and as many
    test rows of each class are used, then ``training.shots`` training rows of each. The seed draws both.
    """
    rows = index + task * len(data.x_N)
    train, test = rows[index < data.n_train], rows[index >= data.n_train]
    train = _at_most(training.rows_per_class, train, data, seed, f"rows/{task}/train")
    test = _at_most(training.rows_per_class, test, data, seed, f"rows/{task}/test")
    shuffled = train[torch.randperm(len(train), generator=generator(seed, f"validation/{task}"))]
    held = max(1, round(len(train) * training.validation)) if training.validation else 0
    learned = _at_most(training.shots, shuffled[held:], data, seed, f"shots/{task}")
    return Task(classes, units, learned, shuffled[:held], test)


def _at_most(most: int, rows: Tensor, data: Data, seed: int, axis: str) -> Tensor:
    """Return at most ``most`` rows of each class, in their order, drawn by an axis of the seed; all for 0."""
    if not most:
        return rows
    drawn = torch.randperm(len(rows), generator=generator(seed, axis))
    y = data.y_N[data.index_of(rows[drawn])]
    return rows[torch.cat([drawn[y == c][:most] for c in y.unique()]).sort().values]


def _outside_rows(data: Data) -> Tensor:
    """Return the row numbers, in the first task, of the rows of no class."""
    return (data.y_N < 0).nonzero().flatten()
