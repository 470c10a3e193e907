"""Memories balanced by class, against loops over rows."""

from collections import Counter, deque

import pytest
import torch
from hypothesis import given, settings, strategies as st

from bench.checks.in_memory import Checkpoints as Saved
from bench.train import run_group
from lethe.testing import blobs, lanes_on, outcome, toy_cell
from strategies.core import Batch, Draws, LaneStreams, Unsuitable
from strategies.parts import GreedyMemory, Memory
from strategies.parts.class_memory import BalancedMemory, RingMemory


def some_rows(lanes: LaneStreams, size: int, random: torch.Generator, padded: bool, task: int) -> Batch:
    """Return rows of one task of each lane, some of them padding, of skewed classes."""
    rows = []
    for stream in lanes.streams:
        of_task = stream.tasks[task].train_rows
        skewed = torch.randint(0, len(of_task), (size,), generator=random).float() ** 0.7
        rows.append(of_task[skewed.long()])
    weight = (torch.rand(len(rows), size, generator=random) < 0.7).float() if padded else None
    return lanes.batch(torch.stack(rows), weight)


def real(batch: Batch, lane: int) -> list[tuple[int, int, int]]:
    """Return index, row number and unit of the rows that are not padding."""
    rows, y = batch.rows_LB[lane].tolist(), batch.y_LB[lane].tolist()
    keep = (batch.weight_LB[lane] > 0).tolist()
    return [(b, rows[b], y[b]) for b in range(len(rows)) if keep[b]]


def contents(memory: Memory) -> list[list[int]]:
    """Return the stored rows of each lane."""
    lanes = zip(memory.rows_LM.tolist(), memory.filled_L.tolist(), strict=True)
    return [rows[:filled] for rows, filled in lanes]


STREAM = {
    "slots": st.integers(1, 14), "size": st.integers(1, 9), "steps": st.integers(1, 10),
    "padded": st.booleans(), "seed": st.integers(0, 10_000),
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(**STREAM | {"slots": st.integers(4, 14)}, scenario=st.sampled_from(["class", "domain"]))
def test_ring_is_a_queue_for_each_class(
    slots: int, size: int, steps: int, padded: bool, seed: int, scenario: str
) -> None:
    """If tasks share units, each task has its own queues."""
    lanes = lanes_on([seed, seed + 1], scenario)
    memory = RingMemory(slots, lanes, Draws([seed, seed + 1], "cpu"))
    random = torch.Generator().manual_seed(seed)
    share = slots // 4
    queues: list[dict[tuple[int, int], deque[int]]] = [{}, {}]
    for step in range(steps):
        task = step * 2 // steps
        batch = some_rows(lanes, size, random, padded, task)
        memory.write(batch)
        for lane, of_class in enumerate(queues):
            for _, row, unit in real(batch, lane):
                queue = of_class.setdefault((task, unit), deque())
                if len(queue) == share:
                    queue.popleft()
                queue.append(row)
    expected = [sorted(row for queue in of_class.values() for row in queue) for of_class in queues]
    assert list(map(sorted, contents(memory))) == expected


@settings(max_examples=80, deadline=None)
@given(**STREAM)
def test_class_balanced_equals_a_loop(slots: int, size: int, steps: int, padded: bool, seed: int) -> None:
    """Row by row: a class that has lost rows is a reservoir, otherwise the largest class loses a row."""
    seeds = [seed, seed + 1]
    lanes = lanes_on(seeds)
    memory, same = BalancedMemory(slots, lanes, Draws(seeds, "cpu")), Draws(seeds, "cpu")
    random = torch.Generator().manual_seed(seed)
    held: list[dict[int, list[tuple[float, int]]]] = [{u: [] for u in range(4)} for _ in seeds]
    met = [Counter[int]() for _ in seeds]
    for step in range(steps):
        batch = some_rows(lanes, size, random, padded, step * 2 // steps)
        memory.write(batch)
        key = same.uniform("key", size).float()
        for lane in range(2):
            order = memory.order_LU[lane].tolist()
            for b, row, unit in real(batch, lane):
                of_class = held[lane][unit]
                whole = len(of_class) == met[lane][unit]
                met[lane][unit] += 1
                of_class.append((float(key[lane, b]), row))
                of_class.sort()
                if not whole:
                    of_class.pop()
                elif sum(len(rows) for rows in held[lane].values()) > slots:
                    largest = max(held[lane], key=lambda u: (len(held[lane][u]), order[u]))
                    held[lane][largest].pop()
    expected = [sorted(row for rows in of_lane.values() for _, row in rows) for of_lane in held]
    assert list(map(sorted, contents(memory))) == expected
    assert memory.seen_L.tolist() == [of_lane.total() for of_lane in met]


@settings(max_examples=60, deadline=None)
@given(**STREAM, scenario=st.sampled_from(["class", "domain"]))
def test_the_greedy_memory_equals_algorithm_1_of_gdumb(
    slots: int, size: int, steps: int, padded: bool, seed: int, scenario: str
) -> None:
    seeds = [seed, seed + 1]
    lanes = lanes_on(seeds, scenario)
    memory, same = GreedyMemory(slots, lanes, Draws(seeds, "cpu")), Draws(seeds, "cpu")
    random = torch.Generator().manual_seed(seed)
    held: list[list[tuple[tuple[int, int], int]]] = [[], []]
    met: list[set[tuple[int, int]]] = [set(), set()]
    for step in range(steps):
        task = step * 2 // steps
        batch = some_rows(lanes, size, random, padded, task)
        memory.write(batch)
        draw = same.uniform("greedy", size)
        for lane in range(2):
            for b, row, of_task in real(batch, lane):
                unit = (task, of_task)
                count = Counter(u for u, _ in held[lane])
                share = slots / max(1, len(met[lane]))
                if unit in met[lane] and count[unit] >= share:
                    continue
                met[lane].add(unit)
                if len(held[lane]) < slots:
                    held[lane].append((unit, row))
                    continue
                most = max(count.values())
                among = [i for i, (u, _) in enumerate(held[lane]) if count[u] == most]
                held[lane][among[int(draw[lane, b] * len(among))]] = unit, row
    assert contents(memory) == [[row for _, row in of_lane] for of_lane in held]


@pytest.mark.parametrize("write", ["class-balanced", "ring", "per-class"])
@pytest.mark.parametrize("scenario", ["class", "domain"])
def test_every_way_of_writing_is_lane_invariant_and_resumes(write: str, scenario: str) -> None:
    cells = [toy_cell("er", seed, scenario, write=write, buffer=20) for seed in range(3)]
    data, saved = blobs(), Saved()
    together = [outcome(r) for r in run_group(cells, checkpoints=saved, data=data)]
    assert together == [outcome(run_group([cell], data=data)[0]) for cell in cells]
    assert [outcome(r) for r in run_group(cells, checkpoints=saved.at(1), data=data)] == together


@pytest.mark.parametrize("name", ["er[write=ring]", "er[write=per-class]", "hal", "icarl", "fdr", "gem"])
def test_a_buffer_without_a_row_for_each_class_or_task_is_refused(name: str) -> None:
    method, _, write = name.removesuffix("]").partition("[write=")
    for buffer, refused in (
        ((7, True), (8, False)) if method not in ("fdr", "gem") else ((2, True), (3, False))
    ):
        changes = {"suite": "toy-uneven", "buffer": buffer, "epochs": 1} | ({"write": write} if write else {})
        cells = [toy_cell(method, seed, "class", **changes) for seed in range(2)]
        if refused:
            with pytest.raises(
                Unsuitable, match=f"buffer={buffer} is less than one row for each of the {buffer + 1}"
            ):
                run_group(cells)
        else:
            assert all(r["status"] == "done" for r in run_group(cells))
