"""The values among which tuning chooses, declared beside hyper-parameters."""

from typing import get_type_hints

import pytest

import strategies
from suites.errors import UserError
from suites.values import Search, convert, search_of


@pytest.mark.parametrize("name", strategies.names())
def test_every_value_of_a_search_space_is_allowed_for_its_hyper_parameter(name: str) -> None:
    for field, hint in get_type_hints(strategies.get(name), include_extras=True).items():
        if space := search_of(hint):
            for value in space.of or (space.first, space.last):
                convert(field, value, hint)
            assert Search.read(str(space)) == Search(**vars(space) | {"of": tuple(map(str, space.of))})


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("1..1e5:log", Search(1, 1e5, log=True)),
        ("0.1..0.95", Search(0.1, 0.95)),
        ("1e-2..1.5", Search(0.01, 1.5)),
        ("0.1x..10x:log", Search(0.1, 10, log=True, times=True)),
        ("1..1e6:log7", Search(1, 1e6, log=True, points=7)),
        ("0..1:5", Search(0, 1, points=5)),
        ("8|16", Search(of=("8", "16"))),
        ("ring", Search(of=("ring",))),
    ],
)
def test_a_search_space_is_read_from_its_notation(text: str, space: Search) -> None:
    assert Search.read(text) == space
    assert str(Search.read(str(space))) == str(space)


@pytest.mark.parametrize(
    "text", ["", "5..1", "0..1:log", "1..", "a..b", "1x..2", "1..2:lin", "1..2:", "1||2", "-1..1:log"]
)
def test_other_notations_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        Search.read(text)
