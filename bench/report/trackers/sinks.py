"""The trackers: each opens with a place and writes one cell after the other; it raises whatever it meets."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from bench.report.trackers.tracked_cell import TrackedCell

PROJECT = "lethe"
"""The experiment or project, if the place names none."""


class Sink(Protocol):
    """A tracker."""

    def write(self, cell: TrackedCell) -> None:
        """Write a cell that has ended, as a run of its own."""


class TensorBoard:
    """Event files, a folder for each cell; ``place`` is the folder above them."""

    def __init__(self, place: str) -> None:
        from torch.utils import tensorboard

        self._folder, self._tensorboard = Path(place), tensorboard

    def write(self, cell: TrackedCell) -> None:
        """Write a cell's event file; what an earlier one of this cell shows is replaced."""
        from torch.utils.tensorboard.summary import hparams

        suite, _, scenario = cell.place.rpartition("/")
        parts = suite, scenario, cell.identity, f"seed {cell.seed} {cell.key[:8]}"
        folder = self._folder.joinpath(*(re.sub(r"[^\w.,=+()\[\] -]", "_", part)[:100] for part in parts))
        with self._tensorboard.SummaryWriter(str(folder), purge_step=0) as writer:
            for step, row in enumerate(cell.rows):
                for name, value in row.items():
                    writer.add_scalar(name, value, step, walltime=cell.ended)
            for name, value in cell.final.items():
                writer.add_scalar(name, value, len(cell.rows) - 1, walltime=cell.ended)
            settings = {
                k: v if isinstance(v, bool | int | float) else str(v) for k, v in cell.settings.items()
            }
            settings["status"] = cell.status
            # Not add_hparams, which makes a second folder for each run.
            for summary in hparams(settings, dict.fromkeys(cell.final, 0.0)):
                writer.file_writer.add_summary(summary)


class MLflow:
    """Runs of an MLflow experiment; ``place`` is a tracking URI, MLflow's own default if it is empty."""

    _MOST_METRICS, _MOST_PARAMS, _LONGEST = 1000, 100, 500
    """What one call may have; the longest value that old servers take."""

    def __init__(self, place: str) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 are minutes without a server
        import mlflow

        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient(tracking_uri=place or None)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)

    def write(self, cell: TrackedCell) -> None:
        """Write a cell as a run, which is named by strategy and seed."""
        of, at = self._entities, int(cell.ended * 1000)
        tags = {"place": cell.place, "key": cell.key, "status": cell.status, "reason": cell.why}
        run = self._client.create_run(self._experiment, at, tags, cell.title).info.run_id
        params = [
            of.Param(name, str(value)[: self._LONGEST]) for name, value in cell.settings.items() if str(value)
        ]
        metrics = [of.Metric(k, v, at, step) for step, row in enumerate(cell.rows) for k, v in row.items()]
        metrics += [of.Metric(name, v, at, max(len(cell.rows) - 1, 0)) for name, v in cell.final.items()]
        for start in range(0, len(params), self._MOST_PARAMS):
            self._client.log_batch(run, params=params[start : start + self._MOST_PARAMS])
        for start in range(0, len(metrics), self._MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[start : start + self._MOST_METRICS])
        self._client.set_terminated(run, "FINISHED" if cell.status == "done" else "FAILED", at)


class ByProject:
    """Runs of a project, by a module with wandb's interface; ``place`` is ``ENTITY/PROJECT``."""

    def __init__(self, module: ModuleType, place: str, **options: Any) -> None:
        entity, _, project = place.rpartition("/")
        self._module, self._options = module, {"project": project or PROJECT, **options}
        if entity:
            self._options["entity"] = entity

    def write(self, cell: TrackedCell) -> None:
        """Write a cell as a run, in a group for suite and scenario."""
        config = {**cell.settings, "status": cell.status, "reason": cell.why}
        run = self._module.init(name=cell.title, group=cell.place, config=config, **self._options)
        for step, row in enumerate(cell.rows or [{}]):
            final = cell.final if step == len(cell.rows) - 1 else {}
            if numbers := {**row, **final}:
                run.log(numbers, step=step)
        run.finish()


def _wandb(place: str) -> Sink:
    import wandb

    # It neither asks for a key nor copies what the terminal shows.
    quiet = wandb.Settings(silent=True, console="off", login_timeout=1)
    return ByProject(wandb, place, reinit="create_new", settings=quiet)


def _trackio(place: str) -> Sink:
    import trackio

    return ByProject(trackio, place, embed=False)


TRACKERS: dict[str, Callable[[str], Sink]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""What ``--track`` takes; the names are those of packages and of Lethe's extras."""
