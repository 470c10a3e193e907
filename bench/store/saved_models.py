"""Trained models of cells, saved with ``--keep-models``.

    RUN/models/<key>/<task>/model.safetensors   the lane's parameters and buffers, after so many tasks
    RUN/models/<key>/<task>/facts.json          its header, written last: where it exists, both are complete

They are not part of a cell's key or record. They are written before the checkpoint of their task, so that a
run that is killed and continued has the same ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.schema import Fields, SavedModelHeader, Unreadable
from bench.store.files import read_tensors, write_checked, write_tensors
from suites.errors import UserError
from suites.paths import read_file

if TYPE_CHECKING:
    from torch import Tensor

WHICH = ("last", "all")
"""The model after the last task, or after every task."""


class SavedModels:
    """The models in one run's folder; ``which`` of them a run is to write, empty for none.

    ``codes`` are the fingerprints of the code that runs the cells it writes the models of, by key.
    """

    def __init__(self, run: Path, which: str = "", codes: Mapping[str, str] | None = None) -> None:
        self.run, self.folder, self.which, self.codes = run, run / "models", which, codes or {}

    def wanted(self, tasks_done: int, n_tasks: int) -> bool:
        """Return whether the model after this number of tasks is saved."""
        return self.which == "all" or (self.which == "last" and tasks_done == n_tasks)

    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], header: Fields) -> None:
        """Save the model of a cell after a task."""
        folder = self.folder / key / str(tasks_done)
        for new in (self.folder, folder.parent, folder):  # if the run's folder was removed, it stays so
            new.mkdir(exist_ok=True)
        crc32 = write_tensors(folder / "model.safetensors", tensors)
        named = {"schema": SavedModelHeader.VERSION, "key": key, "tasks_done": tasks_done}
        named |= {"code": self.codes.get(key, ""), "crc32_of_tensors": crc32}
        write_checked(folder / "facts.json", named | header)

    def supersede(self) -> None:
        """Move models that other code trained into ``superseded/``.

        Raises:
            UserError: where they cannot be moved.
        """
        aside = self.run / "superseded" / "models" / uuid.uuid4().hex[:12]
        for key in [key for key, code in self.codes.items() if self._code(key) not in (None, code)]:
            try:
                aside.mkdir(parents=True, exist_ok=True)
                (self.folder / key).replace(aside / key)
            except FileNotFoundError:  # another command was first
                continue
            except OSError as error:
                raise UserError(f"cannot write into {aside}: {error.strerror}") from None

    def _code(self, key: str) -> str | None:
        """Return the fingerprint of the code of a cell's models, None if none is saved."""
        try:
            tasks = self.tasks(key)
            return self.header(key, tasks[-1]).code if tasks else None
        except UserError:  # it is not whole
            return ""

    def tasks(self, key: str) -> list[int]:
        """Return the numbers of tasks after which models of a cell were saved, ascending."""
        found = (p.parent.name for p in (self.folder / key).glob("*/facts.json"))
        return sorted(int(name) for name in found if name.isdigit())

    def cells(self) -> list[str]:
        """Return the keys of cells with saved models, sorted."""
        return sorted({path.parent.parent.name for path in self.folder.glob("*/*/facts.json")})

    def header(self, key: str, task: int) -> SavedModelHeader:
        """Return the header of a saved model; raises UserError if it is incomplete."""
        path = self.folder / key / str(task) / "facts.json"
        try:
            header, _ = SavedModelHeader.read(read_file(path))
            if (header.key, header.tasks_done) == (key, task):
                return header
            why = "it is another cell's"
        except (OSError, Unreadable) as error:
            why = str(error.strerror if isinstance(error, OSError) else error)
        raise UserError(f"{path} cannot be read: {why}; run the cell again with --force")

    def tensors(self, key: str, task: int) -> dict[str, Tensor]:
        """Return the tensors of a saved model; raises UserError if they are damaged."""
        path = self.folder / key / str(task) / "model.safetensors"
        try:
            return read_tensors(path, self.header(key, task).crc32_of_tensors)
        except (OSError, Unreadable):
            raise UserError(f"{path} is damaged: run the cell again with --force") from None
