"""Repeated augmented rehearsal.

Axes: L lanes, B batch, D pixels, K lines of pixels along one axis; X the axes of one row.
"""

import math
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from strategies.core import (
    Batch,
    Count,
    LaneFloat,
    NotNegative,
    Search,
    Share,
    need_images,
    per_lane,
    splitmix64,
)
from strategies.replay.er import ER


class RAR(ER):
    """Experience replay with several steps on each batch, each with a new draw of rows and new augmentation.

    Repetition alone overfits the memory and augmentation alone underfits it; together they do neither
    (Zhang 2022, Algorithm 1). Instead of the paper's RandAugment, noise is added to the pixels, which suits
    any data; photographs can also be shifted and flipped.
    """

    name = "rar"
    cost = 20.0
    paper = "Zhang et al. 2022, A simple but strong baseline for online continual learning"
    presets = {}
    sized_by = {"memory": "buffer", "compute": "repeats"}

    repeats: Count = 10
    """Steps on each batch of new rows."""
    noise: Annotated[NotNegative, Search(0.01, 0.5, log=True)] = LaneFloat(0.1)
    """Standard deviation of the noise added to every pixel of the network's input."""
    shift: Share = LaneFloat(0.0)
    """Largest shift in each direction, as a share of the image's side: 0.125 is 4 of 32 pixels."""
    flip: bool = False
    """Whether half of the images are flipped left to right: for photographs, not for digits."""

    def step_cost(self, new: int) -> float:
        """Return the cost of all steps on a batch."""
        return self.repeats * (1 + (self.batch or new) / new)

    def setup(self) -> None:
        """Make an empty memory; raise Unsuitable for data that are not images."""
        need_images(self.name, self.streams)
        super().setup()

    def learn(self, batch: Batch) -> Tensor:
        """Take all steps and return their mean loss."""
        # Added one by one: how a mean over stacked losses rounds can depend on the number of lanes.
        total_L = torch.zeros(self.streams.lanes, device=self.streams.device)
        for _ in range(self.repeats):
            self.model.zero_grad()
            total_L += super().learn(batch)
        return total_L / self.repeats

    def both(self, batch: Batch) -> Batch:
        """Return new and stored rows, newly augmented."""
        both = super().both(batch)
        lanes, size = both.rows_LB.shape
        draw_LB4 = self.draws.uniform("augment both", 4 * size).view(lanes, size, 4)
        x_LBX = shifted(both.x_LBX, draw_LB4[..., :3], self.shift, self.flip)
        noise_LBCHW = noise_like(x_LBX, draw_LB4[..., 3])
        return replace(both, x_LBX=x_LBX + per_lane(self.noise, x_LBX) * noise_LBCHW)


def noise_like(x_LBX: Tensor, draw_LB: Tensor) -> Tensor:
    """Return uniform noise of mean 0 and deviation 1 per pixel, from one number in [0, 1) per image."""
    seed_LB1 = splitmix64((draw_LB * 2**53).long()).unsqueeze(2)
    place_D = torch.arange(x_LBX[0, 0].numel(), device=x_LBX.device)
    # A float32 holds 24 bits.
    unit_LBD = (splitmix64(seed_LB1 + place_D) & (2**24 - 1)).to(x_LBX.dtype) / 2**24
    return ((unit_LBD - 0.5) * math.sqrt(12)).view_as(x_LBX)


def shifted(x_LBX: Tensor, draw_LB3: Tensor, share_L: Tensor, flip: bool) -> Tensor:
    """Return images shifted by up to a share of their size, filled with 0; ``flip`` mirrors half."""
    height, width = x_LBX.shape[3:]
    down_LBH, down_in_LBH = _lines(height, draw_LB3[..., 0], share_L)
    across_LBW, across_in_LBW = _lines(width, draw_LB3[..., 1], share_L)
    if flip:
        turned_LB1 = draw_LB3[..., 2:] < 0.5
        across_LBW = torch.where(turned_LB1, across_LBW.flip(2), across_LBW)
        across_in_LBW = torch.where(turned_LB1, across_in_LBW.flip(2), across_in_LBW)
    inside_LB1HW = (down_in_LBH.unsqueeze(3) & across_in_LBW.unsqueeze(2)).unsqueeze(2)
    from_LB1D = (down_LBH.unsqueeze(3) * width + across_LBW.unsqueeze(2)).flatten(2).unsqueeze(2)
    x_LBCD = x_LBX.flatten(3)
    moved_LBCHW = x_LBCD.gather(3, from_LB1D.expand_as(x_LBCD)).view_as(x_LBX)
    return torch.where(inside_LB1HW, moved_LBCHW, 0)


def _lines(length: int, draw_LB: Tensor, share_L: Tensor) -> tuple[Tensor, Tensor]:
    """Return the source index of each line of pixels along one axis, and whether it is inside the image."""
    most_LB = per_lane((share_L * length).floor(), draw_LB)
    by_LB = (draw_LB * (2 * most_LB + 1)).floor() - most_LB
    from_LBK = torch.arange(length, device=draw_LB.device) + by_LB.long().unsqueeze(2)
    return from_LBK.clamp(0, length - 1), (from_LBK >= 0) & (from_LBK < length)
