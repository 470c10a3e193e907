"""Files of a run: written completely or not at all, and checked when read."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from bench.plan import CellSpec, Request
from bench.schema import Manifest
from bench.store import (
    Checkpoints,
    RunFolder,
    RunReader,
    checkpoints as of_cells,
    lines as store_lines,
    run_folder as store,
    write_json,
)
from lethe.testing import toy_cell
from tests.conftest import ran, refused, tree

COUNTS = {"right": [[1, 2]] * 3, "total": [[4, 4]] * 3}
DONE = {"status": "done", "test": COUNTS, "validation": COUNTS}
CLASSES = {"units": ["cat", "dog"], "test": [[0, 1, 0, 1, 4], [1, 1, 0, 0, 4]], "validation": []}
SHARED = {"toy/class": {"version": 1, "epochs": 4}}


def open_run(folder: Path, *specs: CellSpec, **changes: Any) -> RunFolder:
    run = RunFolder(folder)
    given = {"shared": SHARED, "data": {"toy": "f1"}, "command": "test", "device": "cpu"} | changes
    run.open(specs, **given)
    return run


def test_the_manifest_records_commands_cells_and_machines(tmp_path: Path) -> None:
    first, second = toy_cell("er"), toy_cell("ewc", scenario="task")
    open_run(tmp_path, first)
    open_run(tmp_path, second, shared={"toy/task": {"epochs": 4}}, data={"other": "f2"}, command="again")
    manifest = RunFolder(tmp_path).manifest()
    assert manifest.schema_version == Manifest.VERSION
    assert manifest.cells == {first.key: first.title, second.key: second.title}
    assert manifest.shared.keys() == {"toy/class", "toy/task"}
    assert manifest.data == {"toy": "f1", "other": "f2"}
    assert [c.command for c in manifest.commands] == ["test", "again"]
    torch_version, _, build = torch.__version__.partition("+")
    # A wheel's version may be 2.11.0 where torch.__version__ is 2.11.0+cu130.
    assert manifest.commands[0].packages["torch"] in {torch_version, f"{torch_version}+{build}"}
    assert manifest.commands[0].machine


def test_a_version_that_contradicts_the_manifest_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    newer = {"toy/class": {"version": 2, "epochs": 4}}
    refused("toy/class with version = 1, not 2", open_run, tmp_path, shared=newer)
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', "\x00"])
def test_an_unknown_manifest_is_refused_and_not_changed(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    refused("choose another --out", open_run, tmp_path)
    assert (tmp_path / "run.json").read_text() == text


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-200], lambda b: b.replace(b'"shared"', b'"shaped"'), lambda _: b"\x00" * 40]
)
def test_run_makes_a_damaged_manifest_again_from_the_records(
    damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request("toy", ("finetune",), seeds=(0,))
    ran(tmp_path, request)
    path, before = tmp_path / "run.json", RunReader(tmp_path)
    records, manifest = before.records(), before.manifest()
    torn = damage(path.read_bytes())
    path.write_bytes(torn)
    refused("was not written by this version", RunReader(tmp_path).manifest)
    assert ran(tmp_path, replace(request, seeds=(0, 1))).counts == {"done": 1}  # only the new one
    after = RunReader(tmp_path)
    assert "run.json was damaged" in capsys.readouterr().err
    assert (tmp_path / "set-aside" / "run.json").read_bytes() == torn
    assert after.manifest().data == manifest.data
    assert after.manifest().cells.items() > manifest.cells.items()
    assert [r for r in after.records() if r["key"] == records[0]["key"]] == records


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert list(tmp_path.iterdir()) == [path]
    run = RunFolder(tmp_path)
    run.cells.mkdir()
    refused(r"cannot write into .*: No space left on device", run.write, toy_cell(), DONE)


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Mock()
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, getattr(steps, name))
    write_json(tmp_path / "a.json", {})
    assert [name for name, *_ in steps.mock_calls] == ["fsync", "replace", "fsync"]


def lines_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def two_cells(folder: Path) -> tuple[RunFolder, CellSpec, CellSpec, Path]:
    """Return a run of two cells, the cells, and the file with both records."""
    spec, other = toy_cell("er"), toy_cell("ewc")
    run = open_run(folder, spec, other)
    run.write(spec, DONE)
    run.write(other, DONE)
    (path,) = lines_of(run.cells)
    return run, spec, other, path


def test_an_unreadable_line_is_listed_and_then_set_aside(tmp_path: Path) -> None:
    run, _, other, path = two_cells(tmp_path)
    path.write_text(path.read_text().replace('"status"', '"state"', 1))
    before = tree(tmp_path)
    reader = RunReader(tmp_path)
    assert reader.statuses() == reader.statuses() == {other.key: "done"}
    said = f"{path.name}@0 cannot be read: unknown field 'state'"
    assert [line[: len(said)] for line in reader.unreadable] == [said]
    assert tree(tmp_path) == before
    assert run.repair()[0].startswith(said)
    assert (tmp_path / "set-aside" / f"{path.name}@0").read_text().count("\n") == 1
    assert path.read_bytes() == before[path.relative_to(tmp_path).as_posix()]
    again = RunReader(tmp_path)
    assert again.statuses() == {other.key: "done"}
    assert again.unreadable == run.repair() == []


def test_an_incomplete_last_line_is_ignored(tmp_path: Path) -> None:
    run, spec, other, path = two_cells(tmp_path)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 200, whole.index(b"\n") + 2):
        path.write_bytes(whole[:cut])
        assert (run.statuses(), run.unreadable) == ({spec.key: "done"}, [])
    run.write(other, DONE)  # by the same process after a full disk: the incomplete line is ended
    assert (run.statuses().keys(), len(run.unreadable)) == ({spec.key, other.key}, 1)


def test_the_latest_record_of_a_cell_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the files does not matter: their names are random."""
    spec = toy_cell("er")
    run = open_run(tmp_path, spec)
    for name, status in (("b", "done"), ("c", "skipped"), ("a", "done")):
        monkeypatch.setattr(store_lines, "_name_of_process", {os.getpid(): name})
        classes = CLASSES | {"units": ["cat", name]}
        run.write(spec, DONE | {"status": status, "reason": name, "classes": classes})
    assert [path.stem for path in lines_of(run.cells)] == ["a", "b", "c"]
    assert run.records()[0]["reason"] == "a"
    assert run.classes(spec.key)["units"] == ["cat", "a"]


def write_all(run: RunFolder, specs: list[CellSpec]) -> None:
    for spec in specs:
        run.write(spec, DONE)


def test_each_process_writes_its_own_file(tmp_path: Path) -> None:
    run, specs = open_run(tmp_path), [toy_cell("er", seed) for seed in range(40)]
    start = multiprocessing.get_context("fork").Process
    jobs = [start(target=write_all, args=(run, specs[n::4])) for n in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert run.statuses() == {spec.key: "done" for spec in specs}
    assert (len(lines_of(run.cells)), run.unreadable) == (4, [])


def test_a_group_is_flushed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [toy_cell("er", seed) for seed in range(5)]
    run = open_run(tmp_path, *specs)
    run.write(specs[0], DONE)  # the first flushes the name of its file too
    flushed = Mock()
    monkeypatch.setattr(os, "fsync", flushed)
    run.write_group((spec, DONE) for spec in specs)
    flushed.assert_called_once()
    assert run.statuses() == {spec.key: "done" for spec in specs}
    with pytest.raises(ValueError, match="unknown field"):  # all records or none
        run.write_group([(specs[0], {"status": "skipped", "reason": "no"}), (specs[1], DONE | {"colour": 1})])
    assert set(run.statuses().values()) == {"done"}


def old(folder: Path) -> Path:
    """Write a record as earlier versions did, in a separate file; return its path."""
    (path,) = (Path(__file__).parents[1] / "data" / "record-1").iterdir()
    (folder / "cells").mkdir(exist_ok=True, parents=True)
    return Path(shutil.copy(path, folder / "cells"))


def test_records_of_earlier_versions_are_read_and_continued(tmp_path: Path) -> None:
    path = old(tmp_path)
    spec = CellSpec(**json.loads(path.read_text())["spec"])
    (tmp_path / "classes").mkdir()
    classes = {"schema": 1, "key": spec.key, **CLASSES}
    (tmp_path / "classes" / path.name).write_text(json.dumps(classes))
    (tmp_path / "run.json").write_text('{"schema": 1, "commands": [], "shared": {}, "data": {}, "cells": {}}')
    run = open_run(tmp_path, spec)
    assert run.statuses() == {spec.key: "done"}
    assert run.classes(spec.key) == classes | {"schema": 2, "written": ""}
    run.write(spec, DONE)
    assert run.records()[0]["written"]
    assert run.classes(spec.key) is None  # those belonged to the earlier record
    assert run.manifest().schema_version == Manifest.VERSION


def test_a_damaged_file_of_an_earlier_version_is_set_aside(tmp_path: Path) -> None:
    path = old(tmp_path)
    record = json.loads(path.read_text())
    record["spec"]["hyper"]["buffer"] = 1
    path.write_text(json.dumps(record))
    other = path.with_name("0" * 20 + ".json")
    shutil.copy(old(tmp_path / "whole"), other)
    run = RunFolder(tmp_path)
    assert run.records() == []
    assert "it is not the cell its name says" in run.unreadable[0]
    assert "its key does not match its spec" in run.unreadable[1]
    assert len(run.repair()) == 2
    assert {p.name for p in (tmp_path / "set-aside").iterdir()} == {path.name, other.name}
    assert not path.exists()


def test_files_set_aside_earlier_are_not_overwritten(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    for text in ("one", "two", "three"):
        (run.cells / "bad.json").write_text(text)
        assert len(run.repair()) == 1
    aside = {p.name: p.read_text() for p in (tmp_path / "set-aside").iterdir()}
    assert aside == {"bad.json": "one", "bad.json.1": "two", "bad.json.2": "three"}


def test_a_partly_written_file_is_not_moved(tmp_path: Path) -> None:
    """Another process is writing it and would fail."""
    run = open_run(tmp_path)
    under_way = run.cells / ".abc.part"
    under_way.write_text("{")
    assert run.repair() == []
    assert under_way.exists()


def rows_from(first: int, loss: float | None = None) -> dict[str, Any]:
    return {"first": first, "loss": [loss], "scores": {"right": [[1, None]]}}


def test_checkpoints_store_tensors_exactly_and_only_the_latest(tmp_path: Path) -> None:
    states, key = Checkpoints(tmp_path), toy_cell().key
    tensors = {"model/w": torch.randn(3, 4), "strategy/rows": torch.arange(5), "bits": torch.ones(2).bool()}
    assert states.load(key) is None
    states.save(key, {"old": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
    (states.folder / key / ".abc.part").write_text("of a killed run")
    states.save(key, tensors, {"tasks_done": 2}, rows_from(2))
    found, _, rows = states.load(key)
    assert [of["first"] for of in rows] == [0, 2]
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)  # equal in names and types too
    files = sorted(p.suffix for p in (states.folder / key).iterdir())
    assert files == [".json", ".jsonl", ".safetensors"]
    states.drop(key)
    assert states.load(key) is states.header(key) is None


def test_a_kill_between_tensors_and_header_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, key = Checkpoints(tmp_path), toy_cell().key
    states.save(key, {"w": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
    with monkeypatch.context() as patch:
        patch.setattr(of_cells, "write_checked", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            states.save(key, {"w": torch.ones(1)}, {"tasks_done": 2}, rows_from(2))
    # The row of the killed save lies beyond the size in the header.
    for of in (states, Checkpoints(tmp_path)):
        tensors, facts, rows = of.load(key)
        assert (facts["tasks_done"], tensors["w"].tolist(), rows) == (1, [0], [rows[0]])
    again = Checkpoints(tmp_path)
    again.save(key, {"w": torch.ones(1)}, {"tasks_done": 2}, rows_from(0, 0.25))
    assert [of["loss"] for of in again.load(key)[2]] == [[0.25]]


def test_a_header_of_an_earlier_version_is_listed_and_its_cell_begins_again(tmp_path: Path) -> None:
    states, key = Checkpoints(tmp_path), toy_cell().key
    states.save(key, {"w": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
    path = states.folder / key / "facts.json"
    header = json.loads(path.read_text())
    old = {name: header[name] for name in ("key", "tensors", "tasks_done")} | {"loss": [0.5], "scores": {}}
    path.write_text(json.dumps(old | {"schema": 2}))
    assert states.header(key).tasks_done == 1
    assert states.load(key) is None


def test_rows_of_a_checkpoint_are_appended_and_torn_ones_are_written_over(tmp_path: Path) -> None:
    states, key = Checkpoints(tmp_path), toy_cell().key
    for task in range(1, 4):
        states.save(key, {"w": torch.zeros(1)}, {"tasks_done": task}, rows_from(task + 1 if task > 1 else 0))
        (path,) = (states.folder / key).glob("*.jsonl")
        size = path.stat().st_size
        assert (states.header(key).rows, states.header(key).rows_bytes) == (path.name, size)
        with path.open("ab") as stream:
            stream.write(b'{"schema":1,"key":' + b"x" * 300)
    _, _, rows = states.load(key)
    assert [of["first"] for of in rows] == [0, 3, 4]
    path.write_bytes(path.read_bytes()[: size - 1])
    assert states.load(key) is None


def test_damaged_checkpoints_and_those_of_other_cells_are_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states, mine, other = Checkpoints(tmp_path), toy_cell().key, toy_cell(seed=1).key
    states.save(other, {"w": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
    (states.folder / other).rename(states.folder / mine)
    assert states.header(mine) is states.load(mine) is None
    flipped = lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])  # noqa: E731
    damages: list[Any] = [
        ("*.safetensors", lambda whole: b"rubbish"), ("*.safetensors", flipped),
        ("*.jsonl", lambda whole: b"{}\n" * 99),
        ("*.jsonl", lambda whole: whole.replace(b'"first":0', b'"first":1')),
        ("facts.json", lambda whole: b"{"),
    ]  # fmt: skip
    for pattern, damage in damages:
        states.save(mine, {"w": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
        assert states.load(mine) is not None
        (path,) = (states.folder / mine).glob(pattern)
        path.write_bytes(damage(path.read_bytes()))
        before = tree(states.folder / mine)
        assert states.load(mine) is None
        assert f"checkpoint {mine} cannot be read: " in capsys.readouterr().err
        assert not (states.folder / mine).exists()
        assert before in map(tree, (tmp_path / "set-aside").iterdir())
    assert len([*(tmp_path / "set-aside").iterdir()]) == 6
    states.save(mine, {"w": torch.zeros(1)}, {"tasks_done": 1}, rows_from(0))
    (states.folder / mine / "facts.json").write_text("{")
    said, *_ = RunFolder(tmp_path).repair()
    assert said.startswith(f"checkpoint {mine} cannot be read: it is not complete JSON; it is in")
    assert not (states.folder / mine).exists()


def test_a_record_and_its_classes_are_read_as_they_were_written(tmp_path: Path) -> None:
    spec = toy_cell("er", seed=3)
    run = open_run(tmp_path / "r", spec)
    assert run.statuses() == {}
    run.write(spec, DONE)
    assert run.classes(spec.key) is None
    run.write(spec, DONE | {"classes": CLASSES})
    run = RunFolder(tmp_path / "r")
    (record,) = run.records()
    assert (record["key"], CellSpec(**record["spec"]), record["test"]) == (spec.key, spec, COUNTS)
    assert "classes" not in record
    cell = {"schema": 2, "key": spec.key, "written": record["written"]}
    assert run.classes(spec.key) == cell | CLASSES
    run.write(spec, {"status": "skipped", "reason": "no"})
    run = RunFolder(tmp_path / "r")
    assert run.classes(spec.key) is None
    assert (run.statuses(), run.unreadable) == ({spec.key: "skipped"}, [])


def test_a_kill_between_class_counts_and_record_never_mixes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = toy_cell("er")
    run = open_run(tmp_path, spec)
    run.write(spec, DONE | {"classes": CLASSES})
    original = store.append

    def append_and_die(folder: Path, line: bytes) -> None:
        original(folder, line)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "append", append_and_die)
    with pytest.raises(KeyboardInterrupt):
        run.write(spec, DONE | {"classes": CLASSES | {"units": ["other", "dog"]}})
    assert RunReader(tmp_path).classes(spec.key)["units"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(schema=9), "its version is 9"),
        (lambda c: c.pop("validation"), "validation is missing"),
        (lambda c: c.update(test=[[0, 1, 0, 2, 4]]), "a count is of unit 2, and there are 2 units"),
        (lambda c: c.update(test=[[0, 1, 0, -1, 4]]), "test[0][3] must be greater than or equal to 0"),
    ],
)
def test_damaged_class_counts_are_listed_and_set_aside(tmp_path: Path, change: Any, why: str) -> None:
    spec = toy_cell("er")
    run = open_run(tmp_path, spec)
    run.write(spec, DONE | {"classes": CLASSES})
    (path,) = lines_of(run.beside)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    before = tree(tmp_path)
    reader = RunReader(tmp_path)
    assert reader.classes(spec.key) is None
    assert why in reader.unreadable[0]
    assert tree(tmp_path) == before
    assert why in RunFolder(tmp_path).repair()[0]
    assert (tmp_path / "set-aside" / f"classes-{path.name}@0").exists()
    assert run.statuses() == {spec.key: "done"}
