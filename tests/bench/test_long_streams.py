"""Streams of many tasks: what is stored grows with the tasks, not with their square."""

from pathlib import Path

from bench.report.costs import large_data, long_stream
from bench.schema import differing_fields
from bench.train import run_group
from tests.perf.long_stream import cell, exponent, streamed

ABOUT = {"command": "made up", "at": "2026-01-01", "machine": "m", "python": "3", "packages": {"torch": "2"}}


def test_a_stopped_stream_continues_and_stores_what_is_new(tmp_path: Path) -> None:
    found = streamed(40, tmp_path, 30, 10)
    assert found["tasks_after_resume"] == 10
    assert not differing_fields(found["record"], run_group([cell(40, "diagonal")])[0])
    measured = found["record"]["test"]["measured"]
    assert measured == [[], *([t] for t in range(1, 40)), [*range(1, 41)]]
    early, late = (found["checkpoint_bytes"][n] for n in ("10", "30"))
    # The tensors of one task, and of each task losses, scores and four confusion counts.
    assert 0 < late - early < 20 * 1000
    assert found["record_bytes"] < 6000
    assert cell(40, "diagonal").key not in {path.name for path in (tmp_path / "checkpoints").iterdir()}


def test_the_document_shows_the_record_of_long_streams() -> None:
    seconds = {n: 1e-6 * n**2 for n in (10, 20, 40)}
    assert abs(exponent(seconds) - 2) < 1e-9
    scoring = {"all": {"seconds": {str(n): s for n, s in seconds.items()}, "exponent": 2.0}}
    record = ABOUT | {
        "tasks": 40, "memory": {"10": 300.4, "30": 301, "40": 302},
        "checkpoint_bytes": {"10": 5e4, "30": 6e4}, "resume_seconds": 0.2, "record_bytes": 7e3,
        "classes_bytes": 8e3, "report_seconds": 5, "report_bytes": 9e5, "scoring": scoring,
    }  # fmt: skip
    shown = long_stream(record)
    assert "| all | 0.00010 | 0.00040 | 0.0016 | 2.00 |" in shown
    for words in ("300 MiB of memory after 10 tasks, 302 MiB after 40", "50 kB and, after 30, 60 kB"):
        assert words in shown
    assert "0.2 s to resume after 30, with the same record" in shown


def test_the_document_shows_the_record_of_large_data() -> None:
    of = {"load_seconds": 1.0, "train_seconds": 20.0, "processor_seconds": 10.0, "peak_mib": 1500.4}
    about = ABOUT | {"rows": 1000, "features": 4, "tasks": 2, "times": 3, "strategy": "er", "bytes": 2e9}
    about |= {"settings": {"epochs": 1}, "prepare": {"seconds": 30}}
    ways = {
        "mapped": of,
        "memory": of | {"train_seconds": 16.0, "processor_seconds": 9.0, "peak_mib": 4000.0},
    }
    shown = large_data(about | {"ways": ways})
    assert "| mapped file | 100 (90%) | 50 (80%) | 1,500 | 1.0 |" in shown
    assert "| memory | 111 (100%) | 62 (100%) | 4,000 | 1.0 |" in shown
    assert "one pass of er, epochs=1: median of n = 3, with equal results" in shown
