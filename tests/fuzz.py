"""Fuzzing of everything that Lethe reads: ``python -m tests.fuzz --minutes 10``.

Valid inputs are damaged at random, some in their structure and some as text or bytes, and read. A reader may
answer, list what it cannot read, or raise UserError; any other exception is a fault, and so is an input that
takes ten seconds of computing, or five minutes of waiting. The same seed makes the same inputs.
"""

import argparse
import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save as save_arrays

import suites
from bench.export import Predictor, find, save, served
from bench.plan import Present, Request, ResolvedPlan, read_experiment, resolve, seeds_of
from bench.report import tables
from bench.results import Frames, load, published
from bench.schema import Exported, cell_key
from bench.store import RunReader, SavedModels, pack_run, staleness_of
from suites.errors import UserError

_LIMIT_S, _WAIT_S = 10, 300
_LINES = 20
"""Damaged records that are read together, as reading a run takes much longer than reading a record."""
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 12, "12", 1.5, 1e308, 5e-324, float("inf"), float("nan"), 2**63, 10**400,
    "", " ", "\0", "\ud800", "é", "\U0001f98a", "\n", "a" * 5000, "=1+1", "[", "]", "+", ",", "er", "done",
    "class", [], {}, [[]], [None], ["1"], {"": 1}, {"schema": 1}, "./none.py:M", "x.py:", ".py:M",
    "/dev/zero", "/dev/zero:M", "/dev/zero/m.py:M", "~none/m.py:M", "./m\0.py:M", "a" * 300 + ".py:M",
    "1e400", "nan", "-0", "0x10", "1_0", "٣", "²", "true", "all", "preset",
)  # fmt: skip
_TEXTS = (
    "[", "]", "{", "}", '"', "'", ",", "=", "+", "-", ".", "\n", "\0", "\r", "#", "1e999", "nan", "é", "٣",
    "[" * 10_000, '{"a":' * 10_000, "a" * 10_000, "\ufeff", "\u2028", "er+", "[lr=1]",
)  # fmt: skip


class _TooSlow(BaseException):
    """An input took longer than the limit."""


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every part of parsed JSON or TOML except the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        yield (*path, name)
        yield from _nodes(part, (*path, name))


def _altered(value: Any, rng: random.Random) -> Any:
    """Return a copy of parsed JSON or TOML in which one to three parts are replaced, removed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (paths := list(_nodes(value))):
            return deepcopy(rng.choice(NASTY))
        *way, last = rng.choice(paths)
        parent = value
        for name in way:
            parent = parent[name]
        change = rng.random()
        if change < 0.6:
            parent[last] = deepcopy(rng.choice(NASTY))
        elif change < 0.7:
            del parent[last]
        elif change < 0.8 and isinstance(parent, dict):
            parent[rng.choice(["x", "", "spec", "\ud800", str(last).upper()])] = deepcopy(rng.choice(NASTY))
        elif change < 0.9 and isinstance(parent, list):
            parent.insert(last, json.loads(json.dumps(rng.choice((parent[last], 1, "a")))))
        else:
            parent[last] = [parent[last]]
    return value


def _cut(text: str, rng: random.Random) -> str:
    """Return text with one to three pieces removed, repeated, replaced or put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 0, 1, 1, 2, 10, 1000)))
        put = rng.choice((*_TEXTS, "", text[start:stop] * 2, str(rng.choice(NASTY))))
        text = text[:start] + put + text[stop:]
    return text


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to three bits flipped, or a block cut out, zeroed or repeated."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        change = rng.randrange(4)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[at : at + rng.choice((1, 16, 10**6))]
        elif change == 2:
            data[at : at + 16] = bytes(len(data[at : at + 16]))
        else:
            data[at:at] = data[at : at + 16] or b"\xff\xfe"
    return bytes(data)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _toml(value: Any) -> str:
    """Return a value in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "nan" if value is None else str(value) if isinstance(value, float) else json.dumps(value)


def _toml_file(value: Any) -> bytes:
    items = value.items() if isinstance(value, dict) else [("x", value)]
    return "\n".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in items).encode()


def _damaged_file(value: Any, written: Callable[[Any], bytes], rng: random.Random) -> bytes:
    """Return a file damaged in its structure, its text or its bytes."""
    if isinstance(value, dict) and "crc32" in value and rng.random() < 0.8:  # as in earlier versions
        value = {name: part for name, part in value.items() if name != "crc32"}
    how = rng.random()
    if how < 0.6:
        return written(_altered(value, rng))
    whole = written(value)
    return _cut(whole.decode(), rng).encode(errors="surrogatepass") if how < 0.85 else _damaged(whole, rng)


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    tried: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """How often an exception other than UserError was raised, by exception and place."""
    first: dict[str, object] = field(default_factory=dict)
    """The first input of each fault."""


class Fuzzer:
    """Makes damaged inputs of every kind, and reads them."""

    def __init__(self, scratch: Path, run: Path, seed: int = 0) -> None:
        """``run`` is a finished run; a copy of it in ``scratch`` is damaged."""
        self.scratch, self.rng = scratch, random.Random(seed)
        self.run, self.table = scratch / "run", published.TABLES / "three-types-split-mnist.toml"
        shutil.copytree(run, self.run, ignore=shutil.ignore_patterns("report"))
        self.pack = pack_run(self.run, scratch / "packed.lethe.gz").read_bytes()
        (self.cells,) = (self.run / "cells").glob("*.jsonl")
        (self.classes,) = (self.run / "classes").glob("*.jsonl")
        self.model = scratch / "exported"
        save(served(run, find(run, "er/0")), self.model)
        self.tallies = {kind: Tally() for kind in self.kinds()}

    def kinds(self) -> dict[str, Callable[[], tuple[object, Callable[[], object]]]]:
        """Return for each kind a function that makes an input and what reads it."""
        return {
            "selectors": self._selector,
            "settings": self._setting,
            "seeds": self._seeds,
            "experiment files": self._experiment,
            "records": self._record,
            "confusion counts": self._counts,
            "manifests": self._manifest,
            "packed runs": self._packed,
            "published tables": self._published,
            "headers": self._header,
            "exported models": self._exported,
            "plans": self._plan,
            "data sets": self._data_set,
        }

    def one(self, kind: str) -> None:
        """Make one input of a kind, read it and count what came of it."""
        tally, (given, read) = self.tallies[kind], self.kinds()[kind]()
        tally.tried += len(given) if isinstance(given, list) else 1
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, _stop)
        signal.alarm(_WAIT_S)
        signal.setitimer(signal.ITIMER_PROF, _LIMIT_S)
        try:
            with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
                read()
        except UserError as error:
            tally.refused += 1
            if len(str(error).splitlines()) > 1:
                self._fault(tally, "UserError of several lines", given)
        except (Exception, _TooSlow) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._fault(tally, f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}", given)
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)

    @staticmethod
    def _fault(tally: Tally, what: str, given: object) -> None:
        tally.faults[what] += 1
        tally.first.setdefault(what, given)

    def _selector(self) -> tuple[object, Callable[[], object]]:
        start = self.rng.choice(
            ("er", "er[buffer=200,lr=0.05]", "er[buffer=20]+lwf", "der++", "der+++ewc[lam=1e3]",
             "ewc[preset=x]", "./m.py:M[a=1]", "finetune[batch=16,optimizer=adam]", "l2p", "joint")
        )  # fmt: skip
        text = _cut(start, self.rng)
        return text, Request("digits", (text,)).cells

    def _setting(self) -> tuple[object, Callable[[], object]]:
        rng = self.rng
        known = (
            "epochs", "lr", "batch", "iterations", "weight_decay", "optimizer", "validation", "score_every",
            "shots", "hidden", "width", "model", "raw_replay", "rows_per_class", "layers", "scenario",
        )  # fmt: skip
        key = rng.choice(known) if rng.random() < 0.9 else _cut(rng.choice(known), rng)
        value = rng.choice(NASTY) if rng.random() < 0.5 else _cut(rng.choice(("5", "0.1", "sgd", "mlp")), rng)
        model = {"model": rng.choice(("mlp", "cnn", "resnet", "tiny-bert"))} if rng.random() < 0.5 else {}
        suite = rng.choice(("digits", "digits", "split-mnist", "pairs"))
        request = Request(suite, ("er",), ("class",), (0,), {**model, key: str(value)})
        return (suite, request.settings), request.cells

    def _seeds(self) -> tuple[object, Callable[[], object]]:
        text = _cut(self.rng.choice(("5", "2-6", "1,4", "0")), self.rng)
        return text, lambda: seeds_of(text)

    def _file(self, name: str, content: bytes) -> Path:
        path = self.scratch / name
        path.write_bytes(content)
        return path

    def _data_set(self) -> tuple[object, Callable[[], object]]:
        name, options = self.rng.choice(
            (("a.csv", "[text=text,task=month]"),
             ("a.csv", "[text=text,task=month,bins=month,test_last=0.3]"),
             ("a.jsonl", "[text=text,label=n,classes=2]"), ("a.json", "[text=text]"), ("a.npz", ""),
             ("a.parquet", "[text=text,task=month]"), ("a.safetensors", "[order=fixed]"))
        )  # fmt: skip
        if self.rng.random() < 0.1:
            text = _cut(f"{self.scratch}/{name}{options}", self.rng)
            return text, lambda: suites.REGISTRY.is_declared(text) and suites.REGISTRY.spelled(text)
        path = self._file(name, _damaged(self._data_files[name], self.rng))
        return (name, path.read_bytes()), lambda: suites.get(f"{path}{options}").load()

    @cached_property
    def _data_files(self) -> dict[str, bytes]:
        """Small data sets of users, by the names of their files."""
        arrays = {"x": np.eye(40, 5), "y": np.arange(40) % 4}
        np.savez(self.scratch / "a.npz", x=arrays["x"], y=arrays["y"])
        frame = pd.DataFrame(
            {"text": f"a {n}", "label": "xyz"[n % 3], "month": f"2024-0{n % 3 + 1}", "n": n % 4}
            for n in range(40)
        )
        return {
            "a.csv": frame.to_csv(index=False).encode(),
            "a.jsonl": frame.to_json(orient="records", lines=True).encode(),
            "a.json": frame.to_json(orient="records").encode(),
            "a.npz": (self.scratch / "a.npz").read_bytes(),
            "a.parquet": frame.to_parquet(),
            "a.safetensors": save_arrays(arrays),
        }

    def _experiment(self) -> tuple[object, Callable[[], object]]:
        table = {"suite": "digits", "strategies": ["er[buffer=20]", "lwf"], "scenarios": ["class", "task"]}
        table |= {"seeds": 2, "set": {"epochs": 1, "lr": 0.1, "model": "mlp"}}
        content = {"schema": 1, "out": "runs/a", "run": [table, {"suite": "digits", "strategies": ["ewc"]}]}
        damaged = _damaged_file(content, _toml_file, self.rng)

        def read() -> None:
            for request in read_experiment(self._file("experiment.toml", damaged)).requests:
                request.cells()

        return damaged, read

    def _read_run(self) -> None:
        run = RunReader(self.run)
        staleness = staleness_of(run)
        run.each(staleness.of_record)
        frames = load(self.run)
        tables(frames)
        for key in run.statuses():
            run.classes(key)
        if any("\n" in line for line in (*run.unreadable, *frames.unreadable)):
            raise AssertionError("a line on an unreadable record has several lines")

    def _reads_run(self, path: Path, damaged: bytes) -> Callable[[], None]:
        """Damage a file of the run; return what reads the run and then restores the file."""
        whole = path.read_bytes()
        path.write_bytes(damaged)

        def read() -> None:
            try:
                self._read_run()
            finally:
                path.write_bytes(whole)

        return read

    def _line(self, path: Path) -> tuple[object, Callable[[], object]]:
        lines = path.read_bytes().splitlines(keepends=True)
        damaged = [self._damaged_line(json.loads(self.rng.choice(lines))) for _ in range(_LINES)]
        return damaged, self._reads_run(path, b"\n".join([*damaged, *lines[self.rng.random() < 0.3 :]]))

    def _damaged_line(self, record: Any) -> bytes:
        damaged = _damaged_file(record, _json, self.rng)
        if self.rng.random() < 0.5:  # the damage lies deeper than the key, which is a hash of the spec
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                content = json.loads(damaged)
                damaged = _json(content | {"key": cell_key(content["spec"])})
        return damaged

    def _record(self) -> tuple[object, Callable[[], object]]:
        return self._line(self.cells)

    def _counts(self) -> tuple[object, Callable[[], object]]:
        return self._line(self.classes)

    def _manifest(self) -> tuple[object, Callable[[], object]]:
        path = self.run / "run.json"
        damaged = _damaged_file(json.loads(path.read_bytes()), _json, self.rng)
        return damaged, self._reads_run(path, damaged)

    def _packed(self) -> tuple[object, Callable[[], object]]:
        if self.rng.random() < 0.5:
            damaged = _damaged(self.pack, self.rng)
        else:
            damaged = gzip.compress(_damaged(gzip.decompress(self.pack), self.rng), mtime=0)

        def read() -> None:
            path = self._file("damaged.lethe.gz", damaged)
            tables(load(path))

        return damaged, read

    def _published(self) -> tuple[object, Callable[[], object]]:
        entry = {"method": "ER", "run": "er[buffer=20]", "class": {"mean": 90.0, "spread": 0.5, "note": "x"}}
        content = {"title": "A", "citation": "B, 2020", "suite": "digits", "score": "acc", "spread": "sem"}
        content |= {
            "published_seeds": 5,
            "first_seed": 0,
            "set": {"epochs": 1},
            "entry": [entry, entry | {"run": "ewc"}],
        }
        damaged = _damaged_file(content, _toml_file, self.rng)

        def read() -> None:
            table = published.read(str(self._file("table.toml", damaged)))
            published.compare(table, self.frames, 2)

        return damaged, read

    @cached_property
    def frames(self) -> Frames:
        """The results of the undamaged run."""
        return load(self.run)

    def _header(self) -> tuple[object, Callable[[], object]]:
        key = json.loads(self.cells.read_bytes().splitlines()[0])["key"]
        checkpoint = {"schema": 2, "key": key, "tensors": "1.safetensors", "tasks_done": 1, "scores": {}}
        of = self.rng.choice((json.loads((self.model / "lethe.json").read_bytes()), checkpoint))
        damaged = _damaged_file(of, _json, self.rng)

        def read() -> None:
            for folder in (
                self.scratch / "export",
                self.run / "checkpoints" / key,
                self.run / "models" / key / "1",
            ):
                folder.mkdir(parents=True, exist_ok=True)
                for name in ("lethe.json", "facts.json"):
                    (folder / name).write_bytes(damaged)
            RunReader(self.run).checkpoints.headers()
            for ask in (
                lambda: SavedModels(self.run).header(key, 1),
                lambda: Request("digits", ("er",), resume_from=str(self.scratch / "export")).cells(),
                lambda: Exported.at(self.scratch / "export"),
            ):
                with contextlib.suppress(UserError):
                    ask()

        return damaged, read

    def _exported(self) -> tuple[object, Callable[[], object]]:
        header = json.loads((self.model / "lethe.json").read_bytes())
        weights = (self.model / "model.safetensors").read_bytes()
        if self.rng.random() < 0.7:
            damaged, name = _damaged_file(header, _json, self.rng), "lethe.json"
        else:
            damaged, name = _damaged(weights, self.rng), "model.safetensors"
            header.pop("files", None)  # as in earlier versions, which have no checksums
        folder = self.scratch / "damaged"
        shutil.copytree(self.model, folder, dirs_exist_ok=True)
        (folder / "lethe.json").write_bytes(_json(header))
        (folder / name).write_bytes(damaged)
        return damaged, lambda: Predictor.load(folder).answers(np.zeros((1, 1, 8, 8), np.float32))

    def _plan(self) -> tuple[object, Callable[[], object]]:
        damaged = _damaged_file(self._whole_plan, _json, self.rng)
        return damaged, lambda: ResolvedPlan.from_json(damaged.decode(errors="replace"))

    @cached_property
    def _whole_plan(self) -> Any:
        return json.loads(resolve([Request("digits", ("er",))], Present()).to_json())


def _stop(*_: object) -> None:
    raise _TooSlow


def finished_run(folder: Path) -> Path:
    """Make a finished run of four cells."""
    import lethe

    settings: dict[str, int] = {"epochs": 1}
    lethe.run("digits", ["finetune", "er"], seeds=2, settings=settings, out=folder, keep_models="last")
    return folder


def main() -> int:
    """Fuzz for some minutes, print a line for each kind and fault; return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="How long, in all.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the inputs.")
    parser.add_argument("--only", action="append", help="Only this kind; repeat for more.")
    parser.add_argument("--out", type=Path, help="Write the figures to this JSON file.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        fuzzer = Fuzzer(Path(scratch), finished_run(Path(scratch) / "whole"), asked.seed)
        kinds = asked.only or list(fuzzer.tallies)
        end = time.monotonic() + 60 * asked.minutes
        spent = dict.fromkeys(kinds, 0.0)
        while time.monotonic() < end:  # the same time for every kind
            kind = min(kinds, key=lambda k: spent[k])
            start = time.monotonic()
            fuzzer.one(kind)
            spent[kind] += time.monotonic() - start
    for kind in kinds:
        tally = fuzzer.tallies[kind]
        print(f"{kind:18} {tally.tried:8} tried, {tally.refused:8} refused, {tally.faults.total():6} faults")
        for what, n in tally.faults.most_common():
            print(f"    {n} x {what}; the first: {tally.first[what]!r:.300}")
    if asked.out:
        found = {
            k: {"tried": t.tried, "refused": t.refused, "faults": t.faults.total()}
            for k, t in fuzzer.tallies.items()
        }
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(fuzzer.tallies[kind].faults for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
