import torch
from hypothesis import given, settings

from bench.train import make_lanes
from lethe.testing import assert_equal, lanes_on, toy_cell
from strategies.core import Batch, Draws, join_batches
from strategies.parts import Memory
from strategies.parts.class_memory import SharedMemory
from tests.strategies.test_class_memory import STREAM, contents


@settings(max_examples=40, deadline=None)
@given(**STREAM)
def test_the_reservoir_equals_algorithm_r(slots: int, size: int, steps: int, padded: bool, seed: int) -> None:
    """Against Vitter's algorithm R, row by row, with the same random numbers."""
    seeds = [seed, seed + 1]
    lanes = lanes_on(seeds)
    memory, same = Memory(slots, lanes, Draws(seeds, "cpu")), Draws(seeds, "cpu")
    random = torch.Generator().manual_seed(seed)
    expected: list[list[int]] = [[], []]
    seen = [0, 0]
    for step in range(steps):  # slots are planned ahead until a batch is padded
        rows = torch.randint(0, 240, (2, size), generator=random)
        weight = (torch.rand(2, size, generator=random) < 0.7).float() if padded and step % 3 == 1 else None
        memory.write(lanes.batch(rows, weight))
        draws = same.uniform("reservoir", size)
        for lane in range(2):
            for b in range(size):
                if weight is not None and weight[lane, b] == 0:
                    continue
                seen[lane] += 1
                if len(expected[lane]) < slots:
                    expected[lane].append(int(rows[lane, b]))
                else:
                    slot = int(draws[lane, b] * seen[lane])
                    if slot < slots:
                        expected[lane][slot] = int(rows[lane, b])
    assert (memory.seen_L.tolist(), memory.filled_L.tolist()) == (seen, [len(e) for e in expected])
    assert contents(memory) == expected


def test_tensors_stored_with_a_row_stay_with_it() -> None:
    lanes = lanes_on([0, 1])
    memory = Memory(5, lanes, Draws([0, 1], "cpu"), {"mark": (2,)})
    for step in range(20):
        rows = torch.randint(0, 240, (2, 7), generator=torch.Generator().manual_seed(step))
        memory.write(lanes.batch(rows), mark=rows.unsqueeze(2).float() * torch.tensor([1.0, -1.0]))
    slots = torch.arange(5).expand(2, 5)
    kept, rows = memory.read_kept("mark", slots), memory.rows_LM[:, :5].float()
    assert torch.equal(kept, torch.stack([rows, -rows], 2))


def test_joined_batches_read_the_rows_of_their_parts_once() -> None:
    lanes = lanes_on([0, 1])
    rows = torch.randint(0, 240, (2, 9), generator=torch.Generator().manual_seed(0))
    new, old = lanes.batch(rows[:, :4]), lanes.batch(rows[:, 4:])
    both = join_batches(new, old)
    assert both.x_LBX.data_ptr() == new.x_LBX.data_ptr()
    assert both.all_count
    apart = [lanes.batch(rows[:, :4]), lanes.batch(rows[:, 4:])]
    for name in ("x_LBX", "y_LB", "rows_LB", "weight_LB"):
        expected = [getattr(batch, name) for batch in apart]
        assert torch.equal(getattr(both, name), torch.cat(expected, 1))
        assert_equal([getattr(batch, name) for batch in (new, old)], expected)


def test_per_class_stores_equal_shares_within_the_budget() -> None:
    lanes = lanes_on([0, 1, 2])
    memory = SharedMemory(24, lanes, Draws([0, 1, 2], "cpu"))
    for task in range(2):
        memory.write_per_class([s.tasks[task].train_rows for s in lanes.streams])
    assert memory.filled_L.tolist() == [24, 24, 24]
    for lane, rows in enumerate(memory.rows_LM[:, :24]):
        units = lanes.units_of(lane, rows)
        assert (len(rows.unique()), units.bincount().tolist()) == (24, [6, 6, 6, 6])


def test_an_empty_memory_gives_rows_of_zero_weight() -> None:
    lanes = lanes_on([0])
    memory = Memory(4, lanes, Draws([0], "cpu"))
    new = lanes.batch(lanes.streams[0].tasks[0].train_rows[:3].unsqueeze(0))
    old = memory.read(memory.draw_slots("r", 5), new)
    assert old.weight_LB.sum() == 0
    assert set(old.rows_LB[0].tolist()) == set(new.rows_LB[0].tolist())
    both = join_batches(new, old)
    values = torch.arange(8.0).unsqueeze(0)
    assert float(both.mean_L(values)) == 1.0  # the mean of 0, 1, 2
    memory.write(new)
    assert memory.read(memory.draw_slots("r", 5), new).weight_LB.sum() == 5


def test_distinct_slots_are_distinct_and_those_in_use_come_first() -> None:
    lanes = lanes_on([0, 1])
    memory = Memory(8, lanes, Draws([0, 1], "cpu"))
    memory.filled_L.copy_(torch.tensor([5, 8]))
    for _ in range(20):
        slots = memory.draw_distinct("d", 6)
        assert all(len(set(of_lane)) == 6 for of_lane in slots.tolist())
        assert set(slots[0, :5].tolist()) == set(range(5))
    assert memory.draw_distinct("d", 50).shape == (2, 8)


def test_rows_are_dropped_and_appended_with_the_tensors_stored_with_them() -> None:
    lanes = lanes_on([0, 1])
    memory = Memory(5, lanes, Draws([0, 1], "cpu"), {"mark": ()})
    rows = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
    memory.append(rows, torch.tensor([[True] * 4, [True, False, True, True]]), mark=rows.float())
    assert memory.filled_L.tolist() == [4, 3]
    memory.keep_only(torch.tensor([[False, True, True, False, True], [True, False, True, True, False]]))
    memory.append(rows, torch.ones(2, 4, dtype=torch.bool), mark=rows.float())
    assert memory.rows_LM[:, :5].tolist() == [[1, 4, 3, 1, 4], [5, 6, 5, 9, 2]]
    assert torch.equal(memory.kept["mark"][:, :5], memory.rows_LM[:, :5].float())
    assert memory.filled_L.tolist() == [5, 5]


def test_joined_rows_of_a_task_stream_have_their_own_units() -> None:
    """Also where the first part has one row, whose units look like those of all rows."""
    state = make_lanes([toy_cell("finetune", 0, "task")])
    of_tasks = [t.train_rows for t in state.streams.streams[0].tasks]
    new, old = (state.streams.batch(rows[:n].unsqueeze(0)) for rows, n in zip(of_tasks, (1, 3), strict=True))
    expected = torch.cat([part.active_LBU.expand(-1, len(part.y_LB[0]), -1) for part in (new, old)], 1)
    assert new.x_LBX.shape[1] == 1  # both are read before they are joined
    assert old.x_LBX.shape[1] == 3
    assert torch.equal(join_batches(new, old).active_LBU, expected)
    assert not torch.equal(expected[:, 0], expected[:, 1])


def test_joined_rows_have_all_units_where_a_part_names_none() -> None:
    state = make_lanes([toy_cell("finetune", 0, "task")])
    of_tasks = [t.train_rows for t in state.streams.streams[0].tasks]
    known, free = (state.streams.batch(rows[:2].unsqueeze(0)) for rows in of_tasks)
    unit_LBU = known.active_LBU
    assert unit_LBU is not None
    free = Batch(free.x_LBX, free.y_LB, free.rows_LB, free.weight_LB)
    both = join_batches(free, known).active_LBU
    assert both is not None
    assert bool(both[:, :2].all())
    assert torch.equal(both[:, 2:], unit_LBU)
    assert join_batches(free, free).active_LBU is None
