"""Checks of data sets and streams before anything is trained; each fault is one line.

``Suite.load`` and ``Suite.stream`` call them, so all suites are checked in the same way: a data set once, a
stream each time it is made.

Axes: N images or texts, T tasks, C raw classes, R rows of one task.
"""

import math
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from suites.errors import Unavailable, UserError, some
from suites.mapped_file import blocks
from suites.task_streams import Data, Stream
from suites.tracebacks import kind_and_message
from suites.training import Training


def check_data(suite: str, data: Any) -> None:
    """Raise UserError for a data set that cannot be learned from; each one is checked once."""
    if not isinstance(data, Data):
        raise UserError(f"suite {suite}: load must return a Data, not {_kind(data)}")
    if vars(data).get("_checked"):
        return
    for fault in _of_data(data):
        raise UserError(f"suite {suite}, data set {data.name}: {fault}")
    object.__setattr__(data, "_checked", True)  # not a field, so that a changed copy is checked again


def check_stream(suite: str, stream: Any, training: Training) -> None:
    """Raise UserError for a stream with a task that cannot be learned or scored."""
    if not isinstance(stream, Stream):
        raise UserError(f"suite {suite}: split must return a Stream, not {_kind(stream)}")
    for fault in _of_stream(stream, bool(training.validation)):
        raise UserError(f"suite {suite}, scenario {stream.scenario}, seed {stream.seed}: {fault}")


def _of_data(data: Data) -> Iterator[str]:
    """Yield the faults of a data set; later checks assume that earlier ones found nothing."""
    yield from _of_names("class_names", data.class_names)
    if not data.class_names:
        yield "class_names is empty: name every class"
    yield from _of_inputs(data)
    n = len(data.x_N)
    if not isinstance(data.n_train, Integral) or not 0 < data.n_train < n + data.for_tuning:
        yield (
            f"n_train is {data.n_train} of {n} rows: the first n_train are for training and the others for "
            f"testing, so write a whole number from 1 to {n - 1}"
        )
    yield from _of_numbers("y_N", data.y_N, n, "class_names", len(data.class_names), -1)
    of_no_class = data.y_N[: data.n_train] < 0
    if of_no_class.any():
        yield (
            f"y_N: {_rows(of_no_class)} for training {_has(of_no_class)} label -1 (no class), which only "
            "test rows may have: leave them out, put them after the first n_train rows, or write a class"
        )
    if data.generates and data.y_N.any():
        yield "y_N: in a data set with targets all rows have class 0: write zeros"
    yield from _of_domains(data, n)
    yield from _of_held_rows(data, n)
    if not isinstance(data.fingerprint, str) or not data.fingerprint:
        yield "fingerprint is empty: write suites.sources.fingerprint(x_N, y_N, n_train)"


def _of_inputs(data: Data) -> Iterator[str]:
    """Yield the faults of pixels or texts."""
    x_N = data.x_N
    if not isinstance(x_N, Tensor):
        yield f"x_N must be a tensor, not {_kind(x_N)}: write torch.tensor(...)"
    if x_N.dim() < 2 or x_N.dtype == torch.bool or x_N.is_complex():
        yield (
            f"x_N has shape {tuple(x_N.shape)} and type {_dtype(x_N)}: write pixels, uint8, of shape (N, "
            "channels, height, width), or of texts torch.empty(N, 0, dtype=torch.uint8)"
        )
    for name, texts in (("texts", data.texts), ("targets", data.targets)):
        yield from _of_texts(name, texts, len(x_N))
    if data.targets and not data.texts:
        yield "targets are given without texts: write the input texts, too"
    if not data.texts and not x_N[0:1].numel():
        yield "x_N has no pixels and texts is empty: write one of them"
    if x_N.is_floating_point() and not _finite(data):
        wrong = ~x_N.flatten(1).isfinite().all(1)
        yield f"x_N: {_rows(wrong)} {_has(wrong)} NaN or infinite values: correct them, or leave them out"
    if not _is_number(data.scale) or data.scale <= 0:
        yield f"scale is {data.scale}: write the divisor of pixels, 255.0 for bytes, 1.0 for none"
    yield from _of_moments(data)


def _of_texts(name: str, texts: Sequence[Any], n: int) -> Iterator[str]:
    if not isinstance(texts, tuple | list):
        yield f"{name} must be a tuple of str, not {_kind(texts)}: write tuple(...)"
    if texts and len(texts) != n:
        yield f"{name} has {len(texts)} entries for {n} rows of x_N: write one for each row"
    wrong = [row for row, text in enumerate(texts) if type(text) is not str]
    if wrong:
        what = some(sorted({repr(texts[row])[:20] for row in wrong[:100]}), 3)
        verb = "holds" if len(wrong) == 1 else "hold"
        yield f'{name}: {_listed(wrong)} {verb} {what}, not text: write str ("" for none), or leave them out'


def _of_moments(data: Data) -> Iterator[str]:
    """Yield the faults of mean and std, which must be given together."""
    for name in ("mean", "std"):
        if not isinstance(getattr(data, name), tuple | list):
            yield f"{name} must be a tuple of numbers, one for each channel, not {_kind(getattr(data, name))}"
    given = [name for name in ("mean", "std") if getattr(data, name)]
    if len(given) == 1:
        (other,) = {"mean", "std"} - set(given)
        yield f"{given[0]} is given without {other}: write both, a number for each channel, or neither"
    for name in given:
        values, channels = getattr(data, name), data.x_N.shape[1]
        if len(values) != channels:
            yield f"{name} has {len(values)} numbers for {channels} channels: write one for each"
        wrong = [v for v in values if not _is_number(v) or (name == "std" and v <= 0)]
        if wrong:
            above = "finite numbers above 0" if name == "std" else "finite numbers"
            yield f"{name} contains {_numbers(wrong)}: write {above}"


def _of_domains(data: Data, n: int) -> Iterator[str]:
    """Yield the faults of domains and their prefixes."""
    yield from _of_names("domain_names", data.domain_names)
    if data.domain_N is None:
        if data.domain_names:
            yield "domain_names are given without domain_N: write the domain of each row"
        return
    yield from _of_numbers("domain_N", data.domain_N, n, "domain_names", len(data.domain_names), 0)
    if data.prefixes and len(data.prefixes) != len(data.domain_names):
        yield (
            f"prefixes has {len(data.prefixes)} entries for {len(data.domain_names)} domains: "
            "write one for each"
        )


def _of_held_rows(data: Data, n: int) -> Iterator[str]:
    """Yield the faults of the rows that a data set's authors hold out for validation."""
    held = data.validation_N
    if held is None:
        return
    if not isinstance(held, Tensor) or held.dtype != torch.bool or held.shape != (n,):
        of = f"shape {tuple(held.shape)} of {_dtype(held)}" if isinstance(held, Tensor) else _kind(held)
        yield f"validation_N must be a tensor of bool with one value for each of {n} rows, not {of}"
    of_test = int(held[data.n_train :].sum())
    if of_test:
        first = f"only the first n_train = {data.n_train} rows can be for validation"
        yield f"validation_N marks {of_test} test rows: {first}"


def _of_names(field: str, names: Any) -> Iterator[str]:
    if not isinstance(names, tuple | list) or any(type(name) is not str for name in names):
        yield f"{field} must be a tuple of str, not {_kind(names)}: write tuple(str(name) for name in ...)"
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        yield f"{field} has {some([repr(name) for name in twice], 3)} more than once: write different names"


def _of_numbers(field: str, numbers: Any, n: int, names: str, most: int, least: int) -> Iterator[str]:
    """Yield the faults of an integer tensor with a number for each row, from ``least`` to ``most`` - 1."""
    if not isinstance(numbers, Tensor):
        of = f" of {_kind(numbers[0])}" if isinstance(numbers, tuple | list) and numbers else ""
        yield (
            f"{field} must be a tensor of int64, not {_kind(numbers)}{of}: "
            f"write torch.tensor([...]) of numbers 0 to {most - 1}, the indices of their names in {names}"
        )
    if numbers.dtype != torch.int64:
        yield f"{field} has type {_dtype(numbers)}, not int64: write {field}.long() if all are whole numbers"
    if numbers.shape != (n,):
        yield f"{field} has shape {tuple(numbers.shape)} for {n} rows of x_N: write one number for each row"
    wrong = (numbers < least) | (numbers >= most)
    if wrong.any():
        found = _numbers(numbers[wrong].unique().tolist())
        shift = f"write {field} - 1 where they count from 1" if int(numbers.min()) == 1 else "correct them"
        verb = "is" if int(wrong.sum()) == 1 else "are"
        yield (
            f"{field}: {_rows(wrong)} {verb} {found}, but {names} has names for 0 to {most - 1} only: "
            f"{shift}, or add the missing names"
        )


def _of_stream(stream: Stream, validates: bool) -> Iterator[str]:
    """Yield the faults of a stream."""
    data, n_tasks = stream.data, len(stream.tasks)
    if not n_tasks:
        yield "split made no task: make at least one"
    shape = (n_tasks, len(data.class_names))
    if stream.unit_TC.shape != shape or int(stream.unit_TC.max()) >= stream.n_units:
        yield (
            f"unit_TC has shape {tuple(stream.unit_TC.shape)} and units up to {int(stream.unit_TC.max())}: "
            f"write shape {shape} (tasks, classes) and units below n_units = {stream.n_units}"
        )
    for t, task in enumerate(stream.tasks):
        where = f"task {t + 1} of {n_tasks}"
        if any(not 0 <= c < len(data.class_names) for c in task.classes):
            yield f"{where} has classes {task.classes}, but the data set has {len(data.class_names)} classes"
        named = some([data.class_names[c] for c in task.classes], 3) or "none"
        where += f" (classes: {named})"
        rows = {"train": task.train_rows, "validation": task.validation_rows, "test": task.test_rows}
        for name, rows_R in rows.items():
            # In a stream without clear boundaries, a task learns rows of other tasks too.
            mixed = name == "train" and bool(task.also_units or stream.in_order)
            yield from _of_rows(stream, t, f"{where}: {name}_rows", rows_R, mixed)
        n_train, n_held, n_test = (len(rows_R) for rows_R in rows.values())
        if not n_train and not n_held:
            yield f"{where} has no training rows: none of the first n_train = {data.n_train} has its classes"
        if not n_train:
            yield (
                f"{where} has no training rows left: validation holds out all {n_held}; "
                "add rows, raise rows_per_class, or --set validation=0"
            )
        if validates and not n_held:
            yield f"{where} has no validation rows: hold out some training rows, or --set validation=0"
        if not n_test and not data.for_tuning:
            yield f"{where} has no test rows: add some after the first n_train = {data.n_train} rows"


def _of_rows(stream: Stream, task: int, where: str, rows_R: Tensor, mixed: bool) -> Iterator[str]:
    """Yield the faults of the row numbers of a task; ``mixed`` rows may be those of any task."""
    data, n = stream.data, len(stream.data.x_N)
    if not isinstance(rows_R, Tensor) or rows_R.dtype != torch.int64 or rows_R.dim() != 1:
        yield f"{where} must be row numbers, a tensor of int64 of shape (R,)"
    if not len(rows_R):
        return
    first, last = (0, len(stream.tasks) * n - 1) if mixed else (task * n, (task + 1) * n - 1)
    if int(rows_R.min()) < first or int(rows_R.max()) > last:
        yield f"{where} must be from {first} to {last}: write {task} * {n} + the index in the data set"
    y_R = data.y_N[data.index_of(rows_R)]
    outside = (y_R < 0) | (stream.unit_TC[data.task_of(rows_R), y_R] < 0)
    if outside.any():
        indices = data.index_of(rows_R[outside]).tolist()
        yield (
            f"{where}: {_listed(indices)} of the data set {_has(outside)} no class of the task: leave them "
            "out; rows of no class belong in outside_rows"
        )


def guarded(what: str, call: Callable[[], Any]) -> Any:
    """Call a function of a suite; errors become a UserError of one line.

    Args:
        what: Suite and function, for the message.
        call: The function with its arguments.

    Raises:
        Unavailable: The function raised it.
        UserError: The function raised any other error; the message has the file and line.
    """
    try:
        return call()
    except Unavailable:
        raise
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        raise UserError(f"{what}: {kind_and_message(error)} ({place})") from error


def _kind(value: Any) -> str:
    return type(value).__name__


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _finite(data: Data) -> bool:
    x_N = data.x_N
    for part in blocks(x_N) if data.file else [slice(None)]:
        # A sum takes a tenth of the time of a check of each value; a sum that overflows is checked again.
        if not (x_N[part].sum().isfinite() or x_N[part].isfinite().all()):
            return False
        if data.file:
            data.file.release()
    return True


def _has(wrong_N: Tensor) -> str:
    return "has" if int(wrong_N.sum()) == 1 else "have"


def _rows(wrong_N: Tensor) -> str:
    return _listed(wrong_N.nonzero().flatten().tolist())


def _listed(rows: list[int]) -> str:
    """Return row numbers, counted from 0, as text."""
    return f"{'row' if len(rows) == 1 else 'rows'} {_numbers(rows)}"


def _numbers(values: Sequence[float]) -> str:
    """Return numbers as text: at most three, then the number of the others."""
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return ", ".join(map(str, values[:3])) + more
