"""The streams of all lanes on one device, and batches made from them.

Axes: L lanes, B batch, N images, T tasks, U units, D pixels, K taps, S tokens; X the axes of one row, as
C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core.draws import Draws
from suites.base import Stream, Training


@dataclass
class Batch:
    """Rows of every lane, ready for a model."""

    x_LBX: Tensor
    y_LB: Tensor
    """Unit of the head, int64; sequence to sequence, the tokens of the target text, (L, B, S)."""
    rows_LB: Tensor
    """Row numbers, int64: see suites.base."""
    weight_LB: Tensor
    """1 for a row that counts, 0 for padding and for a replay slot that is still empty."""
    active_LBU: Tensor | None = None
    """Units that a row may be given to; None: all. Broadcasts over B."""
    ones_LB: Tensor | None = None
    """The weights of a batch in which every row counts, where it was made with them."""
    noted: dict[str, Any] = field(default_factory=dict)
    """What a method's hooks hand on to later hooks of the same step, by the method's name."""

    @property
    def all_count(self) -> bool:
        """Whether every row counts, as far as that is known without asking the device."""
        return self.weight_LB is self.ones_LB

    @property
    def learns_L(self) -> Tensor:
        """1 for a lane that learns from this batch, 0 for one that rests, shape (L,)."""
        return self.weight_LB.amax(1)

    def mean_L(self, values_LB: Tensor) -> Tensor:
        """Return each lane's mean over the rows that count, 0 where none does, shape (L,)."""
        if self.all_count:  # three operations fewer
            return values_LB.mean(1)
        # where, not a product: a padded row's infinity must not become NaN.
        summed_L = torch.where(self.weight_LB > 0, values_LB * self.weight_LB, 0).sum(1)
        return summed_L / self.weight_LB.sum(1).clamp(min=1)

    def split(self, at: int) -> tuple[Batch, Batch]:
        """Return the first ``at`` rows and the others, as views."""

        def take(cut: slice) -> Batch:
            weight_LB, active = self.weight_LB[:, cut], self.active_LBU
            return Batch(
                self.x_LBX[:, cut],
                self.y_LB[:, cut],
                self.rows_LB[:, cut],
                weight_LB,
                active if active is None or active.shape[1] == 1 else active[:, cut],
                weight_LB if self.all_count else None,
            )

        return take(slice(None, at)), take(slice(at, None))


class LaneStreams:
    """The streams of all lanes: one copy of the images, and small tables per lane."""

    def __init__(self, streams: Sequence[Stream], training: Training, device: torch.device | str) -> None:
        first = streams[0]
        self.streams, self.training, self.device = list(streams), training, torch.device(device)
        self.scenario, self.data = first.scenario, first.data
        self.lanes, self.n_tasks, self.n_units = len(streams), len(first.tasks), first.n_units
        self.n_images = len(self.data.x_N)
        self.shape = tuple(self.data.x_N.shape[1:])
        self.x_N = self.data.x_N.to(device)
        self.reads_tokens = bool(self.data.texts) and not self.x_N.is_floating_point()
        """Whether a row is token numbers, which cannot be changed a little as pixels and features can."""
        self.generates = self.data.generates
        y_N = self.data.y_N
        # Units of all rows that can be named, so that a batch's labels are one look-up.
        units = [s.unit_TC[:, y_N].flatten() for s in streams]
        self.unit_LR = torch.stack(units).to(device)
        self.own_LTU = torch.zeros(self.lanes, self.n_tasks, self.n_units, dtype=torch.bool)
        for lane, stream in enumerate(streams):
            for t, task in enumerate(stream.tasks):
                self.own_LTU[lane, t, list(task.units)] = True
        self.own_LTU = self.own_LTU.to(device)
        """Units of each task."""
        self.seen_L1U = torch.ones_like(self.own_LTU[:, :1])
        """Units of the tasks begun so far; all of them before the first, where R's row 0 is measured."""
        self.tap_LTKD = self._stack([s.tap_TKD for s in streams])
        self.weight_LTKD = self._stack([s.weight_TKD for s in streams])
        channels = (1, 1, -1, 1, 1)
        self.mean = torch.tensor(self.data.mean, device=device).view(channels) if self.data.mean else None
        self.std = torch.tensor(self.data.std, device=device).view(channels) if self.data.std else None

        self._ones_of: dict[torch.Size, Tensor] = {}

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as the data set holds it, with its label."""
        return self.x_N[0].nbytes + self.unit_LR.element_size()

    def _ones(self, shape: torch.Size) -> Tensor:
        """Return the weights of a batch of which all rows count, made once for each shape.

        All are views of one number, so torch refuses to write into what many batches share.
        """
        if shape not in self._ones_of:
            self._ones_of[shape] = torch.ones(1, 1, device=self.device).expand(shape)
        return self._ones_of[shape]

    def _stack(self, tables: list[Tensor | None]) -> Tensor | None:
        given = [t for t in tables if t is not None]
        return torch.stack(given).to(self.device) if given else None

    def begin_task(self, task: int) -> None:
        """Mark the units of tasks 0 to ``task`` as seen."""
        self.seen_L1U = self.own_LTU[:, : task + 1].any(1, keepdim=True)

    def steps_of_task(self, task: int) -> tuple[list[int], list[int]]:
        """Return each lane's steps of one pass over a task's rows, and of the whole task."""
        steps = [self.training.steps(len(s.tasks[task].train_rows)) for s in self.streams]
        return [per_pass for per_pass, _ in steps], [whole for _, whole in steps]

    def task_of(self, rows_LB: Tensor) -> Tensor:
        """Return the task of each row, int64."""
        return self.data.task_of(rows_LB)

    def active(self, rows_LB: Tensor) -> Tensor | None:
        """Return the units each row may be given to, bool (L, B or 1, U), or None for all."""
        if self.scenario == "task":
            lanes_L1 = torch.arange(self.lanes, device=self.device).unsqueeze(1)
            return self.own_LTU[lanes_L1, self.task_of(rows_LB)]
        if self.scenario != "domain" and self.training.active == "seen":
            return self.seen_L1U
        return None

    def taught(self, task: int) -> Tensor | None:
        """Return the units that a network had been trained on before a task, (L, 1, U), None for all.

        Not for task-incremental streams, where that differs from row to row. With ``active=seen`` later units
        were never trained, and what a copy of the network says of them is chance.
        """
        if self.scenario == "domain" or self.training.active == "all":
            return None
        return self.own_LTU[:, :task].any(1, keepdim=True)

    def batch(
        self, rows_LB: Tensor, weight_LB: Tensor | None = None, augment_LB3: Tensor | None = None
    ) -> Batch:
        """Gather rows of every lane.

        Args:
            rows_LB: Row numbers, int64.
            weight_LB: 1 for a row that counts, 0 for one that does not; None where all count.
            augment_LB3: Uniform draws for crop (2) and flip (1); None for rows as they are.
        """
        x = self.pixels(rows_LB)
        if augment_LB3 is not None:
            x = _augment(x, augment_LB3)
        y = x[:, :, 1].long() if self.generates else self.unit_LR.gather(1, rows_LB)
        active_LBU = self.active(rows_LB)
        if weight_LB is not None:
            return Batch(x, y, rows_LB, weight_LB, active_LBU)
        ones_LB = self._ones(rows_LB.shape)
        return Batch(x, y, rows_LB, ones_LB, active_LBU, ones_LB)

    def replay(self, rows_LB: Tensor, draws: Draws, weight_LB: Tensor | None = None) -> Batch:
        """Gather remembered rows to learn from them again: augmented as new ones are, anew each time."""
        return self.batch(rows_LB, weight_LB, self.draw_replay(draws, rows_LB.shape[1]))

    def draw_replay(self, draws: Draws, n: int) -> Tensor | None:
        """Return the uniform draws that crop and flip n remembered rows, (L, n, 3); None for none."""
        if not self.training.augment or self.training.raw_replay:
            return None
        return draws.uniform("augment replay", 3 * n).view(-1, n, 3)

    def pixels(self, rows_LB: Tensor) -> Tensor:
        """Return the images of rows as their tasks see them, float32 (L, B, C, H, W).

        Of texts, what a model reads: token numbers (L, B, S) or features (L, B, F), as they are; sequence to
        sequence, the tokens of source and target text (L, B, 2, S).
        """
        lanes, size = rows_LB.shape
        index = self.data.index_of(rows_LB).flatten()
        x = self.x_N.index_select(0, index).view(lanes, size, *self.shape)
        if self.data.texts:
            return x
        x = x.to(torch.float32).mul_(1 / self.data.scale)
        if self.tap_LTKD is not None and self.weight_LTKD is not None:
            x = self._view(x.flatten(2), rows_LB).view_as(x)
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        return x

    def _view(self, x_LBD: Tensor, rows_LB: Tensor) -> Tensor:
        """Resample pixels as each row's task says: a permutation has one tap, a rotation four."""
        assert self.tap_LTKD is not None
        assert self.weight_LTKD is not None
        lanes_L1 = torch.arange(self.lanes, device=self.device).unsqueeze(1)
        task_LB = self.task_of(rows_LB)
        out = torch.zeros_like(x_LBD)
        for k in range(self.tap_LTKD.shape[2]):
            tap_LBD = self.tap_LTKD[lanes_L1, task_LB, k]
            out += self.weight_LTKD[lanes_L1, task_LB, k] * x_LBD.gather(2, tap_LBD)
        return out


def pad_rows(of_lanes: Sequence[Tensor], multiple: int) -> tuple[Tensor, Tensor]:
    """Stack lanes' rows to (L, R), R a multiple of ``multiple``; return them and which are real (1 or 0)."""
    length = max((len(rows) for rows in of_lanes), default=0)
    length = -(-length // multiple) * multiple
    # A lane's own first row fills up: row 0 may be of a class that the first task lacks, with no label there.
    rows_LR = torch.stack(
        [F.pad(r, (0, length - len(r)), value=int(r[0]) if len(r) else 0) for r in of_lanes]
    )
    real_LR = torch.stack([F.pad(torch.ones_like(r), (0, length - len(r))) for r in of_lanes])
    return rows_LR, real_LR


def _augment(x_LBX: Tensor, draw_LB3: Tensor, border: int = 4) -> Tensor:
    """Crop at random after padding by ``border``, then flip half of the images left to right."""
    lanes, size, _, height, width = x_LBX.shape
    padded = F.pad(x_LBX, (border,) * 4)
    top_LB, left_LB = (draw_LB3[..., :2] * (2 * border + 1)).long().unbind(-1)
    across = torch.arange(width, device=x_LBX.device)
    flipped_LB1 = draw_LB3[..., 2:] < 0.5
    across_LBW = torch.where(flipped_LB1, across.flip(0), across) + left_LB.unsqueeze(-1)
    down_LBH = torch.arange(height, device=x_LBX.device) + top_LB.unsqueeze(-1)
    lane = torch.arange(lanes, device=x_LBX.device).view(-1, 1, 1, 1)
    row = torch.arange(size, device=x_LBX.device).view(1, -1, 1, 1)
    picked = padded.permute(0, 1, 3, 4, 2)[lane, row, down_LBH.unsqueeze(-1), across_LBW.unsqueeze(-2)]
    return picked.permute(0, 1, 4, 2, 3)
