"""Handwritten digits of scikit-learn: the default suite, with nothing to download.

No declaration: an installed package has the images, and every fifth of a class is for testing.

Axes: N images.
"""

from functools import cache

import numpy as np
import torch

from suites.base import Data, Suite, Training
from suites.scenarios import by_class
from suites.sources import fingerprint


@cache
def digits() -> Data:
    """Return scikit-learn's 1,797 handwritten digits; every fifth image of each class is for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x_N = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    y_N = torch.from_numpy(bunch.target.astype(np.int64))
    # The n-th image of its class, for every image.
    nth_N = torch.nn.functional.one_hot(y_N, 10).cumsum(0).gather(1, y_N.unsqueeze(1)).squeeze(1)
    test_N = nth_N % 5 == 0
    order = torch.cat([(~test_N).nonzero().flatten(), test_N.nonzero().flatten()])
    x_N, y_N, n_train = x_N[order].contiguous(), y_N[order].contiguous(), int((~test_N).sum())
    names = tuple(str(d) for d in range(10))
    return Data("digits", x_N, y_N, n_train, names, 16.0, fingerprint(x_N, y_N, n_train))


DIGITS = Suite(
    name="digits",
    version=1,
    summary="1,797 handwritten digits of 8 x 8 pixels, five tasks of two; nothing to download",
    source="Alpaydin & Kaynak 1998, Optical recognition of handwritten digits, as in scikit-learn",
    licence="CC BY 4.0 (UCI)",
    load=digits,
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model="mlp",
    model_options={"hidden": 100, "layers": 2},
    training=Training(epochs=20, batch=16, optimiser="adam", lr=1e-3),
)
