"""A network of its own for every task.

Axes: L lanes, B batch, U units.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from strategies.core import Batch, LaneBatchNorm2d, LaneConv2d, LaneLinear, LaneModel, LaneStreams, Strategy
from suites.base import generator


@dataclass
class Independent(Strategy):
    """A separate network for each task, from its own initial weights: no forgetting and no transfer."""

    name = "independent"
    family = "isolation"
    paper = "van de Ven, Tuytelaars & Tolias 2022, Three types of incremental learning"
    needs = "the task of every row, a network per task"
    scenarios = ("task",)
    needs_boundaries = True
    restarts = True
    presets = {"vandeven2022": {"hidden": 100}}

    def setup(self) -> None:
        """Make every task's network."""
        self.networks = one_per_task(self.model, self.streams)

    def begin_task(self, task: int) -> None:
        """Put the task's network where training happens."""
        self.model.load_state_dict(self.networks[task].state_dict())

    def end_task(self, task: int) -> None:
        """Put it back."""
        self.networks[task].load_state_dict(self.model.state_dict())

    def predict(self, batch: Batch) -> Tensor:
        """Answer each row with the network of its task."""
        networks = [self.model if t == self.task else n for t, n in enumerate(self.networks)]
        return by_task([self.logits(batch, n) for n in networks], self.streams.task_of(batch.rows_LB))


def one_per_task(model: LaneModel, streams: LaneStreams) -> nn.ModuleList:
    """Return a copy of the network for every task, all but the first with initial weights of their own."""
    networks = nn.ModuleList(copy.deepcopy(model) for _ in range(streams.n_tasks))
    for task, network in enumerate(networks):
        if task > 0:
            start_anew(network, [generator(s.seed, f"network/{task}") for s in streams.streams])
    return networks.requires_grad_(False).eval()


def start_anew(model: nn.Module, generators: list[torch.Generator]) -> None:
    """Give every layer new initial weights."""
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


def by_task(answers: list[Tensor], task_LB: Tensor) -> Tensor:
    """Return, for each row, the answer (L, B, U) of the network of its task."""
    chosen_LBU = answers[0]
    for task, answer_LBU in enumerate(answers[1:], 1):
        chosen_LBU = torch.where((task_LB == task).unsqueeze(2), answer_LBU, chosen_LBU)
    return chosen_LBU
