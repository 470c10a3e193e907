"""Networks of a user's file, of torchvision and of timm as models with options.

A class or function of a user makes an ``nn.Module``. Its parameters with a default that is a number, text, or
true or false are options of the model; ``shape`` and ``units`` are given if it asks for them.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from bench.models.head_alone import HeadAlone
from bench.models.network import Source
from bench.models.reference import PRETRAINED, Shape
from strategies.core import Bounds, Generators, LaneModel
from suites.base import Training
from suites.errors import Unavailable, UserError, unknown
from suites.paths import check_is_file
from suites.tracebacks import first_line

Normalisation = tuple[tuple[float, ...], tuple[float, ...]] | None
_PLAIN = (bool, int, float, str)
_OWN: dict[str, tuple[Any, Any]] = {
    "tune": (Literal["full", "head"], "full"),
    "weights": (str, ""),
    "pixels": (Annotated[int, Bounds(0)], 0),
    "head": (Literal["last", "new"], "last"),
}
"""Options of every network with their types and defaults."""
_HELP = """

Args:
    tune: Whether all weights are trained (full), or only the head, on features that are computed once.
    weights: File of the initial weights (.safetensors, or .pt of tensors alone); pretrained for those of the
        library, from its cache or the network; empty for random ones.
    pixels: Height and width that images are resized to; 0 for those of the suite.
    head: Whether the last dense layer becomes the head, or all of the network computes features.
"""


def library_network(name: str) -> Callable[..., LaneModel]:
    """Return the function that builds ``torchvision:NAME`` or ``timm:NAME``.

    Raises:
        Unavailable: The package is not installed, or cannot be imported.
        UserError: It has no such network.
    """
    package, _, network = name.partition(":")
    try:
        library = importlib.import_module(package)
    except Exception as error:  # torchvision raises RuntimeError beside another build of torch
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        why = f"pip install {package}" if missing else f"{type(error).__name__}: {error}"
        raise Unavailable(f"model {name} needs {package}, which cannot be imported: {why}") from error
    known = library.models.list_models() if package == "torchvision" else library.list_models()
    if network not in known:
        raise unknown(f"network of {package}", network, list(known))

    def make(shape: Shape, units: int, pretrained: bool) -> nn.Module:
        made: nn.Module
        if package == "torchvision":
            made = library.models.get_model(network, weights="DEFAULT" if pretrained else None)
        else:
            made = library.create_model(network, pretrained=pretrained)
        return made

    def normalisation(pretrained: bool) -> Normalisation:
        if not pretrained:
            return None
        if package == "torchvision":
            of = library.models.get_model_weights(network).DEFAULT.transforms()
        else:
            of = library.get_pretrained_cfg(network)
        return tuple(of.mean), tuple(of.std)

    return network_model(name, f"{network} of {package}", make, channels=3, normalisation=normalisation)


def users_network(name: str, made_by: Callable[..., nn.Module]) -> Callable[..., LaneModel]:
    """Return the function that builds a network of a user's class, or of a function that returns a network.

    Raises:
        UserError: It has arguments without a default other than shape and units.
    """
    given: list[str] = []
    options: dict[str, tuple[Any, Any]] = {}
    try:
        called = inspect.getattr_static(made_by, "__init__") if isinstance(made_by, type) else made_by
        hints = get_type_hints(called, include_extras=True)
        parameters = inspect.signature(made_by).parameters.values()
    except (NameError, TypeError, ValueError) as error:
        raise UserError(f"{name}: its arguments cannot be read: {error}") from error
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.name in ("shape", "units"):
            given.append(p.name)
        elif p.default is p.empty:
            raise UserError(
                f"{name} has an argument {p.name} without a default: give it one; shape (of a row) and units "
                "(outputs of the head) need none"
            )
        elif p.name in {*_OWN, "model", *(f.name for f in fields(Training))}:
            raise UserError(f"{name} has an argument {p.name}, a setting of every run: give it another name")
        elif (hint := _option_type(hints.get(p.name), p.default)) is not None:
            options[p.name] = hint, p.default

    def make(shape: Shape, units: int, pretrained: bool, **chosen: Any) -> nn.Module:
        known = {"shape": shape, "units": units}
        try:
            network = made_by(**{k: known[k] for k in given}, **chosen)
        except Exception as error:
            raise UserError(f"model {name} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(network, nn.Module):
            raise UserError(f"model {name} made {type(network).__name__}, not an nn.Module")
        return network

    mean, std = getattr(made_by, "mean", None), getattr(made_by, "std", None)
    stated = (tuple(mean), tuple(std)) if isinstance(mean, tuple) and isinstance(std, tuple) else None
    doc = inspect.getdoc(made_by) or name
    return network_model(name, doc, make, options, normalisation=lambda pretrained: stated)


def _option_type(hint: Any, default: Any) -> Any:
    """Return the type of an option; None if it cannot be one, such as a layer to use."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(bare) is Literal or (bare in _PLAIN and hint is not bare):
        return hint
    plain = bare if bare in _PLAIN else type(default) if hint is None else None
    if plain not in _PLAIN:
        return None
    return Annotated[plain, Bounds()]  # numbers have no bounds, as the network states none


def network_model(
    name: str,
    doc: str,
    make: Callable[..., nn.Module],
    options: Mapping[str, tuple[Any, Any]] = MappingProxyType({}),
    defaults: Mapping[str, Any] = MappingProxyType({}),
    channels: int = 0,
    normalisation: Callable[[bool], Normalisation] = lambda pretrained: None,
) -> Callable[..., LaneModel]:
    """Return the function that builds a model, with keyword-only options as all models have.

    Args:
        name: Name of the model.
        doc: Its docstring.
        make: Called with the shape of a row, units, whether the library's weights are wanted, and options.
        options: Type and default of each of its own options.
        defaults: Other defaults of the options that all networks have.
        channels: Channels that it reads; 0 for those of the suite.
        normalisation: Returns mean and standard deviation of each channel that it was trained with; None for
            those of the suite.
    """
    known = {**options, **{k: (hint, defaults.get(k, value)) for k, (hint, value) in _OWN.items()}}

    def build(generators: Generators, shape: Shape, units: int, **given: Any) -> LaneModel:
        chosen = {k: default for k, (_, default) in known.items()} | given
        own = {k: chosen.pop(k) for k in _OWN}
        weights, frozen = own["weights"], own["tune"] == "head"
        if frozen and not weights:
            raise UserError(f"model {name} with tune=head needs weights: random features differ by seed")
        if frozen and len(shape) == 1:  # features of the rows
            return HeadAlone(generators, shape[0], units)
        new = partial(_made, name, make, chosen, weights)
        return Source(name, new, own["head"], not weights, own["pixels"], channels, frozen).build(
            generators, shape, units
        )

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(k, keyword, default=default) for k, (_, default) in known.items()]
    vars(build).update(__signature__=inspect.Signature(parameters), normalisation=normalisation)
    build.__annotations__ = {k: hint for k, (hint, _) in known.items()}
    build.__doc__ = doc + _HELP
    return build


def _made(
    name: str, make: Callable[..., nn.Module], chosen: dict[str, Any], weights: str, shape: Shape, units: int
) -> nn.Module:
    """Return a network with its initial weights."""
    network = make(shape, units, weights == PRETRAINED, **chosen)
    if weights and weights != PRETRAINED:
        try:
            network.load_state_dict(read_weights(weights))
        except RuntimeError as error:
            lines = " ".join(line.strip() for line in str(error).splitlines()[1:3])
            raise UserError(f"the weights in {weights} are not those of {name}: {lines}") from error
    return network


def read_weights(path: str) -> dict[str, torch.Tensor]:
    """Return the tensors in a file; no code in it is run.

    Raises:
        UserError: It cannot be read, or has anything but tensors by name.
    """
    try:
        check_is_file(path)
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = found.get("state_dict", found) if isinstance(found, dict) else found
        if isinstance(found, dict) and all(isinstance(t, torch.Tensor) for t in found.values()):
            return found
        raise ValueError("it does not hold tensors by name")
    except Exception as error:
        raise UserError(f"cannot read the weights in {path}: {first_line(error)}") from error
