"""File models: what they accept, how they read older versions, and their errors for invalid files."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.schema import CellRecord, Experiment, Manifest, Unreadable, cell_key, checked_json, is_intact
from bench.schema.__main__ import json_schemas
from lethe.testing import toy_cell

ROOT = Path(__file__).parents[2]


@pytest.mark.pinned
def test_committed_json_schemas_are_current() -> None:
    """If this fails after a change to a model: ``python -m bench.schema docs/schemas``."""
    found = {path.name: path.read_text() for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert found == json_schemas()


def test_every_field_has_a_description() -> None:
    def described(node: Any, place: str) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                assert "description" in field or "$ref" in field, f"{place}.{name} has no description"
            for key, value in node.items():
                described(value, f"{place}.{key}")

    for name, text in json_schemas().items():
        described(json.loads(text), name)


def test_a_record_of_version_1_is_read_as_the_current_version() -> None:
    (path, *_) = (ROOT / "tests" / "data" / "record-1").glob("*.json")
    model, record = CellRecord.read(path.read_bytes())
    assert (record["schema"], record["written"], model.written) == (CellRecord.VERSION, "", "")
    assert record["key"] == path.stem == cell_key(record["spec"])


def test_a_manifest_of_version_1_has_no_descriptions() -> None:
    old = {"schema": 1, "commands": [], "shared": {}, "data": {}, "cells": {}}
    assert Manifest.read(json.dumps(old))[1] == old | {
        "schema": 4, "strategies": {}, "suites": {}, "models": {}, "code": {}, "selectors": {}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "it is not complete JSON"),
        ("[]", "is not a JSON object"),
        ('{"schema": 9}', "its version is 9, and this Lethe reads 1 to 3"),
        ('{"key": "x"}', "its version is None"),
    ],
)
def test_a_file_that_is_no_record_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        CellRecord.read(text)


def done(**changes: Any) -> dict[str, Any]:
    spec = toy_cell("er")
    counts = {"right": [[1, None]] * 3, "total": [[4, 4]] * 3}
    return {
        "schema": 3, "key": spec.key, "written": "", "spec": spec.as_record(), "identity": spec.identity,
        "status": "done", "reason": None, "error": None, "test": counts, "validation": counts,
    } | changes  # fmt: skip


def test_numbers_that_are_not_finite_are_refused() -> None:
    text = json.dumps(done(loss=[1.0, float("nan")]))
    with pytest.raises(Unreadable, match="not complete JSON"):
        CellRecord.read(text)
    with pytest.raises(Unreadable, match=r"loss\[1\] must be a finite number"):
        CellRecord.read(done(loss=[1.0, float("inf")]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": 1, "curvs": []}, "unknown field 'colour'"),
        ({"curvs": []}, "unknown field 'curvs'; did you mean curves"),
        ({"test": {"right": [[5, 1]] * 3, "total": [[4, 4]] * 3}}, "right is 5 of a total of 4"),
        ({"test": {"right": [[1]] * 3, "total": [[4]] * 3}}, r"right\[0\] has 1 columns, and a matrix"),
        ({"test": {"right": [[1, 1]] * 3, "total": [[4, 4]] * 2}}, "right and total differ in shape"),
        ({"test": {"right": [["1", 1]] * 3, "total": [[4, 4]] * 3}}, r"right\[0\]\[0\] must be a valid int"),
        ({"loss": [0.1]}, "loss must have a number for each task"),
        ({"outside": [0.1]}, "outside must have a number for each row of R"),
        ({"score": {"name": "bleu", "low": 0.0, "high": 100.0}}, "must be of one kind"),
        ({"identity": "ewc"}, "identity is ewc, not that of its spec, er"),
        ({"status": "failed"}, "a failed cell must have an error"),
        ({"status": "skipped"}, "a skipped cell must have a reason"),
        ({"status": "perhaps"}, "status must be 'done', 'failed', 'diverged' or 'skipped', not 'perhaps'"),
        ({"key": "0" * 20}, "its key does not match its spec"),
        ({"test": None}, "a done cell must have test and validation scores"),
        ({"notes": {"x": [["a"]]}}, r"notes.x"),
    ],
)
def test_an_invalid_record_is_refused_and_the_field_named(changes: dict[str, Any], says: str) -> None:
    assert CellRecord.read(done())[0].status == "done"
    with pytest.raises(Unreadable, match=says):
        CellRecord.read(done(**changes))


def test_an_invalid_experiment_file_is_refused_and_the_field_named() -> None:
    with pytest.raises(Unreadable, match=r"unknown field 'sets' in run\[0\]; did you mean set"):
        Experiment.read({"schema": 1, "run": [{"suite": "toy", "strategies": ["er"], "sets": {}}]})


@pytest.mark.parametrize("indent", [None, 1])
def test_a_flipped_bit_changes_no_number_of_a_checked_file(indent: int | None) -> None:
    """Each flipped bit is refused, or is in the checksum's own letters and changes nothing."""
    record = done(loss=[1.0, 2.5])
    text = checked_json(record, indent)
    assert CellRecord.read(text)[1] == CellRecord.read(text.decode())[1] == record
    assert is_intact(text)
    assert CellRecord.read(json.dumps(record))[1] == record  # of an earlier version
    for bit in range(0, 8 * len(text), 5):
        damaged = bytearray(text)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = CellRecord.read(bytes(damaged))[1]
        except Unreadable:
            continue
        assert found == record
    with pytest.raises(Unreadable, match="its checksum differs"):
        CellRecord.read(text.replace(b"2.5", b"3.5"))
    first = {"crc32": "00000000"} | record
    with pytest.raises(Unreadable, match="its checksum differs"):
        CellRecord.read(json.dumps(first))
