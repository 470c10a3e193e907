"""Modules that import suites of other modules."""

from types import ModuleType

import pytest

from suites import SuiteRegistry


def test_a_module_enters_the_suites_that_it_makes_and_no_imported_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the code of an imported suite's cells would be that of the importing module, too."""
    module = ModuleType("suites.noisy")
    source = """from dataclasses import replace
from suites.digits import DIGITS
NOISY = replace(DIGITS, name="noisy")
"""
    exec(source, vars(module))
    monkeypatch.setattr("suites.syntax.inspect.getsource", lambda of: source)
    entered: list[str] = []
    registry = SuiteRegistry.__new__(SuiteRegistry)
    monkeypatch.setattr(SuiteRegistry, "enter", lambda self, name, *of: entered.append(name))
    registry.collect(module)
    assert entered == ["noisy"]
