"""What comes before and after the steps of a task: reading ahead, rates, tests within it, early stopping."""

from collections.abc import Callable, Iterator

from bench.train.accuracy import AccuracyScorer
from bench.train.early_stopping import EarlyStopping
from bench.train.lane_state import LaneState
from bench.train.read_ahead import ReadAhead
from bench.train.schedule import Schedule

OnProgress = Callable[[int, int], None]
"""A function that is called with the number of steps, or of tasks, that are done and the number of all."""


def around_steps(state: LaneState, schedule: Schedule, on_step: OnProgress | None = None) -> Iterator[int]:
    """Yield the number of each step of a task, from 0; the step is taken before the next one is asked for."""
    every = state.training.score_every
    stopping = EarlyStopping(state, schedule) if state.training.patience else None
    number = -1
    with ReadAhead(state.streams.data, schedule, state.device) as ahead:
        while (number := number + 1) < schedule.n_steps:  # which early stopping makes smaller
            ahead.before(number)
            if (rates := schedule.rates_at(number)) is not None:
                state.optimiser.lr = [lr * rate for lr, rate in zip(state.lr, rates, strict=True)]
            if state.training.prequential:
                _test_first(state, schedule, number)
            yield number
            state.clock.step(number, state.model.counts)
            if on_step:
                on_step(number + 1, schedule.n_steps)
            if every and (number + 1) % every == 0:
                with state.clock.scoring(within_task=True):
                    state.scorer.curve(schedule.task + 1, number + 1, schedule.active(number))
            if stopping:
                stopping.after_step(number)
    if stopping:
        stopping.restore()
    if isinstance(state.scorer, AccuracyScorer):
        state.scorer.end_tests(schedule.task + 1)


def _test_first(state: LaneState, schedule: Schedule, number: int) -> None:
    """Predict the rows of a step before they are learned, if the strategy learns them as they come."""
    assert isinstance(state.scorer, AccuracyScorer)  # bench.plan refuses prequential for generated text
    if state.strategy.trains_on != "task":
        return
    with state.clock.scoring(within_task=True), state.strategy.autocast(), state.draws.restored():
        state.scorer.test_first(state.streams.batch(schedule.rows(number), schedule.weight(number)))
