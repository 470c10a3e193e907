"""Requirements of every registered strategy: a new file is tested without writing a test."""

from dataclasses import fields

import pytest

import strategies
from bench.checks.conformance import CHECKS
from bench.checks.made_streams import made_streams, scenario_of
from bench.checks.one_check import check_one
from bench.checks.subjects import Subject
from bench.plan import Request
from lethe.testing import conformance
from suites.base import SCENARIOS, Training

NOT_APPLICABLE = {
    "forgets": (
        "agem bi-r bic coda-prompt continual-backprop cumulative dgr dgr-gan er+lwf ewc ewc+er finetune "
        "frozen gem generative-classifier gpm icarl il2m inc-lora joint l2 l2-init l2p la-maml lfl "
        "lora-per-task lucir lwf mas mer ncm o-lora ogd oml progressive-prompts ranpac redo rwalk "
        "shrink-perturb si slda wa"
    ),
    "boundaries": (
        "bi-r bic coda-prompt cumulative dgr dgr-gan er+lwf ewc ewc+er fdr frozen gdumb gem "
        "generative-classifier gpm hal hat icarl il2m inc-lora independent joint l2 l2p lfl lora-per-task "
        "lucir lwf mas o-lora ogd packnet progressive progressive-prompts rwalk shrink-perturb si supsup "
        "wa xdg"
    ),
    "units": "bi-r bic er-ace er-aml generative-classifier il2m lfl lucir wa",
    "buffer": (
        "bi-r coda-prompt continual-backprop cumulative dgr dgr-gan er+lwf ewc ewc+er finetune frozen "
        "generative-classifier gpm hat inc-lora independent joint l2 l2-init l2p lfl lora-per-task lwf "
        "mas ncm o-lora ogd packnet progressive progressive-prompts ranpac redo rwalk shrink-perturb si "
        "slda supsup xdg"
    ),
    "texts": (
        "bi-r coda-prompt continual-backprop dgr dgr-gan generative-classifier gpm hat l2p packnet "
        "progressive progressive-prompts rar redo scr supsup xdg"
    ),
    "export": (
        "bic cls-er coda-prompt generative-classifier hat icarl il2m inc-lora independent l2p "
        "lora-per-task lucir mbpa++ ncm o-lora packnet progressive progressive-prompts ranpac scr slda "
        "supsup xdg"
    ),
    "learns": "coda-prompt inc-lora l2p lora-per-task o-lora progressive-prompts",
    "convolutions": (
        "coda-prompt continual-backprop inc-lora l2p lora-per-task o-lora progressive progressive-prompts "
        "redo"
    ),
}
"""Check -> methods to which it does not apply, exactly: one more and one less turn a test red."""

test_every_method_meets_the_contract = conformance(
    "all", "er+lwf", "ewc+er", without={check: names.split() for check, names in NOT_APPLICABLE.items()}
)


@pytest.mark.slow
@pytest.mark.parametrize("check", NOT_APPLICABLE)
def test_checks_that_are_left_out_do_not_apply(check: str) -> None:
    for name in NOT_APPLICABLE[check].split():
        with made_streams():
            subject = Subject(name)
        assert check_one(subject, check, CHECKS).skipped, name


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
    # Without gradients the rate has no effect, and is set back to the suite's.
    assert first.training["lr"] == (0.01 if strategies.get(name).gradient_free else 0.02)
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
