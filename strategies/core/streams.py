"""The streams of all lanes on one device, and batches made from them.

Axes: L lanes, B batch, N images, T tasks, U units, D pixels, K taps, S tokens; X the axes of one row, as
C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core.draws import Draws
from strategies.core.resident import Resident
from strategies.core.row_units import RowUnits
from suites.base import Stream, Training, generator

_FLOAT_BYTES_CPU, _FLOAT_BYTES_GPU = 2**26, 2**31
"""Largest size in float32 of images that are also stored as such: on a GPU, MNIST and CIFAR."""


@dataclass
class Batch:
    """Rows of every lane, ready for a model."""

    x_LBX: Tensor
    """Input of the model: pixels, features or token numbers; see ``LaneStreams.pixels``."""
    y_LB: Tensor
    """Unit of each row's label, int64; sequence to sequence, the tokens of the target text, (L, B, S)."""
    rows_LB: Tensor
    """Row numbers, int64; suites.base defines them."""
    weight_LB: Tensor
    """1 for a row that is used, 0 for padding and for an empty replay slot."""
    # By a factory: a plain default would be an attribute of the class, and __getattr__ never called.
    active_LBU: Tensor | None = field(default_factory=lambda: None)
    """Units that a row can be classified as, bool (L, B or 1, U); None for all."""
    ones_LB: Tensor | None = None
    """If the batch was made with all weights 1, those weights: a quick test that every row is used."""
    noted: dict[str, Any] = field(default_factory=dict)
    """Values that a method's hooks pass to later hooks of the same step, by the method's name."""

    @property
    def all_count(self) -> bool:
        """Whether every row is known to be used, without reading from the device."""
        return self.weight_LB is self.ones_LB

    @property
    def learns_L(self) -> Tensor:
        """1 for a lane that learns from this batch, 0 for one that rests, shape (L,)."""
        return self.weight_LB.amax(1)

    def mean_L(self, values_LB: Tensor) -> Tensor:
        """Return each lane's weighted mean over its rows, 0 if all weights are 0, shape (L,)."""
        if self.all_count:  # three operations fewer
            return values_LB.mean(1)
        # torch.where, because infinity in a padded row times 0 would be NaN.
        summed_L = torch.where(self.weight_LB > 0, values_LB * self.weight_LB, 0).sum(1)
        return summed_L / self.weight_LB.sum(1).clamp(min=1)

    def __getattr__(self, name: str) -> Any:
        # Called only for what is missing: rows are read from the data when they are first needed, so that
        # new and stored rows that are learned together are also read together.
        if name not in ("x_LBX", "y_LB", "active_LBU") or "_unread" not in self.__dict__:
            raise AttributeError(f"Batch has no attribute {name}")
        vars(self)["_unread"].read(self)
        return self.__dict__[name]

    def rearranged(self, of_rows: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with the tensors of this one, (L, B, ...) each, as a function rearranges them."""
        active_LBU = self.active_LBU
        if active_LBU is not None:
            active_LBU = of_rows(active_LBU.expand(*self.rows_LB.shape, -1))
        x_LBX, y_LB, rows_LB, weight_LB = map(of_rows, (self.x_LBX, self.y_LB, self.rows_LB, self.weight_LB))
        return Batch(x_LBX, y_LB, rows_LB, weight_LB, active_LBU)

    def split(self, at: int) -> tuple[Batch, Batch]:
        """Return the first ``at`` rows and the others, as views."""

        def take(cut: slice) -> Batch:
            weight_LB = self.weight_LB[:, cut]
            return Batch(
                self.x_LBX[:, cut],
                self.y_LB[:, cut],
                self.rows_LB[:, cut],
                weight_LB,
                _rows_of(self.active_LBU, cut),
                weight_LB if self.all_count else None,
            )

        return take(slice(None, at)), take(slice(at, None))


@dataclass
class _Unread:
    """Where the rows of a batch come from, until they are read."""

    streams: LaneStreams
    augment_LB3: Tensor | None
    parts: tuple[Batch, ...] = ()
    """Batches that were joined to this one."""

    def read(self, batch: Batch) -> None:
        """Read the rows of a batch, and give its parts, if they were not read yet, views of the same rows."""
        streams, rows_LB = self.streams, batch.rows_LB
        x = streams.pixels(rows_LB)
        if self.augment_LB3 is not None:
            x = _augment(x, self.augment_LB3)
        batch.x_LBX = x
        batch.y_LB = x[:, :, 1].long() if streams.generates else streams.units(rows_LB)
        batch.active_LBU = streams.active(rows_LB)
        del vars(batch)["_unread"]
        at = 0
        for part in self.parts:
            cut = slice(at, at := at + part.rows_LB.shape[1])
            if "_unread" in vars(part):
                del vars(part)["_unread"]
                part.x_LBX, part.y_LB = batch.x_LBX[:, cut], batch.y_LB[:, cut]
                part.active_LBU = _rows_of(batch.active_LBU, cut)


def _rows_of(active_LBU: Tensor | None, cut: slice) -> Tensor | None:
    return active_LBU if active_LBU is None or active_LBU.shape[1] == 1 else active_LBU[:, cut]


def join_batches(*parts: Batch) -> Batch:
    """Return one batch of the rows of all parts, one part after the other, of the same lanes."""
    unread: list[_Unread] = [vars(p)["_unread"] for p in parts if "_unread" in vars(p)]
    rows_LB = torch.cat([part.rows_LB for part in parts], 1)
    draws = [of.augment_LB3 for of in unread if of.augment_LB3 is not None]
    if len(unread) == len(parts) and len(draws) in (0, len(parts)):
        weight_LB = None if all(p.all_count for p in parts) else torch.cat([p.weight_LB for p in parts], 1)
        augment_LB3 = torch.cat(draws, 1) if draws else None
        return unread[0].streams.batch(rows_LB, weight_LB, augment_LB3, parts)
    active_LBU = _joined_units(parts)
    x_LBX, y_LB, weight_LB = (
        torch.cat([getattr(part, name) for part in parts], 1) for name in ("x_LBX", "y_LB", "weight_LB")
    )
    return Batch(x_LBX, y_LB, rows_LB, weight_LB, active_LBU)


def _joined_units(parts: Sequence[Batch]) -> Tensor | None:
    """Return the active units of the rows of all parts, which are each row's own or the same for all rows."""
    active, rows = [part.active_LBU for part in parts], [part.rows_LB.shape[1] for part in parts]
    known = [of_LBU for of_LBU in active if of_LBU is not None]
    if not known or (len(known) == len(parts) and max(rows) > 1 and all(of.shape[1] == 1 for of in known)):
        return active[0]
    every_L1U = torch.ones_like(known[0][:, :1])
    of_rows = zip([every_L1U if of is None else of for of in active], rows, strict=True)
    return torch.cat([of_LBU.expand(-1, n, -1) for of_LBU, n in of_rows], 1)


class LaneStreams:
    """The streams of all lanes: one copy of the images, and small tables per lane.

    Args:
        streams: One stream per lane, of the same suite and scenario.
        training: The training settings of the cells.
        device: Where the data and the tables are stored.
    """

    def __init__(self, streams: Sequence[Stream], training: Training, device: torch.device | str) -> None:
        first = streams[0]
        self.streams, self.training, self.device = list(streams), training, torch.device(device)
        self.scenario, self.data = first.scenario, first.data
        self.lanes, self.n_tasks, self.n_units = len(streams), len(first.tasks), first.n_units
        self.n_images = len(self.data.x_N)
        self.shape = tuple(self.data.x_N.shape[1:])
        resident = Resident.of(self.data.x_N, self.device)
        self.x_N = resident.tensor
        self.reads_tokens = bool(self.data.texts) and not self.x_N.is_floating_point()
        """Whether rows are token numbers, with which a method cannot compute as with pixels and features."""
        self.generates = self.data.generates
        self.units = RowUnits(streams, self.device)
        """Returns the unit of each row number (L, B), the label of the row."""
        self.own_LTU = torch.zeros(self.lanes, self.n_tasks, self.n_units, dtype=torch.bool)
        for lane, stream in enumerate(streams):
            for t, task in enumerate(stream.tasks):
                self.own_LTU[lane, t, list(task.units)] = True
        self.own_LTU = self.own_LTU.to(device)
        """Units of each task."""
        self.learned_LTU = self.own_LTU.clone()
        """Units of the rows learned in each task: its own, and others if boundaries are not clear."""
        for lane, stream in enumerate(streams):
            for t, task in enumerate(stream.tasks):
                self.learned_LTU[lane, t, list(task.also_units)] = True
        self.seen_L1U = torch.ones_like(self.own_LTU[:, :1])
        """Units of the tasks begun so far; before the first task (row 0 of R) all units."""
        self.tap_LTKD = self._stack([s.tap_TKD for s in streams])
        self.weight_LTKD = self._stack([s.weight_TKD for s in streams])
        channels = (-1, 1, 1)
        self.mean = torch.tensor(self.data.mean, device=device).view(channels) if self.data.mean else None
        self.std = torch.tensor(self.data.std, device=device).view(channels) if self.data.std else None

        self.ones_L = torch.ones(self.lanes, device=device)
        """1 for each lane: the gradient of the sum of the lanes' losses."""
        self._ones_of: dict[torch.Size, Tensor] = {}
        self._float_N: Tensor | None = None
        limit = _FLOAT_BYTES_GPU if self.x_N.is_cuda else _FLOAT_BYTES_CPU
        if not self.data.texts and 4 * self.x_N.numel() <= limit:  # so that no step has to convert them
            made_from = self.tap_LTKD is None, self.data.scale, self.data.mean, self.data.std
            self._float_N = resident.made(made_from, lambda: self._transformed(self.x_N.clone()))
        """The images as ``pixels`` returns them before the views of tasks; None if that takes much memory."""

    def _transformed(self, x: Tensor) -> Tensor:
        """Scale images (..., C, H, W), in place if they are float32; without views also normalise them."""
        x = x.to(torch.float32).mul_(1 / self.data.scale)
        return x if self.tap_LTKD is not None else self._normalised(x)

    def _normalised(self, x: Tensor) -> Tensor:
        return x if self.mean is None or self.std is None else (x - self.mean) / self.std

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as the data set stores it, plus its label."""
        return self.x_N[0].nbytes + self.data.y_N.element_size()

    @property
    def rows_of_largest_class(self) -> int:
        """A bound on the training rows of a unit in a task, which does not depend on the seeds of lanes."""
        largest = int(torch.bincount(self.data.y_N[: self.data.n_train].clamp(min=0)).max())
        tasks = [task for stream in self.streams for task in stream.tasks]
        if not any(len(task.wrong_rows) for task in tasks):
            return largest
        # Wrong labels are those of other classes of the task.
        return min(self.data.n_train, largest * max(len(task.classes) for task in tasks))

    def _ones(self, shape: torch.Size) -> Tensor:
        """Return the weights of a batch with all weights 1, made once for each shape.

        They are expanded from one number, so torch refuses to write into this shared tensor.
        """
        if shape not in self._ones_of:
            self._ones_of[shape] = torch.ones(1, 1, device=self.device).expand(shape)
        return self._ones_of[shape]

    def _stack(self, tables: list[Tensor | None]) -> Tensor | None:
        given = [t for t in tables if t is not None]
        return torch.stack(given).to(self.device) if given else None

    def begin_task(self, task: int) -> None:
        """Mark the units of tasks 0 to ``task`` as seen."""
        self.seen_L1U = self.learned_LTU[:, : task + 1].any(1, keepdim=True)

    def steps_of_task(self, task: int) -> tuple[list[int], list[int]]:
        """Return the number of steps of each lane: of one pass over a task's rows, and of the whole task."""
        training = self.training.of_task(task)
        steps = [training.steps(len(s.tasks[task].train_rows)) for s in self.streams]
        return [per_pass for per_pass, _ in steps], [whole for _, whole in steps]

    def task_of(self, rows_LB: Tensor) -> Tensor:
        """Return the task of each row, int64."""
        return self.data.task_of(rows_LB)

    def generators(self, name: str) -> list[torch.Generator]:
        """Return a CPU random generator of each lane, from its seed and the name of what is drawn."""
        return [generator(stream.seed, name) for stream in self.streams]

    def units_of(self, lane: int, rows_R: Tensor) -> Tensor:
        """Return the unit of each row number of one lane, int64 (R,)."""
        return self.units(rows_R.unsqueeze(0), slice(lane, lane + 1))[0]

    def active(self, rows_LB: Tensor) -> Tensor | None:
        """Return the units that each row can be classified as, bool (L, B or 1, U), or None for all."""
        if self.scenario == "task":
            lanes_L1 = torch.arange(self.lanes, device=self.device).unsqueeze(1)
            return self.own_LTU[lanes_L1, self.task_of(rows_LB)]
        if self.scenario != "domain" and self.training.active == "seen":
            return self.seen_L1U
        return None

    def taught(self, task: int) -> Tensor | None:
        """Return the units that were trained before a task, bool (L, 1, U), None for all.

        Not for task-incremental streams, where this differs from row to row. With ``active=seen`` later units
        were never trained, so their logits in a copy of the network are arbitrary.
        """
        if self.scenario == "domain" or self.training.active == "all":
            return None
        return self.learned_LTU[:, :task].any(1, keepdim=True)

    def batch(
        self,
        rows_LB: Tensor,
        weight_LB: Tensor | None = None,
        augment_LB3: Tensor | None = None,
        parts: tuple[Batch, ...] = (),
    ) -> Batch:
        """Return a batch of rows of every lane; they are read from the data when they are first needed.

        Args:
            rows_LB: Row numbers, int64.
            weight_LB: 1 for a row that is used, 0 for one that is not; None if all are used.
            augment_LB3: Uniform draws for crop (2) and flip (1); None for no augmentation.
            parts: Batches of which these are the rows, in this order.
        """
        batch: Batch = object.__new__(Batch)
        batch.rows_LB, batch.noted, batch.ones_LB = rows_LB, {}, None
        if weight_LB is None:
            weight_LB = batch.ones_LB = self._ones(rows_LB.shape)
        batch.weight_LB = weight_LB
        vars(batch)["_unread"] = _Unread(self, augment_LB3, parts)
        return batch

    def replay(self, rows_LB: Tensor, draws: Draws, weight_LB: Tensor | None = None) -> Batch:
        """Return a batch of stored rows to train on, with new crops and flips if training augments rows."""
        return self.batch(rows_LB, weight_LB, self.draw_replay(draws, rows_LB.shape[1]))

    def draw_replay(self, draws: Draws, n: int) -> Tensor | None:
        """Return uniform draws for crops and flips of n stored rows, (L, n, 3); None for no augmentation."""
        if not self.training.augment or self.training.raw_replay:
            return None
        return draws.uniform("augment replay", 3 * n).view(-1, n, 3)

    def pixels(self, rows_LB: Tensor) -> Tensor:
        """Return the images of rows as transformed by their tasks, float32 (L, B, C, H, W).

        For texts, the model's input, not transformed: token numbers (L, B, S) or features (L, B, F); sequence
        to sequence, the tokens of source and target text (L, B, 2, S).
        """
        lanes, size = rows_LB.shape
        index = self.data.index_of(rows_LB).flatten()
        stored_N = self.x_N if self._float_N is None else self._float_N
        x = stored_N.index_select(0, index).view(lanes, size, *self.shape)
        if self.data.texts:
            return x
        if self._float_N is None:
            x = self._transformed(x)
        if self.tap_LTKD is not None:
            x = self._normalised(self._view(x.flatten(2), rows_LB).view_as(x))
        return x

    def _view(self, x_LBD: Tensor, rows_LB: Tensor) -> Tensor:
        """Resample pixels by each row's task: a permutation reads one source pixel (tap), a rotation four."""
        assert self.tap_LTKD is not None
        assert self.weight_LTKD is not None
        lanes_L1 = torch.arange(self.lanes, device=self.device).unsqueeze(1)
        task_LB = self.task_of(rows_LB)
        out = torch.zeros_like(x_LBD)
        for k in range(self.tap_LTKD.shape[2]):
            tap_LBD = self.tap_LTKD[lanes_L1, task_LB, k]
            out += self.weight_LTKD[lanes_L1, task_LB, k] * x_LBD.gather(2, tap_LBD)
        return out


def pad_rows(of_lanes: Sequence[Tensor], multiple: int, least: int = 0) -> tuple[Tensor, Tensor]:
    """Pad lanes' rows to (L, R), R a multiple of ``multiple``; return them and which are real (1 or 0).

    R is ``least`` or more, also if no lane has rows.
    """
    length = max((len(rows) for rows in of_lanes), default=0)
    length = max(length, least)
    length = -(-length // multiple) * multiple
    # Pad with the lane's first row: row 0 may be of a class that has no label in the first task.
    rows_LR = torch.stack(
        [F.pad(r, (0, length - len(r)), value=int(r[0]) if len(r) else 0) for r in of_lanes]
    )
    real_LR = torch.stack([F.pad(torch.ones_like(r), (0, length - len(r))) for r in of_lanes])
    return rows_LR, real_LR


def _augment(x_LBX: Tensor, draw_LB3: Tensor, border: int = 4) -> Tensor:
    """Pad by ``border`` and crop at random, then flip half of the images left to right."""
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
