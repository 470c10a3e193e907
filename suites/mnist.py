"""MNIST, Fashion-MNIST and Kuzushiji-MNIST: split by class, and MNIST with permuted pixels or rotated.

The data sets are declared. Permutations and rotations are not: they are views of the declared pixels, one for
each task, which a stream draws by its seed.
"""

from functools import partial

from suites.base import NOT_STATED, Suite, Training
from suites.published_data import Published, load
from suites.scenarios import by_class, by_permutation, by_rotation
from suites.sources import NEEDS_HUB
from suites.values import Value

MNIST = Published(
    "hub:ylecun/mnist@77f3279092a1c1579b2250db8eafed0ad422088c",
    config="mnist",
    image="image",
    class_names=tuple("0123456789"),
    numbered=True,
)
FASHION_MNIST = Published(
    "hub:zalando-datasets/fashion_mnist@531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
    config="fashion_mnist",
    image="image",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    numbered=True,
)
KMNIST = Published(
    "hub:tanganke/kmnist@53810959241e8f35890445245170c8cec0672f81",
    config="kmnist",
    image="image",
    class_names=tuple("おきすつなはまやれを"),
    numbered=True,
)
MNIST_TRAINING = Training(iterations=2000, batch=128, optimiser="adam", lr=1e-3)
"""The budget of van de Ven, Tuytelaars & Tolias 2022."""
_MLP = {"hidden": 400, "layers": 2}
_DER: dict[str, Value] = {
    "epochs": 1,
    "iterations": 0,
    "optimiser": "sgd",
    "lr": 0.1,
    "hidden": 100,
    "init": "xavier",
}
"""Buzzega et al. 2020: one epoch, two hidden layers of 100. They chose a rate for each method and buffer: on
permuted and rotated MNIST mostly 0.1 or 0.2, on split MNIST 0.01 to 0.1."""
_GEM: dict[str, Value] = {
    "tasks": 20, "rows": 1000, "validation": 0.0, "epochs": 1, "iterations": 0, "batch": 10,
    "optimiser": "sgd", "lr": 0.1, "hidden": 100, "init": "xavier",
}  # fmt: skip
"""Lopez-Paz & Ranzato 2017: 20 tasks of 1,000 rows, one pass in batches of 10, two hidden layers of 100. The
rate is that of gem; their baselines have 0.003 to 0.1."""
_DATA = "data: LeCun et al. 1998, Gradient-based learning applied to document recognition"
_LICENCE = f"{NOT_STATED}; Keras names CC BY-SA 3.0"

SPLIT_MNIST = Suite(
    name="split-mnist",
    version=1,
    summary="MNIST in five tasks of two digits, shuffled by the seed",
    source=f"van de Ven, Tuytelaars & Tolias 2022, Three types of incremental learning; {_DATA}",
    licence=_LICENCE,
    load=partial(load, MNIST),
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model_options=_MLP,
    training=MNIST_TRAINING,
    needs=NEEDS_HUB,
    presets={"buzzega2020": {"order": "fixed", "batch": 10, **_DER}},
)
PERMUTED_MNIST = Suite(
    name="permuted-mnist",
    version=1,
    summary="MNIST in ten tasks, each with its own permutation of the pixels",
    source=f"Goodfellow et al. 2013; ten tasks as in van de Ven & Tolias 2019; {_DATA}",
    licence=_LICENCE,
    load=partial(load, MNIST),
    split=by_permutation(10),
    scenarios=("task", "domain", "class", "online"),
    model_options=_MLP,
    training=MNIST_TRAINING,
    needs=NEEDS_HUB,
    presets={
        "buzzega2020": {"tasks": 20, "batch": 128, **_DER},
        "lopezpaz2017": _GEM,
    },
)
ROTATED_MNIST = Suite(
    name="rotated-mnist",
    version=1,
    summary="MNIST in ten tasks, each rotated by its own angle",
    source=f"Lopez-Paz & Ranzato 2017, Gradient episodic memory for continual learning; {_DATA}",
    licence=_LICENCE,
    load=partial(load, MNIST),
    split=by_rotation(10),
    scenarios=("task", "domain", "online"),
    model_options=_MLP,
    training=MNIST_TRAINING,
    needs=NEEDS_HUB,
    presets={
        "buzzega2020": {
            "tasks": 20,
            "batch": 128,
            "angles": "unsorted",
            "interpolation": "nearest",
            **_DER,
        },
        "lopezpaz2017": {"interpolation": "nearest", **_GEM},
    },
)
SPLIT_FASHION_MNIST = Suite(
    name="split-fashion-mnist",
    version=1,
    summary="Fashion-MNIST in five tasks of two kinds of clothes",
    source="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST",
    licence="MIT",
    load=partial(load, FASHION_MNIST),
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model_options=_MLP,
    training=MNIST_TRAINING,
    needs=NEEDS_HUB,
)
SPLIT_KMNIST = Suite(
    name="split-kmnist",
    version=1,
    summary="Kuzushiji-MNIST in five tasks of two characters",
    source="Clanuwat et al. 2018, Deep learning for classical Japanese literature",
    licence="CC BY-SA 4.0",
    load=partial(load, KMNIST),
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model_options=_MLP,
    training=MNIST_TRAINING,
    needs=NEEDS_HUB,
)
