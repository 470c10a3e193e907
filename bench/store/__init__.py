"""Runs on disk: manifests, records, checkpoints and saved models."""

from bench.store.cell_states import cell_states
from bench.store.checkpoints import Checkpoints
from bench.store.claims import Attempt, Claims, check_owner, end_attempts
from bench.store.environment import Maker, git_output, moment, now, where
from bench.store.equivalences import (
    enter_equivalences,
    equivalences_if_readable,
    equivalences_path,
    read_equivalences,
    staleness_of,
)
from bench.store.files import new_folder, write_checked, write_json, write_tensors
from bench.store.pack import REFERENCE, pack_run, packed_runs, unpack_run
from bench.store.run_folder import RunFolder
from bench.store.run_reader import RunReader
from bench.store.saved_models import WHICH, SavedModels
from bench.store.superseded import Superseded, n_superseded

__all__ = [
    "REFERENCE", "WHICH", "Attempt", "Checkpoints", "Claims", "Maker", "RunFolder", "RunReader",
    "SavedModels", "Superseded", "cell_states", "check_owner", "end_attempts", "enter_equivalences",
    "equivalences_if_readable", "equivalences_path", "git_output", "moment", "n_superseded",
    "new_folder", "now", "pack_run", "packed_runs", "read_equivalences", "staleness_of", "unpack_run",
    "where", "write_checked", "write_json", "write_tensors",
]  # fmt: skip
