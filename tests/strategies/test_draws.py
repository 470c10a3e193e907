import ast
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lethe.testing import assert_equal
from strategies.core import Draws, splitmix64
from strategies.core.draws import STREAMS, _signed

MASK = 2**64 - 1


def reference(z: int) -> int:
    """Return SplitMix64's output in whole numbers, as its authors published it."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_seed_0_gives_the_published_sequence() -> None:
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([_signed(golden * i) for i in (1, 2, 3)])
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(v) & MASK for v in splitmix64(states)] == published


@settings(deadline=None)
@given(st.integers(0, MASK))
def test_draws_equal_whole_number_arithmetic(z: int) -> None:
    assert int(splitmix64(torch.tensor([_signed(z)]))[0]) & MASK == reference(z)


def test_draws_are_uniform() -> None:
    values = torch.cat([Draws([seed], "cpu").uniform("a", 5000).flatten() for seed in (7, 8)])
    assert 0 <= float(values.min()) <= float(values.max()) < 1
    assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01


def test_a_lane_s_draws_do_not_depend_on_other_lanes() -> None:
    together, alone = Draws([3, 1, 2], "cpu"), Draws([1], "cpu")
    for _ in range(130):  # more than two blocks computed in advance
        assert torch.equal(together.uniform("x", 3)[1:2], alone.uniform("x", 3))


def test_draws_differ_by_name_task_seed_and_call() -> None:
    draws = Draws([1, 2], "cpu")
    seen = [draws.uniform("a", 4), draws.uniform("a", 4), draws.uniform("b", 4)]
    draws.begin(1)
    seen.append(draws.uniform("a", 4))
    rows = torch.cat(seen).flatten()
    assert len(rows.unique()) == len(rows)
    draws.begin(0)
    assert torch.equal(draws.uniform("a", 4), seen[0])


def test_draws_of_different_lengths_from_one_name_are_distinct() -> None:
    """The first length used has the name's own numbers; another length has different ones."""
    draws, plain = Draws([1, 2], "cpu"), Draws([1, 2], "cpu")
    mixed = [draws.uniform("a", n) for n in (3, 5, 3, 5, 4)]
    assert len(torch.cat(mixed, 1).unique()) == 2 * 20
    assert_equal((mixed[0], mixed[2], mixed[4]), [plain.uniform("a", n) for n in (3, 3, 4)])


def test_the_list_of_random_streams_equals_those_in_the_source() -> None:
    """By the names in the source; in f-strings, numbers are written as {}."""
    calls = "uniform below draw_slots draw_distinct hashed generator derive Noise sample_rows"
    drawn, texts = set(), set()
    for path in (Path(__file__).parents[2] / "strategies").rglob("*.py"):
        if path.name == "draws.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            texts.add(_text(node))
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in calls.split():
                drawn |= {_text(argument) for argument in node.args} - {None}
    drawn.remove("{}/{}")  # the suffix that Noise adds to its name
    assert drawn <= STREAMS.keys()
    assert STREAMS.keys() <= texts


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_below_draws_every_number_below_its_limit() -> None:
    limit = torch.tensor([1, 10, 0])
    draws = Draws([1, 2, 3], "cpu")
    got = torch.cat([draws.below("n", limit, 50) for _ in range(20)], 1)
    assert (got.amin(1).tolist(), got.amax(1).tolist()) == ([0, 0, 0], [0, 9, 0])
