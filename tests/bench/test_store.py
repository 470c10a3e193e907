"""Files of a run: written whole or not at all, read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.plan.cell import CellSpec
from bench.store import run_folder as store
from bench.store.files import write_json
from bench.store.run_folder import RunFolder
from bench.store.run_reader import SCHEMA, RunReader, flaw
from suites.errors import UserError
from tests.conftest import toy_cell

COUNTS = {"right": [[1, 2]] * 3, "total": [[4, 4]] * 3}
DONE = {"status": "done", "test": COUNTS, "validation": COUNTS}
SHARED = {"toy/class": {"version": 1, "epochs": 4}}


def opened(folder: Path, *specs: CellSpec, **changes: Any) -> RunFolder:
    run = RunFolder(folder)
    given = {"shared": SHARED, "data": {"toy": "f1"}, "command": "test", "device": "cpu"} | changes
    run.open(specs, **given)
    return run


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = toy_cell("er", seed=3)
    run = opened(tmp_path / "r", spec)
    assert run.statuses().get(spec.key, "missing") == "missing"
    run.write(spec, DONE)
    (record,) = run.records()
    assert record["key"] == spec.key
    assert CellSpec(**record["spec"]) == spec
    assert record["test"] == COUNTS
    assert run.statuses().get(spec.key, "missing") == "done"
    assert run.unreadable == []


def test_the_manifest_says_what_was_asked_and_where(tmp_path: Path) -> None:
    first, second = toy_cell("er"), toy_cell("ewc", scenario="task")
    opened(tmp_path, first)
    opened(tmp_path, second, shared={"toy/task": {"epochs": 4}}, data={"other": "f2"}, command="again")
    manifest = RunFolder(tmp_path).manifest()
    assert manifest["schema"] == SCHEMA
    assert manifest["cells"] == {first.key: first.title, second.key: second.title}
    assert manifest["shared"].keys() == {"toy/class", "toy/task"}
    assert manifest["data"] == {"toy": "f1", "other": "f2"}
    assert [c["command"] for c in manifest["commands"]] == ["test", "again"]
    torch_version, _, build = torch.__version__.partition("+")
    # A wheel may be called 2.11.0 where torch itself says 2.11.0+cu130.
    assert manifest["commands"][0]["packages"]["torch"] in {torch_version, f"{torch_version}+{build}"}
    assert {"git", "dirty", "device", "python", "machine", "at"} <= manifest["commands"][0].keys()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shared": {"toy/class": {"version": 1, "epochs": 5}}}, "toy/class with epochs = 4, not 5"),
        ({"shared": {"toy/class": {"version": 2, "epochs": 4}}}, "toy/class with version = 1, not 2"),
        ({"data": {"toy": "f2"}}, "toy with data = f1, not f2"),
    ],
)
def test_what_contradicts_the_manifest_is_refused(tmp_path: Path, changes: Any, told: str) -> None:
    opened(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=told):
        opened(tmp_path, **changes)
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', "\x00"])
def test_a_manifest_that_is_not_ours_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match="choose another --out"):
        opened(tmp_path)
    assert (tmp_path / "run.json").read_text() == text


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert list(tmp_path.iterdir()) == [path]
    run = RunFolder(tmp_path)
    run.cells.mkdir()
    with pytest.raises(UserError, match=r"cannot write into .*: No space left on device"):
        run.write(toy_cell(), DONE)


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b))[1])
    write_json(tmp_path / "a.json", {})
    assert steps == ["sync", "rename"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.pop("schema"), "no record of this version"),
        (lambda r: r.update(schema=SCHEMA + 1), "no record of this version"),
        (lambda r: r.update(key="0" * 20), "not the cell its name says"),
        (lambda r: r.update(status="perhaps"), "not the cell its name says"),
        (lambda r: r["spec"].pop("seed"), "its spec is not of this version"),
        (lambda r: r["spec"].update(colour="red"), "its spec is not of this version"),
        (lambda r: r["spec"]["hyper"].update(buffer=1), "not the one it was named after"),
        (lambda r: r["spec"]["training"].update(lr=9.0), "not the one it was named after"),
        (lambda r: r.pop("test"), "it lacks what a done cell has"),
        (lambda r: r["test"].update(right=[[1]]), "it lacks what a done cell has"),
        (lambda r: r["test"].update(total=[[1, 2], [3], [4, 5]]), "it lacks what a done cell has"),
        (lambda r: r.update(validation=7), "it lacks what a done cell has"),
        (lambda r: r.update(identity="other"), "it lacks what a done cell has"),
        (lambda r: r.update(status="failed"), "it lacks what a failed cell has"),
        (lambda r: r.update(status="skipped"), "it lacks what a skipped cell has"),
        (lambda r: r.update(status="diverged"), "it lacks what a diverged cell has"),
    ],
)
def test_a_record_is_trusted_only_when_it_is_whole(tmp_path: Path, change: Any, why: str) -> None:
    spec = toy_cell("er")
    run = opened(tmp_path, spec)
    run.write(spec, DONE)
    path = run.cells / f"{spec.key}.json"
    record = json.loads(path.read_text())
    assert flaw(record, spec.key) is None
    change(record)
    assert why in str(flaw(record, spec.key))
    path.write_text(json.dumps(record))
    assert run.records() == []
    assert why in run.unreadable[0]
    assert why in run.repair()[0]
    assert (tmp_path / "set-aside" / path.name).exists()
    assert run.unreadable == []


def test_reading_moves_nothing(tmp_path: Path) -> None:
    run = opened(tmp_path)
    bad = run.cells / "bad.json"
    bad.write_bytes(b"\xff\xfe{")
    seen = RunReader(tmp_path)
    assert seen.records() == []
    assert seen.records() == []
    assert seen.unreadable == ["bad.json cannot be read: it is not whole JSON"]
    assert bad.exists()
    assert not (tmp_path / "set-aside").exists()


def test_what_was_set_aside_is_not_overwritten(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for text in ("one", "two", "three"):
        (run.cells / "bad.json").write_text(text)
        assert len(run.repair()) == 1
    kept = {p.name: p.read_text() for p in (tmp_path / "set-aside").iterdir()}
    assert kept == {"bad.json": "one", "bad.json.1": "two", "bad.json.2": "three"}


def test_a_file_under_way_is_not_touched(tmp_path: Path) -> None:
    """Another process is writing it: to move it would make that process fail."""
    run = opened(tmp_path)
    under_way = run.cells / ".abc.part"
    under_way.write_text("{")
    assert run.records() == []
    assert run.unreadable == []
    assert under_way.exists()


def test_checkpoints_keep_tensors_exactly_and_only_the_latest(tmp_path: Path) -> None:
    run, key = RunFolder(tmp_path), toy_cell().key
    tensors = {"model/w": torch.randn(3, 4), "strategy/rows": torch.arange(5), "bits": torch.ones(2).bool()}
    assert run.load(key) is None
    run.save(key, {"old": torch.zeros(1)}, {"tasks_done": 1})
    run.save(key, tensors, {"tasks_done": 2, "loss": [0.5, None]})
    found = run.load(key)
    assert found is not None
    assert found[1]["loss"] == [0.5, None]
    assert found[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[0][name].dtype == tensor.dtype
        assert torch.equal(found[0][name], tensor)
    files = sorted(p.name for p in (run.checkpoints / key).iterdir())
    assert files == ["2.safetensors", "facts.json"]
    run.drop(key)
    assert run.load(key) is None
    assert run.checkpoint_header(key) is None


def test_a_kill_between_tensors_and_facts_leaves_the_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, key = RunFolder(tmp_path), toy_cell().key
    run.save(key, {"w": torch.zeros(1)}, {"tasks_done": 1})

    def killed(path: Path, facts: Any, indent: int | None = 1) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save(key, {"w": torch.ones(1)}, {"tasks_done": 2})
    found = run.load(key)
    assert found is not None
    assert found[1]["tasks_done"] == 1
    assert torch.equal(found[0]["w"], torch.zeros(1))


def test_another_cell_s_checkpoint_is_not_trusted(tmp_path: Path) -> None:
    run, mine, other = RunFolder(tmp_path), toy_cell().key, toy_cell(seed=1).key
    run.save(other, {"w": torch.zeros(1)}, {"tasks_done": 1})
    (run.checkpoints / other).rename(run.checkpoints / mine)
    assert run.checkpoint_header(mine) is None
    assert run.load(mine) is None


CLASSES = {"units": ["cat", "dog"], "test": [[0, 1, 0, 1, 4], [1, 1, 0, 0, 4]], "validation": []}


def test_classes_lie_beside_the_record_and_go_with_it(tmp_path: Path) -> None:
    spec = toy_cell("er")
    run = opened(tmp_path, spec)
    run.write(spec, DONE)
    plain = (run.cells / f"{spec.key}.json").read_bytes()
    assert run.classes(spec.key) is None
    run.write(spec, DONE | {"classes": CLASSES})
    assert (run.cells / f"{spec.key}.json").read_bytes() == plain
    assert run.classes(spec.key) == {"schema": SCHEMA, "key": spec.key, **CLASSES}
    assert (run.beside / f"{spec.key}.json").read_text().count("\n") == 1
    run.write(spec, {"status": "skipped", "reason": "no"})
    assert run.classes(spec.key) is None
    assert run.unreadable == []


def test_a_kill_never_leaves_a_record_with_another_one_s_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two files of a cell that is run again, there is no record, so it is run once more."""
    spec = toy_cell("er")
    run = opened(tmp_path, spec)
    run.write(spec, DONE | {"classes": CLASSES})
    honest = store.write_json

    def killed(path: Path, facts: Any, indent: int | None = 1) -> None:
        honest(path, facts, indent)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        run.write(spec, DONE | {"classes": CLASSES | {"units": ["other", "dog"]}})
    assert run.statuses().get(spec.key, "missing") == "missing"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(schema=SCHEMA + 1), "not of this version"),
        (lambda c: c.update(key="0" * 20), "not of the cell its name says"),
        (lambda c: c.pop("units"), "does not name its units"),
        (lambda c: c.update(units=["cat", 1]), "does not name its units"),
        (lambda c: c.pop("validation"), "its counts are not whole"),
        (lambda c: c["test"][0].pop(), "its counts are not whole"),
        (lambda c: c.update(test=[[0, 1, 0, 2, 4]]), "its counts are not whole"),
        (lambda c: c.update(test=[[0, 1, 0, -1, 4]]), "its counts are not whole"),
        (lambda c: c.update(test=[[0, 1, 0, "1", 4]]), "its counts are not whole"),
    ],
)
def test_classes_are_trusted_only_when_they_are_whole(tmp_path: Path, change: Any, why: str) -> None:
    spec = toy_cell("er")
    run = opened(tmp_path, spec)
    run.write(spec, DONE | {"classes": CLASSES})
    path = run.beside / f"{spec.key}.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    assert RunReader(tmp_path).classes(spec.key) is None
    assert path.exists()
    assert run.classes(spec.key) is None
    assert why in run.repair()[0]
    assert (tmp_path / "set-aside" / f"classes-{path.name}").exists()
    assert run.statuses().get(spec.key, "missing") == "done"
