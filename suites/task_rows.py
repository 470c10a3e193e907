"""Options of every split, and the rows of a task: how many, of which labels, in which order.

Axes: N images or texts, R rows, C raw classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, Self, get_origin, get_type_hints

import torch
from torch import Tensor

from suites.description import Option, field_help, options_in_words
from suites.errors import UserError, unknown
from suites.seeds import generator
from suites.task_streams import Data, Scenario, Stream, Task
from suites.training import Training
from suites.values import Bounds, CountOrNone, Value, convert, only_if, settled, taken_apart, unless


@dataclass(frozen=True, kw_only=True)
class OptionsOfSplit:
    """Base class of splits: a function of a data set, scenario, seed and training whose fields are options.

    A field is an option of the suite, ``split-mnist[tasks=10]``, if a user can write its type.
    """

    rows: CountOrNone = 0
    """Training rows of each task, drawn by the seed; 0 for all. Validation rows are held out from them."""
    imbalance: Annotated[float, Bounds(1.0)] = 1.0
    """Training rows of the largest class divided by those of the smallest; classes between them shrink
    exponentially (Cao et al. 2019; Liu et al. 2022). 1 for all rows."""
    tail: Annotated[Literal["shuffled", "ordered"], unless("imbalance", 1.0)] = "shuffled"
    """With imbalance: which classes are large is drawn by the seed, or the first of the stream are."""
    noise: Annotated[float, Bounds(0.0, 1.0)] = 0.0
    """Share of the training rows of each task that have a wrong label: another class of the task, each
    equally likely (symmetric noise, van Rooyen et al. 2015). Validation rows, held out from them, are noisy
    too."""
    in_order: Annotated[bool, only_if("blend", 0.0)] = False
    """Learn the rows of a task in the order of the data set, not in one drawn by the seed."""
    blend: Annotated[float, Bounds(0.0)] = 0.0
    """Standard deviation, in lengths of a task, of the time at which a row is learned around the middle of
    its task: the mixture changes gradually (Gaussian schedule, Shanahan et al. 2021). Rows are learned in
    the order of their times."""

    def __call__(self, data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        """Return the stream of one seed; raises UserError if the options do not fit the data set."""
        raise NotImplementedError

    @classmethod
    @cache
    def _hints(cls) -> dict[str, Any]:
        """Return the types of the options, those of every split last: fields whose type a user can write."""
        hints = get_type_hints(cls, include_extras=True)
        common = {f.name for f in fields(OptionsOfSplit)}
        names = sorted((f.name for f in fields(cls)), key=lambda name: name in common)
        plain = {name: taken_apart(hints[name])[0] for name in names}
        written = (n for n, of in plain.items() if of in (bool, int, float, str) or get_origin(of) is Literal)
        return {name: hints[name] for name in written}

    def options(self) -> dict[str, Value]:
        """Return the options and their values."""
        return {name: getattr(self, name) for name in self._hints()}

    def described(self) -> tuple[Option, ...]:
        """Return the options in words."""
        help_ = {name: " ".join(text.split()) for name, text in field_help(type(self)).items()}
        return options_in_words(self.options(), self._hints(), help_)

    def with_options(self, what: str, given: Mapping[str, Any]) -> Self:
        """Return the split with other options; raises UserError for an unknown one or an impossible value."""
        hints = self._hints()
        for name in given:
            if name not in hints:
                raise unknown(f"option of {what}", name, list(hints))
        asked = {k: convert(f"{what}: {k}", v, hints[k]) for k, v in given.items()}
        usual = self.options()
        chosen: dict[str, Any] = settled(usual | asked, usual, hints, {})[0]
        return replace(self, **chosen)

    def task(
        self,
        data: Data,
        number: int,
        classes: Sequence[int],
        units: Sequence[int],
        index: Tensor,
        seed: int,
        training: Training,
        order: Sequence[int] = (),
    ) -> Task:
        """Return a task with its row numbers, drawn by the seed.

        At most ``training.rows_per_class`` training rows and that number of test rows of each class are used,
        then the training rows that ``imbalance`` and ``rows`` leave. Validation rows are held out from those,
        and of the others ``training.shots`` rows of each class are used.

        Args:
            data: The data set.
            number: The number of the task, from 0.
            classes: Its raw classes.
            units: The unit of each class.
            index: The indices of its rows in the data set.
            seed: The seed of the stream.
            training: Training settings.
            order: All raw classes in the order of the stream, for ``tail=ordered``.
        """
        rows = index + number * len(data.x_N)
        train, test = rows[index < data.n_train], rows[index >= data.n_train]
        most = training.rows_per_class
        train = _at_most(most, train, data, seed, f"rows/{number}/train")
        test = _at_most(most, test, data, seed, f"rows/{number}/test")
        train = self._long_tail(train, data, number, seed, order or range(len(data.class_names)))
        if 0 < self.rows < len(train):
            drawn = torch.randperm(len(train), generator=generator(seed, f"rows of task/{number}"))
            train = train[drawn[: self.rows].sort().values]
        wrong_rows, wrong_units = self._wrong(train, data, number, classes, units, seed)
        learned, held = self._held_out(train, data, number, seed, training)
        learned = _at_most(training.shots, learned, data, seed, f"shots/{number}")
        if self.in_order:
            learned = learned.sort().values
        return Task(tuple(classes), tuple(units), learned, held, test, wrong_rows, wrong_units)

    def finished(self, stream: Stream) -> Stream:
        """Return a stream with the training rows of its tasks in the order in which they are learned."""
        if self.blend:
            stream = _blended(stream, self.blend)
        return replace(stream, in_order=True) if self.in_order or self.blend else stream

    def _held_out(
        self, train: Tensor, data: Data, number: int, seed: int, training: Training
    ) -> tuple[Tensor, Tensor]:
        """Return the rows to learn and the validation rows: the data set's own, else drawn by the seed."""
        shuffled = train[torch.randperm(len(train), generator=generator(seed, f"validation/{number}"))]
        if data.validation_N is not None:
            held = data.validation_N[data.index_of(shuffled)]
            return shuffled[~held], shuffled[held] if training.validation else shuffled[:0]
        n_held = max(1, round(len(train) * training.validation)) if training.validation else 0
        return shuffled[n_held:], shuffled[:n_held]

    def _long_tail(self, train: Tensor, data: Data, number: int, seed: int, order: Sequence[int]) -> Tensor:
        """Return as many rows of each class as ``imbalance`` leaves, at least one."""
        n_classes = len(order)
        if self.imbalance == 1 or n_classes < 2:
            return train
        if self.tail == "shuffled":
            order = torch.randperm(n_classes, generator=generator(seed, "tail")).tolist()
        rank_C = torch.empty(n_classes).double()
        rank_C[torch.tensor(order)] = torch.arange(n_classes).double()
        share_C = self.imbalance ** (-rank_C / (n_classes - 1))
        drawn = train[torch.randperm(len(train), generator=generator(seed, f"tail/{number}"))]
        y = data.y_N[data.index_of(drawn)]
        kept = [drawn[y == c][: max(1, round(float(share_C[c]) * int((y == c).sum())))] for c in y.unique()]
        return torch.cat(kept).sort().values

    def _wrong(
        self, train: Tensor, data: Data, number: int, classes: Sequence[int], units: Sequence[int], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return the rows with a wrong label, and the units of these labels."""
        n_wrong = round(self.noise * len(train))
        if not n_wrong:
            return train[:0], train[:0]
        if len(classes) < 2:
            raise UserError(f"noise needs two classes in each task, and task {number + 1} has {len(classes)}")
        random = generator(seed, f"noise/{number}")
        rows = train[torch.randperm(len(train), generator=random)[:n_wrong]].sort().values
        place_C = torch.full((len(data.class_names),), -1)
        place_C[torch.tensor(classes)] = torch.arange(len(classes))
        shift = torch.randint(1, len(classes), (n_wrong,), generator=random)
        place = (place_C[data.y_N[data.index_of(rows)]] + shift) % len(classes)
        return rows, torch.tensor(units)[place]


def _blended(stream: Stream, deviation: float) -> Stream:
    """Return a stream whose training rows are learned at normally distributed times around their tasks'.

    Task t has as many rows as before; they are learned in the order of their times.
    """
    random = generator(stream.seed, "blend")
    sizes = [len(task.train_rows) for task in stream.tasks]
    middle = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) + 0.5
    time = middle + deviation * torch.randn(sum(sizes), generator=random)
    rows = torch.cat([task.train_rows for task in stream.tasks])[time.argsort(stable=True)]
    return with_rows(stream, list(rows.split(sizes)))


def with_rows(stream: Stream, of_tasks: Sequence[Tensor]) -> Stream:
    """Return a stream in which each task learns other rows, which may be of other tasks too."""
    data, tasks = stream.data, []
    for task, rows in zip(stream.tasks, of_tasks, strict=True):
        units = stream.unit_TC[data.task_of(rows), data.y_N[data.index_of(rows)]]
        also = tuple(sorted({*units.tolist()}.difference(task.units)))
        tasks.append(replace(task, train_rows=rows, also_units=also))
    return replace(stream, tasks=tuple(tasks))


def _at_most(most: int, rows: Tensor, data: Data, seed: int, axis: str) -> Tensor:
    """Return at most ``most`` rows of each class, in their order, drawn by an axis of the seed; all for 0."""
    if not most:
        return rows
    drawn = torch.randperm(len(rows), generator=generator(seed, axis))
    y = data.y_N[data.index_of(rows[drawn])]
    return rows[torch.cat([drawn[y == c][:most] for c in y.unique()]).sort().values]


def outside_rows(data: Data) -> Tensor:
    """Return the row numbers, in the first task, of the rows of no class."""
    return (data.y_N < 0).nonzero().flatten()
