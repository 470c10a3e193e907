"""A value has one spelling, however it is written and wherever it comes from."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings, strategies as st

from strategies.core import Bounds
from suites.values import convert, spelled, text_of
from tests.conftest import refused

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def ways(value: float) -> list[Any]:
    """Return ways to write a number: as text, as a float and, if it is whole, as an int."""
    found: list[Any] = [value, repr(value), f" {value!r} ", f"{value:.17e}", text_of(value)]
    if value == int(value):
        found += [int(value), str(int(value)), f"{int(value)}.0", f"{int(value)}e0"]
    return [*found, -0.0, "-0", "-0.0", "0e0", "+0"] if value == 0 else found


@settings(deadline=None)
@given(NUMBERS | st.integers(-(10**6), 10**6).map(float))
def test_a_number_is_one_value_however_it_is_written(value: float) -> None:
    written = {repr(convert("x", way, float)) for way in ways(value)}
    assert written == {repr(value + 0.0)}
    (text,) = {text_of(convert("x", way, float)) for way in ways(value)}
    assert (float(text), "+" in text) == (value, False)


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_is_one_value_however_it_is_written(value: int) -> None:
    found = [convert("n", way, int) for way in (value, str(value), float(value), f"{value}.0", f"{value}e0")]
    assert found == [value] * 5
    assert {type(n) for n in found} == {int}


@pytest.mark.parametrize(
    ("given", "hint", "said"),
    [
        (True, float, "x must be a number, not true"),
        ("true", int, "x must be a whole number, not 'true'"),
        (1, bool, "x must be true or false, not 1"),
        ("1", bool, "x must be true or false, not '1'"),
        (1.5, int, "x must be a whole number, not 1.5"),
        ("1e999", float, "x must be finite, not '1e999'"),
        ("1e999", int, "x must be finite, not '1e999'"),
        (float("nan"), float, "x must be finite, not nan"),
        (-1, Annotated[float, "help", Bounds(0.0)], "x must be at least 0, not -1"),
        (2, Annotated[Annotated[float, Bounds(0.0, 1.0)], "help"], "x must be at most 1, not 2"),
        ("sun", Literal["sum", "mean"], "unknown value for x 'sun'; did you mean sum?"),
        (1, list, "x cannot be set"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(given: Any, hint: Any, said: str) -> None:
    refused(re.escape(said), convert, "x", given, hint)


def test_text_is_converted_to_the_value_of_its_type() -> None:
    found = [convert("x", *of) for of in (("2", Literal[1, 2]), ("TRUE", bool), (5, str))]
    assert (found, type(found[1])) == ([2, True, "5"], bool)


def test_a_path_is_one_text_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "mine.py"
    file.touch()
    (tmp_path / "link.py").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    same = ["in/mine.py", "./in/mine.py", "in//mine.py", "in/../in/mine.py", str(file), "link.py"]
    assert {spelled(path) for path in same} == {os.path.join(".", "in", "mine.py")}
    monkeypatch.chdir(tmp_path / "in")
    outside = {spelled(path) for path in ("../other.py", str(tmp_path / "other.py"))}
    assert outside == {os.path.realpath(tmp_path / "other.py")}
