"""Supervised contrastive replay.

Axes: L lanes, B batch, V both views of a batch in sequence (2B), F features, M memory slots; X the axes
of one row.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from strategies.core import (
    Batch,
    Bounds,
    Count,
    CountOrNone,
    LaneFloat,
    LaneLinear,
    Search,
    gradients,
    need_images,
    unless,
)
from strategies.parts import NearestMean, Rehearsal


class SCR(NearestMean, Rehearsal):
    """Supervised contrastive replay with a nearest-class-mean classifier.

    L = mean_i -1/|P(i)| sum_{p in P(i)} log [exp(z_i z_p / T) / sum_{a != i} exp(z_i z_a / T)] over two views
    of new and stored rows, where z is a projection of length 1 and P(i) the other rows of i's class (Mai
    2021). The class means are those of the memory's features, before the projection.
    """

    name = "scr"
    adds_gradient = False
    cost = 3.56  # 128 new and 100 old rows in two views; 22 at the paper's 10 new
    paper = "Mai et al. 2021, Supervised contrastive replay"
    needs = "a memory of rows, a small second network"

    batch: CountOrNone = 100
    temperature: Annotated[LaneFloat, Bounds(1e-3), Search(0.03, 0.5, log=True)] = LaneFloat(0.07)
    """T: inner products are divided by this."""
    projection: Count = 128
    """Outputs of the projection, a network with one hidden layer as wide as the features."""
    view: Literal["crop", "crop-flip", "same"] = "crop"
    """Second view: a random crop resized to full size (crop), half of the crops mirrored (crop-flip), or the
    image itself (same). The paper's colour changes are left out."""
    crop: Annotated[LaneFloat, Bounds(0.01, 1.0), unless("view", "same")] = LaneFloat(0.2)
    """Smallest area of a crop, as a share of the image."""

    def step_cost(self, new: int) -> float:
        """Return the cost of a step: two views of new and stored rows."""
        return 2 + 2 * (self.batch or new) / new

    def setup(self) -> None:
        """Make an empty memory and each lane's projection, with an optimiser like the network's."""
        need_images(self.name, self.streams)
        super().setup()
        generators = self.streams.generators("scr projection")
        width = self.model.head.weight.shape[1]
        hidden, out = (LaneLinear(generators, width, size) for size in (width, self.projection))
        self.projector = nn.Sequential(hidden, nn.ReLU(), out).to(self.streams.device)
        self.projector_optimiser = self.optimiser.alike(self.projector.parameters())

    def loss(self, batch: Batch) -> Tensor:
        """Return the contrastive loss over two views of new and stored rows."""
        both = self.both(batch)
        x_LVCHW = torch.cat([both.x_LBX, self.second_view(both.x_LBX)], 1)
        z_LVF = F.normalize(self.projector(self.model.features(x_LVCHW)), dim=2)
        return contrastive_L(z_LVF, both.y_LB.repeat(1, 2), both.weight_LB.repeat(1, 2), self.temperature)

    def second_view(self, x_LBX: Tensor) -> Tensor:
        """Return a random crop of each image, resized bilinearly to full size."""
        if self.view == "same":
            return x_LBX
        lanes, size = x_LBX.shape[:2]
        draw_LB5 = self.draws.uniform("crops", 5 * size).view(lanes, size, 5)
        # Computed in float64, then rounded: the last bit of a power can depend on the memory address.
        crop_LB23 = crops(draw_LB5, self.crop, flip=self.view == "crop-flip").to(x_LBX.dtype)
        grid = F.affine_grid(crop_LB23.flatten(0, 1), [lanes * size, *x_LBX.shape[2:]], align_corners=False)
        seen = F.grid_sample(x_LBX.flatten(0, 1), grid, padding_mode="border", align_corners=False)
        return seen.view_as(x_LBX)

    def adjust_gradients(self) -> None:
        """Set the head's gradients to 0: it is not trained and predicts only while the memory is empty."""
        gradients(self.model)

    def after_step(self, batch: Batch) -> None:
        """Step the projection and offer the rows just learned to the reservoir."""
        self.projector_optimiser.step(self.context.active)
        self.projector.zero_grad()
        super().after_step(batch)

    def remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of the memory, whose class means classify."""
        rows_LM = self.memory.rows_LM[:, : self.buffer]
        # An empty slot has row number 0, and that row may have no unit in this lane.
        unit_LM = self.streams.units(rows_LM).clamp(min=0)
        return rows_LM, unit_LM, self.memory.in_use_LM()


def contrastive_L(z_LVF: Tensor, y_LV: Tensor, weight_LV: Tensor, temperature_L: Tensor) -> Tensor:
    """Return the supervised contrastive loss of rows with weight > 0, shape (L,) (Khosla 2020, eq. 2)."""
    near_LVV = torch.bmm(z_LVF, z_LVF.transpose(1, 2)) / temperature_L.view(-1, 1, 1)
    others_VV = ~torch.eye(y_LV.shape[1], dtype=torch.bool, device=y_LV.device)
    # Rows are not compared with rows of weight 0; those are compared with all, so that their sum is finite.
    compared_LVV = others_VV & ((weight_LV.unsqueeze(1) > 0) | (weight_LV.unsqueeze(2) == 0))
    log_p_LVV = near_LVV - near_LVV.masked_fill(~compared_LVV, -torch.inf).logsumexp(2, keepdim=True)
    same_LVV = compared_LVV & (y_LV.unsqueeze(1) == y_LV.unsqueeze(2))
    mean_LV = (log_p_LVV * same_LVV).sum(2) / same_LVV.sum(2).clamp(min=1)
    return -(mean_LV * weight_LV).sum(1) / weight_LV.sum(1).clamp(min=1)


def crops(draw_LB5: Tensor, least_L: Tensor, flip: bool) -> Tensor:
    """Return affine maps of random crops, shape (L, B, 2, 3), from five uniform numbers each.

    The area is uniform from ``least_L`` to 1, the logarithm of the aspect ratio uniform from 3/4 to 4/3, the
    position uniform inside the image.
    """
    area_LB, shape_LB, right_LB, down_LB, mirror_LB = draw_LB5.unbind(2)
    area_LB = least_L.unsqueeze(1) + (1 - least_L.unsqueeze(1)) * area_LB
    ratio_LB = (4 / 3) ** (2 * shape_LB - 1)
    width_LB, height_LB = (area_LB * ratio_LB).sqrt().clamp(max=1), (area_LB / ratio_LB).sqrt().clamp(max=1)
    sign_LB = torch.where(mirror_LB < 0.5, -1, 1) if flip else torch.ones_like(mirror_LB)
    none_LB = torch.zeros_like(area_LB)
    across_LB3 = torch.stack([width_LB * sign_LB, none_LB, (2 * right_LB - 1) * (1 - width_LB)], 2)
    down_LB3 = torch.stack([none_LB, height_LB, (2 * down_LB - 1) * (1 - height_LB)], 2)
    return torch.stack([across_LB3, down_LB3], 2)
