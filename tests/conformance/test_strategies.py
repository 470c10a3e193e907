"""Requirements of every registered strategy: a new file is tested without writing a test."""

from dataclasses import fields

import pytest

import strategies
from bench.checks.made_streams import scenario_of
from bench.plan import Request
from lethe.testing import conformance
from suites.base import SCENARIOS, Training

test_every_method_meets_the_contract = conformance("all", "er+lwf", "ewc+er")


@pytest.fixture(params=[*strategies.names(), "er+lwf", "ewc+er"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_identity_selects_the_same_hyper_parameters(name: str) -> None:
    parts = strategies.split(name)
    own = {part: [f"{f}=0.75" for f in strategies.get(part).lane_fields()] for part in parts}
    own[parts[0]].insert(0, "lr=0.02")
    selector = "+".join(f"{p}[{','.join(reversed(own[p]))}]" for p in parts)
    first = Request("toy", (selector,), (scenario_of(name),)).cells()[0]
    again = Request("toy", (first.identity,), (scenario_of(name),)).cells()[0]
    assert again == first
    assert first.training["lr"] == 0.02
    assert Request("toy", (name,)).cells()[0].identity == name


def test_unsuitable_scenarios_have_a_reason(name: str) -> None:
    strategy = strategies.get(name)()
    for scenario in SCENARIOS:
        reason = strategy.unsuitable(scenario, Training())
        assert (reason is None) == (scenario in strategy.scenarios)
    if strategy.needs_boundaries:
        reason = strategy.unsuitable(scenario_of(name), Training(boundaries="hidden"))
        assert "tasks begin and end" in str(reason)


def test_every_method_has_a_summary_a_paper_and_options_in_order(name: str) -> None:
    """They are what ``lethe show`` prints."""
    entry = strategies.REGISTRY.describe(name)
    assert entry.summary.endswith((".", ":"))
    assert entry.metadata["paper"]
    assert [o.name for o in entry.options] == [f.name for f in fields(strategies.get(name))]
