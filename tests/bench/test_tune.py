"""Tuning: what is tried, what is chosen, that no test row is read, and that it continues as it began."""

import inspect
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import lethe
import suites
from bench import schema
from bench.plan import Budget, Request
from bench.report import Layout, tables
from bench.report.plot import plot
from bench.report.tuned_rows import budget_data, tuned_ranking
from bench.results import as_shown, load
from bench.runner import Options
from bench.schema import Tuned
from bench.store import RunReader, pack_run, unpack_run
from bench.tune import Choosing, Study, samplers
from bench.tune.method import Method
from bench.tune.samplers import make_sampler
from bench.tune.space import read_spaces, space_of, without_ranges
from suites.base import Data
from tests.conftest import Command, Refuses, refused, tree

QUICK = {"epochs": "1"}
TOY = Request("toy", ("er[buffer=20]", "ewc"), ("class",), (0, 1), QUICK)
EWC = replace(TOY, strategies=("ewc",))
HOW = Choosing(trials=5, seeds=(1000, 1001), sampler="random")


def tuned(folder: Path, how: Choosing = HOW, request: Request = TOY) -> dict[str, Tuned]:
    study = Study([request], how, folder)
    assert study.tune(Options(jobs=1, quiet=True), "test", lambda words: None) == []
    return study.tuned()


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "AT_ONCE", 2)
    monkeypatch.setattr(samplers._OptunaSampler, "at_once", 2)


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_the_best_trial_on_validation_rows_is_chosen(sampler: str, tmp_path: Path) -> None:
    found = tuned(tmp_path, replace(HOW, sampler=sampler))
    assert list(found) == ["toy/class/er[buffer=20]", "toy/class/ewc"]
    for of in found.values():
        assert len(of.trials) == of.most_trials == 5
        assert of.trials[0].settings == ({"lr": 0.01} | ({"lam": 1000.0} if "lam" in of.space else {}))
        scores = [t.score for t in of.trials]
        assert of.chosen == scores.index(max(s for s in scores if s is not None))
        assert all(t.after_tasks[-1] == t.score for t in of.trials)
    records = RunReader(tmp_path / "tuning").records()
    assert len(records) == len({r["key"] for r in records}) == 20
    of_trial = [r for r in records if r["identity"] == found["toy/class/ewc"].trials[1].identity]
    last = [(r["validation"]["right"][-1], r["validation"]["total"][-1]) for r in of_trial]
    by_hand = sum(right / total for row in last for right, total in zip(*row, strict=True)) / 4
    assert found["toy/class/ewc"].trials[1].score == pytest.approx(by_hand)


def test_trials_have_no_test_score_and_no_reported_seed(tmp_path: Path) -> None:
    tuned(tmp_path)
    records = RunReader(tmp_path / "tuning").records()
    assert {r["spec"]["seed"] for r in records} == {1000, 1001}
    assert {r["spec"]["suite"] for r in records} == {"toy@tuning"}
    assert {n for r in records for row in r["test"]["total"] for n in row} == {0}
    refused("seeds 1 are tuning seeds and reported", Study, [TOY], replace(HOW, seeds=(1, 7)), tmp_path)
    again = replace(TOY, settings=QUICK | {"hidden": "8"})
    refused("er.buffer=20. is tuned twice, with other settings", Study, [TOY, again], HOW, tmp_path)
    refused("toy@tuning/class is tuned with hidden=32 in ", Study([again], HOW, tmp_path).check_folder)
    other = Study([TOY, replace(again, strategies=("si",))], HOW, tmp_path / "new")
    refused("toy@tuning/class is tuned with hidden=32 in ", other.check_folder)
    Study([TOY], replace(HOW, trials=9), tmp_path).check_folder()


def test_the_choice_does_not_depend_on_test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, whole = tuned(tmp_path / "a"), suites.get("toy")

    def shuffled() -> Data:
        data = whole.load()
        y_N, n = data.y_N.clone(), data.n_train
        y_N[n:] = y_N[n:].flip(0)
        assert (y_N != data.y_N).any()
        return replace(data, y_N=y_N, fingerprint="shuffled")

    monkeypatch.setitem(suites.REGISTRY.entered, "toy", replace(whole, load=shuffled))
    assert tuned(tmp_path / "b") == before


class Stopped(BaseException):
    """As a kill: nothing catches it."""


def stopping(of: type[Any], name: str, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a method raise after some calls."""
    calls, whole = iter(range(after)), getattr(of, name)

    def once(*args: Any) -> Any:
        if next(calls, None) is None:
            raise Stopped
        return whole(*args)

    monkeypatch.setattr(of, name, once)


@pytest.mark.slow
@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize(("name", "after"), [("ask", 3), ("tell", 1), ("tell", 6)])
def test_tuning_that_was_killed_continues_and_chooses_the_same(
    name: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = replace(HOW, sampler="tpe", trials=6)
    whole = tuned(tmp_path / "whole", how)
    with monkeypatch.context() as patch:
        stopping(samplers._OptunaSampler, name, after, patch)
        with pytest.raises(Stopped):
            tuned(tmp_path / "killed", how)
    assert tuned(tmp_path / "killed", how) == whole
    assert len(RunReader(tmp_path / "killed" / "tuning").records()) == 24


THREE = replace(EWC, suite="toy-uneven")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_pruned_trials_stop_after_a_task_and_the_others_are_as_without(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = replace(HOW, trials=6, sampler=sampler)
    (whole,) = tuned(tmp_path / "whole", how, THREE).values()
    (cut,) = tuned(tmp_path / "cut", replace(how, prune=True), THREE).values()
    assert [t.settings for t in cut.trials] == [t.settings for t in whole.trials]
    after_two = [t.after_tasks[1] for t in whole.trials]
    for number, (mine, of_whole) in enumerate(zip(cut.trials, whole.trials, strict=True)):
        worse = number > 0 and after_two[number] < median(after_two)
        assert mine.state == ("pruned" if worse else "done")
        assert mine.score == (None if worse else of_whole.score)
        assert mine.after_tasks == of_whole.after_tasks[: 2 if worse else 3]
        assert (mine.steps < of_whole.steps) == worse
    assert "pruned" in [t.state for t in cut.trials]
    # Stopped between the tasks and started again, it chooses the same.
    with monkeypatch.context() as patch:
        stopping(Method, "prune", 0, patch)
        with pytest.raises(Stopped):
            tuned(tmp_path / "killed", replace(how, prune=True), THREE)
    assert tuned(tmp_path / "killed", replace(how, prune=True), THREE) == {"toy-uneven/class/ewc": cut}


@pytest.mark.usefixtures("few_at_once")
def test_optuna_s_storage_is_read_back(tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    (of,) = tuned(tmp_path / "a", replace(HOW, sampler="tpe"), EWC).values()
    journal = tmp_path / "a" / "tuning" / "optuna.journal"
    (study,) = optuna.get_all_study_summaries(JournalStorage(JournalFileBackend(str(journal))))
    stored = optuna.load_study(
        study_name=study.study_name, storage=JournalStorage(JournalFileBackend(str(journal)))
    )
    assert [t.value for t in stored.trials] == [t.score for t in of.trials[1:]]
    # A trial that is in the storage is tried, whatever the sampler would suggest.
    (tmp_path / "b" / "tuning").mkdir(parents=True)
    other = JournalStorage(JournalFileBackend(str(tmp_path / "b" / "tuning" / "optuna.journal")))
    made = optuna.create_study(study_name=study.study_name, storage=other, direction="maximize")
    made.enqueue_trial({"lam": 77.0, "lr": 0.0123})
    made.ask(stored.trials[0].distributions)
    (again,) = tuned(tmp_path / "b", replace(HOW, sampler="tpe"), EWC).values()
    assert again.trials[1].settings == {"lam": 77.0, "lr": 0.0123}


def test_a_dry_run_writes_no_trial_of_optuna(tmp_path: Path) -> None:
    how = replace(HOW, sampler="tpe", trials=3)

    def dry_run(trials: int) -> list[str]:
        study = Study([EWC], replace(how, trials=trials), tmp_path / "run", dry_run=True)
        return [spec.identity for spec in study.first_plan(Options()).to_run]

    asked = dry_run(3)
    assert not (tmp_path / "run").exists()
    (of,) = tuned(tmp_path / "run", how, EWC).values()
    assert [*dict.fromkeys(asked)] == [trial.identity for trial in of.trials]
    before = tree(tmp_path)
    assert len(dry_run(6)) == 2 * 3
    assert tree(tmp_path) == before


def test_without_optuna_values_are_drawn_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (of,) = tuned(tmp_path, replace(HOW, sampler="auto"), EWC).values()
    assert of.sampler == "random"
    refused(r"pip install 'lethe-bench\[tune\]'", Study, [TOY], replace(HOW, sampler="tpe"), tmp_path)


def test_with_optuna_auto_is_tpe(tmp_path: Path) -> None:
    study = Study([TOY], replace(HOW, sampler="auto"), tmp_path)
    assert all(m.sampler and m.sampler.name.startswith("tpe (optuna ") for m in study.methods)


def test_a_grid_fills_the_budget_with_ends_and_points_between(tmp_path: Path) -> None:
    (spec,) = replace(EWC, seeds=(0,)).cells()
    space = space_of("ewc", spec, read_spaces(["ewc[lam=1..100:log,lr=0.1|0.2]"]))
    assert space.as_text() == {"lr": "0.1|0.2", "lam": "1..100:log"}

    def asked(trials: int) -> list[Any]:
        sampler, found = make_sampler("grid", space, trials, 0, "of", tmp_path / "x"), []
        while (settings := sampler.ask(len(found) + 1)) is not None:
            found.append(settings)
        return found

    assert asked(7) == [{"lr": lr, "lam": lam} for lr in ("0.1", "0.2") for lam in (1.0, 10.0, 100.0)]
    assert len(asked(4)) == 3  # of a grid of 2 x 2, with the defaults


def test_random_values_are_in_range_and_more_trials_begin_alike(tmp_path: Path) -> None:
    (spec,) = replace(EWC, seeds=(0,)).cells()
    space = space_of("ewc", spec, {})
    sampler = make_sampler("random", space, 30, 0, "of", tmp_path / "x")
    drawn = [sampler.ask(number) for number in range(1, 200)]
    lams = [float(of["lam"]) for of in drawn if of]
    assert min(lams) >= 1
    assert max(lams) <= 1e6
    assert 0.4 < sum(lam < 1000 for lam in lams) / len(lams) < 0.6  # evenly in the logarithm
    assert make_sampler("random", space, 60, 0, "of", tmp_path / "x").ask(7) == drawn[6]
    assert make_sampler("random", space, 60, 1, "of", tmp_path / "x").ask(7) != drawn[6]


def test_settings_in_brackets_are_fixed_or_ranges() -> None:
    selector, spaces = without_ranges("ewc[lam=1..1e3:log,variant=online]+er[buffer=20|50]")
    assert selector == "ewc[variant=online]+er"
    (spec,) = Request("toy", (selector,), settings=QUICK).cells()
    space = space_of(selector, spec, spaces)
    assert space.as_text() == {
        "lr": "0.001..0.1:log", "ewc: lam": "1..1000:log", "ewc: gamma": "0.5..1", "er: buffer": "20|50"
    }  # fmt: skip
    values = {"lr": 0.02, "ewc: lam": 5.0, "ewc: gamma": 0.7, "er: buffer": "20"}
    assert space.selected(values) == "ewc[gamma=0.7,lam=5,lr=0.02,variant=online]+er[buffer=20]"


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ("ewc[lamb=1..2]", "did you mean lam"),
        ("ewc", "write it like --space"),
        ("er[balance=0..1]", "is not a number"),
    ],
)
def test_impossible_spaces_are_refused(space: str, says: str, tmp_path: Path) -> None:
    def study() -> None:
        Study([TOY], replace(HOW, space=read_spaces([space])), tmp_path)

    refused(says, study)


def test_a_budget_of_steps_ends_tuning(tmp_path: Path) -> None:
    (all_,) = tuned(tmp_path / "a", request=EWC).values()
    per_trial = all_.trials[0].steps
    assert per_trial > 0
    (cut,) = tuned(tmp_path / "b", replace(HOW, trials=5, steps=3 * per_trial + 1), EWC).values()
    assert cut.trials == all_.trials[:3]


def test_a_method_without_a_form_for_the_scenario_is_skipped(tmp_path: Path) -> None:
    request = replace(TOY, strategies=("xdg", "ncm"))
    study = Study([request], HOW, tmp_path)
    study.tune(Options(jobs=1, quiet=True), "test", lambda words: None)
    skipped, of_ncm = study.methods
    assert "xdg has no class-incremental form" in skipped.skipped
    assert [len(of_ncm.trials), of_ncm.chosen] == [1, 0]  # nothing to tune


def test_first_tasks_are_tuned_on_and_the_rest_is_reported(tmp_path: Path) -> None:
    study = Study([EWC], replace(HOW, protocol="first-tasks=1"), tmp_path)
    assert {r.suite for r in study.ask()} == {"toy@first-1"}
    assert study.methods[0].suite == "toy@rest-1"
    study = Study([EWC], replace(HOW, protocol="end"), tmp_path)
    assert (study.methods[0].view, study.methods[0].suite) == ("toy@end", "toy@one-order")
    refused("unknown protocol 'first'", Study, [EWC], replace(HOW, protocol="first"), tmp_path)


def test_chosen_settings_are_run_on_reported_seeds_and_said_in_the_manifest(
    tmp_path: Path, command: Command
) -> None:
    line = (
        f"tune toy -s ewc --set epochs=1 --trials 3 --seeds 2 --sampler random --untuned --out {tmp_path}/run"
    )
    code, _, err = command(line)
    assert code == 0, err
    run = RunReader(tmp_path / "run")
    (of,) = run.manifest().tuning.values()
    assert of.best is not None
    assert {r["identity"] for r in run.records()} == {"ewc", of.best.identity}
    assert {r["spec"]["seed"] for r in run.records()} == {0, 1}
    again = unpack_run(pack_run(tmp_path / "run", tmp_path / "x.lethe.gz"), tmp_path / "y")
    assert RunReader(again).manifest().tuning == run.manifest().tuning
    assert command(f"run toy -s finetune --set epochs=1 --seeds 1 --out {tmp_path}/run")[0] == 0
    assert run.manifest().tuning == {"toy/class/ewc": of}


def check_report(run: Path, of: Tuned) -> None:
    """Check tables, data and figure of a run of one method, all of whose trials were reported."""
    frames = as_shown(load(run))
    made = tables(frames, layout=Layout(marks=True))
    assert of.best is not None
    names = [row[0].text for row in made.shown[0].rows]
    default = "ewc" if of.best.identity == "ewc" else "ewc (not tuned)"
    assert sorted(names) == sorted({of.best.identity, default})
    budget = {row[0].text: row[2].text for row in made.shown[1].rows}
    assert budget == {of.best.identity: "3"} | ({"ewc": "–"} if of.best.identity != "ewc" else {})
    assert any("3 trials each, on validation rows of seeds 50, 51 of toy@tuning" in r for r in made.remarks)
    # Every outcome of two draws with replacement from the three trials.
    data = budget_data(frames).set_index("k")
    scores = [float(t.score or 0) for t in of.trials]
    whole = load(run).scores
    final = whole[whole["score"] == "acc"].groupby("identity")["value"].mean()
    tests = [final[t.identity] for t in of.trials]
    drawn = [max(pair, key=lambda i: scores[i]) for pair in product(range(3), repeat=2)]
    assert data["validation"][2] == pytest.approx(sum(scores[i] for i in drawn) / 9)
    if len(set(scores)) == 3:
        assert data["test"][2] == pytest.approx(sum(tests[i] for i in drawn) / 9)
    assert data["best_test"][3] == pytest.approx(final[of.best.identity])
    (ranked,) = tuned_ranking(frames, "toy", "class")
    means = [f"{100 * final[name]:.2f}" for name in ("ewc", of.best.identity)]
    assert [ranked[0], *ranked[2:4], *ranked[5:]] == ["ewc", *means, "1", "1"]
    figure, _ = plot(frames, "trials")
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert list(100 * data["validation"]) in lines
    assert list(100 * data["test"]) in lines


FILE = """
out = "{out}"
[tune]
trials = 3
seeds = "50-51"
sampler = "random"
space = ["ewc[lam=1|10]"]
report = "all"
[[run]]
suite = "toy"
strategies = ["ewc"]
seeds = 2
set = {{ epochs = 1 }}
"""


def test_defaults_are_those_of_files_on_the_command_line_and_in_python(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Choosing] = []
    monkeypatch.setattr("bench.cli.carrying_out._tune", lambda asked, how, *rest: found.append(how))
    file = tmp_path / "study.toml"
    file.write_text('[tune]\n[[run]]\nsuite = "toy"\nstrategies = ["ewc"]\n')
    for words in ("tune toy -s ewc", f"tune {file}", f"run {file}"):
        assert command(f"{words} --out {tmp_path}/run")[0] == 0
    assert found == [Choosing()] * 3
    usual = {name: p.default for name, p in inspect.signature(lethe.tune).parameters.items()}
    assert usual["tuning_seeds"] == schema.TuneTable().seeds
    own = {name: usual[name] for name in schema.TuneTable.model_fields if name not in ("seeds", "space")}
    assert own == schema.TuneTable().model_dump(exclude={"seeds", "space"})


def test_tuning_in_python_is_that_of_the_command_line(tmp_path: Path, command: Command) -> None:
    asked: dict[str, Any] = {"trials": 3, "seeds": 2, "sampler": "random", "settings": {"epochs": 1}}
    asked |= {"tuning_seeds": [50, 51], "space": "ewc[lam=1|10]", "untuned": True}
    out = tmp_path / "api"
    planned = lethe.tune("toy", ["ewc", "xdg"], dry_run=True, out=out, **asked)
    assert not out.exists()
    assert repr(planned) == "<Tuning of toy class: a dry run, 3 trials each, protocol seeds>"
    assert planned.plan is not None
    assert len(planned.plan.to_run) == 6
    assert planned.table()["space"][0] == "lr=0.001..0.1:log, lam=1|10"
    tuned = lethe.tune("toy", ["ewc", "xdg"], out=out, **asked)
    line = "tune toy -s ewc -s xdg --set epochs=1 --trials 3 --seeds 2 --sampler random --tuning-seeds 50-51"
    _, _, err = command(f"{line} --space ewc[lam=1|10] --untuned --jobs 1 --out {tmp_path}/line")
    (of,) = RunReader(tmp_path / "line").manifest().tuning.values()
    assert [*RunReader(out).manifest().tuning.values()] == [of]
    assert of.best is not None
    assert of.best.identity in err
    assert tuned.chosen == {"class": {"ewc": of.best.identity}}
    ewc, xdg = tuned.table().to_dict("records")
    assert [ewc[k] for k in ("trials", "defaults", "validation", "chosen", "why")] == [
        3, of.trials[0].score, of.best.score, of.best.identity, ""
    ]  # fmt: skip
    assert "no class-incremental form" in xdg["why"]
    assert list(tuned.trials["validation"]) == [t.score for t in of.trials]
    assert repr(tuned) == "<Tuning of toy class: 1 of 2 methods tuned, 3 trials each, protocol seeds>"
    assert tuned.frames is not None
    assert {*tuned.frames.cells["identity"]} == {"ewc", "xdg", of.best.identity}
    refused("seeds 0, 1 are tuning seeds", lethe.tune, "toy", "ewc", seeds=2, tuning_seeds=2)


def test_a_method_that_learns_all_tasks_at_once_is_tuned_by_its_final_score(tmp_path: Path) -> None:
    (of,) = tuned(tmp_path, replace(HOW, trials=2), replace(TOY, strategies=("joint",))).values()
    assert [t.state for t in of.trials] == ["done", "done"]
    assert [t.after_tasks for t in of.trials] == [[t.score] for t in of.trials]
    final = [r["validation"] for r in RunReader(tmp_path / "tuning").records() if r["identity"] == "joint"]
    shares = [n / of for r in final for n, of in zip(r["right"][-1], r["total"][-1], strict=True)]
    assert of.trials[0].score == pytest.approx(sum(shares) / len(shares))


@pytest.mark.slow
def test_trials_and_results_are_sized_to_a_budget(tmp_path: Path, command: Command) -> None:
    file, out = tmp_path / "study.toml", tmp_path / "run"
    budgeted = FILE.format(out=out).replace('["ewc"]', '["er", "ewc"]').replace('"all"', '"chosen"')
    file.write_text(f'{budgeted}budget = {{ memory = "2kB" }}\n')
    code, _, err = command(f"run {file} --jobs 1")
    assert code == 0, err
    (of,) = RunReader(out).manifest().tuning.values()
    assert of.best is not None
    (buffer,) = {t.identity.partition("buffer=")[2].partition(",")[0].rstrip("]") for t in of.trials}
    both = RunReader(out).records(), RunReader(out / "tuning").records()
    sizes = [r["resources"]["memory_bytes"] for records in both for r in records if r["status"] == "done"]
    assert len(sizes) == 2 + 6
    assert 0 < max(sizes) <= 2000
    untuned = replace(TOY, strategies=(f"er[buffer={buffer}]",)).cells()[0].hyper["buffer"]
    assert {r["spec"]["hyper"]["buffer"] for r in both[0] if r["status"] == "done"} == {untuned}
    assert any("Budget: memory=2kB; each method" in t.caption for t in tables(as_shown(load(out))).shown)
    assert "ewc: not tuned: it stores" in err
    asked: dict[str, Any] = {"seeds": 1, "trials": 1, "report": "none", "settings": {"epochs": 1}}
    found = lethe.tune("toy", "er", budget="memory=2kB", **asked)
    assert found.chosen == {"class": {"er": f"er[buffer={buffer}]"}}
    asked |= {"report": "chosen", "protocol": "first-tasks=1"}
    of_rest = lethe.tune("toy", "er", budget="memory=2kB", **asked).frames
    assert of_rest is not None
    assert [*of_rest.cells["suite"], *of_rest.cells["identity"]] == ["toy@rest-1", f"er[buffer={buffer}]"]
    ranged = replace(TOY, strategies=("er[buffer=5|9]",), budget=Budget(memory=2000))
    refused("the budget of memory sets buffer: leave it out", tuned, tmp_path / "x", HOW, ranged)


def test_a_study_is_one_file(tmp_path: Path, command: Command, refuses: Refuses) -> None:
    file = tmp_path / "study.toml"
    file.write_text(FILE.format(out=tmp_path / "run"))
    printed = json.loads(command(f"tune {file} --dry-run --json")[1])
    assert {cell["seed"] for cell in printed["first_trials"]["cells"]} == {50, 51}
    code, out, _ = command(f"run {file} --dry-run")
    assert (code, (tmp_path / "run").exists()) == (0, False)
    assert "tune      toy@tuning class ewc: lr=0.001..0.1:log, lam=1|10" in out
    assert "6 cells, 6 to run" in out
    code, out, err = command(f"run {file} --jobs 1 --json")
    assert code == 0, err
    assert {row["n"] for row in json.loads(out)["table"]} == {2}
    (of,) = RunReader(tmp_path / "run").manifest().tuning.values()
    assert of.seeds == [50, 51]
    assert len({r["identity"] for r in RunReader(tmp_path / "run").records()}) == 3
    check_report(tmp_path / "run", of)
    refuses("no [tune] table", f"tune {Path('results/reference/digits.toml').resolve()} --dry-run")
    for words in ("--force", "--on slurm"):
        refuses("cannot be combined", f"run {file} {words}")
