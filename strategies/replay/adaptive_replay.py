"""Replay whose frequency and strength follow the forgetting it measures.

Axes: L lanes, B batch, M memory slots, U units, T tasks, K series of the schedule, S parts of all tasks,
P parts of one task.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from strategies.core import (
    Batch,
    Bounds,
    Count,
    CountOrNone,
    LaneFloat,
    NotNegative,
    Search,
    Share,
    Unsuitable,
    copy_buffers,
    eval_mode,
    only_if,
    restore_buffers,
    splitmix64,
)
from strategies.parts import Memory, Rehearsal
from suites.base import derive

PARTS = 20
"""Number of equal parts of a task; the recorded schedule has one entry for each part."""
SCHEDULE = ("step", "error", "forgetting", "strength", "frequency", "reviews_so_far")


class AdaptiveReplay(Rehearsal):
    """Replay more often and more strongly, the more is forgotten of watched rows that are never replayed.

    The loss is L_new + lambda L_old at steps that review and L_new at the others. Every few steps a detector
    measures the error 1 - p(y|x) of the watched rows of earlier tasks. Forgetting F is the mean difference
    between a row's error and its lowest error so far. With u = min(F / alarm, 1),

        lambda = lam (1 + boost u),   share of steps that review = calm + (1 - calm) u.

    At most ``rate`` of the steps so far review. Reviews saved while little is forgotten can be spent later.
    """

    name = "adaptive-replay"
    adds_gradient = False
    cost = 2.1  # steps without review compute it too, at weight 0; watching is a tenth
    paper = "a method of this library"
    needs = "a memory of rows, a part of it only for watching"

    watch: Annotated[int, Bounds(2)] = 10
    """One in ``watch`` rows is only watched, never replayed; it has one in ``watch`` slots of the memory."""
    every: Count = 10
    """Steps between two readings of the detector."""
    control: Literal["adaptive", "fixed"] = "adaptive"
    """adaptive: forgetting sets frequency and strength; fixed: a share ``rate`` of steps reviews, at strength
    ``lam``."""
    batch: CountOrNone = 0
    """Stored rows in a step that reviews; 0 for the number of new rows."""
    rate: Share = LaneFloat(0.25)
    """Largest share of the steps, from the second task on, that may review."""
    lam: Annotated[NotNegative, Search(0.3, 10, log=True)] = LaneFloat(3.0)
    """Weight of the loss on stored rows when nothing is forgotten."""
    boost: Annotated[NotNegative, Search(0.5, 8, log=True), only_if("control", "adaptive")] = LaneFloat(2.0)
    """At full alarm the weight is (1 + boost) times ``lam``."""
    calm: Annotated[Share, only_if("control", "adaptive")] = LaneFloat(0.1)
    """Share of steps that review when nothing is forgotten."""
    alarm: Annotated[LaneFloat, Bounds(1e-6), only_if("control", "adaptive")] = LaneFloat(0.1)
    """Forgetting (rise of the mean error) at which review is most frequent and strongest."""

    def setup(self) -> None:
        """Divide the memory between review and watching; start at frequency 1 and strength ``lam``."""
        streams, lanes, device = self.streams, self.streams.lanes, self.streams.device
        if self.buffer < 2:
            raise Unsuitable("adaptive-replay needs one row to watch and one to review: set buffer=2 or more")
        watched = max(1, self.buffer // self.watch)
        self.memory = Memory(self.buffer - watched, streams, self.draws)
        self.watched = Memory(watched, streams, self.draws, {"best": ()})
        self.frequency_L = torch.ones(lanes, device=device)
        self.strength_L = self.lam.clone()
        self.due_L = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.steps_L, self.since_L, self.eligible_L, self.reviews_L, self.replayed_L = torch.zeros(
            5, lanes, dtype=torch.long, device=device
        ).unbind()
        shape = (lanes, len(SCHEDULE), streams.n_tasks * PARTS)
        self.schedule_LKS = torch.full(shape, torch.nan, device=device)
        keys = [derive(stream.seed, "watched rows") for stream in streams.streams]
        self._key_L1 = torch.tensor(keys, device=device).unsqueeze(1)
        lengths = [streams.steps_of_task(task)[1] for task in range(streams.n_tasks)]
        self._length_LT = torch.tensor(lengths, device=device).T
        self._shown = streams.training.boundaries == "shown"
        self._since = [0] * lanes

    def begin_task(self, task: int) -> None:
        """Let the detector read at the first step of the task."""
        self.since_L.zero_()
        self._since = [0] * self.streams.lanes

    # A step.

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        """Return the loss on stored rows, 0 in lanes that do not review at this step."""
        active_L = batch.learns_L > 0
        # The host knows whether any lane reads at this step, the device which lanes do.
        active = self.context.active or (True,) * self.streams.lanes
        if any(on and n % self.every == 0 for n, on in zip(self._since, active, strict=True)):
            self.measure(batch, active_L & (self.since_L % self.every == 0))
        self._since = [n + on for n, on in zip(self._since, active, strict=True)]
        review_L = self.reviews_now(active_L)
        old = self.replayed(batch)
        old = replace(old, weight_LB=old.weight_LB * review_L.unsqueeze(1))
        self.replayed_L += old.weight_LB.sum(1).long()
        batch.noted[self.name] = copy_buffers(self.model), review_L
        return self.strength_L * self.cross_entropy(self.logits(old), old)

    def adjust_gradients(self) -> None:
        """Restore the running statistics of lanes that do not review: they must not see these rows."""
        restore_buffers(self.model, *self.context.batch.noted[self.name])

    @torch.no_grad()
    def measure(self, batch: Batch, due_L: Tensor) -> None:
        """Measure the errors of the watched rows; set frequency and strength from the forgetting."""
        m = torch.arange(self.watched.slots, device=due_L.device)
        slots_LM = torch.minimum(m, (self.watched.filled_L - 1).clamp(min=0).unsqueeze(1))
        rows = self.watched.read(slots_LM, batch, raw=True)
        with eval_mode(self.model), self.autocast():
            logits_LMU = self.logits(rows)
        error_LM = 1 - logits_LMU.float().softmax(2).gather(2, rows.y_LB.unsqueeze(2)).squeeze(2)
        best_LM = self.watched.kept["best"][:, :-1]
        best_LM.copy_(torch.where(due_L.unsqueeze(1), torch.minimum(best_LM, error_LM), best_LM))
        old_LM = m < self.watched.filled_L.unsqueeze(1)
        if self._shown:
            old_LM = old_LM & (self.streams.task_of(rows.rows_LB) < self.task)
        n_L = old_LM.sum(1)
        error_L = (error_LM * old_LM).sum(1) / n_L
        forgetting_L = ((error_LM - best_LM) * old_LM).sum(1) / n_L.clamp(min=1)
        if self.control == "adaptive":
            self.control_by(forgetting_L, due_L)
        self._record(due_L, error_L, forgetting_L)

    def control_by(self, forgetting_L: Tensor, due_L: Tensor) -> None:
        """Set frequency and strength: linear in the forgetting, constant above ``alarm``."""
        u_L = (forgetting_L / self.alarm).clamp(max=1)
        self.frequency_L.copy_(torch.where(due_L, self.calm + (1 - self.calm) * u_L, self.frequency_L))
        self.strength_L.copy_(torch.where(due_L, self.lam * (1 + self.boost * u_L), self.strength_L))

    def reviews_now(self, active_L: Tensor) -> Tensor:
        """Return which lanes review at this step: those whose turn it is and whose budget allows it."""
        eligible_L = active_L & (self.memory.filled_L > 0)
        if self._shown and self.task == 0:  # nothing is old yet
            eligible_L = torch.zeros_like(eligible_L)
        self.eligible_L += eligible_L
        self.due_L += torch.where(eligible_L, self.frequency_L.double(), 0)
        # ``rate`` was rounded to float32: add 1e-7 of it, so that 0.7 x 10 allows seven reviews.
        rate_L = self.rate.double() * (1 + 1e-7)
        review_L = eligible_L & (self.due_L >= 1) & (self.reviews_L < (rate_L * self.eligible_L).floor())
        # A turn that the budget refused is postponed; refused turns do not accumulate.
        self.due_L.sub_(review_L.double()).clamp_(max=1)
        self.reviews_L += review_L
        self.steps_L += active_L
        self.since_L += active_L
        return review_L

    def after_step(self, batch: Batch) -> None:
        """Offer each row to its reservoir, review or watching; a row never changes between the two."""
        watched_LB = self.only_watched(batch.rows_LB)
        self.memory.write(replace(batch, weight_LB=batch.weight_LB * ~watched_LB))
        # An error is at most 1, so that the first reading becomes the lowest.
        watched = replace(batch, weight_LB=batch.weight_LB * watched_LB)
        self.watched.write(watched, best=torch.ones_like(batch.weight_LB))

    def only_watched(self, rows_LB: Tensor) -> Tensor:
        """Return which rows are only watched: a hash of seed and row number decides in every epoch."""
        return splitmix64(self._key_L1 + splitmix64(rows_LB)) % self.watch == 0

    # Records.

    def _record(self, due_L: Tensor, error_L: Tensor, forgetting_L: Tensor) -> None:
        """Store a reading and the resulting settings in the current part of the task."""
        end_LT = self._length_LT.cumsum(1)
        task_L1 = (self.steps_L.unsqueeze(1) >= end_LT[:, :-1]).sum(1, keepdim=True)
        length_L1 = self._length_LT.gather(1, task_L1)
        step_L1 = self.steps_L.unsqueeze(1) - end_LT.gather(1, task_L1) + length_L1
        at_L1 = task_L1 * PARTS + (step_L1 * PARTS // length_L1).clamp(max=PARTS - 1)
        values = (step_L1[:, 0], error_L, forgetting_L, self.strength_L, self.frequency_L, self.reviews_L)
        at_LK1 = at_L1.unsqueeze(1).expand(-1, len(values), 1)
        new_LK1 = torch.stack([v.float() for v in values], 1).unsqueeze(2)
        before_LK1 = self.schedule_LKS.gather(2, at_LK1)
        self.schedule_LKS.scatter_(2, at_LK1, torch.where(due_L.view(-1, 1, 1), new_LK1, before_LK1))

    def notes(self) -> dict[str, Tensor]:
        """Return the schedule, each series (L, T, P); and counts of steps, reviews and rows, each (L,)."""
        # Rounded, as doubles, so that a record stays short.
        schedule_LKTP = self.schedule_LKS.double().round(decimals=5).unflatten(2, (-1, PARTS))
        return {
            **dict(zip(SCHEDULE, schedule_LKTP.unbind(1), strict=True)),
            "eligible_steps": self.eligible_L,
            "reviews": self.reviews_L,
            "replayed": self.replayed_L,
        }
