"""Records made again and compared, and the list of code that makes the same records."""

from pathlib import Path

import pytest

from bench.schema import Equivalence, Equivalences
from bench.store import RunReader, add_equivalences, equivalences_path, read_equivalences
from suites.errors import UserError


def entry(before: str, now: str, strategy: str = "er", cells: tuple[str, ...] = ("0" * 20,)) -> Equivalence:
    return Equivalence(
        strategy=strategy, suite="toy", model="mlp", before=before, now=now, cells=list(cells),
        before_commit="", now_commit="", at="2026-01-01T00:00:00Z",
    )  # fmt: skip


def test_equivalence_goes_by_chains_both_ways_and_for_one_strategy(tmp_path: Path) -> None:
    entries = [entry("", "b"), entry("b", "c"), entry("d", "c"), entry("", "z", "ewc")]
    found = Equivalences(schema=1, entries=entries)
    assert all(found.same("er", "toy", "mlp", a, b) for a in ("", "b", "c", "d") for b in ("", "b", "c", "d"))
    assert not found.same("er", "toy", "mlp", "", "z")
    assert not found.same("er", "toy", "cnn", "b", "c")
    assert found.same("agem", "toy", "mlp", "x", "x")


def test_a_folder_and_its_pack_have_one_list(tmp_path: Path) -> None:
    folder, packed = tmp_path / "first.v1", tmp_path / "first.v1.lethe.gz"
    folder.mkdir()
    assert read_equivalences(RunReader(folder)).entries == []
    path = add_equivalences(RunReader(folder), [entry("", "b"), entry("", "c")])
    assert path == tmp_path / "first.v1.equivalent.json"
    folder.rmdir()
    packed.touch()
    assert equivalences_path(RunReader(folder)) == equivalences_path(RunReader(packed)) == path
    add_equivalences(RunReader(packed), [entry("", "b", cells=("1" * 20,))])
    assert [(e.now, e.cells[0][0]) for e in read_equivalences(RunReader(packed)).entries] == [
        ("b", "1"),
        ("c", "0"),
    ]
    path.write_text('{"schema":1,"entries":[{"strategy":"er"}]}')
    with pytest.raises(UserError, match=r"equivalent.json cannot be read: entries\[0\].suite is missing"):
        read_equivalences(RunReader(packed))
