"""The earlier network as a teacher: its copy, the units that it teaches, and the loss of distillation.

Axes: L lanes, B batch, U units.
"""

import copy

from torch import Tensor

from strategies.core import Batch, LaneStreams, Strategy, per_lane


class WithTeacher(Strategy):
    """Base of methods that learn from a copy of the network from before the task."""

    def setup(self) -> None:
        """Copy the network; the copy is refreshed after each task."""
        super().setup()
        self.teacher = copy.deepcopy(self.model).requires_grad_(False).eval()

    def end_task(self, task: int) -> None:
        """Copy the network: it is the next task's teacher."""
        super().end_task(task)
        self.teacher.load_state_dict(self.model.state_dict())


def taught_heads(streams: LaneStreams, batch: Batch, task: int) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return pairs of units: those that a row is learned on, and those of the earlier network's answer.

    Each is bool (L, 1, U), or None for all units. In task-incremental streams there is one pair for each
    earlier task, with that task's units.
    """
    if streams.scenario == "task":
        heads = [streams.own_LTU[:, t : t + 1] for t in range(task)]
        return [(units, units) for units in heads]
    return [(batch.active_LBU, streams.taught(task))]


def soft_cross_entropy(logits_LBU: Tensor, target_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return -sum_u softmax(target/T)_u log softmax(logits/T)_u, shape (L, B).

    Masked logits add nothing: their probability is 0, times the lowest finite number.
    """
    return cross_entropy_with(tempered(target_LBU, temperature_L).softmax(2), logits_LBU, temperature_L)


def cross_entropy_with(p_LBU: Tensor, logits_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return -sum_u p_u log softmax(logits/T)_u, shape (L, B)."""
    return -(p_LBU * tempered(logits_LBU, temperature_L).log_softmax(2)).sum(2)


def tempered(logits_LBU: Tensor, temperature_L: Tensor) -> Tensor:
    """Return logits divided by each lane's temperature."""
    return logits_LBU / per_lane(temperature_L, logits_LBU)
