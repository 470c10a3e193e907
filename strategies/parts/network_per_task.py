"""A network for every task, and the prediction of each row by the network of its task.

Axes: L lanes, B batch, U units.
"""

import copy

import torch
from torch import Tensor, nn

from strategies.core import LaneBatchNorm2d, LaneConv2d, LaneLinear, LaneModel, LaneStreams


def one_per_task(model: LaneModel, streams: LaneStreams) -> nn.ModuleList:
    """Return a copy of the network for every task, all but the first with new initial weights."""
    copies = [copy.deepcopy(model) for _ in range(streams.n_tasks)]
    for task, network in enumerate(copies):
        if task > 0:
            reinitialise(network, streams.generators(f"network/{task}"))
    return nn.ModuleList(copies).requires_grad_(False).eval()


def reinitialise(model: LaneModel, generators: list[torch.Generator]) -> None:
    """Give every layer new initial weights."""
    if (state := model.redrawn(generators)) is not None:
        model.load_state_dict(state)
        return
    for module in model.modules():
        if isinstance(module, LaneLinear):
            new: nn.Module = LaneLinear(generators, *module.weight.shape[1:])
        elif isinstance(module, LaneConv2d):
            outputs, inputs, kernel = module.weight.shape[1:4]
            new = LaneConv2d(generators, inputs, outputs, kernel, bias=module.bias is not None)
        elif isinstance(module, LaneBatchNorm2d):
            new = LaneBatchNorm2d(*module.weight.shape)
        else:
            continue
        module.load_state_dict(new.state_dict())


def by_task(logits: list[Tensor], task_LB: Tensor) -> Tensor:
    """Return the logits (L, B, U) of each row from the network of its task."""
    chosen_LBU = logits[0]
    for task, logits_LBU in enumerate(logits[1:], 1):
        chosen_LBU = torch.where((task_LB == task).unsqueeze(2), logits_LBU, chosen_LBU)
    return chosen_LBU
