"""Every number in a document comes from a committed record."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report.embed import _BLOCK, _FIGURE, main
from bench.store import Run

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_are_what_the_records_say(path: Path) -> None:
    assert main(["--check", str(path)]) == 0


def test_a_stale_table_is_seen_and_renewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ROOT / "results" / "reference" / "digits"
    path = tmp_path / "d.md"
    path.write_text(f"a\n<!-- lethe:table {run} class acc -->\nold\n<!-- lethe:end -->\nz\n")
    assert main(["--check", str(path)]) == 1
    assert "make docs" in capsys.readouterr().err
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    text = path.read_text()
    assert text.startswith("a\n")
    assert text.endswith("\nz\n")
    assert "| finetune | 10 |" in text
    assert "old" not in text


def test_documents_name_tables_and_figures() -> None:
    text = "".join(p.read_text() for p in DOCUMENTS)
    assert len(_BLOCK.findall(text)) >= 2
    figures = _FIGURE.findall(text)
    assert figures
    assert all((ROOT / words.split()[-1]).is_file() for words in figures)


RUNS = sorted(path.parent.name for path in (ROOT / "results" / "reference").glob("*/run.json"))
STARTED = {"three-types-split-mnist"}
"""Runs that go on: what is missing of them is told where they are shown, as not run."""


@pytest.mark.parametrize("name", RUNS)
def test_reference_records_are_sound(name: str) -> None:
    """Every cell of the experiment is there, done or skipped with a reason, and named after its own spec."""
    run = Run(ROOT / "results" / "reference" / name)
    records = run.records()
    assert not run.set_aside
    found, planned = {r["key"] for r in records}, set(run.manifest()["cells"])
    assert found == planned if name not in STARTED else found <= planned
    assert {r["status"] for r in records} <= {"done", "skipped"}
    assert "done" in {r["status"] for r in records}
