"""Small suites of images and texts that any method can learn, in every scenario, made in memory.

Importing this module registers them: ``toy``, ``toy-uneven``, ``toy-again``, ``toy-text``, ``toy-pairs``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

import strategies
from bench.checks.made_streams import PER_CLASS, SMALL, codes, sentences
from bench.plan import CellSpec, identity, one_cell
from bench.schema import NOT_CONTENT, Fields
from suites import REGISTRY
from suites.base import BLEU, Data, Scenario, Stream, Suite, Task, Training, generator
from suites.scenarios import by_domain

SIDE = 8


def domain_blobs(domains: dict[str, tuple[int, ...]], per_class: int = 36, seed: int = 0) -> Data:
    """Return images with a pattern for each class of each domain; a third is for testing."""
    random = torch.Generator().manual_seed(seed)
    pairs = [(d, c) for d, classes in enumerate(domains.values()) for c in classes]
    domain_N, y_N = torch.tensor(pairs).T.repeat(1, per_class)
    pattern = (torch.rand(len(pairs), 1, SIDE, SIDE, generator=random) * 160).repeat(per_class, 1, 1, 1)
    x_N = (pattern + torch.rand(len(y_N), 1, SIDE, SIDE, generator=random) * 90).to(torch.uint8)
    names = tuple(f"blob {c}" for c in range(int(y_N.max()) + 1))
    mark = f"domain-blobs-{tuple(domains.values())}-{per_class}-{seed}"
    return Data(
        "domain-blobs", x_N, y_N, len(y_N) * 2 // 3, names, 255.0, mark,
        domain_N=domain_N, domain_names=tuple(domains),
    )  # fmt: skip


def blobs(n_classes: int = 4, seed: int = 0) -> Data:
    """Return images of a fixed pattern for each class plus noise; a third is for testing."""
    data, mark = domain_blobs({"all": tuple(range(n_classes))}, PER_CLASS, seed), f"blobs-{n_classes}-{seed}"
    return replace(data, name="blobs", fingerprint=mark, domain_N=None, domain_names=())


def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
    """Split into tasks of two classes in the seed's order; task sizes differ between lanes."""
    n_classes = len(data.class_names)
    order = torch.randperm(n_classes, generator=generator(seed, "classes")).tolist()
    n, n_tasks = len(data.x_N), n_classes // 2
    unit_TC = torch.full((n_tasks, n_classes), -1)
    tasks = []
    for t in range(n_tasks):
        classes = tuple(order[2 * t : 2 * t + 2])
        units = (0, 1) if scenario == "domain" else classes
        unit_TC[t, list(classes)] = torch.tensor(units)
        index = torch.isin(data.y_N, torch.tensor(classes)).nonzero().flatten()
        train, test = index[index < data.n_train], index[index >= data.n_train]
        train = train[: len(train) - 7 * classes[0]]  # so lanes end a task at different steps
        held = max(1, int(len(train) * training.validation))
        tasks.append(Task(classes, units, train[held:] + t * n, train[:held] + t * n, test + t * n))
    return Stream(seed, scenario, data, tuple(tasks), 2 if scenario == "domain" else n_classes, unit_TC)


TOY = Suite(
    name="toy", version=1, summary="blobs for tests", source="made in memory", load=blobs, split=split,
    scenarios=("task", "domain", "class", "online"), model="mlp", model_options={"hidden": 32, "layers": 1},
    training=Training(epochs=4, batch=8, optimiser="adam", lr=0.01),
)  # fmt: skip


TOY_UNEVEN = replace(
    TOY, name="toy-uneven", summary="tasks of 5, 1 and 2 classes, their order by the seed",
    load=partial(domain_blobs, {"a": (0, 1, 2, 3, 4), "b": (5,), "c": (6, 7)}), split=by_domain(),
    scenarios=("task", "class", "online"),
)  # fmt: skip
TOY_AGAIN = replace(
    TOY, name="toy-again", summary="one task has the classes of another again, drawn otherwise",
    load=partial(domain_blobs, {"a": (0, 1), "b": (2, 3), "c": (0, 1)}),
    split=by_domain((("a", "b", "c"), ("a", "c", "b"), ("b", "a", "c"))),
    scenarios=("task", "class", "online"),
)  # fmt: skip


TOY_TEXT = replace(
    TOY, name="toy-text", summary="sentences for tests", load=sentences,
    model="tiny-bert", model_options={"max_tokens": 64},
)  # fmt: skip


TOY_PAIRS = replace(
    TOY, name="toy-pairs", summary="words to generate, for tests", load=codes, split=by_domain(),
    scenarios=("domain", "online"), model="tiny-seq2seq", model_options={"max_tokens": 32, "tune": "full"},
    training=Training(epochs=6, batch=12, optimiser="adam", lr=3e-3), score=BLEU,
)  # fmt: skip

for _suite in (TOY, TOY_TEXT, TOY_PAIRS, TOY_UNEVEN, TOY_AGAIN):
    REGISTRY.enter(_suite.name, _suite, __name__)


@contextmanager
def registered(suite: Suite) -> Iterator[Suite]:
    """Register a suite within a block."""
    REGISTRY.enter(suite.name, suite, __name__)
    try:
        yield suite
    finally:
        del REGISTRY.entered[suite.name]


def toy_cell(strategy: str = "finetune", seed: int = 0, scenario: str = "class", **changes: Any) -> CellSpec:
    """Return a cell of a toy suite, for ``run_group``; a method that needs a transformer gets one.

    Args:
        strategy: A name, or ``./mine.py:M``.
        seed: Orders the classes and draws the initial weights.
        scenario: task, domain, class or online.
        **changes: Hyper-parameters, training settings, ``suite``, ``model`` or ``model_options``.
    """
    tunes = strategies.get(strategy).tunes
    if tunes and not {"suite", "model"} & set(changes):
        changes["suite"] = "toy-text"
        changes["model_options"] = {"tune": tunes, "max_tokens": 16} | changes.get("model_options", {})
        changes.setdefault("epochs", 1)
    suite, options = changes.pop("suite", "toy"), changes.pop("model_options", {})
    known = asdict(strategies.get(strategy)())
    hyper = {k: v for k, v in changes.items() if k in known}
    settings = {k: v for k, v in changes.items() if k not in known}
    cell = one_cell(suite, strategy, scenario, seed, settings | options)
    named = {k: v for k, v in changes.items() if k != "model"}
    hyper = cell.hyper | SMALL.get(strategy, {}) | hyper
    return replace(cell, hyper=hyper, identity=identity(strategy, named))


def outcome(record: Fields) -> Fields:
    """Return the fields of a record that are equal when a cell is run again."""
    return {k: v for k, v in record.items() if k not in NOT_CONTENT}
