"""A separate network for every task.

Axes: L lanes, B batch, U units.
"""

from torch import Tensor

from strategies.core import Batch, Strategy
from strategies.parts import by_task, one_per_task


class Independent(Strategy):
    """A separate network for each task, from its own initial weights: no forgetting and no transfer."""

    name = "independent"
    family = "isolation"
    paper = "van de Ven, Tuytelaars & Tolias 2022, Three types of incremental learning"
    needs = "the task of every row, a network per task"
    scenarios = ("task",)
    needs_boundaries = True
    restarts = True
    presets = {"vandeven2022": {"hidden": 100}}

    def setup(self) -> None:
        """Create every task's network."""
        self.networks = one_per_task(self.model, self.streams)

    def begin_task(self, task: int) -> None:
        """Load the task's network into the trained model."""
        self.model.load_state_dict(self.networks[task].state_dict())

    def end_task(self, task: int) -> None:
        """Store the trained network."""
        self.networks[task].load_state_dict(self.model.state_dict())

    def predict(self, batch: Batch) -> Tensor:
        """Predict each row with the network of its task."""
        networks = [self.model if t == self.task else n for t, n in enumerate(self.networks)]
        return by_task([self.logits(batch, n) for n in networks], self.streams.task_of(batch.rows_LB))
