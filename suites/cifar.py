"""CIFAR-10 and CIFAR-100, split by class."""

from dataclasses import replace
from functools import partial

from suites.base import NOT_STATED, Suite, Training
from suites.published_data import Published, load
from suites.scenarios import by_class
from suites.sources import NEEDS_HUB
from suites.values import Value

_CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip
# Means and standard deviations of the training pixels, per channel.
CIFAR10 = Published(
    "hub:uoft-cs/cifar10@0b2714987fa478483af9968de7c934580d0bb9a2",
    config="plain_text",
    image="img",
    class_names=_CIFAR10_NAMES,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    numbered=True,
)
CIFAR100 = Published(
    "hub:uoft-cs/cifar100@aadb3af77e9048adbea6b47c21a81e47dd092ae5",
    config="cifar100",
    image="img",
    label="fine_label",
    class_names=_CIFAR100_NAMES,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    numbered=True,
)
CIFAR100_SUBSET = replace(CIFAR100, place="mirror:cifar100-subset", config="")
CIFAR_TRAINING = Training(epochs=5, batch=32, optimiser="sgd", lr=0.03, augment=True)
_OF_160: dict[str, Value] = {
    "epochs": 160, "batch": 128, "optimiser": "momentum", "lr": 0.1, "weight_decay": 5e-4,
    "schedule": "multi-step", "milestones": "80-120", "reset_optimiser": True,
}  # fmt: skip
PRESETS_100: dict[str, dict[str, Value]] = {
    "hou2019-5": {"first": 50, "tasks": 6, **_OF_160},
    "hou2019-10": {"first": 50, "tasks": 11, **_OF_160},
    "rebuffi2017": {
        "tasks": 10, "epochs": 70, "batch": 128, "optimiser": "momentum", "lr": 2.0, "weight_decay": 2e-5,
        "schedule": "multi-step", "milestones": "49-63", "decay": 0.2, "reset_optimiser": True,
    },
}  # fmt: skip
"""Hou et al. 2019 (LUCIR): half of the classes first, then 5 or 10 tasks. Rebuffi et al. 2017 (iCaRL):
their penalty is 1e-5 times the squared weights, with a gradient of 2e-5 times the weights, and their rate is
for a mean over outputs, ``icarl[units=mean]``. Both train a ResNet-32; the suite's network is the reduced
ResNet-18."""
_DATA = "Krizhevsky 2009, Learning multiple layers of features from tiny images"

SPLIT_CIFAR10 = Suite(
    name="split-cifar10",
    version=1,
    summary="CIFAR-10 in five tasks of two classes",
    source=f"Zenke, Poole & Ganguli 2017; five tasks of two as in Buzzega et al. 2020; data: {_DATA}",
    licence=NOT_STATED,
    load=partial(load, CIFAR10),
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model="resnet18",
    training=CIFAR_TRAINING,
    needs=NEEDS_HUB,
)
SPLIT_CIFAR100 = Suite(
    name="split-cifar100",
    version=1,
    summary="CIFAR-100 in ten tasks of ten classes",
    source=f"Rebuffi et al. 2017, iCaRL; data: {_DATA}",
    licence=NOT_STATED,
    load=partial(load, CIFAR100),
    split=by_class(10),
    scenarios=("task", "domain", "class", "online"),
    model="resnet18",
    training=CIFAR_TRAINING,
    needs=NEEDS_HUB,
    presets=PRESETS_100,
)
SPLIT_CIFAR100_SUBSET = Suite(
    name="split-cifar100-subset",
    version=1,
    summary="a subset of CIFAR-100 (120 + 30 images a class); not the published benchmark",
    source="Krizhevsky 2009, a subset: scores are not those of split-cifar100",
    licence=NOT_STATED,
    load=partial(load, CIFAR100_SUBSET),
    split=by_class(10),
    scenarios=("task", "domain", "class", "online"),
    model="resnet18",
    training=CIFAR_TRAINING,
    presets=PRESETS_100,
    needs="a mirror that holds cifar100-subset (LETHE_DATA, --data)",
)
