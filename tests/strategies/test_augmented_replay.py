"""Replayed rows are augmented as new rows are, again at each read; the memory stores row numbers."""

from dataclasses import fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
from bench.plan import Request
from bench.train import run_group
from lethe.testing import SEEDS, assert_equal, lanes_on, outcome, toy_cell
from strategies.core import Draws
from strategies.parts import pick_rows
from strategies.parts.memory import Memory
from suites.base import Training
from tests.strategies.test_replay import at_task_1

BUFFERED = [n for n in strategies.names() if "buffer" in [f.name for f in fields(strategies.get(n))]]
REPLAYS = [name for name in BUFFERED if not strategies.get(name).tunes]


def by_hand(image_CHW: Tensor, draw_3: Tensor) -> Tensor:
    """Pad one image by 4, crop and flip it, by slices."""
    _, height, width = image_CHW.shape
    top, left = int(draw_3[0] * 9), int(draw_3[1] * 9)
    cut = F.pad(image_CHW, (4, 4, 4, 4))[:, top : top + height, left : left + width]
    return cut.flip(2) if draw_3[2] < 0.5 else cut


def filled(**training: Any) -> tuple[Memory, Any]:
    """Return a memory of six rows and a batch of four new ones."""
    streams = lanes_on(SEEDS, training=Training(batch=6, **training))
    memory = Memory(6, streams, Draws(SEEDS, "cpu"))
    rows = torch.stack([s.tasks[0].train_rows[:10] for s in streams.streams])
    memory.write(streams.batch(rows[:, :6]))
    return memory, streams.batch(rows[:, 6:])


def test_a_read_crops_and_flips_each_row_by_its_lanes_own_numbers() -> None:
    memory, new = filled(augment=True)
    slots = torch.arange(6).repeat(3, 1)
    raw = memory.read(slots, new, raw=True).x_LBX
    draws = Draws(SEEDS, "cpu")
    for _ in range(2):  # augmented again at every read
        draw = draws.uniform("augment replay", 18).view(3, 6, 3)
        seen = memory.read(slots, new).x_LBX
        rows = zip(raw.flatten(0, 1), draw.flatten(0, 1), strict=True)
        assert_equal(seen.flatten(0, 1), (by_hand(*of_row) for of_row in rows))
    assert torch.equal(memory.read(slots, new, raw=True).x_LBX, raw)


@pytest.mark.parametrize("training", [{}, {"augment": True, "raw_replay": True}])
def test_without_augmentation_rows_are_read_unchanged_and_nothing_is_drawn(training: Any) -> None:
    memory, new = filled(**training)
    slots = torch.arange(6).repeat(3, 1)
    seen = memory.read(slots, new).x_LBX
    assert torch.equal(seen, memory.streams.pixels(memory.rows_LM[:, :6]))
    assert "augment replay" not in memory.draws._length


def test_selected_rows_have_the_augmentation_with_which_they_were_read() -> None:
    memory, new = filled(augment=True)
    read = memory.read(torch.arange(6).repeat(3, 1), new)
    places = torch.tensor([[5, 0], [1, 1], [2, 3]])
    picked = pick_rows(read, places)
    for name in ("x_LBX", "rows_LB", "y_LB"):
        expected = [of_lane[of] for of_lane, of in zip(getattr(read, name), places, strict=True)]
        assert_equal(getattr(picked, name), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLAYS)
def test_every_method_with_a_memory_augments_replayed_rows_lane_by_lane(name: str) -> None:
    """Results are the same alone and in a group, and different with ``raw_replay``."""
    scenario = next(s for s in ("class", "domain", "task", "online") if s in strategies.get(name).scenarios)
    given = {"epochs": 2, "augment": True}
    cells = [toy_cell(name, seed, scenario, **given) for seed in range(3)]
    together = [outcome(r) for r in run_group(cells)]
    assert [outcome(run_group([cells[1]])[0])] == together[1:2]
    raw = run_group([toy_cell(name, seed, scenario, **given, raw_replay=True) for seed in range(3)])
    for pair in zip(together, raw, strict=True):
        ours, theirs = ((r["loss"], r["test"], r.get("notes")) for r in pair)
        assert ours != theirs


def test_older_cells_have_the_same_keys_and_raw_replay_without_effect_makes_no_cell() -> None:
    assert "raw_replay" not in toy_cell("er", augment=True).training
    assert toy_cell("er", augment=True, raw_replay=True).training["raw_replay"] is True
    (plain,), (raw,) = (Request("toy", ("er",), settings=s).cells() for s in ({}, {"raw_replay": "true"}))
    assert raw.key == plain.key


@pytest.mark.parametrize(
    ("name", "hyper"),
    [("sparse-er", {"every": 2}), ("mbpa++", {"every": 2, "neighbours": 2, "adapt_steps": 1})],
)
def test_running_statistics_of_lanes_that_do_not_review_do_not_change(
    name: str, hyper: dict[str, int]
) -> None:
    strategy, batch = at_task_1(name, model="resnet18", options={"width": 2}, buffer=6, **hyper)
    old = strategy.memory.read(torch.zeros(3, 4, dtype=torch.long), batch)
    before = [b.clone() for b in strategy.model.buffers()]
    strategy.review(old, (True, False, True))
    now = list(strategy.model.buffers())
    assert_equal((b[1] for b in now), (b[1] for b in before))
    assert not all(torch.equal(n[0], b[0]) for n, b in zip(now, before, strict=True))


def test_batch_normalisation_sees_no_old_rows_where_adaptive_replay_does_not_review() -> None:
    strategy, batch = at_task_1("adaptive-replay", model="resnet18", options={"width": 2}, buffer=6)
    before = [b.clone() for b in strategy.model.buffers()]
    strategy.reviews_now = lambda active_L: torch.tensor([True, False, False])
    strategy.extra_loss(batch, torch.zeros(0)).sum().backward()
    strategy.adjust_gradients()
    now = list(strategy.model.buffers())
    assert_equal((b[1:] for b in now), (b[1:] for b in before))
    assert not all(torch.equal(n[0], b[0]) for n, b in zip(now, before, strict=True))
