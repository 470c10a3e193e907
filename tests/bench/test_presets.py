"""Tuned presets: a spelling of concrete settings, made by a command from the choices of ``lethe tune``."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lethe
import strategies
from bench.plan import Request, one_cell
from bench.results import LikeFinetune
from bench.schema import Manifest, Trial, Tuned
from bench.tune import write_presets as made
from strategies import presets
from suites.errors import UserError
from tests.conftest import Command

ENTRIES = tomllib.loads(presets.FILE.read_text()).get("preset", [])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of presets in place of the committed one."""
    path = tmp_path / "presets.toml"
    parts = (("task", "lam = 30.0, lr = 0.003"), ("class", "lam = 1e5, lr = 0.001"))
    about = '[[preset]]\nstrategy = "ewc"\nsuite = "digits"\ntuned = "3 trials"\n'
    path.write_text("".join(f'{about}scenario = "{name}"\nvalues = {{ {of} }}\n' for name, of in parts))
    monkeypatch.setattr(presets, "FILE", path)
    presets.tuned.cache_clear()
    yield path
    presets.tuned.cache_clear()


def test_a_preset_is_a_spelling_of_its_values(file: Path) -> None:
    for scenario, values in (("task", "lam=30,lr=0.003"), ("class", "lam=1e5")):
        cell = one_cell("digits", "ewc[preset=digits]", scenario)
        assert cell == one_cell("digits", f"ewc[{values}]", scenario)
        assert cell.identity == f"ewc[{values.replace('1e5', '100000')}]"
    assert one_cell("digits", "ewc[preset=digits,lam=2]", "task").hyper["lam"] == 2
    assert one_cell("digits", "ewc[preset=vandeven2022]", "task").hyper["lam"] == 1e5
    with pytest.raises(UserError, match="preset digits has no lam for domain; it has: task, class"):
        one_cell("digits", "ewc[preset=digits]", "domain")
    with pytest.raises(UserError, match="unknown preset of ewc 'digit'"):
        one_cell("digits", "ewc[preset=digit]", "task")


def test_a_method_of_a_user_has_no_preset_of_ours(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from lethe import Strategy\n\n\nclass ewc(Strategy):\n    pass\n")
    with pytest.raises(UserError, match="has no presets"):
        Request("digits", (f"{tmp_path}/mine.py:ewc[preset=digits]",)).cells()


def test_presets_are_shown_and_advised(file: Path) -> None:
    described = strategies.REGISTRY.describe_value("ewc", strategies.get("ewc"))
    assert (
        "digits (lam (task=30.0, class=100000.0), lr (task=0.003, class=0.001))"
        in described.metadata["presets"]
    )
    row = LikeFinetune("digits", "task", "ewc", "ewc", 3, 0.0, True, False, 0.0)
    assert row.advice == "take ewc[preset=digits]"
    other = LikeFinetune("digits", "domain", "ewc", "ewc", 3, 0.0, True, False, 0.0)
    assert other.advice == "tune it: lethe tune digits -s ewc --scenario domain"


def tuned(selector: str, scenario: str = "task", protocol: str = "seeds", chosen: int = 1) -> Tuned:
    """Return a method of two trials."""
    trials = [
        Trial(settings=of, identity="x", state="done", score=0.5, steps=1)
        for of in ({"lam": 1.0, "write": "ring"}, {"lam": 1e5, "write": "ring"})
    ]
    return Tuned(
        suite="digits", scenario=scenario, selector=selector, protocol=protocol, view="digits@tuning",
        seeds=[1000, 1001], sampler="random", sampler_seed=0, most_trials=2, space={}, trials=trials,
        chosen=chosen,
    )  # fmt: skip


def usual_of(scenario: str) -> dict[str, Any]:
    """Return what trials with the suite's settings share."""
    (found,) = Request("digits@tuning", ("ewc",), (scenario,)).shared().values()
    return found


def test_the_command_writes_choices_and_leaves_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [tuned("ewc"), tuned("der++", "class"), tuned("er[lr=0.1]")]
    usual = {f"digits@tuning/{name}": usual_of(name) for name in ("task", "class")}
    more = {"tuning": {str(n): one for n, one in enumerate(chosen)}, "shared": usual}
    manifest = Manifest.empty().model_copy(update=more)

    class Reader:
        def __init__(self, folder: Path) -> None:
            assert folder in (Path("run"), Path("run/tuning"))

        def manifest(self) -> Manifest:
            return manifest

    monkeypatch.setattr(made, "RunReader", Reader)
    made.main(["run"], file)
    presets.tuned.cache_clear()
    assert presets.tuned() == {
        "der++": {"digits": {"lam": {"class": 1e5}, "write": {"class": "ring"}}},
        "ewc": {
            "digits": {"lam": {"class": 1e5, "task": 1e5}, "lr": {"class": 0.001}, "write": {"task": "ring"}}
        },
    }
    assert 'tuned = "2 trials of random, seeds 1000-1001"' in file.read_text()
    again = file.read_text()
    made.main(["run", "finetune"], file)
    assert file.read_text() == again
    chosen[:] = [tuned("der++", "class", chosen=0)]
    manifest.tuning.clear()
    manifest.tuning["der++"] = chosen[0]
    made.main(["run"], file)
    presets.tuned.cache_clear()
    assert {*presets.tuned()} == {"ewc"}  # its defaults are the best
    with pytest.raises(UserError, match="a preset needs --protocol seeds"):
        made.entry(tuned("ewc", protocol="end"), usual_of("task"))
    with pytest.raises(UserError, match="was tuned with epochs=3; a preset needs the settings of its suite"):
        made.entry(tuned("ewc"), usual_of("task") | {"epochs": 3})


def test_a_tuned_run_is_written_as_presets_that_name_its_cells(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    asked: dict[str, Any] = {"trials": 3, "tuning_seeds": "50-51", "sampler": "grid", "report": "none"}
    asked |= {"space": ["der[lr=0.003,alpha=1|2]", "er[lr=1e-5]"], "out": tmp_path / "t"}
    found = lethe.tune("toy", ["der", "er"], **asked)
    file = request.getfixturevalue("file")  # not before: an index of names and presets may be written
    made.main([str(tmp_path / "t")], file)
    presets.tuned.cache_clear()
    assert {*presets.tuned()} == {"der", "ewc"}  # the defaults of er are the best
    assert found.chosen["class"]["der"] == one_cell("toy", "der[preset=toy]").identity != "der"
    assert "3 trials of grid, seeds 50-51" in file.read_text()


def test_the_committed_presets_are_as_the_command_writes_them() -> None:
    assert ENTRIES
    assert presets.FILE.read_text() == made.in_toml(sorted(ENTRIES, key=made._key))
    for one in ENTRIES:
        first = re.fullmatch(r"\d+ trials of .*, seeds (\d+)-\d+", one["tuned"])
        assert first is not None
        assert int(first[1]) >= 1000  # no seed that is reported
        cell = one_cell(one["suite"], f"{one['strategy']}[preset={one['suite']}]", one["scenario"])
        own = {**cell.training, **cell.hyper}
        assert {name: own[name] for name in one["values"]} == pytest.approx(one["values"])


def test_show_lists_presets(command: Command) -> None:
    code, out, _ = command("show si --json")
    assert code == 0
    assert "digits (" in json.loads(out)["metadata"]["presets"]
