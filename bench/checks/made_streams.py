"""Small generated streams for checks of methods, with the difficulties of real ones.

Images are scikit-learn's digits, texts are made-up sentences. The seed orders the classes and chooses one of
a layout's tables of task sizes, so that tasks of different lanes have different numbers of classes and rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

import strategies
import suites
from suites.base import BLEU, SCENARIOS, Data, Scenario, Stream, Suite, Task, Training, generator
from suites.scenarios import by_domain

Table = tuple[tuple[int, ...], ...]
"""The classes of each task, as indices into the order of classes of the seed."""
EASY: tuple[Table, ...] = (((0, 1), (2, 3)),)
UNEVEN: tuple[Table, ...] = (
    ((0, 1, 2), (3,), (4, 5)),
    ((0,), (1, 2, 3), (4, 5)),
    ((0, 1), (2, 3, 4), (5,)),
)
AGAIN: tuple[Table, ...] = (((0, 1), (2, 0), (3, 1, 2)), ((0,), (1, 2, 3), (0, 2)))
BATCH = 8
_ROWS = {"easy": (24, 24), "uneven": (2 * BATCH + 1, 5, 2 * BATCH + 3), "again": (20, 24, 28)}
"""Numbers of training rows of each task; each seed starts with another. In the uneven stream the last batch
of one task has one row, and one task is smaller than a batch."""
_TESTED = 10
"""Largest number of test rows of each class of a task; a task has twice as many validation rows."""
_WORDS = (
    "apple bread butter", "river ocean harbour", "violin drum trumpet", "tiger horse falcon",
    "hammer saw chisel", "winter snow frost", "doctor nurse clinic", "engine wheel brake",
)  # fmt: skip
_FILLERS = "the a we saw some more of it today again and then later on with"
PER_CLASS = 60
DIGITS = (1, 8, 8)
"""Shape of an image of digits."""
LARGE = (1, 16, 16)
"""Shape of the images of ``check-easy-large``: several pixels are left after the strides of a ResNet-18, so
that batch normalisation can take a single row."""
SHAPES = (DIGITS, (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 96, 96), (3, 224, 224))
"""Shapes of images that a network is tried with: the first that it can read is used for its checks."""
SMALL: dict[str, dict[str, Any]] = {
    "bi-r": {"generator_hidden": 32, "latent": 16},
    "cls-er": {"plastic_decay": 0.9, "stable_decay": 0.9},  # averages that follow within a made task
    "dgr": {"generator_hidden": 32, "latent": 16},
    "dgr-gan": {"generator_hidden": 32, "latent": 16},
    "gdumb": {"passes": 6},  # few, for the same reason as rar
    "hal": {"anchor_steps": 20},
    "mbpa++": {"every": 2, "neighbours": 4, "adapt_steps": 2},
    "ogd": {"directions": 20},
    "rar": {"repeats": 3},  # the more steps, the further the rounding of convolutions grows
    "ranpac": {"width": 64},
    "sparse-er": {"every": 2},  # a made task has fewer than a hundred steps
    "generative-classifier": {"generator_hidden": 32, "latent": 8, "samples": 8},
}
"""Smaller sizes for checks, if a method's own are too large for the generated streams. No size is 5: MKL
rounds the gradient of an 85 x 5 weight depending on its address, and so on the place of the lane."""


def sentences(n_classes: int = 4, seed: int = 0) -> Data:
    """Return texts of 2 to 12 words, one or two of which determine the class; a third is for testing."""
    random = torch.Generator().manual_seed(seed)

    def below(n: int) -> int:
        return int(torch.randint(n, (1,), generator=random))

    n = n_classes * PER_CLASS
    fillers, texts = _FILLERS.split(), []
    for row in range(n):
        words = [fillers[below(len(fillers))] for _ in range(1 + below(10))]
        for _ in range(1 + below(2)):
            words.insert(below(len(words) + 1), _WORDS[row % n_classes].split()[below(3)])
        texts.append(" ".join(words))
    names = tuple(words.split()[0] for words in _WORDS[:n_classes])
    x_N = torch.zeros(n, 0, dtype=torch.uint8)
    y_N, mark = torch.arange(n) % n_classes, f"sentences-{n_classes}-{seed}"
    return Data("sentences", x_N, y_N, n * 2 // 3, names, 1.0, mark, texts=tuple(texts))


_ANIMALS = {
    "english": ("cat", "dog", "bird", "fish", "horse", "cow"),
    "german": ("Katze", "Hund", "Vogel", "Fisch", "Pferd", "Kuh"),
    "spanish": ("gato", "perro", "ave", "pez", "caballo", "vaca"),
}
_SENTENCES = {"german": "heute sehe ich {} hier.", "spanish": "hoy veo un {} por aqui."}


def codes(seed: int = 0) -> Data:
    """Return pairs of a text (1 to 3 words that name an animal) and a sentence in one of two languages.

    The languages are domains, given by a prefix; the texts are the same in both. A sixth is for testing.
    """
    random = torch.Generator().manual_seed(seed)
    n, n_train = 144, 120
    animal = torch.randint(6, (n,), generator=random).tolist()
    texts, targets, domains = [], [], []
    for rows in (range(n_train), range(n_train, n)):
        for domain, (language, sentence) in enumerate(_SENTENCES.items()):
            texts += [
                f"{language}: {('', 'a ', 'a small ')[r % 3]}{_ANIMALS['english'][animal[r]]}" for r in rows
            ]
            targets += [sentence.format(_ANIMALS[language][animal[r]]) for r in rows]
            domains += [domain] * len(rows)
    empty_N, y_N = torch.zeros(len(texts), 0, dtype=torch.uint8), torch.zeros(len(texts), dtype=torch.int64)
    return Data(
        "codes", empty_N, y_N, 2 * n_train, ("written",), 1.0, f"codes-{seed}", texts=tuple(texts),
        targets=tuple(targets), domain_N=torch.tensor(domains), domain_names=tuple(_SENTENCES),
        prefixes=tuple(f"{name}: " for name in _SENTENCES),
    )  # fmt: skip


@cache
def _digits(shape: tuple[int, int, int] = DIGITS) -> Data:
    """Return digits, or for networks that read other images some of them, enlarged to that shape."""
    data = suites.get("digits").load()
    if shape == DIGITS:
        return data
    n_train = 260
    rows = torch.cat([torch.arange(n_train), torch.arange(data.n_train, data.n_train + 140)])
    x_N = F.interpolate(data.x_N[rows], shape[1:]).expand(-1, shape[0], -1, -1)  # the nearest pixel
    return replace(
        data, x_N=x_N.contiguous(), y_N=data.y_N[rows], n_train=n_train, fingerprint=f"digits-{shape}",
        mean=data.mean * shape[0], std=data.std * shape[0],
    )  # fmt: skip


@cache
def _sentences() -> Data:
    return sentences(8)


def _suite(
    layout: str, tables: tuple[Table, ...], texts: bool, shape: tuple[int, int, int] = DIGITS
) -> Suite:
    """Return a suite with one layout, whose tasks have the numbers of rows in ``_ROWS``."""
    widest = max(sum(len(task) for task in table) for table in tables)
    most = max(len(task) for table in tables for task in table) + (layout == "again")

    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        table, n_classes = tables[seed % len(tables)], len(data.class_names)
        order = torch.randperm(n_classes, generator=generator(seed, "classes")).tolist()
        unit_TC = torch.full((len(table), n_classes), -1)
        tasks: list[Task] = []
        own = 0
        for t, places in enumerate(table):
            classes = tuple(order[place] for place in places)
            shared = places if layout == "again" else range(len(classes))  # a class keeps its unit
            units = {"task": range(own, own + len(classes)), "domain": shared}.get(scenario, classes)
            own += len(classes)
            unit_TC[t, list(classes)] = torch.tensor([*units])
            index = torch.isin(data.y_N, torch.tensor(classes)).nonzero().flatten() + t * len(data.x_N)
            drawn = index[torch.randperm(len(index), generator=generator(seed, f"rows/{t}"))]
            is_train = data.index_of(drawn) < data.n_train
            # One row of each class first, so that the smallest task has them all.
            train = _spread(drawn[is_train], data)
            n, held = _ROWS[layout][(t + seed) % len(table)], 2 * len(classes)
            test = _spread(drawn[~is_train], data)[: _TESTED * len(classes)]
            tasks.append(Task(classes, tuple(units), train[:n], train[n : n + held], test))
        n_units = {"task": widest, "domain": most}.get(scenario, n_classes)
        return Stream(seed, scenario, data, tuple(tasks), n_units, unit_TC)

    model = "tiny-bert" if texts else "mlp"
    options: dict[str, int | str] = {"max_tokens": 16} if texts else {"hidden": 32, "layers": 1}
    return Suite(
        name=f"check-{layout}{'-texts' if texts else ''}", version=1, summary=f"{layout} tasks",
        source="made by Lethe", load=_sentences if texts else partial(_digits, shape), split=split,
        scenarios=("task", "domain", "class", "online"), model=model, model_options=options,
        training=Training(epochs=2, batch=BATCH, optimiser="adam", lr=0.01),
    )  # fmt: skip


PAIRS = Suite(
    name="check-pairs", version=1, summary="words to generate", source="made by Lethe", load=codes,
    split=by_domain(), scenarios=("domain", "online"), model="tiny-seq2seq",
    model_options={"max_tokens": 16, "tune": "full"},
    training=Training(epochs=1, batch=12, optimiser="adam", lr=3e-3), score=BLEU,
)  # fmt: skip


def _spread(rows: torch.Tensor, data: Data) -> torch.Tensor:
    """Return rows with the classes in turn."""
    y = data.y_N[data.index_of(rows)]
    nth = torch.zeros_like(y)
    for c in y.unique():
        nth[y == c] = torch.arange(int((y == c).sum()))
    return rows[nth.argsort(stable=True)]


def scenario_of(name: str) -> Scenario:
    """Return a scenario that the strategy supports, if possible class-incremental."""
    order: tuple[Scenario, ...] = ("class", *(s for s in SCENARIOS if s != "class"))
    return next(s for s in order if strategies.get(name)().unsuitable(s, Training()) is None)


@contextmanager
def made_streams(shape: tuple[int, int, int] = DIGITS) -> Iterator[None]:
    """Register the streams within a block: ``check-uneven``, ``check-again-texts``, ``check-pairs`` ...

    ``shape`` is that of the images.
    """
    layouts = {"easy": EASY, "uneven": UNEVEN, "again": AGAIN}
    made = [_suite(name, tables, texts, shape) for name, tables in layouts.items() for texts in (False, True)]
    made += [replace(_suite("easy", EASY, False, LARGE), name="check-easy-large"), PAIRS]
    for suite in made:
        suites.REGISTRY.enter(suite.name, suite, __name__)
    try:
        yield
    finally:
        for suite in made:
            suites.REGISTRY.entered.pop(suite.name, None)
