"""Data sets larger than memory: the same numbers as from memory, from a file that is mapped."""

import mmap
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import suites
import suites.own.loaded as own_data
import suites.own.suite as own_suite
from bench.encode.image_features import with_features
from bench.plan import CellSpec, one_cell
from bench.plan.model import model_reference
from bench.train import make_lanes, read_ahead, run_group
from bench.train.read_ahead import ReadAhead
from bench.train.schedule import Schedule, schedule_task
from lethe.testing import Checkpoints, outcome
from suites.base import Data
from suites.declared import parsed
from suites.errors import UserError
from suites.mapped_file import MappedFile, gathered, mapped_bytes
from suites.own import portrait
from suites.own.portrait import _numbered
from suites.views import without_tests

N = 240
SMALL = {"epochs": 1, "hidden": 16}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def drawn() -> tuple[Any, Any, Any]:
    """Return features of four classes in three tasks, some of them twice, with labels and tasks."""
    random = np.random.default_rng(0)
    y = random.integers(0, 4, N)
    x = (random.normal(size=(N, 6)) + y[:, None]).astype(np.float32)
    x[5], x[7], y[7] = x[100], x[50], (y[50] + 1) % 4
    return x, y, random.integers(0, 3, N)


def arrays() -> str:
    from safetensors.numpy import save_file

    x, y, task = drawn()
    save_file({"x": x.astype(np.float64), "y": y, "month": task}, "rows.safetensors")
    return "rows.safetensors[task=month]"


def images() -> str:
    from safetensors.numpy import save_file

    x = (2 * np.random.default_rng(1).integers(0, 100, (N, 8, 8, 3))).astype(np.uint8)
    save_file({"x": x, "y": np.arange(N) % 4}, "images.safetensors")
    return "images.safetensors[scale=200]"


def lists(suffix: str) -> str:
    import datasets

    x, y, task = drawn()
    rows = datasets.Dataset.from_dict({"x": x.tolist(), "label": y.tolist(), "month": task.tolist()})
    if suffix == "parquet":
        rows.to_parquet("rows.parquet")
    elif suffix == "arrow":
        rows.save_to_disk("saved")
        (path,) = Path("saved").glob("*.arrow")
        path.rename("rows.arrow")  # a stream
    if suffix == "feather":
        from pyarrow import feather

        feather.write_feather(rows.data.table, "rows.arrow", compression="uncompressed")
        suffix = "arrow"
    return f"rows.{suffix}[image=x,task=month]"


SOURCES: dict[str, Callable[[], str]] = {
    "arrays": arrays, "images": images, "parquet": lambda: lists("parquet"), "arrow": lambda: lists("arrow"),
    "feather": lambda: lists("feather"),
}  # fmt: skip


def again(monkeypatch: pytest.MonkeyPatch, most: int | None) -> None:
    """Read data sets again, with so many bytes in memory at most."""
    own_data._loaded.cache_clear()
    own_suite._of_data.cache_clear()
    if most is None:
        monkeypatch.delenv("LETHE_IN_MEMORY", raising=False)
    else:
        monkeypatch.setenv("LETHE_IN_MEMORY", str(most))


def same(a: Data, b: Data) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Data) if f.name != "file"]
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("source", SOURCES)
def test_a_mapped_data_set_equals_the_one_in_memory(
    source: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is said of it, where it is read again, and where it fits into memory by then."""
    name = SOURCES[source]()
    plain = suites.get(name).load()
    notes = suites.notes_of(name)
    assert plain.file is None
    assert len(notes) == (2 if source != "images" else 0)
    monkeypatch.setenv("LETHE_CACHE", str(here / "other"))
    for again_n in range(2):
        again(monkeypatch, 100)
        mapped = suites.get(name).load()
        assert mapped.file is not None
        assert same(plain, mapped)
        assert suites.notes_of(name) == notes
        assert len([*(here / "other/declared").iterdir()]) == 1, again_n
    again(monkeypatch, None)
    back = suites.get(name).load()
    assert back.file is None
    assert same(plain, back)


def cells(strategy: str, name: str, scenario: str) -> list[CellSpec]:
    return [one_cell(name, strategy, scenario, seed=s, settings=SMALL) for s in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "source", "scenario"),
    [
        *(
            (name, "arrays", "domain")
            for name in ("finetune", "er", "der++", "agem", "ncm", "gdumb", "joint")
        ),
        *((name, "images", "class") for name in ("er", "icarl")),
    ],
)
def test_records_are_equal(
    strategy: str, source: str, scenario: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memories that read stored rows, with lanes beside each other, and after a resume."""
    name = SOURCES[source]()
    monkeypatch.setattr(read_ahead, "_BLOCK_BYTES", 2000)
    plain = run_group(cells(strategy, name, scenario))
    monkeypatch.setenv("LETHE_CACHE", str(here / "other"))
    again(monkeypatch, 100)
    saved = Checkpoints()
    mapped = run_group(cells(strategy, name, scenario), checkpoints=saved)
    resumed = run_group(cells(strategy, name, scenario), checkpoints=saved.at(1))
    assert suites.get(name).load().file is not None
    assert [outcome(r) for r in mapped] == [outcome(r) for r in plain] == [outcome(r) for r in resumed]
    assert [r["data"] for r in mapped] == [r["data"] for r in plain]


def test_batches_are_equal_bit_for_bit_and_read_before_they_are_learned(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = arrays()
    found, batches = [], []
    for most in (None, 100):
        again(monkeypatch, most)
        monkeypatch.setenv("LETHE_CACHE", str(here / str(most)))
        state = make_lanes(cells("finetune", name, "domain"))
        of_run = []
        for task in range(3):
            schedule = schedule_task(state.streams, task, state.strategy)
            assert schedule is not None
            read = list[Tensor]()
            monkeypatch.setattr(ReadAhead, "_read_rows", lambda self, rows, read=read: read.append(rows))
            monkeypatch.setattr(read_ahead, "_BLOCK_BYTES", 4 * 32 * 24)
            with ReadAhead(state.streams.data, schedule, state.device) as ahead:
                for number in range(schedule.n_steps):
                    ahead.before(number)
                    if most is not None:
                        assert sum(map(len, read)) > number
                    batch = state.streams.batch(schedule.rows(number), schedule.weight(number))
                    of_run += [batch.x_LBX, batch.y_LB, batch.rows_LB, batch.weight_LB]
            if most is None:
                assert not read
            else:
                assert torch.equal(torch.cat(read), schedule.rows_SLB)
        batches.append(of_run)
        found.append(state.streams.data.file)
    assert found[0] is None
    assert found[1] is not None
    assert all(map(torch.equal, *batches))


def test_every_page_of_the_rows_is_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is in no memory of the process: rows of two and a half pages."""
    n, page = 200, mmap.PAGESIZE
    np.arange(n * page * 5 // 2 // 4, dtype=np.float32).tofile(here / "rows")
    file = MappedFile(here / "rows")
    x_N = torch.from_numpy(np.frombuffer(file.content, np.float32).reshape(n, 1, 1, -1))
    y_N = torch.zeros(n, dtype=torch.int64)
    data = Data("d", x_N, y_N, n - 1, ("a", "b"), 1.0, "f", file=file)
    rows_SLB = torch.arange(0, n, 2).view(10, 1, 10)
    schedule = Schedule(0, [0], rows_SLB, None, steps=[10], per_pass=[10])
    selected, plain = list[Tensor](), Tensor.index_select
    monkeypatch.setattr(
        Tensor, "index_select", lambda self, dim, index: selected.append(self) or plain(self, dim, index)
    )
    ReadAhead(data, schedule, torch.device("cpu"))._read_rows(rows_SLB)
    starts = sorted((of.data_ptr() - x_N.data_ptr()) % (page * 5 // 2) for of in selected)
    assert starts == [0, page, 2 * page]
    assert all(of.stride() == (page * 5 // 2 // 4,) for of in selected)


@pytest.mark.parametrize("most", [None, 100])
def test_a_task_without_steps_reads_nothing(
    most: int | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = arrays()
    again(monkeypatch, most)
    none_SLB = torch.empty(0, 2, 8, dtype=torch.int64)
    none = Schedule(0, [0], none_SLB, None, steps=[0, 0], per_pass=[0, 0])
    with ReadAhead(suites.get(name).load(), none, torch.device("cpu")) as ahead:
        assert none.n_steps == 0
        ahead.before(0)


def test_pages_that_were_read_can_be_given_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.arange(2**22, dtype=np.uint8)
    (here / "file").write_bytes(content.tobytes())
    file = MappedFile(here / "file")
    array = np.frombuffer(file.content, np.uint8)
    before = mapped_bytes()
    assert array.sum(dtype=np.int64) == content.sum(dtype=np.int64)
    grown = mapped_bytes()
    file.release()
    assert mapped_bytes() >= grown
    monkeypatch.setattr("suites.mapped_file._MAPPED_BYTES", 0)
    file.release()
    if before:
        assert mapped_bytes() < grown - 2**21 < grown - before + grown
    assert np.array_equal(array, content)


def test_rows_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, order = np.random.default_rng(0).normal(size=(500, 7)), np.random.default_rng(1).permutation(500)
    monkeypatch.setattr("suites.mapped_file._BLOCK_BYTES", 1000)
    for most in ("1000000", "0"):
        monkeypatch.setenv("LETHE_IN_MEMORY", most)
        found = gathered(rows, order[:300])
        assert isinstance(found, np.memmap) is (most == "0")
        assert np.array_equal(found, rows[order[:300]])


def test_equal_inputs_are_found_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that differ in one value of few bits have other hashes; words of a row cannot be swapped."""
    monkeypatch.setattr("suites.mapped_file._BLOCK_BYTES", 640)
    x = np.zeros((4000, 1, 1, 5), dtype=np.float32)
    x[:, 0, 0, 0], x[:, 0, 0, 3] = np.arange(4000) % 50, np.arange(4000) // 50
    assert len(np.unique(portrait._hashes(x))) == 4000
    assert len(np.unique(portrait._hashes(np.concatenate([x, x[:100]])))) == 4000
    for dtype in (np.uint8, np.float32):
        swapped = np.array([[1, 0, 0, 0, 2, 0, 0, 0, 9], [2, 0, 0, 0, 1, 0, 0, 0, 9]], dtype=dtype)
        assert len(np.unique(portrait._hashes(swapped[:, None, None]))) == 2


def test_what_needs_rows_in_memory_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = images()
    again(monkeypatch, 100)
    with pytest.raises(UserError, match=r"is larger than memory, and tuning copies its training rows: raise"):
        without_tests(suites.get(name).load())
    with pytest.raises(UserError, match="larger than memory, and tune=head computes features in memory"):
        with_features(suites.get(name).load(), model_reference("cnn"), {}, "cpu", None)
    np.savez("rows.npz", x=drawn()[0], y=drawn()[1])
    with pytest.raises(UserError, match=r"is larger than memory, and \.npz is read whole: save it as"):
        suites.get("rows.npz")
    monkeypatch.setenv("LETHE_IN_MEMORY", "2GB")
    own_data._loaded.cache_clear()
    with pytest.raises(UserError, match="LETHE_IN_MEMORY=2GB is not a number of bytes: write it like"):
        suites.get(arrays()).load()


@pytest.mark.parametrize(
    ("lists", "why"),
    [
        ([[1.0, 2.0], [1.0]], "row 2: x has not 2 numbers, as the first row"),
        ([[1.0, 2.0], None], "row 2: x has not 2 numbers, as the first row"),
        ([[], []], "contains lists of null, not of numbers"),
        ([[1.0, 2.0], [None, 3.0]], "row 2: x has a missing number"),
        ([[1.0, 2.0], [float("inf"), 3.0]], "row 2: x has NaN or infinite values"),
        ([["a"], ["b"]], "contains lists of string, not of numbers"),
    ],
)
def test_lists_of_numbers_that_are_no_features_are_refused(lists: list[Any], why: str) -> None:
    import datasets

    datasets.Dataset.from_dict({"x": lists, "label": [0, 1]}).to_parquet("bad.parquet")
    with pytest.raises(UserError, match=why):
        suites.get("bad.parquet[image=x]").load()


def test_numbered_inputs_are_those_of_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    data = suites.get(arrays()).load()
    plain = _numbered(data)
    monkeypatch.setenv("LETHE_IN_MEMORY", "0")
    hashed = _numbered(data)
    assert len({*zip(plain.tolist(), hashed.tolist(), strict=True)}) == len({*plain.tolist()}) == N - 2


@pytest.mark.slow
def test_preparing_holds_blocks_of_the_rows_in_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tracemalloc, which counts the arrays of NumPy: of 51 MB of rows, and labels and tasks."""
    from safetensors.numpy import save_file

    n = 100_000
    x = np.random.default_rng(0).normal(size=(n, 128)).astype(np.float32)
    save_file({"x": x, "y": np.arange(n) % 4, "month": np.arange(n) % 3}, "many.safetensors")
    monkeypatch.setattr("suites.mapped_file._BLOCK_BYTES", 2**20)
    peaks = []
    for most in (None, 100):
        again(monkeypatch, most)
        tracemalloc.start()
        assert (own_data.loaded(parsed("many.safetensors[task=month]")).data.file is None) is (most is None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        monkeypatch.setenv("LETHE_CACHE", str(here / "other"))
    assert peaks[1] < n * 128 < 4 * n * 128 < peaks[0]
