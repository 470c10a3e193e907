"""Runs a group on a worker of an engine: in another process, perhaps on another machine.

What made the plan and what runs it must agree: versions, the code of every cell and its data are compared
before anything is trained, so that no record is marked with another code than the one that made it. Nothing
is sent but the cells, their fingerprints and the name of the folder; a worker loads its data as any process
does. Where it cannot see the folder of the run, it sends the lines of its records back to the command.
"""

import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import chdir, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from socket import gethostname

import suites
from bench.engines import Refused
from bench.runner.claimed_groups import Group
from bench.runner.faults import storing
from bench.runner.one_group import run_one
from bench.runner.progress import is_noted
from bench.runner.run_outcome import Ended
from bench.runner.target import Target, codes_in
from bench.store import Attempt, RunFolder, RunReader, SavedModels

_ONE_AT_A_TIME = threading.Lock()
"""A worker may have several threads, and torch's settings are those of its process."""


@dataclass(frozen=True)
class Asked:
    """A group, and what its records depend on."""

    group: Group
    target: Target
    device: str
    codes: Mapping[str, str]
    """The fingerprint of the code of each cell, by key."""
    data: Mapping[str, str]
    """The fingerprint of the data set of each suite."""
    replaced: Mapping[str, str]
    """When the record of each cell was written that is made again, by key."""
    place: str
    """The folder that relative names of users' files start from."""
    mirror: str
    """The mirror of the data sets; a worker's own has precedence."""


@dataclass(frozen=True)
class Answer:
    """What became of a group, and the lines of its records if the worker could not write them."""

    ended: Ended
    again: bool = False
    """Whether another worker had begun the group."""
    records: bytes = b""
    classes: bytes = b""


def run_there(asked: Asked) -> Answer:
    """Run a group on this worker.

    Raises:
        Refused: This worker has other versions, code or data.
    """
    if asked.mirror:
        os.environ.setdefault("LETHE_DATA", asked.mirror)
    # Relative names mean what they mean where the command was given.
    with _ONE_AT_A_TIME, chdir(asked.place) if os.path.isdir(asked.place) else nullcontext():
        _compare(asked)
        group, target = asked.group, asked.target
        run = target.models.run
        if target.owner is not None and run.is_dir():
            if not target.owner.exists():  # the command has ended, and nobody waits for these cells
                return Answer(Ended())
            # The engine runs it again if its worker died or vanished.
            again = is_noted(run, group[0].key)
            with storing(run):
                target = replace(target, attempt=Attempt.begin(run, group[0].key))
            if again:
                written = RunFolder(run).written()
                group = [s for s in group if written.get(s.key, "") == asked.replaced.get(s.key, "")]
            done = Ended([spec.key for spec in asked.group if spec not in group])
            if group:
                done += run_one(group, target, asked.device)
            return Answer(done, again)
        with tempfile.TemporaryDirectory(prefix="lethe-") as scratch:
            alone = Path(scratch) / "run"
            alone.mkdir()
            at_home = replace(target, models=SavedModels(alone), owner=None)
            ended = run_one(group, at_home, asked.device)
            return Answer(ended, False, *RunReader(alone).lines_of_records())


def _compare(asked: Asked) -> None:
    here = f"worker {os.getpid()} on {gethostname()}"
    maker = asked.target.maker
    for package, theirs in ("lethe-bench", maker.lethe), ("torch", maker.torch), ("numpy", maker.numpy):
        if (own := _version(package)) != theirs:
            raise Refused(f"{here} has {package} {own}, and this command {theirs}: install the same there")
    codes = codes_in(asked.group)
    for spec in asked.group:
        if (own := codes[spec.key]) != asked.codes[spec.key]:
            what = "does not have all files" if not own else "has other code"
            raise Refused(f"{here} {what} of {spec.strategy}, {spec.suite} or {spec.model}: copy them there")
    for name, theirs in asked.data.items():
        if (own := suites.get(name).load().fingerprint) != theirs:
            raise Refused(f"{here} has other data of {name}: {own[:12]}, not {theirs[:12]}")


_version = cache(version)
"""A process goes on with the packages that it has imported."""
