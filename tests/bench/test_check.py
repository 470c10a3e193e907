"""``lethe check`` finds planted breaks of the contract, each by the intended check.

A break and its correct twin are bodies of one class; the twin passes the check that finds the break.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext as does_not_raise
from pathlib import Path

import pytest

import lethe
from bench.checks.before_run import check_before_run
from bench.checks.conformance import CHECKS
from bench.checks.made_streams import made_streams
from bench.checks.one_check import check_one
from bench.checks.subjects import Subject
from bench.checks.targets import targets
from lethe.testing import conformance
from tests.conftest import Command

HEAD = """import copy
import random

import numpy as np
import torch
import torch.nn.functional as F

from lethe import *
from strategies.core import Bounds, LaneFloat, Unsuitable, need_images, row_losses
from strategies.parts import Memory

SHARED = []


class Rows:
    def __init__(self, n, size):
        self.n, self.size = n, size

    def held_rows(self, lane):
        return self.n, self.size


class M(Strategy):
"""


def extra(term: str, before: str = "") -> str:
    """Return a class body whose ``extra_loss`` is an expression."""
    lines = "".join(f"        {line}\n" for line in before.splitlines())
    return f"    def extra_loss(self, batch, raw_LBU):\n{lines}        return {term}\n"


def loss(value: str) -> str:
    return f"    def loss(self, batch):\n        loss_L = super().loss(batch)\n        return {value}\n"


def hook(name: str, *lines: str, given: str = "task") -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return f"    def {name}(self{', ' if given else ''}{given}):\n{body}"


def setup(*lines: str) -> str:
    return hook("setup", *lines, given="")


LAM = '    lam: NotNegative = LaneFloat(0.1)\n    "How much."\n\n'
POW = "raw_LBU.pow(2).mean((1, 2))"
PULL = "sum((p - a).pow(2).flatten(1).sum(1) for p, a in zip(self.model.parameters(), self.anchor))"
COPY = "self.anchor = [p.clone() for p in self.model_tensors()]"
MEMORY = '    buffer: int = 50\n    "Rows."\n\n'

COUNT = "self.streams.lanes"
N = "torch.tensor([float(n) for n in self.n])"
RESTING = setup(f"self.n_L = torch.zeros({COUNT})") + extra(f"{POW} * self.n_L")
FAR = "((raw_LBU - raw_LBU.mean(1, True)).pow(2).mean(2) * batch.weight_LB).sum(1)"
PIXELS = extra("batch.x_LBX.mean((2, 3, 4)).mean(1) * 0")
LAYERS = extra("self.model.layers[0].weight.pow(2).flatten(1).sum(1)")
ROWS = "row_losses(self.model(batch.x_LBX), batch.y_LB)"
NEGATIVE = hook("predict", "return -self.logits(batch)", given="batch")
CLASS_ONLY = '    scenarios = ("class",)\n\n'
MASKED = (
    setup(f"self.met_LU = torch.zeros({COUNT}, self.streams.n_units, dtype=torch.bool)")
    + hook("end_task", "self.met_LU = self.met_LU | self.streams.own_LTU[:, task]")
    + hook("loss", "raw_LBU = self.model(batch.x_LBX)",
           "among_LU = ~self.met_LU{}", "logits_LBU = raw_LBU.masked_fill(~among_LU.unsqueeze(1), -1e9)",
           "return self.cross_entropy(logits_LBU, batch)", given="batch")
)  # fmt: skip
"""The loss leaves out units of classes seen before."""


def clipped(norm: str) -> str:
    return hook("adjust_gradients", "for g in gradients(self.model):", f"    g /= {norm} + 1", given="")


def step(*update: str) -> str:
    first = "loss_L = self.loss(batch)", "loss_L.sum().backward()"
    return hook("learn", *first, *update, "return loss_L.detach()", given="batch")


def counted(what: str, weight: str = N) -> str:
    return hook("begin_task", f"self.n = {what}") + extra(f"{POW} * {weight}")


def ended(first: str, then: str, weight: str) -> str:
    return (setup(first) if first else "") + hook("end_task", then) + extra(f"{weight} * {POW}")


def weighed(weight: str, *first: str) -> str:
    return (setup(*first) if first else "") + extra(f"{weight} * {POW}")


def sizes(rows: str, size: str) -> str:
    return MEMORY + setup(f"self.rows = Rows({rows}, {size})")


BREAKS: dict[str, tuple[str, str, str, str]] = {
    # The shape of a loss, enforced during a run.
    "a loss of one number": (
        "alone", "loss of M returned shape ()",
        loss("loss_L.mean()"),
        loss("loss_L * 1"),
    ),
    "a term of one number": (
        "alone", "extra_loss of M returned shape ()",
        extra("raw_LBU.pow(2).mean()"),
        extra(POW),
    ),
    "a loss of a row": (
        "alone", "loss of M returned shape (8,)",
        loss(f"{ROWS}.mean(0)"),
        loss(f"batch.mean_L({ROWS})"),
    ),
    "a step that returns nothing": (
        "alone", "learn of M returned NoneType",
        hook("learn", "super().learn(batch)", given="batch"),
        hook("learn", "return super().learn(batch)", given="batch"),
    ),
    # Lanes that mix although the shape is right.
    "a loss divided by its mean over lanes": (
        "alone", "lanes are mixed",
        loss("loss_L / loss_L.detach().mean()"),
        loss("loss_L / loss_L.detach()"),
    ),
    "a centre over lanes": (
        "alone", "lanes are mixed",
        extra("(raw_LBU - raw_LBU.mean((0, 1))).pow(2).mean((1, 2))"),
        extra("(raw_LBU - raw_LBU.mean(1, keepdim=True)).pow(2).mean((1, 2))"),
    ),
    "gradients clipped by the norm of all lanes": (
        "alone", "lanes are mixed",
        clipped("g.norm()"),
        clipped("per_lane(torch.stack([of.norm() for of in g]), g)"),
    ),
    "lane 0's number of classes": (
        "alone", "lanes are mixed",
        counted(f"[len(self.streams.streams[0].tasks[task].units)] * {COUNT}"),
        counted("[len(s.tasks[task].units) for s in self.streams.streams]"),
    ),
    "lane 0's number of steps": (
        "alone", "lanes are mixed",
        counted(f"[self.streams.steps_of_task(task)[1][0]] * {COUNT}"),
        counted("self.streams.steps_of_task(task)[1]"),
    ),
    "a lane at rest that changes": (
        "alone", "lanes are mixed",
        RESTING + hook("after_step", "self.n_L += 1", given="batch"),
        RESTING + hook("after_step", "self.n_L += batch.learns_L", given="batch"),
    ),
    "tasks of one number of classes": (
        "alone", "ValueError",
        setup("self.units = torch.tensor([[t.units for t in s.tasks] for s in self.streams.streams])"),
        setup("self.units = [[t.units for t in s.tasks] for s in self.streams.streams]"),
    ),
    "the spread of one row": (
        "alone", "a last batch of one row",
        extra(f"{FAR} / (batch.weight_LB.sum(1) - 1)"),
        extra(f"{FAR} / (batch.weight_LB.sum(1) - 1).clamp(min=1)"),
    ),
    # Hyper-parameters that differ between lanes.
    "another lane's hyper-parameter": (
        "hyper", "beside a lane with lam",
        LAM + weighed("self.lam.roll(1)"),
        LAM + weighed("self.lam"),
    ),
    "the mean of a hyper-parameter": (
        "hyper", "beside a lane with lam",
        LAM + weighed("self.lam.mean()"),
        LAM + weighed("self.lam"),
    ),
    "an if on a hyper-parameter": (
        "hyper", "Python decides once for all lanes in 'if self.lam > 0:'",
        LAM + extra(f"self.lam * {POW}", "if self.lam > 0:\n            pass"),
        LAM + extra(f"torch.where(self.lam > 0, self.lam * {POW}, 0)"),
    ),
    "a hyper-parameter as a float": (
        "hyper", "Python decides once for all lanes in 'return float(self.lam)",
        LAM + weighed("float(self.lam)"),
        LAM + weighed("self.lam"),
    ),
    # State that outlives a run.
    "torch's global generator": (
        "twice", "drawn by torch's global generator",
        weighed("torch.rand(len(raw_LBU))"),
        weighed('self.draws.uniform("noise", 1)[:, 0].float()'),
    ),
    "numpy's global generator": (
        "twice", "run twice",
        weighed("np.random.random()"),
        weighed("self.random.random()", "self.random = np.random.default_rng(1)"),
    ),
    "Python's global generator": (
        "twice", "run twice",
        weighed("random.random()"),
        weighed("self.random.random()", "self.random = random.Random(1)"),
    ),
    "a list of the module": (
        "twice", "something outlives a run",
        ended("", "SHARED.append(task)", "len(SHARED)"),
        ended("self.n = []", "self.n.append(task)", "len(self.n)"),
    ),
    "the number of threads": (
        "twice", "run twice",
        weighed("torch.get_num_threads()"),
        weighed("1"),
    ),
    "a list of the class": (
        "alone", "self.n of M belongs to the class",
        "    n = []\n\n" + ended("", "self.n.append(task)", "len(self.n)"),
        ended("self.n = []", "self.n.append(task)", "len(self.n)"),
    ),
    # State that a checkpoint lacks.
    "an iterator": (
        "resumed", "self.rows of M is a list_iterator, which cannot be saved",
        setup("self.rows = iter([1, 2])"),
        setup("self.rows = [1, 2]"),
    ),
    "a function that remembers": (
        "resumed", "self.of of M is a function, which cannot be saved",
        setup("n = [0]", "self.of = lambda: n"),
        setup("self.of = [0]"),
    ),
    "a module made after setup": (
        "resumed", "self.net of M is a module made after setup",
        hook("end_task", "self.net = torch.nn.Linear(2, 2)"),
        hook("end_task", "self.net = copy.deepcopy(self.model)"),
    ),
    "not_saved that is needed": (
        "resumed", "interrupted after task 1",
        '    not_saved = ("anchor",)\n\n' + setup(COPY) + hook("end_task", COPY) + extra(PULL),
        setup(COPY) + hook("end_task", COPY) + extra(PULL),
    ),
    "state in what it was given": (
        "resumed", "interrupted after task 1",
        ended("self.streams.n = 0", "self.streams.n += 1", "self.streams.n"),
        ended("self.n = 0", "self.n += 1", "self.n"),
    ),
    # Streams that the method does not expect.
    "boundaries that it needs and does not say": (
        "boundaries", "AttributeError",
        hook("end_task", COPY) + extra(f"{PULL} if batch.rows_LB.max() >= self.streams.n_images else None"),
        "    needs_boundaries = True\n\n" + hook("end_task", COPY) + extra(f"{PULL} if self.task else None"),
    ),
    "classes that come back are not learned": (
        "again", "classes that come back",
        MASKED.format(""),
        MASKED.format(" | self.streams.own_LTU[:, self.task]"),
    ),
    # Memory, export, predictions.
    "answers of other tasks": (
        "units", "mask what predict() returns",
        hook("predict", "return self.model(batch.x_LBX)", given="batch"),
        hook("predict", "return mask(self.model(batch.x_LBX), batch.active_LBU)", given="batch"),
    ),
    "steps of a rate of its own": (
        "hyper", "lr has no effect",
        step("for p in self.model.parameters():", "    p.data -= 0.01 * p.grad"),
        step("self.optimiser.step(self.context.active)"),
    ),
    "more rows than the buffer": (
        "buffer", "buffer=10: it reports 20 rows",
        sizes("2 * self.buffer", "64"),
        sizes("self.buffer", "64"),
    ),
    "rows without bytes": (
        "buffer", "it reports 10 rows and 0 bytes",
        sizes("self.buffer", "0"),
        sizes("self.buffer", "65"),
    ),
    "rows that nobody counts": (
        "buffer", "buffer=10: it reports 0 rows",
        MEMORY + setup("self.rows = []") + hook("after_step", "self.rows += [batch.rows_LB]", given="batch"),
        sizes("self.buffer", "64"),
    ),
    "a copy of the network that is not counted": (
        "memory", "is in not_saved and has",
        '    not_saved = ("anchor",)\n\n' + setup(COPY),
        '    not_saved = ("anchor",)\n\n' + setup(COPY) + hook("end_task", "self.anchor = None"),
    ),
    "a step that reads from the device": (
        "device", "this waits for a GPU at a step",
        hook("after_step", "int(batch.weight_LB.sum())", given="batch"),
        hook("after_step", "len(batch.weight_LB)", given="batch"),
    ),
    "answers by a hook on the model": (
        "export", "predictions that need more than self.model must be made in predict() or logits()",
        setup("self.model.register_forward_hook(lambda m, given, out: -out)"),
        NEGATIVE + loss("self.cross_entropy(-self.model(batch.x_LBX), batch)"),
    ),
    "answers turned round": (
        "learns", "two easy tasks",
        NEGATIVE,
        hook("predict", "return self.logits(batch)", given="batch"),
    ),
    "a loss without gradient": (
        "learns", "does not require grad",
        loss("loss_L.detach()"),
        loss("loss_L * 1"),
    ),
    "a method that replays nothing": (
        "forgets", "are old rows learned?",
        '    family = "replay"\n',
        '    family = "replay"\n    trains_on = "seen"\n',
    ),
    # Other models and inputs.
    "pixels that texts lack": (
        "texts", "IndexError",
        PIXELS,
        setup('need_images("M", self.streams)') + PIXELS,
    ),
    "layers that only an mlp has": (
        "convolutions", "AttributeError",
        LAYERS,
        setup('if not hasattr(self.model, "layers"):', '    raise Unsuitable("M needs an mlp")') + LAYERS,
    ),
    # Metadata.
    "scenarios that do not agree": (
        "described", "unsuitable() allows task",
        CLASS_ONLY + hook("unsuitable", "return None", given="scenario, training"),
        CLASS_ONLY,
    ),
    "a hyper-parameter without help": (
        "described", "lam has no help",
        "    lam: NotNegative = 0.1\n",
        LAM,
    ),
}  # fmt: skip
"""Mistake -> check that finds it, part of its message, bodies of the break and of its correct twin."""


def result_of(path: Path, text: str, check: str, name: str = "M") -> tuple[str, str]:
    """Return the finding and the note of one check of a method in a file with this text."""
    path.write_text(text)
    with made_streams():
        subject = Subject(f"{path}:{name}")
    result = check_one(subject, check, CHECKS)
    return "; ".join(result.findings), result.note


def method(body: str) -> str:
    """Return the text of a file with one method."""
    return f'{HEAD}    """A method."""\n\n{body}'


NOTES = {"an if on a hyper-parameter", "a hyper-parameter as a float", "a hyper-parameter without help"}
"""Mistakes that make no number wrong."""


@pytest.mark.slow
@pytest.mark.parametrize("mistake", BREAKS)
def test_planted_breaks_are_found_by_their_check(mistake: str, tmp_path: Path) -> None:
    check, said, broken, sound = BREAKS[mistake]
    found, note = result_of(tmp_path / "m.py", method(broken), check)
    assert said in (note if mistake in NOTES else found)
    assert bool(found) != (mistake in NOTES)
    assert result_of(tmp_path / "m.py", method(sound), check) == ("", "")


def test_every_check_has_a_planted_break() -> None:
    assert len(BREAKS) >= 25
    assert {check for check, *_ in BREAKS.values()} == set(CHECKS)


@pytest.mark.slow
def test_the_guide_s_first_version_has_faults_and_its_last_version_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of docs/guides/own-method.md; each fault remains after the earlier ones are fixed."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "own-method.md").read_text()
    first, last, _, own_test = (block.split("```")[0] for block in page.split("```python\n")[1:])
    path = tmp_path / "mine.py"

    def found(text: str, check: str) -> str:
        return result_of(path, text, check, "Anchored")[0]

    assert "self.seen of Anchored belongs to the class, so that all runs share it" in found(first, "alone")
    in_setup = first.replace("    seen = {}\n", "    def setup(self):\n        self.seen = {}\n")
    summed = in_setup.replace(".pow(2)).sum()", ".pow(2)).flatten(1).sum(1)")
    by_lane = summed.replace("p.grad.pow(2).max()", "per_lane(p.grad.pow(2).flatten(1).amax(1), p)")
    by_lane = by_lane.replace("NotNegative, Strategy", "NotNegative, Strategy, per_lane")
    assert "alone and beside others" in found(in_setup, "alone")
    assert "alone and beside others" in found(summed, "alone")
    assert "no longer finite" in found(by_lane, "alone")
    assert {found(last, check) for check in ("alone", "hyper", "twice", "resumed")} == {""}
    monkeypatch.chdir(tmp_path)
    wrong = last.replace("pow(2)", "abs()")
    for text, raises in ((last, does_not_raise()), (wrong, pytest.raises(AssertionError))):
        path.write_text(text)
        names: dict[str, Callable[[], None]] = {}
        exec(own_test, names)
        with raises:
            names["test_the_pull_equals_its_formula"]()


# The command.


def test_check_prints_one_line_for_each_finding(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(method(loss("loss_L.mean()")))
    code, out, err = command(f"check {path}:M --only alone --only twice")
    assert code == 1
    assert out.count("returned shape ()") == 1  # the same break is reported once
    line = HEAD.count("\n") + 3
    assert f":M: alone: {path}, line {line}: loss of M" in out
    assert f"{path}:M twice does not apply" in err
    code, out, _ = command("check finetune er[buffer=50] er+lwf --only alone")
    assert (code, out.count("1 checks passed")) == (0, 3)
    code, out, _ = command("check tiny-seq2seq")
    assert (code, out.partition(";")[0]) == (0, "tiny-seq2seq: 0 checks passed, 1 do not apply")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nothing", "unknown target 'nothing'"),
        ("er gpu", "lethe check gpu takes minutes and no other targets"),
        ("er --only al", "unknown check of a strategy 'al'"),
        ("er[buffer=x]", "er: buffer must be a whole number"),
        ("./none.py:M", "no such file"),
        ("defaults", "name a suite: lethe check defaults digits"),
        ("defaults none", "unknown suite 'none'"),
        ("defaults digits --only alone", "--only chooses checks of a method"),
        ("er --scenario class", "are options of lethe check defaults SUITE"),
    ],
)
def test_an_invalid_target_is_an_error_of_one_line(command: Command, words: str, said: str) -> None:
    code, out, err = command(f"check {words}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


SLOW_MODELS = ["cnn", "resnet18", "efficientnet-lite0"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("digits", "suite"), ("mlp", "model")),
        *(pytest.param(name, "model", marks=pytest.mark.slow) for name in SLOW_MODELS),
    ],
)
def test_built_in_suites_and_models_pass(name: str, kind: str) -> None:
    if name == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs pip install 'lethe-bench[vision]'")
    (target,) = targets([name])
    assert target.kind == kind
    assert [(r.findings, r.note) for r in target.results()] == [((), "")] * len(target.checks)


SUITES = '''import torch

from dataclasses import replace
from lethe import *
import suites

DIGITS = suites.get("digits")


def drawn():
    data = DIGITS.load()
    return replace(data, fingerprint=str(torch.rand(1)))


def overlapping(data, scenario, seed, training):
    stream = DIGITS.split(data, scenario, seed, training)
    tasks = tuple(replace(t, validation_rows=t.train_rows[:3]) for t in stream.tasks)
    return replace(stream, tasks=tasks)


def wrong_labels():
    data = DIGITS.load()
    order = torch.randperm(len(data.y_N), generator=torch.Generator().manual_seed(0))
    return replace(data, y_N=data.y_N[order])


DRAWN = replace(DIGITS, name="drawn", load=drawn)
OVERLAPPING = replace(DIGITS, name="overlapping", split=overlapping, scenarios=("class",))
WRONG = replace(DIGITS, name="wrong", load=wrong_labels, scenarios=("class",))


def flat(generators, shape, units):
    """One network for all lanes."""
    from bench.models.mlp import mlp

    model = mlp(generators, shape, units)
    model.shared = torch.nn.Parameter(torch.zeros(3))
    return model


def mixed(generators, shape, units):
    """Answers that depend a little on those of other lanes, without gradients between lanes."""
    from bench.models.mlp import mlp

    model = mlp(generators, shape, units)
    model.register_forward_hook(lambda _, given, out: out - 0.3 * out.detach().mean(0))
    return model
'''


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("DRAWN", "data", "seed every draw in load()"),
        ("OVERLAPPING", "streams", "3 rows are for training and for validation"),
        ("WRONG", "learned", "do labels belong to their rows"),
        ("flat", "lanes", "shared has shape (3,) for 2 lanes"),
        ("mixed", "alone", "lanes are mixed"),
    ],
)
def test_planted_faults_of_suites_and_models_are_found(
    name: str, check: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SUITES)
    (target,) = targets([f"{path}:{name}"])
    (result,) = target.results([check])
    assert said in result.findings[0]


def test_one_line_in_a_test_file_makes_a_test_for_each_check() -> None:
    marked = conformance("finetune", "digits")
    (mark,) = marked.pytestmark  # type: ignore[attr-defined]
    assert [of for name, of in mark.args[1] if name == "finetune"] == [*CHECKS]
    marked("finetune", "described")


# Before the first run.


@pytest.mark.slow
def test_a_file_is_checked_before_its_first_run_and_after_changes(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault fails the cells of that method alone; records name the check that was made."""
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    path, run = tmp_path / "m.py", tmp_path / "run"
    path.write_text(method(loss("loss_L / loss_L.detach().mean()")))
    words = [f"--strategy={path}:M", f"--out={run}"]
    line = "run toy -s finetune --seeds 2 --set epochs=1 --jobs 1"
    code, out, err = command(line, *words)
    assert code == 1
    assert "2 done, 2 failed" in out
    assert "m.py:M is new or was changed: its quick checks run first" in err
    assert "lethe check: seed 1 alone and beside others" in err
    assert "--no-check --retry-failed runs it as it is" in err
    code, out, err = command(f"{line} --no-check --retry-failed", *words)
    assert (code, "4 done" in out or "2 done" in out) == (0, True)
    assert checks(run, f"{path}:M") == {"none: --no-check"}
    assert checks(run, "finetune") == {""}
    assert check_before_run(f"{path}:M").words == "quick: fault"
    assert capsys.readouterr().err == ""  # the result is cached
    ran = {"seeds": 1, "settings": {"epochs": 1}, "out": tmp_path / "python"}
    with pytest.warns(UserWarning, match="lethe check: seed 1 alone"):
        assert len(lethe.run("toy", f"{path}:M", **ran).failed) == 1
    assert len(lethe.run("toy", f"{path}:M", check=False, retry_failed=True, **ran).failed) == 0
    path.write_text(method(loss("loss_L * 1")))
    code, _, err = command(
        f"run toy --seeds 2 --set epochs=1 --jobs 1 --strategy={path}:M --out={tmp_path / 'b'}"
    )
    assert code == 0
    assert "quick checks run first" in err
    assert checks(tmp_path / "b", f"{path}:M") == {"quick: passed"}


def checks(run: Path, strategy: str) -> set[str]:
    """Return the checks named in a strategy's newest records."""
    found = {}
    for path in sorted((run / "cells").glob("*.jsonl"), key=lambda p: p.stat().st_mtime):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if record["spec"]["strategy"] == strategy:
                found[record["key"]] = record["made_by"]["check"]
    return {*found.values()}
