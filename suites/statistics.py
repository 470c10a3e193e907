"""Descriptive statistics of the data sets, checked in; ``python -m suites.statistics`` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from suites.base import Data
from suites.cifar import CIFAR10, CIFAR100, CIFAR100_SUBSET
from suites.errors import Unavailable
from suites.mnist import FASHION_MNIST, KMNIST, MNIST
from suites.sources import digits, hub_images

PATH = Path(__file__).with_name("statistics.json")
SOURCES: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "mnist": partial(hub_images, MNIST),
    "fashion-mnist": partial(hub_images, FASHION_MNIST),
    "kmnist": partial(hub_images, KMNIST),
    "cifar10": partial(hub_images, CIFAR10),
    "cifar100": partial(hub_images, CIFAR100),
    "cifar100-subset": partial(hub_images, CIFAR100_SUBSET),
}


def describe(data: Data) -> dict[str, Any]:
    """Return shape, rows per class and split, mean grey value and content hash."""
    splits = {"train": data.y_N[: data.n_train], "test": data.y_N[data.n_train :]}
    return {
        "shape": list(data.x_N.shape[1:]),
        "rows": {name: len(y) for name, y in splits.items()},
        "rows_per_class": {
            name: dict(
                zip(data.class_names, y.bincount(minlength=len(data.class_names)).tolist(), strict=True)
            )
            for name, y in splits.items()
        },
        "mean": round(float(data.x_N.double().mean()) / data.scale, 6),
        "fingerprint": data.fingerprint,
    }


def main() -> None:
    """Write the statistics of every data set that can be had here; keep those of the others."""
    kept = json.loads(PATH.read_text()) if PATH.exists() else {}
    for name, load in SOURCES.items():
        try:
            kept[name] = describe(load())
            print(f"{name}: {kept[name]['rows']}")
        except Unavailable as error:
            print(f"{name}: {error}")
    PATH.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
