"""Planted faults are found by ``lethe compare``, and no change is no alarm: the quick forms."""

from pathlib import Path

import pytest

import suites.base
from bench.plan import Request
from strategies.core import draws as lane_draws
from tests import false_alarms
from tests.conftest import ran
from tests.planted_faults import FAULTS, Fault, planted


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


def test_salted_streams_raise_few_alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request("toy", ("finetune", "er"), ("class", "domain"), tuple(range(12)))
    ran(tmp_path / "base", request)
    derive = suites.base.derive
    for module in (suites.base, lane_draws):
        monkeypatch.setattr(module, "derive", lambda seed, name: derive(seed, f"{name}/salt"))
    ran(tmp_path / "new", request)
    result = false_alarms.summed(false_alarms.draws(tmp_path / "base", tmp_path / "new", 12, 5, 40))
    assert result["equal_records"] == 0
    assert result["verdicts"]["unclear"] > 0
    assert result["alarms"] <= 4
