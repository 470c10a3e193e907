"""Stale cells (their code or data has changed): which are run again, what the user chooses, nothing lost."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import suites
from bench.export import find
from bench.plan import (
    Checkpoint,
    Present,
    RecordHead,
    Request,
    ResolvedPlan,
    Staleness,
    code as code_of_cells,
    code_of,
    resolve,
    source_files,
)
from bench.runner import one_group
from bench.schema import Equivalence, Equivalences
from bench.store import RunReader, SavedModels, enter_equivalences, n_superseded
from lethe.testing import TOY, outcome, registered
from tests.conftest import Command, Refuses, ran, refused, tree, unchecked

MINE = """
from lethe import Strategy

class Mine(Strategy):
    def loss(self, batch):
        return 1.0 * super().loss(batch)
"""
SUITE = """
from dataclasses import replace
from suites.digits import DIGITS, digits
from suites.sources import fingerprint

def load():
    data = digits()
    y_N = data.y_N.clone()
    y_N[:ROWS] = 3
    return replace(data, y_N=y_N, fingerprint=fingerprint(data.x_N, y_N, data.n_train))

OWN = replace(DIGITS, name="own", load=load)
"""
SMALL = {"epochs": "1", "rows_per_class": "12"}
BUILT_IN = Request("digits", ("finetune", "er", "icarl"), seeds=(0, 1), settings=SMALL)


def mine(folder: Path, seeds: tuple[int, ...] = (0, 1), text: str = MINE) -> Request:
    """Write a user's method and return a request for it."""
    (folder / "mine.py").write_text(text)
    return Request("digits", (f"{folder / 'mine.py'}:Mine",), seeds=seeds, settings=SMALL)


def superseded(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's superseded records and confusion counts."""
    paths = sorted((run / "superseded").glob("*"))
    return [json.loads(line) for path in paths for line in unchecked(path.read_text()).splitlines()]


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that simulates an edit of one of Lethe's source files."""
    read = source_files._content

    def edited(name: str) -> None:
        path = source_files.ROOT / name
        assert path.is_file()
        changed = lambda p: read(p) + b"\nedited = 1\n" * (p == path)  # noqa: E731
        monkeypatch.setattr(source_files, "_content", changed)
        forget()

    yield edited
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Clear cached sources, as in a new process."""
    source_files._files_of_module.cache_clear()
    source_files._source.cache_clear()
    code_of_cells._code_of_modules.cache_clear()


def test_cells_of_an_edited_method_are_run_again_and_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    ran(run, mine(tmp_path))
    before = RunReader(run).records()
    ran(run, mine(tmp_path, text=MINE + "\n# a comment changes nothing\n"))
    assert RunReader(run).records() == before
    changed = MINE.replace("1.0 *", "-1.0 *")
    assert ran(run, mine(tmp_path, text=changed), quiet=False).counts == {"done": 2}
    said = "2 cells are stale (mine.py changed) and run again; their records are moved to"
    assert f"{said} {run / 'superseded'}" in capsys.readouterr().err.splitlines()
    after = RunReader(run).records()
    assert all(a["test"] != b["test"] for a, b in zip(after, before, strict=True))
    assert [r for r in superseded(run) if "spec" in r] == before
    assert [r["key"] for r in superseded(run) if "units" in r] == [r["key"] for r in before]
    assert ran(run, mine(tmp_path, (0, 1, 2, 3), changed)).counts == {"done": 2}
    assert len({r["made_by"]["code"] for r in RunReader(run).records()}) == 1
    assert RunReader(run).manifest().code[after[0]["made_by"]["code"]].keys() >= {"mine.py"}


def test_equal_records_are_not_stored_as_superseded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran(run, mine(tmp_path))
    ran(run, mine(tmp_path, text=MINE.replace("1.0 * super()", "super()")))
    assert not superseded(run)
    ran(run, mine(tmp_path), force=True)
    assert not superseded(run)


@pytest.mark.slow
def test_after_a_change_of_lethe_the_user_must_choose_rerun_or_keep(
    tmp_path: Path, edit: Any, command: Command, refuses: Refuses
) -> None:
    run = tmp_path / "run"
    line = f"run digits -s finetune -s er -s icarl --seeds 2 --set epochs=1 --out {run}"
    line += " --set rows_per_class=12"
    assert command(line)[0] == 0
    before = {r["key"]: r for r in RunReader(run).records()}
    edit("strategies/parts/replay.py")
    manifest = (run / "run.json").read_bytes()
    why = "are stale (strategies/parts/replay.py changed): --stale rerun runs"
    code, _, err = command(line)
    assert (code, err.count("\n")) == (2, 1)
    assert re.match(rf"lethe: .*2 cells, which took \d+ s, {re.escape(why)}", err)
    for more in ((), ("--dry-run",)):
        refuses("value for --stale", line, "--stale", "perhaps", *more)
    assert (run / "run.json").read_bytes() == manifest
    code, out, _ = command(f"{line} --dry-run")
    stale = "stale     digits class er seed 1: strategies/parts/replay.py changed"
    assert (code, stale in out, "6 cells, 0 to run" in out) == (0, True, True)
    code, out, _ = command(f"status {run}")
    assert out.splitlines()[0] == f"{run}: 6 done; 2 are stale"
    assert "stale     digits class er seed 0 and 1 more: strategies/parts/replay.py changed" in out
    assert "finetune" not in out
    code, out, err = command(f"{line} --stale keep")
    assert (code, "nothing to do" in out) == (0, True)
    assert f"2 cells are stale and left as they are; lethe status {run} lists them" in err
    assert {r["key"]: r for r in RunReader(run).records()} == before
    assert "now: 2 done" in command(f"{line} --stale rerun")[1]
    after = {r["key"]: r for r in RunReader(run).records()}
    assert {k: outcome(r) for k, r in after.items()} == {k: outcome(r) for k, r in before.items()}
    assert sum(after[k]["made_by"] != before[k]["made_by"] for k in before) == 2
    assert "nothing to do" in command(line)[1]


def test_a_cell_whose_code_cannot_be_compared_has_a_reason() -> None:
    now = code_of({"strategy": "er", "suite": "digits", "model": "mlp"}).files
    staleness = Staleness({"before": {**now, "helper.py": "1"}}, Equivalences.empty(), lambda suite: None)
    spec = {"strategy": "er", "suite": "digits", "model": "mlp"}
    for strategy, says in (
        ("er", "helper.py cannot be found"),
        ("nowhere.py:Mine", "its code cannot be compared: cannot read nowhere.py: No such file or directory"),
        ("erx", "its code cannot be compared: unknown strategy 'erx'; did you mean er"),
    ):
        change = staleness.of(spec | {"strategy": strategy}, RecordHead("done", "before"))
        assert change is not None
        assert change.reason.startswith(says)


def heads(request: Request, **changes: Any) -> dict[str, RecordHead]:
    return {
        spec.key: replace(
            RecordHead("done", code_of(vars(spec)).fingerprint, "d1", seconds=3600.0), **changes
        )
        for spec in request.cells()
    }


def test_records_of_earlier_versions_are_stale() -> None:
    present = Present(folder=Path("there"), records=heads(BUILT_IN, code=""))
    plan = resolve([BUILT_IN], present)
    assert plan.refusal == (
        "there: 6 cells, which took 6.0 h, are stale (made before Lethe recorded its code): "
        "--stale rerun runs such cells again, --stale keep leaves them as they are; "
        "lethe verify --records there checks whether today's code makes the same records"
    )
    assert plan.to_run == []
    assert resolve([BUILT_IN], present, stale="rerun").to_run == BUILT_IN.cells()
    assert ResolvedPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("status", "runs"), [("done", 0), ("diverged", 0), ("failed", 6), ("skipped", 6)])
def test_stale_cells_without_results_are_run_again_without_a_choice(status: str, runs: int) -> None:
    plan = resolve([BUILT_IN], Present(records=heads(BUILT_IN, status=status, code="other")))
    assert (len(plan.to_run), bool(plan.refusal)) == (runs, runs == 0)
    present = Present(records=heads(BUILT_IN, status=status, code="x"))
    assert not resolve([BUILT_IN], present, stale="keep").to_run


def test_records_of_equivalent_code_are_not_stale(tmp_path: Path) -> None:
    er = Request("digits", ("er",))
    ((key, head),) = heads(er).items()
    entry = Equivalence(
        strategy="er", suite="digits", model="mlp", before="old", now=head.code, cells=[key],
        before_commit="", now_commit="", at="",
    )  # fmt: skip
    present = Present(records=heads(er, code="old"))
    assert resolve([er], present).stale == {key: "made by code that its run does not name"}
    same = Equivalences(schema=1, entries=[entry])
    plan = resolve([er], replace(present, equivalences=same))
    assert (plan.stale, plan.existing) == ({}, {key: "done"})
    run = tmp_path / "run"
    ran(run, Request("digits", ("er",), settings=SMALL))
    path = next((run / "cells").iterdir())
    path.write_text(unchecked(path.read_text()).replace(head.code, "old"))
    refused("made by code that its run does not name", ran, run, Request("digits", ("er",), settings=SMALL))
    enter_equivalences(RunReader(run), [entry])
    assert ran(run, Request("digits", ("er",), settings=SMALL)).counts == {}


def test_done_cells_of_changed_data_are_stale() -> None:
    def plan(suite: str, **how: Any) -> ResolvedPlan:
        asked = Request(suite, ("er",))
        present = Present(records=heads(asked), data={suite: "d1"})
        return resolve([asked], present, fingerprint=lambda name: "d2", **how)

    assert "are stale (the data of digits changed): --stale rerun" in plan("digits").refusal
    assert len(plan("digits", stale="rerun").to_run) == 1
    with registered(replace(TOY, name="users")) as users:
        suites.REGISTRY.enter(users.name, users, __name__)  # as a file of the user's
        assert (len(plan("users").to_run), plan("users").refusal) == (1, "")
    fresh = resolve([BUILT_IN], Present(data={"digits": "d1"}), fingerprint=lambda name: "d2")
    assert "records (the data of digits changed)" in fresh.refusal


def test_cells_of_a_changed_pretrained_model_are_run_again() -> None:
    asked = Request("toy-text", ("finetune",), settings={"tune": "head"})
    present = Present(records=heads(asked, model="m1"))
    for now, runs in (("m1", 0), (None, 0), ("m2", 1)):
        plan = resolve([asked], present, model_fingerprint=lambda name, now=now: now)
        assert (len(plan.to_run), plan.refusal) == (runs, "")


def test_cells_of_a_user_s_suite_with_changed_data_are_run_again(tmp_path: Path, command: Command) -> None:
    path, run = tmp_path / "suite.py", tmp_path / "run"
    data = tmp_path / "rows.txt"
    path.write_text(f"from pathlib import Path\nROWS = int(Path({str(data)!r}).read_text())\n{SUITE}")
    asked = Request(f"{path}:OWN", ("finetune",), settings=SMALL)
    data.write_text("0")
    ran(run, asked)
    assert ran(run, asked).counts == {}
    data.write_text("59")
    path.write_text(path.read_text() + "#")  # so that this process imports the file again
    out = command(f"status {run} --trust")[1]
    assert out.splitlines()[0] == f"{run}: 1 done; 1 are stale"
    assert f"the data of {path}:OWN changed" in out
    assert ran(run, asked).counts == {"done": 1}
    assert len([r for r in superseded(run) if "spec" in r]) == 1
    (record,) = RunReader(run).records()
    assert RunReader(run).manifest().data == {f"{path}:OWN": record["data"]["fingerprint"]}


def test_checkpoints_of_other_code_or_data_are_not_used(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    asked = Request("digits", ("er",), settings=SMALL)
    ((key, head),) = heads(asked).items()
    for code, data, done in ((head.code, "d1", 2), ("", "d1", 0), (head.code, "d0", 0)):
        present = Present(checkpoints={key: Checkpoint(2, code, data)})
        plan = resolve([asked], present, fingerprint=lambda suite: "d1")
        assert [group.tasks_done for group in plan.groups] == [done]
        assert plan.restarted == (() if done else (key,))
    run, edited = tmp_path / "run", MINE.replace("1.0 *", "-1.0 *")
    interrupt(run, mine(tmp_path), monkeypatch)
    said = "from the beginning, as their checkpoints have other code or data: 1 cells"
    ran(run, mine(tmp_path, (0,), edited), quiet=False)
    assert said in capsys.readouterr().err.splitlines()
    ran(tmp_path / "whole", mine(tmp_path, (0,), edited))
    again, whole = (list(map(outcome, RunReader(of).records())) for of in (run, tmp_path / "whole"))
    assert again == whole


def interrupt(run: Path, asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a run of one cell after its second task."""
    original = one_group.run_group

    def stopping(specs: Any, *, progress: Any, **options: Any) -> Any:
        def stop(done: int, tasks: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        return original(specs, progress=stop, **options)

    with monkeypatch.context() as patch:
        patch.setattr(one_group, "run_group", stopping)
        with pytest.raises(KeyboardInterrupt):
            ran(run, replace(asked, seeds=(0,)))
    assert RunReader(run).checkpoints.headers()


def test_a_saved_model_of_other_code_than_its_record_is_not_exported(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran(run, mine(tmp_path, (0,)), keep_models="last")
    ((key, saved),) = [(r["key"], r) for r in RunReader(run).records()]
    assert SavedModels(run).header(key, 5).code == saved["made_by"]["code"]
    assert find(run, key) == key
    before = tree(run / "models")
    ran(run, mine(tmp_path, (0,), MINE.replace("1.0 *", "-1.0 *")))
    refused("saved no model of .*: run it again with --keep-models last --force", find, run, key)
    (aside,) = (run / "superseded" / "models").iterdir()
    assert tree(aside) == before
    assert n_superseded(run) == 1
    (aside / key).rename(run / "models" / key)  # as an unfinished run leaves it
    refused("from other code than its record: run it again with --keep-models last --force", find, run, key)
    assert ran(run, mine(tmp_path, (0,)), keep_models="last").counts == {"done": 1}
    assert SavedModels(run).cells() == [find(run, key)]


def test_pack_says_that_it_leaves_out_superseded_records(tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    ran(run, mine(tmp_path))
    ran(run, mine(tmp_path, text=MINE.replace("1.0 *", "-1.0 *")))
    assert command(f"pack {run}")[1].rstrip().endswith("; 2 superseded records are left out")
