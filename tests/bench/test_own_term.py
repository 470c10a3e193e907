"""How much a method's own term acted: its record, and that measuring it changes nothing."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

import lethe
from bench.checks.defaults import candidates, findings
from bench.report import Layout, tables
from bench.results import Frames, compared_with_finetune
from bench.schema import Project
from bench.train import loop, run_group
from lethe.testing import Checkpoints, begin, new_batch, outcome, ready, toy_cell, train_on
from strategies.core import OwnTerm, gradients, is_measured
from tests.conftest import Command


def norms(parts: Any) -> torch.Tensor:
    """Return each lane's Euclidean norm over all tensors."""
    return torch.cat([t.flatten(1) for t in parts], 1).norm(dim=1)


@pytest.mark.parametrize("name", ["lwf", "lwf[balance=tasks]", "ewc", "si", "l2-init", "ewc+lwf", "ewc+er"])
def test_the_ratio_is_that_of_a_step_with_the_term_to_one_without(name: str) -> None:
    """Computed another way: two whole steps, one with strength 0."""
    name, _, options = name.partition("[")
    found, of_steps = None, []
    for strength in (1.0, 0.0):
        chosen = {"balance": "tasks"} if options else {}
        strategy = ready(name, **chosen)
        train_on(strategy, 0, steps=3)
        for part in getattr(strategy, "parts", [strategy]):
            for lam in {"lam", "c"} & set(part.lane_fields()):
                getattr(part, lam).mul_(strength if part.name == "lwf" else 300 * strength)
        begin(strategy, 1)
        with torch.no_grad():
            for p in strategy.model.parameters():
                p.mul_(1.1)  # away from the parameters after the first task, or a penalty is 0
        if options and not strength:
            strategy.extra_loss = lambda batch, raw_LBU: None
        strategy.model.zero_grad()
        own = OwnTerm(3, torch.device("cpu"))
        strategy.context.own_term = own if strength else None
        strategy.learn(new_batch(strategy, 1))
        of_steps.append([g.clone() for g in gradients(strategy.model)])
        found = found or own.read()
    term = [a - b for a, b in zip(*of_steps, strict=True)]
    expected = norms(term) / norms(of_steps[1])
    assert (expected > 1e-3).all()
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-3, atol=1e-6)


def test_measured_steps_are_powers_of_four() -> None:
    assert [n + 1 for n in range(5000) if is_measured(n)] == [4, 16, 64, 256, 1024, 4096]


@pytest.mark.parametrize(
    "name", ["lwf", "ewc", "si", "l2-init", "ewc+lwf", "finetune", "agem", "er", "hat", "scr"]
)
def test_measuring_changes_no_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step, no step, alone, with others, and continued from a checkpoint."""
    saved, scenario = Checkpoints(), "task" if name == "hat" else "class"
    cells = [toy_cell(name, seed, scenario, epochs=1) for seed in range(2)]
    records = run_group(cells, checkpoints=saved)
    assert ("own_term" in records[0]) == (name not in ("finetune", "agem", "er", "hat", "scr"))
    for again in (run_group(cells[1:])[0], run_group(cells, checkpoints=saved.at(1))[1]):
        assert (outcome(again), again.get("own_term")) == (outcome(records[1]), records[1].get("own_term"))
    for every in (True, False):
        monkeypatch.setattr(loop, "is_measured", lambda number, every=every: every)
        again = run_group(cells)
        assert [outcome(r) for r in again] == [outcome(r) for r in records]
        assert ("own_term" in again[0]) == ("own_term" in records[0] and every)


def test_resting_lanes_add_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of the toy suite end a task at different steps; every step is measured."""
    monkeypatch.setattr(loop, "is_measured", lambda number: True)
    cells = [toy_cell("ewc", seed, epochs=1) for seed in range(3)]
    alone = [run_group([cell])[0]["own_term"] for cell in cells]
    assert [r["own_term"] for r in run_group(cells)] == alone
    assert all(shares[0] == 0 < shares[1] for shares in alone)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    """A run with a penalty that is too weak, a method that never does anything, and one that acts."""
    names = ["finetune", "si[c=1e-9]", "redo", "ewc", "er", "joint"]
    settings = {"epochs": 6, "hidden": 16, "rows_per_class": 20}
    run = {"scenarios": "domain", "seeds": 2, "settings": settings}
    return lethe.run("digits", names, **run, out=tmp_path_factory.mktemp("own") / "run")


def test_rows_like_finetune_are_named_with_what_to_do(frames: Frames) -> None:
    lines = tables(frames, layout=Layout(marks=True)).remarks
    si, redo = (next(line for line in lines if name in line) for name in ("si[c=1e-09]", "redo"))
    assert [line for line in lines if line.startswith("like finetune")] in ([redo, si], [si, redo])
    assert re.fullmatch(
        r"like finetune: digits domain si\[c=1e-09\]: its own term hardly acted, at most \S+ % of the rest "
        r"of the gradient, equal to finetune on all 2 seeds; t.*",
        si,
    )
    assert redo.startswith(
        "like finetune: digits domain redo: equal to finetune on all 2 seeds; tune it: lethe tune"
    )
    assert not any(line.startswith("like") for line in tables(frames, layout=Layout()).remarks)


def test_the_comparison_with_finetune_is_that_of_the_scores(frames: Frames) -> None:
    rows = {row.identity: row for row in compared_with_finetune(frames, ["joint"])}
    assert rows.keys() == {"si[c=1e-09]", "redo", "ewc", "er"}
    acc = frames.scores[frames.scores["score"] == "acc"].set_index(["identity", "seed"])["value"]
    for name, row in rows.items():
        gap = 100 * (acc[name] - acc["finetune"])
        assert row.difference == pytest.approx(gap.mean())
        assert row.equal == (gap == 0).all()
    assert rows["ewc"].own_term == frames.cells[frames.cells["identity"] == "ewc"]["own_term"].max() > 0.01
    assert rows["er"].own_term is rows["redo"].own_term is None
    assert [rows[name].idle for name in ("si[c=1e-09]", "ewc", "er")] == [True, False, False]


def test_defaults_that_do_nothing_or_harm_are_findings(frames: Frames) -> None:
    acc = frames.scores["score"] == "acc"
    lower = frames.scores.assign(
        value=frames.scores["value"].where(~acc | (frames.scores["identity"] != "er"), 0.01)
    )
    found = findings(replace(frames, scores=lower), Project(schema=1))
    rows = {row.identity: row.difference for row in compared_with_finetune(frames)}
    ewc = {("ewc", "worse")} if (rows["ewc"] or 0) < -1 else set()
    assert {(one.strategy, one.kind) for one in found} == {
        ("si[c=1e-09]", "equal"),
        ("redo", "equal"),
        ("er", "worse"),
        *ewc,
    }
    worse = next(one for one in found if one.kind == "worse")
    assert re.match(
        r"worse than finetune by \d+\.\d points over 2 seeds \(margin 1\); tune it: lethe tune", worse.words
    )
    margins = Project.read({"schema": 1, "margins": {"digits": {"acc": 100}}})[0]
    assert {one.kind for one in findings(replace(frames, scores=lower), margins)} == {"equal"}


@pytest.mark.slow
def test_check_defaults_trains_and_names_methods(command: Command) -> None:
    code, out, _ = command("check defaults digits -s si --scenario class --seeds 1 --jobs 1")
    assert code == 1
    assert out.startswith("digits class si: equal to finetune on its seed, and its own term hardly acted")
    assert "1 defaults checked, 1 found" in out
    usual, slow = candidates()
    assert not {"finetune", "joint", "ncm", "l2p"} & {*usual, *slow}
    assert {"si", "ewc", "er", "lwf"} <= {*usual}
    assert {"dgr", "rar"} <= {*slow}
