"""Every built-in method and data set has a reference, and ``lethe cite`` prints those that a run used."""

import re
from pathlib import Path

import pytest

import strategies
import suites
from bench.report.cite import Reference, meant
from tests.conftest import Command

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
OWN = {"adaptive-replay", "docstrings"}
"""Made for Lethe: no paper to cite."""


@pytest.mark.parametrize(
    ("name", "text"),
    [(n, strategies.get(n).paper) for n in strategies.names()]
    + [(n, suites.get(n).source) for n in suites.names() if not n.startswith("toy")],
)
def test_every_citation_has_an_entry(name: str, text: str) -> None:
    found = list(meant(text))
    assert bool(found) != (name in OWN)
    assert all(isinstance(reference, Reference) for reference in found)


def test_every_suite_names_the_licence_of_its_data() -> None:
    without = {d.name for d in suites.REGISTRY.descriptions() if not d.metadata.get("licence")}
    assert all(name.startswith("toy") for name in without)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Aljundi et al. 2019, Gradient based sample selection", ["aljundi2019gss"]),
        ("Aljundi et al. 2019, Online continual learning", ["aljundi2019mir"]),
        ("Shin et al. 2017, A title; Gulrajani et al. 2017, Another", ["shin2017dgr", "gulrajani2017wgan"]),
        ("Serra et al. 2018", ["serra2018hat"]),
        ("Nobody 1999, Unheard of", ["Nobody 1999, Unheard of"]),
        ("mine", []),
    ],
)
def test_a_citation_is_matched_by_author_year_and_title(text: str, keys: list[str]) -> None:
    assert [r.key if isinstance(r, Reference) else r for r in meant(text)] == keys


def test_cite_prints_the_references_of_a_run(command: Command) -> None:
    run = str(REFERENCE / "digits.lethe.gz")
    code, out, _ = command("cite", run)
    assert code == 0
    keys = re.findall(r"^@\w+\{(\w+),", out, re.MULTILINE)
    assert keys[0] == "lethe"
    assert {"kirkpatrick2017ewc", "buzzega2020der", "alpaydin1998digits"} < set(keys)
    assert len(keys) == len(set(keys))
    assert "% der, der++\n@inproceedings{buzzega2020der," in out
    assert "% data of digits: CC BY 4.0 (UCI)" in out
