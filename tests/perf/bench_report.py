"""Reading and reporting ten thousand cells, 10 suites x 50 strategies x 20 seeds: in 5 s and in a minute."""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.report import Layout, make_report, tables
from bench.report.across_suites import across
from bench.report.latex import latex
from bench.report.layout import DEFAULT
from bench.report.tables import in_markdown
from bench.results import Frames, load
from tests.many_cells import write_many


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("many") / "run")


@pytest.fixture(scope="module")
def frames(run: Path) -> Frames:
    return load(run)


def test_load(benchmark: BenchmarkFixture, run: Path) -> None:
    assert len(benchmark.pedantic(load, (run,), rounds=3).cells) == 10_000


@pytest.mark.parametrize("marks", [False, True], ids=["plain", "with tests"])
def test_tables(benchmark: BenchmarkFixture, frames: Frames, marks: bool) -> None:
    def make() -> str:
        made = tables(frames, None, Layout(marks=marks, origin=True))
        return in_markdown(made) + latex(made)

    assert "method-49" in benchmark.pedantic(make, rounds=3)


def test_across(benchmark: BenchmarkFixture, frames: Frames) -> None:
    assert len(benchmark.pedantic(across, (frames, DEFAULT), rounds=1).numbers) == 50 * len(DEFAULT)


def test_report(benchmark: BenchmarkFixture, frames: Frames, tmp_path: Path) -> None:
    folder = benchmark.pedantic(make_report, (frames, tmp_path / "report"), rounds=1)
    assert len(list((folder / "figures").glob("*.png"))) == 10 * 7 + 1
