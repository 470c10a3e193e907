"""Continual learning over lanes: the stream, a task, a step and a score, on one screen.

The tasks of a stream come one after the other. A model learns the rows of a task in small batches and does
not see them again unless its strategy replays some. After every task it is tested on the rows of all tasks:
the columns of the score matrix R show what it forgets.

A group of lanes is trained together. Parameters have shape (L, ...) and batches (L, B, ...), so each step is
a step of every lane, and no lane's numbers depend on its neighbours'. Nothing within a task waits for the
device: losses stay on it until the task has ended.

group makes the lanes (lane_state) and has them trained here. schedule draws the batches, around_steps does
what comes between two steps, saving writes checkpoints and models, lane_record makes the records.

Axes: L lanes, B batch.
"""

import torch
from torch import Tensor

from bench.plan import Fields
from bench.train.around_steps import OnProgress, around_steps
from bench.train.captured import CapturedSteps
from bench.train.clock import FIRST_STEPS
from bench.train.lane_record import make_record, note_task
from bench.train.lane_state import LaneState
from bench.train.saving import Saver, Saving
from bench.train.schedule import Schedule, schedule_task
from strategies.core import copy_buffers, is_measured, per_lane_loss, restore_buffers


def run_lanes(
    state: LaneState,
    saving: Saving | None = None,
    progress: OnProgress | None = None,
    on_step: OnProgress | None = None,
) -> list[Fields]:
    """Train and test the lanes of one group on their streams; return their records. See ``run_group``."""
    n_tasks = state.streams.n_tasks
    with Saver(state, saving or Saving()) as saver:
        if saver.tasks_done == 0:
            score(state, 0)  # row 0 of R: the model before any training
        for task in range(saver.tasks_done, n_tasks):
            if progress:
                progress(task, n_tasks)
            if learned := learn_task(state, task, on_step):
                score(state, task + 1)
            saver.after_task(task + 1, learned)
    if progress:
        progress(n_tasks, n_tasks)
    return [make_record(state, lane) for lane in range(state.lanes)]


def learn_task(state: LaneState, task: int, on_step: OnProgress | None = None) -> bool:
    """Train on one task, counted from 0; return whether it had anything to learn."""
    schedule = begin_task(state, task)
    if schedule is None:
        state.loss.append([None] * state.lanes)
        state.own_shares.append([None] * state.lanes)
        return False
    total_L = take_steps(state, schedule, on_step)
    if state.shows_boundary(task + 1):
        state.strategy.end_task(task)  # consolidate: Fisher information, exemplars, a snapshot of the model
    state.clock.stop(schedule.samples, schedule.samples_of_first(FIRST_STEPS), state.model.counts)
    note_task(state, total_L / torch.tensor(schedule.steps, device=state.device), task)
    return True


def begin_task(state: LaneState, task: int) -> Schedule | None:
    """Prepare a task; return its batches, None if the strategy learns nothing in it."""
    strategy = state.strategy
    schedule = schedule_task(state.streams, task, strategy)
    if schedule is None:  # a strategy that learns all tasks at once waits for the last one
        return None
    if strategy.restarts:
        state.model.load_state_dict(state.initial)
    if state.training.reset_optimiser or strategy.restarts:
        state.optimiser.reset()
    state.draws.begin(task)  # random numbers of a task do not depend on those drawn before
    state.streams.begin_task(task)
    state.model.train()
    state.clock.start()
    if state.shows_boundary(task):
        strategy.task = task
        strategy.begin_task(task)
    return schedule


def take_steps(state: LaneState, schedule: Schedule, on_step: OnProgress | None = None) -> Tensor:
    """Take all steps of a task; return the summed loss of each lane, on the device, shape (L,)."""
    total_L = torch.zeros(state.lanes, device=state.device)
    captured = CapturedSteps(state, schedule, learn_rows, total_L)
    for number in around_steps(state, schedule, on_step):
        if not captured.took(number):  # by replaying a captured step on a GPU
            total_L += step(state, schedule, number)
    captured.end()
    return total_L


def step(state: LaneState, schedule: Schedule, number: int) -> Tensor:
    """Take one step of a task, counted from 0; return each lane's loss, shape (L,)."""
    strategy, model = state.strategy, state.model
    # Task sizes differ between seeds: lanes with fewer steps than the longest are inactive at the end.
    active = schedule.active(number)
    buffers = [] if active is None else copy_buffers(model)
    strategy.context.active = active
    if state.own_term is not None and is_measured(number):
        state.own_term.active_L = None if active is None else schedule.active_L(number)
        strategy.context.own_term = state.own_term
    loss_L = learn_rows(state, schedule.rows(number), schedule.weight(number))
    if active is None:
        return loss_L
    restore_buffers(model, buffers, schedule.active_L(number))
    return torch.where(schedule.active_L(number), loss_L, 0)  # inactive lanes have no loss


def learn_rows(state: LaneState, rows_LB: Tensor, weight_LB: Tensor | None = None) -> Tensor:
    """Learn rows of every lane, in one step; return each lane's loss, shape (L,)."""
    strategy = state.strategy
    for p in state.optimiser.parameters:
        p.grad = None
    batch = state.streams.batch(rows_LB, weight_LB, state.draw_augmentation(rows_LB))
    # Forward, backward and optimiser, unless the method does otherwise.
    loss_L = per_lane_loss(strategy, "learn", strategy.learn(batch))
    strategy.context.own_term = None
    strategy.after_step(batch)
    return loss_L


def score(state: LaneState, row: int) -> None:
    """Measure one row of R: test and validation rows of all tasks, after ``row`` tasks."""
    with state.clock.scoring(within_task=False), state.strategy.autocast():
        state.scorer.measure(row)
