"""Schedules, clipping, smoothing, dropout, initial weights, longer first tasks, early stopping."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.optim import lr_scheduler

from bench.models import build
from bench.models.initial import ACTIVATIONS
from bench.plan import one_cell
from bench.plan.model import model_reference
from bench.stats import all_scores
from bench.train import learn_task, make_lanes, run_group
from bench.train.early_stopping import EarlyStopping
from bench.train.loop import run_lanes
from bench.train.schedule import schedule_task
from lethe.testing import Checkpoints, outcome, toy_cell
from strategies.core import LaneDropout, Unsuitable, mask, row_losses
from suites.base import generator
from tests.conftest import refused

KEYS = {
    ("digits", "der"): "7bf313f859754430af3b",
    ("digits", "er[lr=0.5]"): "0686164fa851aa23c339",
    ("split-mnist", "ncm[normalise=true]"): "0e2c3ace50e64eac9e06",
    ("split-cifar10", "cls-er"): "92887bdd546c1b51db87",
    ("digits", "er[balance=sum]+lwf"): "7e6c3a39a27829e67e34",
}


@pytest.mark.parametrize("cell", KEYS, ids="-".join)
def test_cells_without_new_settings_keep_their_keys(cell: tuple[str, str]) -> None:
    assert one_cell(*cell).key == KEYS[cell]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": "multi-step"}, "needs milestones"),
        ({"schedule": "multi-step", "milestones": "9,10"}, "cannot read milestones=9,10"),
        ({"patience": 1, "validation": 0}, "holds out no rows"),
        ({"prequential": True}, "set epochs=1 and iterations=0"),
        ({"prequential": True, "epochs": 1, "first_task": 2}, "set epochs=1 and iterations=0"),
        ({"label_smoothing": 1.5}, "label_smoothing must be at most 1"),
        ({"dropout": 1}, "dropout must be at most 0.99"),
        ({"init": "ones"}, "unknown value for model mlp: init 'ones'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    refused(words, one_cell, "digits", settings=settings)


def test_settings_without_effect_make_no_cell_of_their_own() -> None:
    usual = one_cell("digits", "er")
    idle = {"final": 0.1, "milestones": "1", "decay": 0.5, "momentum": 0.5, "nesterov": True}
    assert one_cell("digits", "er", settings=idle).key == usual.key
    assert one_cell("digits", "ncm[clip=1,schedule=cosine]").key == one_cell("digits", "ncm").key
    assert one_cell("digits", "er", settings={"beta1": 0.5}).key != usual.key  # digits are learned by adam


THEIRS: dict[str, Any] = {
    "linear": lambda o, steps, passes: lr_scheduler.LinearLR(o, 1.0, 0.2, steps),
    "cosine": lambda o, steps, passes: lr_scheduler.CosineAnnealingLR(
        o, steps, eta_min=0.2 * o.defaults["lr"]
    ),
    "multi-step": lambda o, steps, passes: lr_scheduler.MultiStepLR(o, [p * passes for p in (1, 3)], 0.5),
    "constant": lambda o, steps, passes: lr_scheduler.ConstantLR(o, 1.0),
}


@pytest.mark.parametrize("over", ["task", "stream"])
@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("schedule", THEIRS)
def test_schedules_equal_those_of_torch_lane_by_lane(schedule: str, warmup: int, over: str) -> None:
    """Lanes have different rates and numbers of steps; the pace of torch's schedules is a step."""
    settings = {"schedule": schedule, "warmup": warmup, "over": over, "epochs": 4}
    settings |= {"final": 0.2} if schedule in ("linear", "cosine") else {}
    settings |= {"milestones": "1-3", "decay": 0.5} if schedule == "multi-step" else {}
    cells = [toy_cell("finetune", seed, lr=0.1 * (seed + 1), **settings) for seed in range(3)]
    state = make_lanes(cells)
    steps, passes = zip(*(state.streams.steps_of_task(t) for t in range(2)), strict=True)
    found: list[list[float]] = []
    for task in range(2):
        learn_task(state, task, lambda step, of: found.append(list(state.optimiser.lr)))
    assert len({*map(tuple, passes)}) > 1 or len({*passes[0]}) > 1
    for lane, cell in enumerate(cells):
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cell.training["lr"])
        theirs: Any = None
        expected, whole = [], sum(passes[t][lane] for t in range(2))
        for task in range(2):
            if theirs is None or over == "task":
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] = cell.training["lr"]
                length = passes[task][lane] if over == "task" else whole
                later = THEIRS[schedule](optimiser, length - warmup, steps[task][lane])
                if warmup:
                    # A schedule by epochs counts from the start of the task; others follow the warm-up.
                    rising = lr_scheduler.LinearLR(optimiser, 1 / warmup, 1.0, warmup - 1)
                    theirs = lr_scheduler.SequentialLR(optimiser, [rising, later], [warmup])
                else:
                    theirs = later
            for _ in range(passes[task][lane]):
                expected.append(optimiser.param_groups[0]["lr"])
                optimiser.step()
                theirs.step()
        longest = [max(of) for of in passes]
        mine = [found[sum(longest[:t]) + step][lane] for t in range(2) for step in range(passes[t][lane])]
        if schedule == "multi-step" and warmup:  # milestones count from the start, in torch from the warm-up
            assert mine[:warmup] == pytest.approx(expected[:warmup])
        else:
            if schedule == "multi-step" and over == "stream" and len({of[lane] for of in steps}) > 1:
                continue  # torch's milestones are steps, and tasks have passes of different length
            assert mine == pytest.approx(expected, abs=1e-9)


def test_milestones_are_epochs_of_the_stream_or_steps_with_iterations() -> None:
    def factors(**settings: Any) -> list[float]:
        state, found = make_lanes([toy_cell("finetune", 1, lr=1.0, **settings)]), []
        for task in range(2):
            learn_task(state, task, lambda step, of: found.append(state.optimiser.lr[0]))
        return found

    by_epoch = factors(schedule="multi-step", milestones="3", epochs=2, over="stream")
    assert by_epoch.count(1.0) == len(by_epoch) - by_epoch.count(0.1)
    state = make_lanes([toy_cell("finetune", 1, epochs=2)])
    per_pass = [state.streams.steps_of_task(t)[0][0] for t in range(2)]
    assert by_epoch.count(0.1) == per_pass[1]
    assert factors(schedule="multi-step", milestones="2-4", iterations=5) == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01] * 2
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine", "clip": 0.5, "optimiser": "momentum", "nesterov": True},
        {"label_smoothing": 0.1, "warmup": 5, "over": "stream", "optimiser": "adam", "beta1": 0.5},
        {"dropout": 0.3, "first_task": 3},
        {"patience": 1, "epochs": 6},
        {"init": "xavier", "activation": "tanh"},
        {"prequential": True, "epochs": 1},
    ],
    ids=lambda s: next(iter(s)),
)
@pytest.mark.parametrize("strategy", ["der++", "lwf"])
def test_lanes_are_as_if_alone_and_resume_where_they_stopped(strategy: str, settings: dict[str, Any]) -> None:
    cells = [toy_cell(strategy, seed, lr=0.05 * (seed + 1), **settings) for seed in range(3)]
    together = run_group(cells)
    assert [outcome(r) for r in together] == [outcome(run_group([c])[0]) for c in cells]
    plain = run_group([toy_cell(strategy, 0, lr=0.05)])[0]
    assert outcome(plain) != outcome(together[0])
    saved = Checkpoints()
    run_group(cells, checkpoints=saved)
    again = run_group(cells, checkpoints=saved)  # from the last checkpoint
    assert [outcome(r) for r in again] == [outcome(r) for r in together]


def test_smoothed_losses_equal_those_of_torch_over_the_active_units() -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(2, 5, 4), torch.randint(0, 3, (2, 5))
    for lane in range(2):
        theirs = F.cross_entropy(logits[lane], y[lane], reduction="none", label_smoothing=0.2)
        torch.testing.assert_close(row_losses(logits, y, 0.2)[lane], theirs)
        active = torch.tensor([True, True, True, False])
        theirs = F.cross_entropy(logits[lane, :, :3], y[lane], reduction="none", label_smoothing=0.2)
        torch.testing.assert_close(row_losses(mask(logits, active.expand(2, 1, 4)), y, 0.2)[lane], theirs)


def test_the_first_task_has_its_own_number_of_epochs_or_steps() -> None:
    def steps(**settings: Any) -> list[int]:
        state = make_lanes([toy_cell("finetune", **settings)])
        found = [schedule_task(state.streams, t, state.strategy) for t in range(2)]
        assert [state.streams.steps_of_task(t)[1][0] for t in range(2)] == [s.n_steps for s in found if s]
        return [s.n_steps for s in found if s]

    usual, longer = steps(epochs=2), steps(epochs=2, first_task=6)
    assert longer == [3 * usual[0], usual[1]]
    assert steps(iterations=7, first_task=20) == [20, 7]


def test_patience_stops_each_lane_and_restores_its_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against validation accuracies noted at the end of each pass; test rows are not read."""
    cells = [
        toy_cell("finetune", seed, lr=lr, epochs=12, patience=2)
        for seed, lr in ((0, 0.02), (1, 0.5), (2, 2.0))
    ]
    state = make_lanes(cells)
    noted: list[list[tuple[int, int]]] = [[] for _ in cells]
    after = EarlyStopping.after_step

    def note(self: EarlyStopping, number: int) -> None:
        running = [number < steps for steps in self.schedule.steps]
        after(self, number)
        right = state.scorer.validation_of(self.schedule.tasks)
        for lane, of in enumerate(noted):
            if running[lane] and (number + 1) % self.schedule.per_pass[lane] == 0:
                of.append((number + 1, right[lane]))

    monkeypatch.setattr(EarlyStopping, "after_step", note)
    monkeypatch.setattr(type(state.scorer), "count", lambda self, split: pytest.fail("scored another split"))
    planned = schedule_task(state.streams, 0, state.strategy)
    assert planned is not None
    learn_task(state, 0)
    best = state.scorer.validation_of([0])
    ended = []
    for lane, of in enumerate(noted):
        right = [n for _, n in of]
        assert best[lane] == max(right)
        first_best = right.index(max(right))
        ended.append(of[-1][0])
        assert len(right) == min(12, first_best + 3)
    assert min(ended) < max(planned.steps)
    assert state.clock.steps == max(ended)
    assert state.clock.samples < planned.samples


def test_dropout_zeroes_a_share_in_training_only_and_differs_between_lanes_and_steps() -> None:
    state = make_lanes([toy_cell("finetune", seed, dropout=0.25) for seed in range(2)])
    (layer,) = [m for m in state.model.modules() if isinstance(m, LaneDropout)]
    x = torch.ones(2, 50, 100)
    state.model.train()
    first, second = layer(x), layer(x)
    assert first.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(layer(torch.ones(3, 5, 4)), torch.ones(3, 5, 4))  # lanes of single rows
    state.model.eval()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("init", ["xavier", "kaiming"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet18"])
def test_initial_weights_equal_those_of_torch(init: str, model: str) -> None:
    """Of every layer of every lane, drawn after those of torch's layers by the same generator."""
    made, plain = (
        build(model_reference(model), {"init": how}, (1, 8, 8), 4, [generator(s, "model") for s in range(2)])
        for how in (init, "pytorch")
    )
    assert not torch.equal(made.head.weight, plain.head.weight)
    for lane in range(2):
        random = generator(lane, "model")
        build(model_reference(model), {}, (1, 8, 8), 4, [random])
        for module in made.modules():
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter) or weight.dim() < 3:
                continue
            own = weight[lane].T if weight.dim() == 3 else weight[lane]
            theirs = torch.empty(own.shape)
            if init == "xavier":
                nn.init.xavier_uniform_(theirs, generator=random)
            else:
                nn.init.kaiming_normal_(theirs, nonlinearity="relu", generator=random)
            torch.testing.assert_close(own, theirs)
            bias = getattr(module, "bias", None)
            assert bias is None or not bool(bias.any())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_torch(activation: str) -> None:
    state = make_lanes([toy_cell("finetune", seed, activation=activation, layers=2) for seed in range(2)])
    x = torch.randn(2, 3, *state.streams.shape)
    theirs = {
        "relu": nn.ReLU(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
        "gelu": nn.GELU(),
        "leaky-relu": nn.LeakyReLU(),
    }
    for lane in range(2):
        h = x[lane].flatten(1)
        for layer in state.model.layers:  # type: ignore[union-attr]
            h = theirs[activation](h @ layer.weight[lane] + layer.bias[lane])
        logits = h @ state.model.head.weight[lane] + state.model.head.bias[lane]
        torch.testing.assert_close(state.model(x)[lane], logits)


@pytest.mark.parametrize("strategy", ["der", "der++", "er-ace", "er-aml", "cls-er"])
def test_replay_methods_read_as_many_rows_a_step_as_asked(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_lanes([one_cell("toy", f"{strategy}[batch=3]")])
    asked: list[int] = []
    memory = state.strategy.memory  # type: ignore[attr-defined]
    draw = memory.draw_slots
    monkeypatch.setattr(memory, "draw_slots", lambda name, n: asked.append(n) or draw(name, n))
    learn_task(state, 0)
    assert {*asked} == {3}


@pytest.mark.parametrize("scaled", ["both", "rows", "means"])
def test_ncm_scales_rows_and_means_separately(scaled: str) -> None:
    state = make_lanes([one_cell("toy", f"ncm[normalise=true,normalised={scaled}]")])
    for task in range(2):
        learn_task(state, task)
    stream, data = state.streams.streams[0], state.streams.data
    features = state.model.features(state.streams.pixels(torch.arange(len(data.x_N)).unsqueeze(0)))[
        0
    ].detach()
    scale = F.normalize if scaled in ("both", "rows") else lambda x: x
    rows = torch.cat([data.index_of(t.train_rows) for t in stream.tasks])
    means = torch.stack(
        [scale(features[rows][data.y_N[rows] == c]).mean(0) for c in range(len(data.class_names))]
    )
    means = F.normalize(means) if scaled in ("both", "means") else means
    batch = state.streams.batch(stream.tasks[1].test_rows.unsqueeze(0))
    tested = scale(features[data.index_of(stream.tasks[1].test_rows)])
    theirs = torch.cdist(tested.double(), means.double()).argmin(1)
    assert torch.equal(state.strategy.predict(batch)[0].argmax(1), theirs)


@pytest.mark.parametrize("scenario", ["task", "class", "online"])
def test_batches_are_predicted_before_they_are_learned(scenario: str) -> None:
    """Against the network's own predictions before each step; R is as without."""
    settings = {"epochs": 1, "batch": 7, "active": "seen"}
    settings = settings if scenario != "task" else {"epochs": 1, "batch": 7}
    cell = toy_cell("er", 3, scenario, prequential=True, **settings)
    state = make_lanes([cell])
    learn, found = state.strategy.learn, list[tuple[int, int]]()

    def noted(batch: Any) -> torch.Tensor:
        logits = mask(state.model(batch.x_LBX), batch.active_LBU)
        right = (logits.argmax(2) == batch.y_LB) * batch.weight_LB
        found.append((int(right.sum()), int(batch.weight_LB.sum())))
        return learn(batch)

    state.strategy.learn = noted  # type: ignore[method-assign]
    record = run_lanes(state)[0]
    tested = [pair for of in record["prequential"] for pair in zip(of["right"], of["total"], strict=True)]
    assert tested == found
    assert [of["task"] for of in record["prequential"]] == [1, 2]
    assert sum(n for _, n in tested) == sum(len(t.train_rows) for t in state.streams.streams[0].tasks)
    plain = run_group([toy_cell("er", 3, scenario, **settings)])[0]
    assert plain["test"] == record["test"]
    assert "prequential" not in plain
    assert "prequential" not in run_group([toy_cell("joint", 3, scenario, prequential=True, epochs=1)])[0]


def test_prequential_scores_equal_their_definitions_row_by_row() -> None:
    """Gama et al. 2013: S_i = right_i + a S_{i-1}, N_i = 1 + a N_{i-1}; a window; all rows."""
    right = (torch.rand(1500, generator=torch.Generator().manual_seed(0)) < 0.7).int().tolist()
    rows = [(r, 1) for r in right]
    S = N = 0.0
    for r in right:
        S, N = r + 0.999 * S, 1 + 0.999 * N
    R = np.full((2, 1), 0.5)
    found = all_scores(R, tested=rows)
    assert found["prequential"] == pytest.approx(sum(right) / 1500)
    assert found["prequential_fading"] == pytest.approx(S / N)
    assert found["prequential_window"] == pytest.approx(sum(right[-1000:]) / 1000)
    batches = [(sum(right[i : i + 10]), 10) for i in range(0, 1500, 10)]
    in_batches = all_scores(R, tested=batches)
    assert in_batches["prequential_window"] == pytest.approx(sum(right[-1000:]) / 1000)
    assert in_batches["prequential_fading"] == pytest.approx(
        S / N, abs=2e-3
    )  # rows of a batch are equally old
    assert all(math.isnan(all_scores(R)[name]) for name in found if name.startswith("prequential"))


@pytest.mark.parametrize("setting", [{"activation": "tanh"}, {"dropout": 0.5}])
@pytest.mark.parametrize("name", ["redo", "continual-backprop", "progressive"])
def test_methods_that_compute_hidden_outputs_themselves_take_relu_alone(
    name: str, setting: dict[str, Any]
) -> None:
    with pytest.raises(Unsuitable, match="needs ReLU alone between dense layers"):
        make_lanes([one_cell("digits", name, "task", settings=setting)])
