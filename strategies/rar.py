"""Repeated augmented rehearsal.

Axes: L lanes, B batch; C, H, W of an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from strategies.base import Count, Share
from strategies.er import ER
from strategies.lanes import per_lane
from strategies.streams import Batch


@dataclass
class RAR(ER):
    """Experience replay with several steps on each batch, on other remembered rows each time, all augmented.

    Repetition alone overfits the memory, augmentation alone underfits; together they do neither
    (Zhang 2022, Algorithm 1). In place of the paper's RandAugment, images are shifted and may be flipped.
    """

    name: ClassVar[str] = "rar"
    cost: ClassVar[float] = 20.0
    paper: ClassVar[str] = "Zhang et al. 2022, A simple but strong baseline for online continual learning"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    repeats: Count = 10
    """Steps on each batch of new rows."""
    shift: Share = 0.125
    """Furthest shift in each direction, as a share of the image's height and width; 0 for none."""
    flip: bool = False
    """Whether half of the images are flipped left to right: for photographs, not for digits."""

    def learn(self, batch: Batch) -> Tensor:
        """Take all steps and return their mean loss."""
        losses = []
        for _ in range(self.repeats):
            for p in self.model.parameters():
                p.grad = None
            losses.append(super().learn(batch))
        return torch.stack(losses).mean(0)

    def loss(self, batch: Batch) -> Tensor:
        """Return ER's loss on the new rows as they look this time."""
        return super().loss(self.augmented(batch, "new"))

    def replayed(self, batch: Batch) -> Batch:
        """Return remembered rows as they look this time."""
        return self.augmented(super().replayed(batch), "old")

    def augmented(self, batch: Batch, name: str) -> Batch:
        """Return the batch with every image shifted, and flipped if asked for."""
        lanes, size = batch.rows_LB.shape
        draw_LB3 = self.draws.uniform(f"augment {name}", 3 * size).view(lanes, size, 3)
        share_L = torch.as_tensor(self.shift, device=draw_LB3.device).expand(lanes)
        return replace(batch, x_LBCHW=shifted(batch.x_LBCHW, draw_LB3, share_L, self.flip))


def shifted(x_LBCHW: Tensor, draw_LB3: Tensor, share_L: Tensor, flip: bool) -> Tensor:
    """Return images moved by up to a share of their size, black where nothing comes in."""
    for axis, draw_LB in ((3, draw_LB3[..., 0]), (4, draw_LB3[..., 1])):
        length = x_LBCHW.shape[axis]
        most_LB = per_lane((share_L * length).floor(), draw_LB)
        by_LB = (draw_LB * (2 * most_LB + 1)).floor().long() - most_LB.long()
        x_LBCHW = _moved(x_LBCHW, torch.arange(length, device=x_LBCHW.device) + by_LB.unsqueeze(2), axis)
    if flip:
        turned_LB = draw_LB3[..., 2].view(*draw_LB3.shape[:2], 1, 1, 1) < 0.5
        x_LBCHW = torch.where(turned_LB, x_LBCHW.flip(4), x_LBCHW)
    return x_LBCHW


def _moved(x_LBCHW: Tensor, from_LBK: Tensor, axis: int) -> Tensor:
    """Take each line of pixels along an axis from where it says, or black from outside."""
    length = x_LBCHW.shape[axis]
    shape = [*from_LBK.shape[:2], 1, 1, 1]
    shape[axis] = length
    inside = ((from_LBK >= 0) & (from_LBK < length)).view(shape)
    index = from_LBK.clamp(0, length - 1).view(shape).expand_as(x_LBCHW)
    return torch.where(inside, x_LBCHW.gather(axis, index), 0)
