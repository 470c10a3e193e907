"""Continual learning over lanes: the stream, a task, a step and a score, on one screen.

The tasks of a stream come one after the other. A model learns the rows of a task in small batches and does
not see them again unless its strategy replays some. After every task it is tested on the rows of all tasks:
the columns of the score matrix R show what it forgets.

A group of lanes is trained together. Parameters have shape (L, ...) and batches (L, B, ...), so each step is
a step of every lane, and no lane's numbers depend on its neighbours'. Nothing within a task waits for the
device: losses stay on it until the task has ended.

lane_state makes streams, model, optimiser, strategy and scorer, schedule draws the batches, lane_record and
checkpointing save the results.

Axes: L lanes, B batch.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.plan import CellSpec, Fields
from bench.train.accuracy import AccuracyScorer
from bench.train.arithmetic import arithmetic
from bench.train.background import Background
from bench.train.captured import CapturedSteps
from bench.train.checkpointing import Checkpoints, Models, resume, save_checkpoint, save_models
from bench.train.clock import FIRST_STEPS
from bench.train.early_stopping import EarlyStopping
from bench.train.lane_record import make_record, note_task
from bench.train.lane_state import LaneState, WarmStart, make_lanes
from bench.train.read_ahead import ReadAhead
from bench.train.schedule import Schedule, schedule_task
from strategies.core import copy_buffers, is_measured, per_lane_loss, restore_buffers
from suites.base import Data, Training


class Paused(Exception):
    """The lanes are saved after as many tasks as were asked for."""


def run_group(
    specs: Sequence[CellSpec],
    *,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    models: Models | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    data: Data | None = None,
    warm_start: WarmStart | None = None,
    until: int = 0,
    checkpoint_every: float = 0.0,
    graph: bool = True,
) -> list[Fields]:
    """Train and test the cells of one group on their streams and return their records, in the same order.

    Args:
        specs: The cells of one group (``CellSpec.group_key``), one per lane.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        checkpoints: Where lanes are saved after a task; they resume if all have done the same number of
            tasks.
        models: Where trained models are saved.
        progress: Called with the number of tasks done and the number of all tasks.
        on_step: Called after every step with its number, from 1, and the number of steps of the task.
        data: The data set of the suite, if it is already loaded.
        warm_start: Loads the exported model that cells continue from.
        until: The number of tasks after which to stop at a checkpoint; 0 for all.
        checkpoint_every: Seconds between two checkpoints at least; 0 to save after every task.
        graph: Whether steps that are alike are captured once and replayed, on a GPU.

    Raises:
        Paused: The lanes have stopped there.
    """
    with arithmetic(Training(**specs[0].training), device):
        state = make_lanes(specs, device, data, warm_start)
        if not graph:
            state.new_graph, state.not_replayed = None, "--no-graph"
        return run_lanes(state, checkpoints, models, progress, on_step, until, checkpoint_every)


def run_lanes(
    state: LaneState,
    checkpoints: Checkpoints | None = None,
    models: Models | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    until: int = 0,
    checkpoint_every: float = 0.0,
) -> list[Fields]:
    """Train and test prepared lanes and return their records; see ``run_group``."""
    n_tasks, saved = state.streams.n_tasks, time.monotonic()
    done = resume(state, checkpoints) if checkpoints else 0
    if done == 0:
        score(state, 0)  # row 0 of R: the model before any training
    with Background() as background:
        for task in range(done, n_tasks):
            if progress:
                progress(task, n_tasks)
            if learn_task(state, task, on_step):
                score(state, task + 1)
                if models and models.wanted(task + 1, n_tasks):
                    save_models(state, models, task + 1)
            pauses = 0 < until <= task + 1
            due = pauses or time.monotonic() - saved >= checkpoint_every
            if checkpoints and task + 1 < n_tasks and due:
                save_checkpoint(state, checkpoints, task + 1, background)
                saved = time.monotonic()
                if pauses:
                    background.wait()
                    raise Paused
    if progress:
        progress(n_tasks, n_tasks)
    return [make_record(state, lane) for lane in range(state.lanes)]


def learn_task(state: LaneState, task: int, on_step: Callable[[int, int], None] | None = None) -> bool:
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
    strategy, training = state.strategy, state.training
    schedule = schedule_task(state.streams, task, strategy)
    if schedule is None:  # a strategy that learns all tasks at once waits for the last one
        return None
    if strategy.restarts:
        state.model.load_state_dict(state.initial)
    if training.reset_optimiser or strategy.restarts:
        state.optimiser.reset()
    state.draws.begin(task)  # random numbers of a task do not depend on those drawn before
    state.streams.begin_task(task)
    state.model.train()
    state.clock.start()
    if state.shows_boundary(task):
        strategy.task = task
        strategy.begin_task(task)
    return schedule


def take_steps(
    state: LaneState, schedule: Schedule, on_step: Callable[[int, int], None] | None = None
) -> Tensor:
    """Take all steps of a task; return the summed loss of each lane, on the device, shape (L,)."""
    total_L, every = torch.zeros(state.lanes, device=state.device), state.training.score_every
    captured = CapturedSteps(state, schedule, learn_rows, total_L)
    stopping = EarlyStopping(state, schedule) if state.training.patience else None
    number = -1
    with ReadAhead(state.streams.data, schedule, state.device) as ahead:
        while (number := number + 1) < schedule.n_steps:
            ahead.before(number)
            set_rates(state, schedule, number)
            if state.training.prequential:
                test_first(state, schedule, number)
            if not captured.took(number):
                total_L += step(state, schedule, number)
            state.clock.step(number, state.model.counts)
            if on_step:
                on_step(number + 1, schedule.n_steps)
            if every and (number + 1) % every == 0:
                with state.clock.scoring(within_task=True):
                    state.scorer.curve(schedule.task + 1, number + 1, schedule.active(number))
            if stopping:
                stopping.after_step(number)
    captured.end()
    if stopping:
        stopping.restore()
    if isinstance(state.scorer, AccuracyScorer):
        state.scorer.end_tests(schedule.task + 1)
    return total_L


def set_rates(state: LaneState, schedule: Schedule, number: int) -> None:
    """Set the learning rates of a step, counted from 0."""
    if (rates := schedule.rates_at(number)) is not None:
        state.optimiser.lr = [lr * rate for lr, rate in zip(state.lr, rates, strict=True)]


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


def test_first(state: LaneState, schedule: Schedule, number: int) -> None:
    """Predict the rows of a step before they are learned, if the strategy learns them as they come."""
    assert isinstance(state.scorer, AccuracyScorer)  # bench.plan refuses prequential for generated text
    if state.strategy.trains_on != "task":
        return
    with state.clock.scoring(within_task=True), state.strategy.autocast(), state.draws.restored():
        state.scorer.test_first(state.streams.batch(schedule.rows(number), schedule.weight(number)))


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
