"""Descriptive statistics of the data sets; ``python -m suites.statistics`` writes statistics.json."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from suites.base import Data
from suites.cifar import CIFAR10, CIFAR100, CIFAR100_SUBSET
from suites.errors import Unavailable
from suites.intents import BANKING77, CLINC150
from suites.mnist import FASHION_MNIST, KMNIST, MNIST
from suites.sentiment import SENTIMENT
from suites.sources import digits, hub_images
from suites.text import hub_domains, hub_texts
from suites.topics import AG_NEWS, AMAZON, DBPEDIA, NEWSGROUPS, TREC, YAHOO, YELP

PATH = Path(__file__).with_name("statistics.json")
SOURCES: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "mnist": partial(hub_images, MNIST),
    "fashion-mnist": partial(hub_images, FASHION_MNIST),
    "kmnist": partial(hub_images, KMNIST),
    "cifar10": partial(hub_images, CIFAR10),
    "cifar100": partial(hub_images, CIFAR100),
    "cifar100-subset": partial(hub_images, CIFAR100_SUBSET),
    "clinc150": partial(hub_texts, CLINC150),
    "banking77": partial(hub_texts, BANKING77),
    "sentiment-domains": partial(hub_domains, "sentiment-domains", SENTIMENT),
    "trec": partial(hub_texts, TREC),
    "newsgroups": partial(hub_texts, NEWSGROUPS),
    "ag-news": partial(hub_texts, AG_NEWS),
    "yelp": partial(hub_texts, YELP),
    "amazon": partial(hub_texts, AMAZON),
    "dbpedia": partial(hub_texts, DBPEDIA),
    "yahoo": partial(hub_texts, YAHOO),
}
"""Without the suite docstrings, whose data depends on installed versions."""


def describe(data: Data) -> dict[str, Any]:
    """Return rows per class and split, fingerprint, and shape and mean (images) or mean length (texts)."""
    splits = {"train": data.y_N[: data.n_train], "test": data.y_N[data.n_train :]}
    common = {
        "rows": {name: len(y) for name, y in splits.items()},
        "rows_per_class": {
            name: dict(
                zip(
                    data.class_names,
                    y[y >= 0].bincount(minlength=len(data.class_names)).tolist(),
                    strict=True,
                )
            )
            for name, y in splits.items()
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
    for name, load in SOURCES.items():
        try:
            kept[name] = describe(load())
            print(f"{name}: {kept[name]['rows']}")
        except Unavailable as error:
            print(f"{name}: {error}")
    PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
