"""Ends a task of a lane when its validation accuracy stops improving, and restores its best weights.

Axes: L lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.train.accuracy import AccuracyScorer
from strategies.core import per_lane

if TYPE_CHECKING:
    from bench.train.lane_state import LaneState
    from bench.train.schedule import Schedule


class EarlyStopping:
    """The best validation accuracy and weights of every lane in one task; test rows are never read."""

    def __init__(self, state: LaneState, schedule: Schedule) -> None:
        self.state, self.schedule = state, schedule
        self.best = [-1] * state.lanes
        self.waited = [0] * state.lanes
        self.weights: dict[str, Tensor] = {}

    def after_step(self, number: int) -> None:
        """Score the lanes that have ended a pass, and stop those that have not improved for long enough."""
        ended = [
            (number + 1) % per_pass == 0 and number < steps
            for per_pass, steps in zip(self.schedule.per_pass, self.schedule.steps, strict=True)
        ]
        if not any(ended):
            return
        state, improved = self.state, [False] * self.state.lanes
        assert isinstance(state.scorer, AccuracyScorer)  # bench.plan refuses patience for generated text
        with state.clock.scoring(within_task=True), state.strategy.autocast(), state.draws.restored():
            right = state.scorer.validation_of(self.schedule.tasks)
        for lane in range(state.lanes):
            if not ended[lane]:
                continue
            improved[lane] = right[lane] > self.best[lane]
            self.best[lane] = max(self.best[lane], right[lane])
            self.waited[lane] = 0 if improved[lane] else self.waited[lane] + 1
            if self.waited[lane] == state.training.patience:
                self.schedule.stop(lane, number + 1)
        if any(improved):
            self._keep(improved)

    def _keep(self, improved: list[bool]) -> None:
        now = {name: t.detach() for name, t in self.state.model.state_dict().items()}
        if not self.weights:
            self.weights = {name: t.clone() for name, t in now.items()}
            return
        on_L = torch.tensor(improved, device=self.state.device)
        for name, kept in self.weights.items():
            kept.copy_(torch.where(per_lane(on_L, kept), now[name], kept))

    def restore(self) -> None:
        """Give every lane the weights of its best pass."""
        if self.weights:
            self.state.model.load_state_dict(self.weights)
