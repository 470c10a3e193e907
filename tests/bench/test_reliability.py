"""The injection of faults, in its smallest form; ``make faults`` injects thousands."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import files
from suites import published_data
from tests.faults import ROOT, Faults, Tally

SIZES = {"points": 2, "full": 1, "together": 1, "bits": 8, "blocks": 0, "cuts": 4}


def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> Faults:
    """Return faults to inject; what they replace in this process is restored."""
    monkeypatch.setattr(published_data, "_read", published_data._read)
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "own-cache"))
    return Faults(tmp_path, SIZES | sizes, 0)


@pytest.mark.slow
def test_faults_lose_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = faults(tmp_path, monkeypatch)
    found.points()
    found.files()
    counts = {kind: (tally.lost, tally.changed) for kind, tally in found.tallies.items()}
    assert counts == dict.fromkeys(counts, (0, 0))
    assert len(counts) == 2 + 8 + 4
    assert sum(tally.injected for tally in found.tallies.values()) >= 14


@pytest.mark.slow
def test_without_checksums_flipped_bits_are_found_to_change_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "checksum", lambda content: "00000000")
    monkeypatch.setattr(files, "file_crc32", lambda file: 0)
    targets = Faults.targets
    monkeypatch.setattr(Faults, "targets", lambda self: [t for t in targets(self) if t[0] == "saved models"])
    found = faults(tmp_path, monkeypatch, bits=12, cuts=0)
    found.files()
    assert found.tallies["flipped bit: saved models"].changed > 0


def test_a_lost_or_changed_outcome_is_counted_with_its_place() -> None:
    tally = Tally()
    tally.note([], [], "here")
    tally.note(["no records of a"], [], "there")
    assert (tally.injected, tally.lost, tally.changed, tally.first) == (
        2, 1, 0, ["there: ['no records of a']"]
    )  # fmt: skip


@pytest.mark.slow
def test_faults_are_injected_by_a_command() -> None:
    """In a process of its own nothing else has registered the suite."""
    words = [sys.executable, "-m", "tests.faults", "--share", "0.01", "--only", "points"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("0 lost,     0 changed") == 2
