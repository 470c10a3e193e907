"""``lethe history``: steps are found where they are, and not where there is noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.report import history_steps, write_history
from bench.results import Line, history
from bench.results.over_revisions import PENALTY, SPEED, Revision, Value, step_ends
from bench.store import pack_run
from lethe.testing import record, toy_run
from tests.conftest import Command, Refuses, refused
from tests.scratch_repository import commit, git


def line(means: list[float], error: float = 1.0, score: str = "acc") -> Line:
    found = Line("toy", "class", "er", score)
    for i, mean in enumerate(means):
        found.values[Revision(f"r{i}", "", f"2026-01-{i + 1:02}")] = Value(mean, error, 5)
    return found


def test_steps_are_where_the_level_changes() -> None:
    steps = line([90, 91, 90, 80, 81, 80, 80, 95, 94]).steps
    assert [(s.after.label, s.at.label) for s in steps] == [("r2", "r3"), ("r6", "r7")]
    assert [(s.before, s.now) for s in steps] == [
        (pytest.approx(271 / 3), 80.25),
        (80.25, pytest.approx(94.5)),
    ]
    assert line([90, 91, 90, 89]).steps == []
    assert len(line([90, 91, 90, 89], error=0.0).steps) == 3  # exact values: every difference is one
    assert line([90.0]).steps == []
    words = list(history_steps([line([0.2] * 3 + [0.4] * 3, 0.01, SPEED)]))
    assert words == ["between r2 and r3 (2026-01-04):", f"  worse: toy class er {SPEED}: 0.20 -> 0.40"]


def test_a_step_of_segments_needs_the_penalty() -> None:
    """Between levels of m and n values, d apart, the sum of squares falls by d² m n / (m + n)."""
    m, n = 4, 6
    least = np.sqrt(PENALTY * (m + n) / (m * n))
    for share, ends in ((0.99, [10]), (1.01, [4, 10])):
        series = np.array([0.0] * m + [share * least] * n)
        assert step_ends(series, 1.0) == ends


@pytest.mark.slow
def test_noise_is_no_step() -> None:
    draw = np.random.default_rng(0)
    for n in (3, 10, 30):
        alarms = sum(len(step_ends(draw.normal(size=n), 1.0)) > 1 for _ in range(300))
        assert alarms / 300 <= 0.05


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a packed run that changed twice."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    for number, right in enumerate((50, 51, 80)):
        folder = tmp_path / f"run-{number}"
        last = ([[50, 50], [90, 50], [right + seed, 90]] for seed in range(3))
        toy_run(folder, {("finetune", seed): record(rows) for seed, rows in enumerate(last)})
        (tmp_path / "run.lethe.gz").unlink(missing_ok=True)
        pack_run(folder, tmp_path / "run.lethe.gz")
        (tmp_path / "number").write_text(str(number))
        commit(tmp_path, f"number {number}", "run.lethe.gz", "number")
    return tmp_path


@pytest.mark.slow
def test_a_tracked_pack_is_read_at_every_commit(repository: Path, command: Command, refuses: Refuses) -> None:
    commits = git(repository, "log", "--reverse", "--format=%h %s", "--", "run.lethe.gz").splitlines()
    (found,) = history(["run.lethe.gz"])
    assert [r.label[:7] for r in found.values] == [c.split()[0] for c in commits]
    means = [value.mean for value in found.values.values()]
    assert means == [pytest.approx(of) for of in (70.5, 71.0, 85.5)]  # (right + 1 + 90) / 2
    by_folders = history([f"run-{number}" for number in range(3)])[0]
    assert sorted(value.mean for value in by_folders.values.values()) == means
    code, out, _ = command("history run.lethe.gz --json")
    (row,) = json.loads(out)["lines"]
    assert (code, [v["mean"] for v in row["values"]]) == (0, means)
    assert row["steps"][-1]["at"]["label"] == list(found.values)[-1].label
    code, out, _ = command("history run.lethe.gz --all --out shown")
    assert "1 row, 1 of them with a step" in out
    assert "number 2" in out  # the commit of the step
    assert (repository / "shown" / "history-toy-class-acc.csv").read_text().count("\n") == len(means) + 1
    code, _, _ = command("report run-2 --history run.lethe.gz --scores acc --formats svg")
    page = (repository / "run-2" / "report" / "index.html").read_text()
    of_page = page[page.index('id="history"') :]
    assert code == 0
    assert "<td>70.50</td><td>85.50</td>" in of_page  # first and last
    assert "number 2" in of_page
    assert of_page.count("<figure") == 1
    refuses("unknown score 'accc'", "history run.lethe.gz --score accc")
    refuses("there is nothing to show", "history run.lethe.gz -s er")


def test_json_of_perf_is_read(tmp_path: Path) -> None:
    paths = []
    for day, ratio in ((2, 0.40), (1, 0.30), (3, 0.41)):
        row = {"setup": {"suite": "digits", "scenario": "class", "strategy": "er", "lanes": 8}}
        row["ratio"] = [ratio, ratio - 0.01, ratio + 0.01]
        paths.append(tmp_path / f"day-{day}.json")
        paths[-1].write_text(json.dumps({"measured": [row], "at": f"2026-01-0{day}", "git": ""}))
    (found,) = history(paths)
    assert [r.label for r in found.values] == ["day-1", "day-2", "day-3"]  # by time
    assert [s.at.label for s in found.steps] == ["day-2"]
    written = write_history([found], tmp_path / "out")
    assert [path.name for path in written] == ["history.md", "history-digits-class-step_bare_loop.png"]
    paths[0].write_text("{}")
    refused("is not what lethe perf --json prints", history, paths)
