"""Readers survive everything: each damaged file is one line, the rest is shown, and the exit code is 1."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.export import Exported
from bench.export.predict_files import read_images, read_texts
from bench.plan import read_experiment
from bench.results import load, published
from bench.schema import CellRecord, ExportHeader, Unreadable
from bench.store import RunReader, SavedModels
from strategies import method_names, split
from suites.errors import UserError
from suites.registry import import_file
from tests.conftest import Command
from tests.fuzz import Fuzzer, finished_run

pytestmark = pytest.mark.timeout(60)  # a reader could wait for a pipe for ever


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("readers") / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n"),
    [("selectors", 60), ("settings", 100), ("seeds", 200), ("experiment files", 30), ("records", 8),
     ("confusion counts", 4), ("manifests", 8), ("packed runs", 8), ("published tables", 30),
     ("headers", 20), ("exported models", 20), ("plans", 30), ("data sets", 40)],
)  # fmt: skip
def test_damaged_inputs_raise_nothing_but_user_errors(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, n: int
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzzer = Fuzzer(tmp_path, run, seed=n)
    for _ in range(n):
        fuzzer.one(kind)
    assert fuzzer.tallies[kind].tried >= n
    assert not fuzzer.tallies[kind].first


VALUES = {
    "text": "12",
    "infinite": 1e999,
    "negative": -1,
    "above total": 10**9,
    "bool": True,
    "long": 10**400,
}
TEXTS = {
    "empty": "", "half": '{"schema": 3, "key"', "list": "[]", "number": "3", "deep": "[" * 100_000,
    "surrogate": '{"status": "\\ud800"}', "null": '{"status": "\\u0000"}', "nothing": "{}",
}  # fmt: skip


ABSENT = "timings", "resources", "outside", "loss"
DATA = {"name": "d", "fingerprint": "f"}
ORIGIN = {"cell": "a cell", "key": "0" * 20, "tasks_done": 1, "tasks": 1, "data": DATA}


def test_a_field_that_is_none_is_like_one_that_is_absent(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (path,) = (folder / "cells").glob("*.jsonl")
    first, *rest = path.read_text().splitlines()
    record = {k: v for k, v in json.loads(first).items() if k != "crc32"}
    for content in (record | dict.fromkeys(ABSENT), {k: v for k, v in record.items() if k not in ABSENT}):
        path.write_text("\n".join([json.dumps(content), *rest, ""]))
        frames = load(folder)
        assert frames.unreadable == []
        assert frames.cells.set_index("key").loc[record["key"], "status"] == "done"


def test_an_export_or_a_table_with_impossible_numbers_is_refused() -> None:
    header = {"schema": 1, "reads": "images", "model": "mlp", "options": {}, "labels": ["a"], "files": {}}
    of_images = {"shape": [1, 8, 8], "scale": 16.0, "mean": [0.5], "std": [0.25]}
    for name, value in {"shape": [0, 8, 8], "scale": 0.0, "std": [0.0], "mean": []}.items():
        with pytest.raises(Unreadable, match=rf"{name}|number for each channel"):
            ExportHeader.read(header | of_images | {name: value, "from": ORIGIN})
    ExportHeader.read(header | of_images | {"from": ORIGIN})


@pytest.mark.parametrize("damage", [*TEXTS, *VALUES])
def test_a_damaged_record_is_one_line_and_the_rest_is_shown(
    run: Path, tmp_path: Path, command: Command, damage: str
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (path,) = (folder / "cells").glob("*.jsonl")
    first, *rest = path.read_text().splitlines()
    record = json.loads(first)
    if damage in VALUES:
        record["test"]["right"][1][0] = VALUES[damage]
        if damage == "long":  # it does not fit into an array
            record["test"]["total"][1][0] = VALUES[damage]
        path.write_text("\n".join([json.dumps(record), *rest, ""]))
    else:
        path.write_text("\n".join([*rest, ""]))
        (path.parent / f"{record['key']}.json").write_text(TEXTS[damage])
    code, out, err = command(f"status {folder}")
    assert code == 1
    assert "3 done, 1 missing" in out
    assert len(err.splitlines()) == 1
    assert "cannot be read: " in err
    assert len(load(folder).cells) == 3


@pytest.mark.parametrize("control", ["\x1b[2J", "\n", "\x9b2J"])
def test_names_with_characters_that_a_terminal_obeys_are_refused(run: Path, control: str) -> None:
    record = RunReader(run).records()[0]
    record["identity"] = record["spec"]["identity"] = f"er{control}"
    with pytest.raises(Unreadable, match="identity"):
        CellRecord.read(record)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


KINDS = {"pipe": _pipe, "device": _device, "loop": _loop, "folder": _folder}


@pytest.mark.parametrize(
    "name", ["run.json", "cells/a.jsonl", "cells/a.json", "classes/a.jsonl", "cells", "classes"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_in_a_run_is_one_line(
    run: Path, tmp_path: Path, command: Command, kind: str, name: str
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    path = folder / name
    if path.is_dir():
        if kind == "folder":
            pytest.skip("it is one")
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    reader = RunReader(folder)
    reader.classes(next(iter(reader.statuses()), "none"))
    assert all("cannot be read: " in line for line in reader.unreadable)
    code, out, err = command(f"status {folder}")
    assert (code, len(err.splitlines())) == ((0, 0) if name.startswith("classes") else (1, 1))
    assert ("4 missing" if name == "cells" else "4 done") in out


READERS: dict[str, Callable[[Path], object]] = {
    "lethe.json": lambda path: Exported.at(path.parent),
    "experiment.toml": read_experiment,
    "table.toml": lambda path: published.read(str(path)),
    "mine.py": lambda path: import_file(str(path)),
    "rows.csv": lambda path: read_texts(path, "text"),
    "rows.npy": read_images,
    "run.lethe.gz": lambda path: load(path),
    "models/aa/1/facts.json": lambda path: SavedModels(path.parents[3]).header("aa", 1),
    "run.equivalent.json": lambda path: load(path.with_name("run")),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", [*KINDS, "null bytes"])
def test_a_file_that_is_none_is_refused_in_one_line(run: Path, tmp_path: Path, kind: str, name: str) -> None:
    if (name, kind) == ("rows.csv", "pipe"):
        pytest.skip("rows can come from a pipe")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path) if kind in KINDS else path.write_bytes(bytes(1000))
    if name == "run.equivalent.json":
        shutil.copytree(run, tmp_path / "run")
        assert len(load(tmp_path / "run").unreadable) == 1
        return
    with pytest.raises(UserError) as refusal:
        READERS[name](path)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_message_is_one_line_without_control_characters() -> None:
    assert str(UserError("a\nb\x1b[2J\ud800")) == r"a\nb\x1b[2J\ud800"
    assert len(str(UserError("a" * 10**6))) < 3000


HOSTILE = [
    "a",
    "[",
    "]",
    "+",
    "a+",
    "a[",
    "[a",
    "[]",
    "+[",
    "++",
    "./a+",
    "/",
    "~",
    "./a.py:",
    "./a.py:b[",
    "[x=1]+",
]


@pytest.mark.slow
@pytest.mark.parametrize("tail", ["", "]", "+", ".py:", "./a.py:M!"])
def test_selectors_are_split_in_linear_time(tail: str) -> None:
    """A quadratic pattern would need an hour for so many characters."""
    for piece in HOSTILE:
        text = piece * (300_000 // len(piece)) + tail
        assert "+".join(split(text)) == text


@pytest.mark.parametrize(
    "names", [["./a+b/m.py:M"], ["./c[1]/m.py:M", "er"], ["er", "/x y/[z]+/m.py:M", "der++"], ["~/a+b.py:M"]]
)
def test_paths_with_the_signs_of_selectors_can_be_named(names: list[str]) -> None:
    parts = [f"{name}[lr=0.1]" for name in names]
    assert split("+".join(parts)) == parts
    assert split("+".join(names)) == method_names("+".join(parts)) == names
