"""Injects faults into runs and files and counts what they lose or change: ``python -m tests.faults``.

A small run is disturbed: processes are killed at the moments at which they write, disks are full, two
commands share a folder, bits of files flip. Then the same command is given again, and its records, confusion
counts and saved models are compared with those of an undisturbed run. ``--hour`` injects more, ``--share``
less or more; ``--write`` makes the record that docs/reliability.md shows.
"""

import argparse
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.encode import model_inputs
from bench.export import Predictor
from bench.export.build import find, save, served
from bench.plan import Request
from bench.results import load
from bench.runner import Options, carry_out
from bench.schema import differing_fields
from bench.store import RunReader, SavedModels, pack_run
from bench.train import saving
from lethe.testing import TOY
from suites import published_data
from suites.base import Data
from suites.errors import EnvironmentFault, UserError
from suites.mnist import MNIST
from suites.sources import fingerprint

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "reference" / "reliability.json"
ASKED = Request(TOY.name, ("finetune", "er[buffer=20]"), seeds=(0, 1), settings={"epochs": "1"})
HANGS_S = 180
USUAL = {
    "points": 100,
    "full": 60,
    "parent": 4,
    "worker": 4,
    "together": 8,
    "bits": 1500,
    "blocks": 100,
    "cuts": 100,
}
HOUR = {name: 5 * n for name, n in USUAL.items()}
PARTS = ("points", "parents", "workers", "together", "files")
COMMAND = "python -m tests.faults"


@dataclass
class Tally:
    """Faults of one kind."""

    injected: int = 0
    refused: int = 0
    """Files that are not used, with one line that names them; the command then has to be changed."""
    lost: int = 0
    """Finished cells that are gone, commands that fail or hang, and cells without a record after the next."""
    changed: int = 0
    """Other numbers than in the undisturbed run."""
    first: list[str] = field(default_factory=list)
    """What was lost or changed first."""

    def note(self, lost: object, changed: object, where: str) -> None:
        """Count one fault."""
        self.injected += 1
        self.lost += bool(lost)
        self.changed += bool(changed)
        if (lost or changed) and len(self.first) < 5:
            self.first.append(f"{where}: {lost or changed}")


# Processes.


def in_child(act: Callable[[], object]) -> int:
    """Call a function in a process of its own group, without output; return its exit code."""
    return ended(started(act))


def started(act: Callable[[], object]) -> int:
    """Start such a process; return its id. Forked, because importing torch takes seconds."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with suppress(BaseException):
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        act()
        code = 0
    os._exit(code)


def ended(pid: int) -> int:
    """Wait for a process; one that hangs is killed."""
    deadline = time.monotonic() + HANGS_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


def run(folder: Path, jobs: int = 1) -> None:
    """Carry out the command; raises where it ends with another exit code than 0."""
    options = Options(jobs=jobs, lanes=2, quiet=True, keep_models="all", checkpoint_every=0)
    outcome = carry_out([ASKED], folder, options, COMMAND)
    if set(outcome.counts) - {"done"}:
        raise EnvironmentFault(f"ended with {outcome.counts}")


# Outcomes.


@dataclass
class Outcome:
    """What a run measured, without timings."""

    records: dict[str, Any]
    classes: dict[str, Any]
    models: dict[tuple[str, int], dict[str, bytes]]

    @classmethod
    def of(cls, folder: Path) -> "Outcome":
        """Read a run."""
        reader, saved = RunReader(folder), SavedModels(folder)
        records = {r["key"]: r for r in reader.records()}
        classes = {key: reader.classes(key, r["written"]) for key, r in records.items()}
        models = {}
        for key in saved.cells():
            for task in saved.tasks(key):
                with suppress(UserError):
                    models[key, task] = {n: t.numpy().tobytes() for n, t in saved.tensors(key, task).items()}
        return cls(records, classes, models)

    def lost(self, found: "Outcome") -> list[str]:
        """Return what another outcome lacks."""
        return [
            f"no {name} of {key}"
            for name in ("records", "classes", "models")
            for key, of in vars(self)[name].items()
            if of is not None and vars(found)[name].get(key) is None
        ]

    def changed(self, found: "Outcome") -> list[str]:
        """Return where another outcome has other numbers."""
        names = [
            f"{key}: {n}"
            for key, r in found.records.items()
            for n in differing_fields(self.records.get(key, {}), r)
        ]
        names += [
            f"{key}: classes"
            for key, c in found.classes.items()
            if c and differing_fields(self.classes[key] or {}, c)
        ]
        return names + [
            f"{key}: model" for key, tensors in found.models.items() if tensors != self.models.get(key)
        ]


# Points at which a process writes.


class Points:
    """Counts the writes, flushes, renames and removals in a folder, and acts before, in or after the n-th."""

    def __init__(self, folder: Path, at: int = 0, full: bool = False) -> None:
        self.folder, self.at, self.full, self.count = str(folder), at, full, 0

    def here(self, fd_or_path: Any, grows: bool = True, half: Callable[[], object] = lambda: None) -> None:
        """Pass one point; ``half`` does a part of what comes next."""
        try:
            path = (
                os.readlink(f"/proc/self/fd/{fd_or_path}")
                if isinstance(fd_or_path, int)
                else os.fspath(fd_or_path)
            )
        except (OSError, TypeError):
            return
        if not str(path).startswith(self.folder):
            return
        self.count += 1
        if self.full and grows and self.count >= self.at:
            half()
            raise OSError(errno.ENOSPC, "No space left on device")
        if not self.full and self.count == self.at:
            half()
            os.killpg(0, signal.SIGKILL)

    def install(self) -> None:
        """Watch this process from now on."""
        write, fsync, replace = os.write, os.fsync, os.replace

        def write_here(fd: int, data: bytes) -> int:
            self.here(fd)
            self.here(fd, half=lambda: write(fd, data[: len(data) // 2]))
            done = write(fd, data)
            self.here(fd, grows=False)
            return done

        def fsync_here(fd: int) -> None:
            self.here(fd)
            fsync(fd)
            self.here(fd, grows=False)

        def replace_here(source: Any, target: Any, **how: Any) -> None:
            replace(source, target, **how)
            self.here(target, grows=False)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
                self.here(args[0])
            elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"):
                self.here(args[0], grows=event == "os.mkdir")

        os.write, os.fsync, os.replace = write_here, fsync_here, replace_here
        sys.addaudithook(hook)


class Faults:
    """The undisturbed run, and what disturbs copies of it."""

    def __init__(self, scratch: Path, sizes: dict[str, int], seed: int) -> None:
        self.scratch, self.sizes, self.draw = scratch, sizes, random.Random(seed)
        self.tallies: dict[str, Tally] = {}
        self.n = 0
        assert in_child(lambda: run(scratch / "whole")) == 0, "the undisturbed run failed"
        self.whole = Outcome.of(scratch / "whole")

    def folder(self, copy: Path | None = None) -> Path:
        """Return a new folder, or a copy."""
        self.n += 1
        path = self.scratch / f"{self.n}" / "run"
        return Path(shutil.copytree(copy, path)) if copy else path

    def again(self, kind: str, folder: Path, where: str, may_replace: bool = False) -> None:
        """Give the command again after a fault and compare."""
        before = {r["key"]: r["written"] for r in RunReader(folder).records()}
        code = in_child(lambda: run(folder))
        found = Outcome.of(folder)
        gone = [
            k
            for k, written in before.items()
            if k in found.records and found.records[k]["written"] != written
        ]
        lost = [f"exit code {code}"] if code else self.whole.lost(found) + (gone if not may_replace else [])
        litter = [p.name for p in folder.rglob(".*") if p.is_file()]
        self.tally(kind).note(lost, self.whole.changed(found), where)
        if litter and not lost:
            self.tally(kind).first.append(f"{where}: left {litter[:2]}")
        shutil.rmtree(folder.parent)

    def tally(self, kind: str) -> Tally:
        """Return the tally of a kind."""
        return self.tallies.setdefault(kind, Tally())

    def points(self) -> None:
        """Kill the process group, or fill the disk, at moments at which a process writes."""
        counted, out = Points(self.scratch / "counted"), self.scratch / "count"

        def count() -> None:
            counted.install()
            run(self.scratch / "counted" / "run")
            out.write_text(str(counted.count))

        in_child(count)
        n = int(out.read_text())
        for kind, name, full in (
            ("kill of all processes at a write", "points", False),
            ("full disk", "full", True),
        ):
            for at in np.unique(np.linspace(1, n, min(n, self.sizes[name])).astype(int)).tolist():
                folder = self.folder()
                folder.parent.mkdir()

                def disturbed(folder: Path = folder, at: int = at, full: bool = full) -> None:
                    Points(folder.parent, at, full).install()
                    run(folder)

                in_child(disturbed)
                folder.mkdir(exist_ok=True)
                self.again(kind, folder, f"point {at} of {n}")

    def _signalled(self, kind: str, of_worker: bool) -> None:
        for n in range(self.sizes["worker" if of_worker else "parent"]):
            folder = self.folder()
            pid = started(lambda folder=folder: run(folder, jobs=2))  # type: ignore[misc]
            deadline = time.monotonic() + HANGS_S
            while not [*folder.glob("checkpoints/*/facts.json")] and time.monotonic() < deadline:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
                time.sleep(0.002)
            else:
                workers = [w for w in descendants(pid) if b"loky" in Path(f"/proc/{w}/cmdline").read_bytes()]
                with suppress(ProcessLookupError):
                    os.kill(self.draw.choice(workers) if of_worker and workers else pid, signal.SIGKILL)
                ended(pid)
                limit = time.monotonic() + 5
                while any(Path(f"/proc/{w}").exists() for w in workers) and time.monotonic() < limit:
                    time.sleep(0.02)
                if left := [w for w in workers if Path(f"/proc/{w}").exists()]:
                    self.tally(kind).first.append(f"{n}: workers {left} outlived their parent by 5 s")
            self.again(kind, folder, f"try {n}")

    def parents(self) -> None:
        """Kill the process that started the workers."""
        self._signalled("kill of the parent alone", of_worker=False)

    def workers(self) -> None:
        """Kill one worker."""
        self._signalled("kill of one worker", of_worker=True)

    def together(self) -> None:
        """Give the command twice at once; every other time, one of them is killed."""
        for n in range(self.sizes["together"]):
            folder = self.folder()
            pids = [started(lambda folder=folder: run(folder)) for _ in range(2)]  # type: ignore[misc]
            if n % 2:
                time.sleep(self.draw.uniform(0, 1))
                os.killpg(pids[0], signal.SIGKILL)
            codes = [ended(pid) for pid in pids]
            kind = "two commands at once, one killed" if n % 2 else "two commands at once"
            if codes[1] or (codes[0] and n % 2 == 0):
                self.tally(kind).lost += 1
                self.tally(kind).first.append(f"try {n}: exit codes {codes}")
            self.again(kind, folder, f"try {n}", may_replace=True)

    def files(self) -> None:
        """Damage files of all kinds."""
        targets = self.targets()
        for kind, name, damage in (
            ("flipped bit", "bits", flip), ("zeroed block", "blocks", zero), ("truncated file", "cuts", cut)
        ):  # fmt: skip
            for n in range(self.sizes[name]):
                what, copy, pattern, check = targets[n % len(targets)]
                folder = self.folder(copy)
                path = self.draw.choice(sorted(p for p in folder.glob(pattern) if p.is_file()))
                content = path.read_bytes()
                path.write_bytes(damage(content, self.draw))
                if path.read_bytes() != content:
                    check(f"{kind}: {what}", folder, path.name)
                shutil.rmtree(folder.parent, ignore_errors=True)

    def targets(self) -> list[tuple[str, Path, str, Callable[[str, Path, str], None]]]:
        """Return the kinds of files: name, folder, pattern of files, and how they are read."""
        whole, half = self.scratch / "whole", self.scratch / "half"

        def one_task() -> None:
            save_checkpoint = saving.save_checkpoint

            def last(*args: Any) -> None:
                save_checkpoint(*args)
                args[-1].wait()  # until it is written
                os._exit(0)

            saving.save_checkpoint = last
            run(half)

        in_child(one_task)
        packed, exported, cache = (self.scratch / name for name in ("packed", "exported", "cache"))
        packed.mkdir()
        pack_run(whole, packed / "run.lethe.gz")
        key = find(whole, "er[buffer=20]/0")
        save(served(whole, key), exported)
        rows = np.random.default_rng(0).random((20, *Predictor.load(exported).header.shape), dtype=np.float32)
        logits = Predictor.load(exported).logits(rows)
        frames = load(whole).scores

        def rerun(kind: str, folder: Path, where: str) -> None:
            before = Outcome.of(folder)
            changed = self.whole.changed(before)
            code = in_child(lambda: run(folder))
            found = Outcome.of(folder)
            if code and not RunReader(folder).manifest_if_readable().commands:
                self.tally(kind).refused += 1
                self.tally(kind).note(None, changed, where)
                return
            lost = [f"exit code {code}"] if code else self.whole.lost(found)
            self.tally(kind).note(lost, changed + self.whole.changed(found), where)

        def read(answers: Callable[[Path], bool]) -> Callable[[str, Path, str], None]:
            def check(kind: str, folder: Path, where: str) -> None:
                try:
                    same = answers(folder)
                except UserError:
                    self.tally(kind).refused += 1
                    same = True
                self.tally(kind).note(None, "other numbers" if not same else None, where)

            return check

        def models_same(folder: Path) -> bool:
            found = Outcome.of(folder)
            if len(found.models) < len(self.whole.models):
                raise UserError("refused")
            return not self.whole.changed(found)

        def pack_same(folder: Path) -> bool:
            found = load(folder / "run.lethe.gz")
            if RunReader(folder / "run.lethe.gz").statuses().keys() != self.whole.records.keys():
                raise UserError("listed as unreadable")
            return bool(found.scores.equals(frames))

        export_same = lambda folder: torch.equal(Predictor.load(folder).logits(rows), logits)  # noqa: E731
        texts = tuple(f"text number {n} of a small set" for n in range(12))
        options = {"max_tokens": 16, "pooling": "mean"}
        tiny = replace(MNIST, place="hub:a/b@main", class_names=("0", "1"))
        x_N, y_N = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        made = Data(tiny.short, x_N, y_N, 2, tiny.class_names, 255.0, fingerprint(x_N, y_N, 2))
        published_data._read = lambda d: made

        def cached(folder: Path) -> tuple[torch.Tensor, Any]:
            os.environ["LETHE_CACHE"] = str(folder)
            published_data._loaded.cache_clear()
            of_tiny = published_data._loaded(tiny, "identity")
            return model_inputs.features(texts, "tiny-bert", options).clone(), of_tiny

        features, data = cached(cache)

        def cache_same(folder: Path) -> bool:
            again, found = cached(folder)
            same = torch.equal(again, features) and torch.equal(found.x_N, data.x_N)
            return same and (found.fingerprint, found.n_train) == (data.fingerprint, data.n_train)

        return [
            ("records", whole, "cells/*.jsonl", rerun),
            ("confusion counts", whole, "classes/*.jsonl", rerun),
            ("manifests", whole, "run.json", rerun),
            ("checkpoints", half, "checkpoints/*/*", rerun),
            ("saved models", whole, "models/*/*/*", read(models_same)),
            ("packed runs", packed, "*.gz", read(pack_same)),
            ("exported models", exported, "*[!d]", read(export_same)),
            ("cached features and data", cache, "**/*.*[!d]", read(cache_same)),
        ]


def flip(content: bytes, draw: random.Random) -> bytes:
    """Flip one bit."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def zero(content: bytes, draw: random.Random) -> bytes:
    """Zero a block of 512 bytes, as a disk does."""
    place = draw.randrange(len(content)) // 512 * 512
    return content[:place] + bytes(len(content[place : place + 512])) + content[place + 512 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    """Cut a file."""
    return content[: draw.randrange(len(content))]


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    own: list[int] = []
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            own += map(int, (thread / "children").read_text().split())
    return own + [further for child in own for further in descendants(child)]


def main(words: list[str] | None = None) -> int:
    """Inject faults and print a line for each kind; return 1 where something was lost or changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hour", action="store_true", help="Five times as many faults.")
    parser.add_argument("--share", type=float, default=1.0, help="So many times as many of each kind.")
    parser.add_argument("--only", action="append", choices=PARTS, help="Only this part; repeat for more.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of moments and places.")
    parser.add_argument("--fuzz", type=float, default=0.0, help="Minutes of tests.fuzz beside it.")
    parser.add_argument("--write", action="store_true", help="Write the record.")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    sizes = {name: round(asked.share * n) for name, n in (HOUR if asked.hour else USUAL).items()}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LETHE_CACHE"] = f"{scratch}/own-cache"
        faults = Faults(Path(scratch), sizes, asked.seed)
        for part in asked.only or PARTS:
            print(f"{time.monotonic() - began:6.0f} s  {part}", flush=True)
            getattr(faults, part)()
        readers = {}
        if asked.fuzz:
            out = Path(scratch) / "fuzz.json"
            subprocess.run(
                [sys.executable, "-m", "tests.fuzz", "--minutes", str(asked.fuzz), "--out", str(out)],
                check=False,
            )
            readers = json.loads(out.read_text())
    for kind, tally in faults.tallies.items():
        counts = (f"{n:5} {name}" for name, n in asdict(tally).items() if name != "first")
        print(f"{kind:45} {', '.join(counts)}")
        for line in tally.first:
            print(f"    {line:.300}")
    if asked.write:  # parts that were not asked for stay
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {"faults": {}, "readers": {}}
        record["about"] = {"made": time.strftime("%Y-%m-%d"), "seed": asked.seed}
        for kind, tally in faults.tallies.items():
            record["faults"][kind] = {k: v for k, v in asdict(tally).items() if k != "first"}
        record["readers"] |= readers
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(t.lost or t.changed for t in faults.tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
