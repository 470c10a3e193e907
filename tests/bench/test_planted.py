"""Planted faults are found by ``lethe compare``, and no change is no alarm: the quick forms."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import suites.seeds
from bench.plan import Request
from strategies.core import draws as lane_draws
from tests import false_alarms
from tests.conftest import ran
from tests.planted_faults import FAULTS, RECORD, SEEDS, Fault, found, planted

QUICK = {
    "EWC penalty times 0": "domain",
    "buffer never updated after task 1": "class",
    "class order the same for all seeds": "class",
}
"""Faults that tests plant again, and the scenario that shows them."""


@pytest.mark.parametrize("fault", [*FAULTS, false_alarms.SALT], ids=lambda f: f.name)
def test_the_source_has_the_text_that_a_fault_replaces(fault: Fault) -> None:
    """If this fails, the source changed: change the fault with it, so that it is planted again."""
    compile(planted(fault), fault.file, "exec")


def test_a_fault_whose_text_is_gone_or_doubled_is_an_error(tmp_path: Path) -> None:
    fault = Fault("made up", "file.py", "a = 1", "a = 2", "er")
    for text in ("b = 1", "a = 1; a = 1"):
        (tmp_path / "file.py").write_text(text)
        with pytest.raises(AssertionError, match="not once"):
            planted(fault, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenario"), QUICK.items())
def test_compare_finds_a_planted_fault_with_five_seeds(name: str, scenario: str, tmp_path: Path) -> None:
    fault = next(f for f in FAULTS if f.name == name)
    result = found(replace(fault, scenarios=scenario), tmp_path)
    [recorded] = [f for f in json.loads(RECORD.read_text())["faults"] if f["fault"] == name]
    assert recorded["alarm"]
    assert result["alarm"], result
    assert result["seeds_needed_equal"] == recorded["seeds_needed_equal"]


def test_the_record_of_planted_faults_has_all_and_says_what_was_found() -> None:
    record = json.loads(RECORD.read_text())
    assert [f["fault"] for f in record["faults"]] == [f.name for f in FAULTS]
    assert len(FAULTS) == 16
    assert record["seeds"] == SEEDS == 5
    # Seed 0 of a fault that takes seed 0 for every seed is as it was.
    assert {f["seeds_needed_equal"] for f in record["faults"]} == {1, 2}


def test_the_record_of_false_alarms_has_at_most_5_per_cent() -> None:
    record = json.loads(false_alarms.RECORD.read_text())
    assert (record["draws"], record["drawn"], record["seeds"]) == (200, 5, 30)
    assert record["alarms"] <= 0.05 * record["draws"]
    assert record["equal_records"] == 0  # the salt reached every cell


@pytest.mark.slow
def test_salted_streams_raise_few_alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request("toy", ("finetune", "er"), ("class", "domain"), tuple(range(12)))
    ran(tmp_path / "base", request)
    derive = suites.seeds.derive
    for module in (suites.seeds, lane_draws):
        monkeypatch.setattr(module, "derive", lambda seed, name: derive(seed, f"{name}/salt"))
    ran(tmp_path / "new", request)
    result = false_alarms.summed(false_alarms.draws(tmp_path / "base", tmp_path / "new", 12, 5, 40))
    assert result["equal_records"] == 0
    assert result["verdicts"]["unclear"] > 0
    assert result["alarms"] <= 4
