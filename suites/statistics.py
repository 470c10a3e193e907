"""Descriptive statistics of the data sets; ``python -m suites.statistics`` writes statistics.json."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from suites.cifar import CIFAR10, CIFAR100, CIFAR100_SUBSET
from suites.dialogue import DIALOGUE
from suites.digits import digits
from suites.errors import Unavailable
from suites.intents import BANKING77, CLINC150
from suites.mnist import FASHION_MNIST, KMNIST, MNIST
from suites.published_data import load, load_joined
from suites.sentiment import SENTIMENT
from suites.task_streams import Data
from suites.topics import AG_NEWS, AMAZON, DBPEDIA, NEWSGROUPS, TREC, YAHOO, YELP
from suites.translation import MULTI30K

PATH = Path(__file__).with_name("statistics.json")
SOURCES: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "mnist": partial(load, MNIST),
    "fashion-mnist": partial(load, FASHION_MNIST),
    "kmnist": partial(load, KMNIST),
    "cifar10": partial(load, CIFAR10),
    "cifar100": partial(load, CIFAR100),
    "cifar100-subset": partial(load, CIFAR100_SUBSET),
    "clinc150": partial(load, CLINC150),
    "banking77": partial(load, BANKING77),
    "sentiment-domains": partial(load_joined, "sentiment-domains", SENTIMENT),
    "trec": partial(load, TREC),
    "newsgroups": partial(load, NEWSGROUPS),
    "ag-news": partial(load, AG_NEWS),
    "yelp": partial(load, YELP),
    "amazon": partial(load, AMAZON),
    "dbpedia": partial(load, DBPEDIA),
    "yahoo": partial(load, YAHOO),
    "multi30k": partial(load_joined, "multi30k", MULTI30K),
    "schema-guided-dialogue": partial(load_joined, "schema-guided-dialogue", DIALOGUE),
}
"""Without the suite docstrings, whose data depends on installed versions."""


def describe(data: Data) -> dict[str, Any]:
    """Return rows per class and split, fingerprint, and shape and mean (images) or mean length (texts)."""
    names, splits = data.class_names, {"train": data.y_N[: data.n_train], "test": data.y_N[data.n_train :]}
    common = {
        "rows": {split: len(y) for split, y in splits.items()},
        "rows_per_class": {
            split: dict(zip(names, y[y >= 0].bincount(minlength=len(names)).tolist(), strict=True))
            for split, y in splits.items()
        },
    }
    if not data.texts:
        mean = round(float(data.x_N.double().mean()) / data.scale, 6)
        shape = list(data.x_N.shape[1:])
        return {"shape": shape, **common, "mean": mean, "fingerprint": data.fingerprint}
    if data.domain_N is not None:
        counts = data.domain_N.bincount(minlength=len(data.domain_names)).tolist()
        common["rows_per_domain"] = dict(zip(data.domain_names, counts, strict=True))
    return {
        **common,
        "rows_of_no_class": int((data.y_N < 0).sum()),
        "mean_characters": round(sum(map(len, data.texts)) / len(data.texts), 3),
        "fingerprint": data.fingerprint,
    }


def main() -> None:
    """Update the statistics of every data set that is available; leave the others as they are."""
    kept = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    for name, read in SOURCES.items():
        try:
            kept[name] = describe(read())
            print(f"{name}: {kept[name]['rows']}")
        except Unavailable as error:
            print(f"{name}: {error}")
    PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
