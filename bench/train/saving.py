"""What is saved while a group is trained: checkpoints, from which it resumes, and models."""

import time
from dataclasses import dataclass

from bench.train.background import Background
from bench.train.checkpointing import Checkpoints, Models, resume, save_checkpoint, save_models
from bench.train.lane_state import LaneState


class Paused(Exception):
    """The lanes are saved after as many tasks as were asked for."""


@dataclass(frozen=True)
class Saving:
    """Where and when a group is saved; without places nothing is."""

    checkpoints: Checkpoints | None = None
    """Where lanes are saved after a task; they resume if all have done the same number of tasks."""
    models: Models | None = None
    """Where trained models are saved."""
    every: float = 0.0
    """Seconds between two checkpoints at least; 0 to save after every task."""
    until: int = 0
    """The number of tasks after which to stop at a checkpoint; 0 for all."""


class Saver(Background):
    """Resumes a group from its checkpoints, and saves it after its tasks."""

    def __init__(self, state: LaneState, saving: Saving) -> None:
        super().__init__()
        self.state, self.saving, self._last = state, saving, time.monotonic()
        self.tasks_done = resume(state, saving.checkpoints) if saving.checkpoints else 0

    def after_task(self, tasks_done: int, learned: bool) -> None:
        """Save models if a task was learned, and a checkpoint if it is time for one.

        Raises:
            Paused: The lanes have done as many tasks as were asked for, and are saved.
        """
        saving, n_tasks = self.saving, self.state.streams.n_tasks
        if saving.models and learned and saving.models.wanted(tasks_done, n_tasks):
            save_models(self.state, saving.models, tasks_done)
        pauses = 0 < saving.until <= tasks_done
        due = pauses or time.monotonic() - self._last >= saving.every
        if saving.checkpoints and tasks_done < n_tasks and due:
            save_checkpoint(self.state, saving.checkpoints, tasks_done, self)
            self._last = time.monotonic()
            if pauses:
                self.wait()
                raise Paused
