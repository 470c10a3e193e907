"""A group of cells from its specs to its records."""

from collections.abc import Sequence

from bench.plan import CellSpec, Fields
from bench.train.arithmetic import arithmetic
from bench.train.around_steps import OnProgress
from bench.train.checkpointing import Checkpoints, Models
from bench.train.lane_state import WarmStart, make_lanes
from bench.train.loop import run_lanes
from bench.train.saving import Saving
from suites.base import Data, Training


def run_group(
    specs: Sequence[CellSpec],
    *,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    models: Models | None = None,
    progress: OnProgress | None = None,
    on_step: OnProgress | None = None,
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
        return run_lanes(state, Saving(checkpoints, models, checkpoint_every, until), progress, on_step)
