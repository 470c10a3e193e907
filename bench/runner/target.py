"""Where the records, checkpoints and models of a group are written, and by which code they were made."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from bench.plan import codes_of
from bench.runner.claimed_groups import Group
from bench.runner.faults import storing
from bench.schema import Fields
from bench.store import Attempt, Checkpoints, Maker, RunFolder, SavedModels, check_owner, now
from suites.errors import UserError


@dataclass(frozen=True)
class Target:
    """Where records and models are written, with the provenance of the records."""

    models: SavedModels
    maker: Maker
    checks: Mapping[str, str] = field(default_factory=dict)
    """The check that was made of a strategy, by name."""
    since: str = ""
    """Checkpoints written before are not used: --force begins again. Empty to use all."""
    owner: Path | None = None
    """The file of this command's claims, see bench.store.claims; none without claims."""
    checkpoint_every: float = 0.0
    """Seconds between two checkpoints of a group at least; 0 for one after every task."""
    graph: bool = True
    """Whether steps that are alike are captured on a GPU."""
    until: int = 0
    """The number of tasks after which a group stops at its checkpoints; 0 for all."""
    attempt: Attempt | None = None
    """The attempt of a worker of an engine; none on one machine."""

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Turn errors of writing into faults of the environment, and write nothing if the claims are lost."""
        with storing(self.models.run):
            if self.owner is not None:
                check_owner(self.owner)
            if self.attempt is not None:
                self.attempt.check()
            yield

    def write(
        self, group: Group, records: Sequence[Fields], codes: Mapping[str, str] | None = None, began: str = ""
    ) -> None:
        """Write the records of cells that ended together.

        Args:
            group: The cells.
            records: Their records, in the same order.
            codes: Fingerprint of the code of each, by key; by default the current one.
            began: When they began; by default now.

        Raises:
            EnvironmentFault: They cannot be written.
        """
        codes, began = codes or codes_in(group), began or now()
        made = []
        for spec, record in zip(group, records, strict=True):
            by = self.maker.record(codes[spec.key], began) | {"check": self.checks.get(spec.strategy, "")}
            made.append((spec, {**record, "made_by": by}))
        with self.storing():
            RunFolder(self.models.run).write_group(made)


class GroupModels(SavedModels):
    """The saved models of a group; errors of writing are faults of the environment."""

    def __init__(self, target: Target, codes: Mapping[str, str]) -> None:
        super().__init__(target.models.run, target.models.which, codes)
        self.target = target

    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], header: Fields) -> None:
        """Save the model of a cell after a task."""
        with self.target.storing():
            super().write(key, tasks_done, tensors, header)


class GroupCheckpoints(Checkpoints):
    """The checkpoints that the current code made since --force; others stay until they are replaced."""

    def __init__(self, target: Target, codes: Mapping[str, str]) -> None:
        super().__init__(target.models.run)
        self.target, self.codes = target, codes

    def save(self, key: str, tensors: dict[str, Tensor], header: Fields, rows: Fields) -> None:
        """Save the state of a cell."""
        with self.target.storing():
            super().save(key, tensors, header | {"code": self.codes[key]}, rows)

    def load(self, key: str) -> tuple[dict[str, Tensor], Fields, list[Fields]] | None:
        """Return the state of a cell, None if there is none by this code."""
        found = super().load(key)
        if found is None or found[1]["code"] != self.codes[key] or found[1]["written"] < self.target.since:
            return None
        return found


def codes_in(group: Group) -> dict[str, str]:
    """Return the fingerprint of each cell's code by key; empty if a file is missing, and no cell can run."""
    try:
        return {key: code.fingerprint for key, code in codes_of(group).items()}
    except UserError:
        return {spec.key: "" for spec in group}
