"""The suite of a declaration: its scenarios follow from the data, its streams from the columns."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from suites.base import Suite
from suites.errors import Unavailable, UserError, some, unknown
from suites.own.declaration import OPTIONS, Declaration
from suites.own.loaded import loaded
from suites.scenarios import ByClass, ByDomain
from suites.task_streams import SCENARIOS, Data, Scenario
from suites.text import HEAD_TRAINING
from suites.training import Training

_CLASSES = 2
"""Classes of a task if nothing is declared."""
IMAGE_TRAINING = Training(epochs=20, batch=16, optimiser="adam", lr=1e-3)


def suite_of(d: Declaration) -> Suite:
    """Return the suite of a declaration; raises UserError if its data cannot be read or learned from.

    If the data is on the hub only, all scenarios are offered, and refused once the data is there.
    """
    made = _without_options(d)
    for name, _ in d.of_split:
        if name not in made.options:
            raise unknown(f"option of {d.place}", name, [*OPTIONS, *made.options])
    _check_tasks(d, made)
    if not d.of_split:
        return made
    return replace(made.with_options(dict(d.of_split)), name=d.name)


def spelled_with_options(d: Declaration) -> str:
    """Return the canonical name of a declaration: options of its split that differ from the defaults."""
    usual, chosen = _without_options(d).options, suite_of(d).options
    differing = {k: str(chosen[k]) for k in chosen if chosen[k] != usual[k]}
    return replace(d, of_split=tuple(sorted(differing.items()))).name


def _without_options(d: Declaration) -> Suite:
    path, plain = Path(d.place), replace(d, of_split=())
    state = path.stat().st_mtime_ns if os.path.exists(path) else 0
    try:
        return _of_data(plain, os.getcwd(), os.environ.get("LETHE_DATA"), state)
    except Unavailable:
        return _suite(plain, 1, {})


@cache
def _of_data(d: Declaration, *_may_change_it: object) -> Suite:
    data = loaded(d).data
    n, each = len(data.class_names), d.classes or _CLASSES
    made = _suite(d, n // each if n % each == 0 else 1, _why_not(data))
    is_features = not d.text and data.x_N.shape[1:3] == (1, 1)  # which no convolution reads
    return replace(made, model="mlp") if is_features else made


def _suite(d: Declaration, n_tasks: int, why_not: Mapping[Scenario, str]) -> Suite:
    tasks = f"{d.classes or _CLASSES} classes a task"
    if d.task:
        tasks = f"a task for each {d.bins or 'value'} of {d.task}"
    if d.bins.isdigit():
        tasks = f"{d.bins} tasks in order of {d.task}"
    if d.task and d.classes:
        tasks += f", divided by {d.classes} classes"
    return Suite(
        name=d.name,
        version=1,
        summary=f"{d.short}, {tasks}",
        source="data of the user",
        load=lambda: loaded(d).data,
        split=ByDomain(order="fixed") if d.task else ByClass(tasks=n_tasks),
        scenarios=tuple(kind for kind in SCENARIOS if kind not in why_not),
        why_not=why_not,
        model="minilm" if d.text else "mlp" if d.is_arrays else "cnn",
        model_options={"max_tokens": 128} if d.text else {},
        training=HEAD_TRAINING if d.text else IMAGE_TRAINING,
        needs=d.place,
    )


def _check_tasks(d: Declaration, made: Suite) -> None:
    """Raise UserError if classes cannot be divided into equal tasks, and no option says how else."""
    divided = {name for name, _ in d.of_split} & {"tasks", "groups", "first", "slots"}
    if d.task or divided or made.options["tasks"] != 1:  # asked for every cell: the data is not looked at
        return
    try:
        n, each = len(loaded(d).data.class_names), d.classes or _CLASSES
    except Unavailable:
        return
    sizes = " or ".join(str(k) for k in range(1, n) if n % k == 0)
    raise UserError(
        f"{d.place} has {n} classes, which cannot be divided into equal tasks of {each}: write "
        f"classes={sizes}, or the classes of each task, groups={each}-{max(n - each, 1)}"
    )


def _why_not(data: Data) -> dict[Scenario, str]:
    """Return the reason for each scenario that the data does not have."""
    if data.domain_N is None:
        return {}
    of_tasks = [{*data.y_N[data.domain_N == t].unique().tolist()} for t in range(len(data.domain_names))]
    every, common = set.union(*of_tasks), set.intersection(*of_tasks)
    if len(common) == len(every):
        return {"class": "every task has all classes, so that it would be the domain scenario"}
    if len(common) < 2:
        shown = some([repr(data.class_names[c]) for c in sorted(common)], 1) or "none"
        return {"domain": f"its tasks must share two classes or more, and all of them share {shown}"}
    return {}
