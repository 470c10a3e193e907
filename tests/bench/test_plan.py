import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from bench.models import ModelRef
from bench.plan import CellSpec, Present, Request, one_cell, read_experiment, resolve, seeds_of
from bench.plan.model import model_reference
from bench.plan.selectors import parse
from bench.store import RunReader
from suites.bracketed import identity
from tests.conftest import refused

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def cell(selector: str, **changes: Any) -> CellSpec:
    request = replace(Request("toy", (selector,)), **changes)
    return request.cells()[0]


def test_a_selector_sets_hyper_parameters_and_training() -> None:
    spec = cell("er[lr=0.5,buffer=20,balance=sum,lam=2]", settings={"lr": "0.2"})
    assert (spec.hyper["buffer"], spec.hyper["lam"], spec.training["lr"]) == (20, 2.0, 0.5)
    assert spec.identity == "er[balance=sum,buffer=20,lam=2,lr=0.5]"
    # Defaults and values given by --set are left out.
    assert cell("er[buffer=500,lr=0.01]").identity == cell("er", settings={"lr": "0.2"}).identity == "er"
    assert cell("ewc[half=true]").key == cell("ewc").key
    assert parse("./a b.py:Mine[x=1, y = 2]") == ("./a b.py:Mine", {"x": "1", "y": "2"})


OPTIONS = {
    "buffer": st.integers(1, 10**6),
    "lam": st.floats(0, 1e12, allow_nan=False),
    "lr": st.floats(1e-12, 1e3),
    "balance": st.sampled_from(["concatenated", "sum", "tasks"]),
    "weight_decay": st.floats(0, 1),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_an_identity_selects_the_same_cell(options: dict[str, Any]) -> None:
    first = cell(identity("er", options))
    again = cell(first.identity)
    assert (again, again.key) == (first, first.key)
    for key, value in options.items():
        if key != "lam" or options.get("balance") == "sum":  # otherwise lam has no effect and is reset
            assert (first.hyper | first.training)[key] == value


OWN = """
from lethe import NotNegative, Strategy

class Whole(Strategy):
    name = "whole"
    lam: NotNegative = 1

class Yes(Strategy):
    lam: NotNegative = True

class Below(Strategy):
    lam: NotNegative = -1

class Bare(Whole):
    lam = 2
"""


def test_equal_settings_are_one_cell_however_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ["er", "er[lam=1]", "er[lam=1.0]", "er[lam=1e0]", "er[weight_decay=-0.0]", "er[buffer=5e2]"]
    assert [c.identity for c in Request("toy", tuple(same)).cells()] == ["er"]
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    same = ["./mine.py:Whole", "mine.py:Whole[lam=1]", f"{tmp_path}/mine.py:Whole[lam=1.0]"]
    assert [c.identity for c in Request("toy", tuple(same)).cells()] == ["./mine.py:Whole"]
    assert type(cell("mine.py:Whole").hyper["lam"]) is float
    sums = ("er[balance=sum]+mine.py:Whole", "er[balance=sum]+./mine.py:Whole[lam=1]")
    assert [c.strategy for c in Request("toy", sums).cells()] == ["er+./mine.py:Whole"]


@pytest.mark.parametrize(
    ("selector", "identity", "why", "settings"),
    [
        ("er[lam=3]", "er", "lam has no effect unless balance=sum", {}),
        ("ewc[gamma=0.5,lam=7]", "ewc[lam=7]", "gamma has no effect unless variant=online", {}),
        ("ewc[fisher_batch=9]", "ewc", "fisher_batch has no effect unless fisher=batched", {}),
        ("gem[gamma=0,strength=added]", "gem[gamma=0]", "strength has no effect with gamma=0", {}),
        ("er[epochs=9]", "er", "epochs has no effect unless iterations=0", {"iterations": "3"}),
        ("ncm[epochs=9]", "ncm", "epochs has no effect with one_pass=true", {}),
        ("ncm[lr=0.5]", "ncm", "lr has no effect with gradient_free=true", {}),
        ("joint[reset_optimiser=true]", "joint", "reset_optimiser has no effect with trains_on=all", {}),
        ("cumulative[reset_optimiser=true]", "cumulative",
         "reset_optimiser has no effect with restarts=true", {}),
        ("er[optimiser=sgd,reset_optimiser=true]", "er[optimiser=sgd]",
         "reset_optimiser has no effect with optimiser=sgd", {}),
        ("er[balance=sum]+lwf[heat_squared=true,temperature=1]", "er[balance=sum]+lwf[temperature=1]",
         "heat_squared has no effect with temperature=1", {}),
        ("finetune[rank=4]", "finetune", "rank has no effect unless tune=lora", {"model": "tiny-bert"}),
    ],
)  # fmt: skip
def test_a_hyper_parameter_without_effect_makes_no_cell_of_its_own(
    selector: str, identity: str, why: str, settings: dict[str, str]
) -> None:
    suite = "toy-text" if "model" in settings else "toy"
    request = Request(suite, (selector, identity), settings=settings)
    assert [c.identity for c in request.cells()] == [identity]
    assert request.remarks == [f"{selector} is run as {identity}: {why}"]
    assert request.remarks[0] in resolve([request], Present()).lines()


def test_a_setting_without_effect_is_left_out() -> None:
    request = Request("toy", ("er",), settings={"iterations": "3", "epochs": "9"})
    assert request.cells() == Request("toy", ("er",), settings={"iterations": "3"}).cells()
    assert request.shared()["toy/class"]["epochs"] == 4
    assert request.remarks == ["--set epochs=9 is left out: it has no effect unless iterations=0"]


def test_settings_are_left_out_where_the_scenario_or_suite_gives_them_no_effect() -> None:
    asked = Request("toy", ("er", "er[active=seen]"), ("task", "class"))
    assert [c.identity for c in asked.cells()] == ["er", "er", "er[active=seen]"]
    assert asked.remarks == [
        "er[active=seen] is run as er: active has no effect unless scenario=class or online"
    ]
    pairs = Request("toy-pairs", ("finetune", "finetune[pooling=first]"), ("domain",))
    assert [c.identity for c in pairs.cells()] == ["finetune"]
    assert pairs.remarks[0].endswith("pooling has no effect unless generates=false")


def test_suites_and_models_have_one_spelling_however_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = (
        "from dataclasses import replace\nfrom lethe.testing import TOY\nS = replace(TOY, model_options={}, "
    )
    (tmp_path / "own.py").write_text(
        f"{suite}training=replace(TOY.training, lr=1, epochs=2.0))\nBAD = replace(S, training=replace("
        "TOY.training, augment=1))\nM = replace(S, model_options={'hidden': True})\n"
    )
    (tmp_path / "net.py").write_text(
        "from bench.models.mlp import mlp\ndef net(generators, shape, units, *, hidden: int = 8.0):\n"
        "    return mlp(generators, shape, units, hidden=hidden, layers=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    places = ("own.py:S", "./own.py:S", f"{tmp_path}/own.py:S")
    named = [f"{folder}net.py:net" for folder in ("", "./", f"{tmp_path}/")]
    cells = [cell("er", suite=s, settings={"model": m}) for s, m in zip(places, named, strict=True)]
    assert {(c.key, c.suite, c.model) for c in cells} == {(cells[0].key, "./own.py:S", "./net.py:net")}
    assert repr([cells[0].training[k] for k in ("lr", "epochs")]) == "[1.0, 2]"
    assert repr(cells[0].model_options) == "{'hidden': 8}"
    assert [next(iter(Request(s, ("er",)).shared())) for s in places] == ["./own.py:S/class"] * 3
    refused("augment must be true or false, not 1", cell, "er", suite="own.py:BAD")
    refused("hidden must be a whole number", cell, "er", suite="own.py:M")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Yes", "default of lam must be a number, not true"),
        ("Below", "default of lam must be at least 0, not -1"),
        ("Bare", "lam = 2 has no annotation, so it would change nothing"),
    ],
)
def test_an_invalid_default_is_refused_as_an_invalid_value_is(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    refused(said, cell, f"{tmp_path}/mine.py:{name}")


@pytest.mark.parametrize("file", sorted(REFERENCE.glob("*.toml")), ids=lambda f: f.stem)
def test_committed_records_keep_their_keys(file: Path) -> None:
    wanted = {c.key for request in read_experiment(file).requests for c in request.cells()}
    assert set() < wanted <= set(RunReader(file.with_suffix(".lethe.gz")).statuses())


def test_the_key_changes_with_everything_that_changes_the_result() -> None:
    base = cell("er")
    others = [cell("er[buffer=20]"), cell("er[lr=0.5]"), cell("der"), replace(base, suite_version=2)]
    others += [cell("er", seeds=(1,)), cell("er", scenarios=("task",))]
    others += [cell("er", settings=one) for one in ({"epochs": "2"}, {"hidden": "8"}, {"model": "cnn"})]
    assert len({c.key for c in [base, *others]}) == len(others) + 1
    assert replace(base, identity="anything").key == base.key


def test_the_group_key_leaves_out_what_may_differ_between_lanes() -> None:
    base = cell("er")
    same = [cell(s) for s in ("er[lr=0.5]", "er[lam=3]", "er[weight_decay=0.1]")] + [cell("er", seeds=(4,))]
    assert {c.group_key for c in same} == {base.group_key}
    assert base.group_key not in {cell("er[buffer=20]").group_key, cell("er", scenarios=("task",)).group_key}


def test_a_request_is_scenarios_x_strategies_x_seeds_each_cell_once() -> None:
    request = Request("toy", ("er", "er[buffer=500]", "finetune"), ("task", "class"), (0, 1, 2))
    assert len(request.cells()) == 2 * 2 * 3
    everything = Request("toy", ("all",)).cells()
    assert {c.strategy for c in everything} >= {"finetune", "er", "ewc", "joint"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "toi"}, "unknown suite 'toi'; did you mean toy?"),
        ({"strategies": ("erx",)}, "unknown strategy 'erx'; did you mean er"),
        ({"strategies": ("er[bufer=3]",)}, "unknown hyper-parameter of er 'bufer'; did you mean buffer"),
        ({"strategies": ("er[buffer=0]",)}, "er: buffer must be at least 1, not 0"),
        ({"strategies": ("er[buffer=2.5]",)}, "er: buffer must be a whole number, not '2.5'"),
        ({"strategies": ("er[lam=-1]",)}, "er: lam must be at least 0, not -1"),
        ({"strategies": ("er[lam=nan]",)}, "er: lam must be finite"),
        ({"strategies": ("ewc[gamma=1.5]",)}, "ewc: gamma must be at most 1, not 1.5"),
        ({"strategies": ("ewc[half=maybe]",)}, "ewc: half must be true or false"),
        ({"strategies": ("er[balance=summ]",)}, "unknown value for er: balance 'summ'; did you mean sum"),
        ({"strategies": ("er[buffer]",)}, "cannot read 'buffer'"),
        ({"strategies": ("er[buffer=1,buffer=2]",)}, "buffer is given twice"),
        ({"strategies": ("er[buffer=3",)}, "cannot read 'er[buffer=3'"),
        ({"strategies": ("./nothing.py:Class",)}, "no such file: ./nothing.py"),
        ({"scenarios": ("klass",)}, "unknown scenario 'klass'; did you mean class?"),
        ({"settings": {"lr": "0"}}, "lr must be above 0"),
        ({"settings": {"epoch": "3"}}, "unknown setting 'epoch'; did you mean epochs?"),
        ({"settings": {"batch": "-4"}}, "batch must be above 0"),
        ({"settings": {"epochs": "0"}}, "epochs or iterations must be above 0"),
        ({"settings": {"validation": "1"}}, "validation must be in [0, 1)"),
        ({"settings": {"validation": "0", "score_every": "5"}}, "validation=0 holds out none of them"),
        ({"settings": {"optimiser": "adamm"}}, "unknown value for optimiser 'adamm'; did you mean adam"),
        ({"settings": {"model": "mpl"}}, "unknown model 'mpl'; did you mean mlp"),
        ({"settings": {"hidden": "0"}}, "model option hidden must be at least 1"),
    ],
)
def test_bad_input_is_an_error_of_one_line(changes: dict[str, Any], message: str) -> None:
    refused(re.escape(message), replace(Request("toy", ("er",)), **changes).cells)


def test_seeds_are_read_as_numbers_ranges_and_lists() -> None:
    found = {"5": (0, 1, 2, 3, 4), "2-6": (2, 3, 4, 5, 6), "1,4": (1, 4), "0,7-8": (0, 7, 8)}
    assert {text: seeds_of(text) for text in found} == found
    for bad in ("0", "", "x", "1,1", "-3", "3-1", "1.5"):
        refused("cannot read seeds", seeds_of, bad)


def test_experiment_files_are_read_and_errors_name_the_field(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(
        'out = "here"\n[[run]]\nsuite = "toy"\nstrategies = ["er", "ewc[lam=1e9]"]\n'
        'scenarios = ["task", "class"]\nseeds = "2-3"\n[run.set]\nepochs = 2\nlr = 0.5\n'
    )
    found = read_experiment(path)
    (request,) = found.requests
    assert found.out == Path("here")
    assert [(c.training["epochs"], c.training["lr"]) for c in request.cells()] == [(2, 0.5)] * 8
    for text, message in (
        ("x = [", "not TOML"),
        ("a = 1", "unknown field 'a'"),
        ("out = 'there'", "run is missing"),
        ("[[run]]\nsuite = 'toy'", "run[0].strategies is missing"),
        ("[[run]]\nsuite = 'toy'\nstrategies = ['er']\nsead = 1", "did you mean seeds"),
        ("[[run]]\nsuite = 'toy'\nstrategies = ['er']\nset = { epochs = [[1]] }", "run[0].set.epochs"),
        ("[[run]]\nsuite = 'toy'\nstrategies = ['er']\nseeds = [1, 1]", "cannot read seeds"),
        ("schema = 2\n[[run]]\nsuite = 'toy'\nstrategies = ['er']", "version is 2"),
    ):
        path.write_text(text)
        refused(re.escape(message), read_experiment, path)
    refused("cannot read", read_experiment, tmp_path / "none.toml")


def test_a_preset_sets_a_paper_s_hyper_parameters_by_scenario() -> None:
    domain, class_ = ("domain",), ("class",)
    recipe = "ewc[preset=vandeven2022]"
    assert cell(recipe, scenarios=domain) == cell("ewc[lam=1e10]", scenarios=domain)
    assert cell(recipe, scenarios=class_).identity == "ewc[lam=1e9]"
    # A value given with the preset takes precedence.
    assert cell("er[buffer=7,preset=vandeven2022]").hyper["buffer"] == 7
    refused("unknown preset of ewc 'vandeven'; did you mean vandeven2022", cell, "ewc[preset=vandeven]")
    says = "vandeven2022 has no lam for online; it has: task, domain, class"
    refused(says, cell, recipe, scenarios=("online",))
    refused("finetune has no presets", cell, "finetune[preset=vandeven2022]")


def test_a_selector_sets_options_of_the_model_too() -> None:
    plain, own = cell("er"), cell("er[hidden=9]")
    assert (own.model_options["hidden"], own.identity) == (9, "er[hidden=9]")
    assert len({own.key, plain.key, own.group_key, plain.group_key}) == 4
    refused("option hidden must be at least 1", cell, "er[hidden=0]")


def test_one_cell_equals_the_cell_of_a_request() -> None:
    spec = one_cell("toy", "er[buffer=20]", "task", 3, {"epochs": 2, "hidden": 9})
    request = Request("toy", ("er[buffer=20]",), ("task",), (3,), {"epochs": "2", "hidden": "9"})
    assert [spec] == request.cells()
    assert (spec.training["epochs"], spec.model_options["hidden"]) == (2, 9)


def test_a_model_is_looked_up_once_and_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"name": "toy", "fingerprint": "f"}
    origin = {"cell": "toy class er seed 0", "key": "0" * 20, "tasks_done": 1, "tasks": 2, "data": data}
    header = {"schema": 1, "options": {}, "labels": ["a"], "from": origin}
    sizes = {"shape": [1, 8, 8], "scale": 1.0, "mean": [], "std": []}
    texts, writes = header | {"reads": "texts", "model": "tiny-bert"}, {"tasks": [["de", ""]], "most": 8}
    folders = {
        "images": header | {"reads": "images", "model": "cnn", **sizes}, "texts": texts,
        "generating": texts | {"labels": [], "writes": writes}, "plain": None,
    }  # fmt: skip
    places = {name: str(tmp_path / name) for name in folders}
    for name, written in folders.items():
        (tmp_path / name).mkdir()
        if written:
            (tmp_path / name / "lethe.json").write_text(json.dumps(written))
        for file in ("tokenizer_config.json", "tokenizer.json"):  # an export of texts has one
            (tmp_path / name / file).write_text("{}")
    for name, wanted in (
        ("mlp", ModelRef("built-in", "mlp", "mlp")),
        ("minilm", ModelRef("built-in", "minilm")),
        ("tiny-seq2seq", ModelRef("built-in", "tiny-seq2seq", generates=True)),
        ("owner/name@main", ModelRef("pretrained", "owner/name@main")),
        (places["plain"], ModelRef("pretrained", places["plain"])),
        (places["images"], ModelRef("exported", places["images"], "cnn")),
        (places["texts"], ModelRef("exported", places["texts"])),
        (places["generating"], ModelRef("exported", places["generating"], generates=True)),
    ):
        assert model_reference(name) == wanted
        assert wanted.reads_texts == (name not in ("mlp", places["images"]))
    asked: list[str] = []
    monkeypatch.setattr("bench.plan.model.Exported.named", asked.append)
    first, second = Request("toy", ("er",), seeds=(0, 1), settings={"model": "cnn"}).cells()
    assert first.reference is second.reference
    # The model of a recorded spec is looked up at first use and pickled with the result.
    again = CellSpec(**first.as_record() | {"model": places["plain"]})
    assert asked == []
    assert again.reference.kind == "pretrained"
    assert pickle.loads(pickle.dumps(again)).reference == again.reference
    assert asked == [places["plain"]]
