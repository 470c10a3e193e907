"""Records that are made again and compared, and the list of equivalent code."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import suites
from bench.plan import Request, code_of, one_cell
from bench.runner import (
    Options,
    Sample,
    Verified,
    check_sample,
    compare_sample,
    make_again,
    resolve_for,
    sample_cells,
)
from bench.schema import Equivalence, Equivalences, Fields, cell_key
from bench.store import RunReader, enter_equivalences, equivalences_path, pack_run, read_equivalences
from lethe.testing import TOY, blobs
from suites.errors import UserError
from tests.conftest import Command, Refuses, process, ran, tree, unchecked

QUIET = Options(jobs=1, quiet=True)
ASKED = Request("toy", ("finetune", "er"), ("class", "domain"), (0, 1, 2), {"epochs": "1"})

(ONE,) = Request("toy", ("er",), settings={"epochs": "1"}).cells()
KEY, TITLE = ONE.key, ONE.title


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two strategies, two scenarios and three seeds, with records of an earlier version."""
    ran(tmp_path / "run", ASKED)
    rewrite(tmp_path / "run", lambda record: record.update(schema=2) or record.pop("made_by"))
    return tmp_path / "run"


def rewrite(folder: Path, change: Callable[[Fields], object]) -> None:
    """Change every record of a run."""
    for path in (folder / "cells").glob("*.jsonl"):
        records = [json.loads(line) for line in unchecked(path.read_text()).splitlines()]
        for record in records:
            change(record)
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def sampled(run: Path, per_part: int = 1, device: str = "cpu", minutes: float | None = None) -> Sample:
    sample = sample_cells(RunReader(run), per_part)
    check_sample(sample, Options(device=device, jobs=1), minutes)
    return sample


def verified(run: Path) -> Verified:
    sample = sampled(run)
    make_again(sample, run.parent / "again", QUIET, "test")
    return compare_sample(sample, run.parent / "again")


def entry(before: str, now: str, strategy: str = "er", cells: tuple[str, ...] = ("0" * 20,)) -> Equivalence:
    return Equivalence(
        strategy=strategy, suite="toy", model="mlp", before=before, now=now, cells=list(cells),
        before_commit="", now_commit="", at="2026-01-01T00:00:00Z",
    )  # fmt: skip


def test_equivalence_is_transitive_symmetric_and_by_strategy(tmp_path: Path) -> None:
    entries = [entry("", "b"), entry("b", "c"), entry("d", "c"), entry("", "z", "ewc")]
    found = Equivalences(schema=1, entries=entries)
    assert all(found.same("er", "toy", "mlp", a, b) for a in ("", "b", "c", "d") for b in ("", "b", "c", "d"))
    assert not found.same("er", "toy", "mlp", "", "z")
    assert not found.same("er", "toy", "cnn", "b", "c")
    assert found.same("agem", "toy", "mlp", "x", "x")


def test_a_folder_and_its_pack_share_one_list(tmp_path: Path) -> None:
    folder, packed = tmp_path / "first.v1", tmp_path / "first.v1.lethe.gz"
    folder.mkdir()
    assert read_equivalences(RunReader(folder)).entries == []
    path = enter_equivalences(RunReader(folder), [entry("", "b"), entry("a", "b")])
    assert path == tmp_path / "first.v1.equivalent.json"
    folder.rmdir()
    packed.touch()
    assert equivalences_path(RunReader(folder)) == equivalences_path(RunReader(packed)) == path
    assert enter_equivalences(RunReader(packed), [entry("", "b")]) is None  # nothing new

    def entered(*found: Equivalence, refuted: tuple[tuple[str, str, str, str], ...] = ()) -> list[str]:
        enter_equivalences(RunReader(packed), found, refuted)
        return [f"{e.before}-{e.now}{e.cells[0][0]}" for e in read_equivalences(RunReader(packed)).entries]

    assert entered(entry("", "c", cells=("1" * 20,))) == [
        "-c1",
        "a-b0",
    ]  # the latest entry for the same records
    assert entered(entry("", "c", cells=("2" * 20,))) == ["-c2", "a-b0"]
    assert entered(refuted=(("er", "toy", "mlp", ""), ("er", "toy", "mlp", "z"))) == ["a-b0"]
    path.write_text('{"schema":1,"entries":[{"strategy":"er"}]}')
    with pytest.raises(UserError, match=r"equivalent.json cannot be read: entries\[0\].suite is missing"):
        read_equivalences(RunReader(packed))


def test_the_sample_has_every_strategy_and_scenario_chosen_by_hash(run: Path) -> None:
    sample = sampled(run)
    specs = sorted(ASKED.cells(), key=lambda s: hashlib.sha256(s.key.encode()).hexdigest(), reverse=True)
    lowest = {(spec.strategy, spec.scenario): spec.key for spec in specs}
    assert {(c.spec.strategy, c.spec.scenario): c.spec.key for c in sample.cells} == lowest
    assert len(sampled(run, 2).cells) == 8
    assert [c.spec.strategy for c in sample_cells(RunReader(run), 9, ["er"]).cells] == ["er"] * 6
    with pytest.raises(UserError, match="has no cells of ewc"):
        sample_cells(RunReader(run), 1, ["ewc"])
    # Seeds are grouped as they ran; the time is estimated from their records.
    assert sorted(len(group) for group in sampled(run, 3).groups) == [3, 3, 3, 3]
    rewrite(run, lambda r: r["timings"].update(train_seconds=50.0, evaluation_seconds=10.0, lanes=3))
    assert sampled(run, 3).seconds(jobs=2) == pytest.approx(4 * 60 / 2)
    assert sampled(run, 1).seconds(jobs=1) == pytest.approx(4 * 60 * (0.3 + 0.7 / 3))
    assert "4 of 12 cells, at most 1 of each of 4 combinations" in sample.statement(1)
    # Whole strategies, the fastest first: er takes less time than finetune here.
    rewrite(run, lambda r: r["timings"].update(train_seconds=20.0 if r["spec"]["strategy"] == "er" else 50.0))
    each = 0.3 + 0.7 / 3
    for minutes, left_out in ((each, {"finetune"}), (0.9 * each, {"finetune", "er"}), (3.1 * each, set())):
        limited = sampled(run, minutes=minutes)
        assert {c.spec.strategy for c in limited.cells if c.spec.key in limited.not_run} == left_out
    assert set(sampled(run, minutes=0.5).not_run.values()) == {"beyond the 0.5 minutes asked for"}


def test_equal_records_make_their_code_equivalent_and_are_not_changed(run: Path) -> None:
    assert "12 cells" in resolve_for([ASKED], run, QUIET).refusal
    packed = pack_run(run)
    content = packed.read_bytes()
    sample = sampled(packed)
    make_again(sample, run.parent / "again", QUIET, "test")
    found = compare_sample(sample, run.parent / "again")
    assert (len(found.equal), found.differing, found.not_run) == (4, [], [])
    assert packed.read_bytes() == content
    assert found.path == run.parent / "run.equivalent.json"
    entries = read_equivalences(RunReader(run))
    assert entries == read_equivalences(RunReader(packed))
    for name in ("finetune", "er"):
        today = code_of(one_cell("toy", name).as_record()).fingerprint
        assert entries.same(name, "toy", "mlp", "", today)
        assert not entries.same(name, "toy", "cnn", "", today)
        (own,) = (e for e in entries.entries if e.strategy == name)
        assert sorted(own.cells) == sorted(c.spec.key for c in sample.cells if c.spec.strategy == name)
    assert found.lines()[0].startswith(
        "4 cells equal bit for bit, 0 differ, 0 not made again; equal throughout: 4 of 4"
    )
    # No cell of the run is stale now, not even those that were not made again.
    plan = resolve_for([ASKED], run, QUIET)
    assert (plan.refusal, len(plan.existing)) == ("", 12)
    # A second verification runs nothing; records of the current code need no entry.
    times = [r["written"] for r in RunReader(run.parent / "again").records()]
    assert [e.now for e in verified(run).equivalent] == [e.now for e in found.equivalent] != []
    assert [r["written"] for r in RunReader(run.parent / "again").records()] == times
    assert verified(run.parent / "again").equivalent == []


def test_differing_cells_are_listed_with_their_fields_and_refute_equivalence(run: Path) -> None:
    (wrong,) = (c.spec for c in sampled(run).cells if (c.spec.strategy, c.spec.scenario) == ("er", "domain"))

    def change(record: Fields) -> None:
        if record["key"] == wrong.key:
            record["test"]["right"][1][0] -= 1
            record["loss"][1] += 1e-9

    assert len(verified(run).equivalent) == 2  # later er's entry is refuted and removed
    rewrite(run, change)
    found = verified(run)
    assert [(c.cell.spec.key, c.differing) for c in found.differing] == [(wrong.key, ("loss", "test"))]
    assert [e.strategy for e in found.equivalent] == ["finetune"]
    assert [e.strategy for e in read_equivalences(RunReader(run)).entries] == ["finetune"]
    assert found.lines()[0].startswith(f"differs: {wrong.title} ({wrong.key}) in loss, test; loss[1] was ")
    assert "3 cells equal bit for bit, 1 differ" in found.lines()[1]


def test_code_that_was_edited_in_between_is_not_equivalent(run: Path) -> None:
    sample, again = sampled(run), run.parent / "again"
    make_again(sample, again, QUIET, "test")
    (one, *_) = (c.spec.key for c in sample.cells if c.spec.strategy == "er")
    rewrite(again, lambda r: r["made_by"].update(code="0" * 20) if r["key"] == one else None)
    found = compare_sample(sample, again)
    assert (len(found.equal), [e.strategy for e in found.equivalent]) == (4, ["finetune"])


def test_records_made_again_by_other_code_are_made_once_more(run: Path) -> None:
    verified(run)
    again = run.parent / "again"
    rewrite(again, lambda r: (r["made_by"].update(code="0" * 20), r["test"]["right"][1].reverse()))
    assert [len(verified(run).differing), len(RunReader(again).records())] == [0, 4]


def test_cells_that_cannot_be_made_again_have_a_reason(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (reason,) = set(sampled(run, device="cuda").not_run.values())
    assert reason.startswith("it was made on cpu (")
    assert reason.endswith(", and equals nothing made on cuda")

    def gone(record: Fields) -> None:
        if record["spec"]["strategy"] == "er":
            record["spec"]["hyper"]["gone"] = 1
            record["key"] = cell_key(record["spec"])

    rewrite(run, gone)
    (reason,) = set(sampled(run).not_run.values())
    assert reason.startswith("er is not the strategy of the record: ")
    found = verified(run)
    assert [e.strategy for e in found.equivalent] == ["finetune"]
    assert found.lines()[0].startswith("not made again: toy class er")
    other = replace(TOY, load=lambda: replace(blobs(), fingerprint="other"))
    monkeypatch.setitem(suites.REGISTRY.entered, "toy", other)
    reasons = set(sampled(run).not_run.values())
    assert reasons == {"the data of toy has fingerprint other, and the run blobs-4-0", reason}
    found = verified(run)
    assert (found.equal, found.equivalent, found.path) == ([], [], None)
    assert "4 not made again; equal throughout: 0 of 4" in found.lines()[-1]


@pytest.mark.slow
def test_lethe_verify_has_a_dry_run_and_needs_a_table_or_records() -> None:
    done = process("verify --records results/reference/digits-classes --dry-run")
    assert done.returncode == 0
    first, *cells = done.stdout.splitlines()
    assert first.startswith("sample of results/reference/digits-classes.lethe.gz: 3 of 9 cells, ")
    names = ("er", "ewc", "finetune")
    assert [line.split()[:4] for line in cells] == [["again", "digits", "class", n] for n in names]
    said = "lethe: choose a published table, or a run with --records; see lethe verify --help\n"
    assert process("verify").stderr == said


def test_lethe_rerun_makes_one_cell_again_and_compares_it(
    run: Path, command: Command, refuses: Refuses
) -> None:
    before = tree(run.parent)
    packed = pack_run(run)
    for folder in (run, packed):
        assert command(f"rerun {folder} {KEY[:8]}")[:2] == (0, f"equal bit for bit: {TITLE} ({KEY})\n")
    assert {k: v for k, v in tree(run.parent).items() if k != packed.name} == before
    rewrite(run, lambda record: record["loss"].__setitem__(0, 0.5) if record["key"] == KEY else None)
    code, out, _ = command(f"rerun {run} {KEY}")
    assert code == 1
    assert out.startswith(f"differs: {TITLE} ({KEY}) in loss; loss[0] was 0.5 and is ")
    assert out.endswith("; its record is stale: made before Lethe recorded its code\n")
    refuses("er/0 could be", f"rerun {run} er/0")
    refuses("has no cell er/7; it has", f"rerun {run} er/7")
    rewrite(run, lambda record: record.update(status="skipped", reason="so"))
    refuses(f"{TITLE} did not end with numbers", f"rerun {run} {KEY}")
