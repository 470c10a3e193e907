"""Trackers get what the records say, and never fail a run."""

import importlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lethe
from bench.plan import Request
from bench.report.trackers import TRACKERS, check_trackers, feed, tracking
from bench.results import Frames, load
from bench.runner.there import Asked
from bench.store import RunReader
from tests.bench.test_engines import Threads, ran_on
from tests.conftest import Command, Refuses, ran, refused

# Of the trackers' packages, which load much.
pytestmark = pytest.mark.filterwarnings("ignore")
RUN = "run toy -s finetune -s er --seeds 2 --jobs 1 --lanes 1 --set epochs=1"


class Logged:
    """A run of a stand-in for wandb or trackio, which also prints, as they do."""

    def __init__(self, given: dict[str, Any]) -> None:
        print("* run created")
        self.given, self.rows, self.ended = given, list[tuple[int, dict[str, float]]](), False

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, metrics))

    def finish(self) -> None:
        self.ended = True


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Logged]]:
    """Stand-ins for wandb and trackio, and the runs that each got."""
    got: dict[str, list[Logged]] = {"wandb": [], "trackio": []}
    for of in got:
        module: Any = ModuleType(of)
        module.__spec__ = SimpleNamespace(name=of)
        module.init = (lambda runs: lambda **given: runs.append(Logged(given)) or runs[-1])(got[of])
        module.Settings = lambda **given: given
        monkeypatch.setitem(sys.modules, of, module)
    return got


def expected(frames: Frames, key: str) -> dict[tuple[str, int], float]:
    """Return what a tracker should have of a done cell, from the frames that reports are made of."""
    found: dict[tuple[str, int], float] = {}
    for split in ("test", "validation"):
        matrix = frames.matrix[(frames.matrix["key"] == key) & (frames.matrix["split"] == split)]
        for row in matrix.itertuples():
            found[f"{split}/task {row.j:02}", row.i] = row.value
        for i in range(1, matrix["i"].max() + 1):
            seen = matrix[(matrix["i"] == i) & (matrix["j"] <= i)]
            found[f"{split}/mean", i] = seen["value"].mean()
    scores = frames.scores[(frames.scores["key"] == key) & frames.scores["value"].notna()]
    found |= {(f"final/{of.score}", int(matrix["i"].max())): of.value for of in scores.itertuples()}
    cell = frames.cells.set_index("key").loc[key]
    for name in ("parameters", "memory_samples", "memory_bytes"):
        found[f"resources/{name}", int(matrix["i"].max())] = cell[name]
    return found


def check(frames: Frames, sent: Mapping[str, Mapping[tuple[str, int], float]]) -> None:
    """Compare what was sent of each cell with the frames, beside the losses."""
    losses = {r["key"]: r["loss"] for r in RunReader(frames.folder).records()}
    assert sent.keys() == {*frames.cells["key"]}
    for key, found in sent.items():
        want = expected(frames, key) | {("loss", i): of for i, of in enumerate(losses[key], 1)}
        assert found.keys() == want.keys()
        assert np.allclose([*map(found.get, want)], [*want.values()], atol=1e-6)  # event files are float32


def test_projects_get_every_score_setting_and_loss(
    stubs: dict[str, list[Logged]], command: Command, tmp_path: Path
) -> None:
    """Together with a run whose stdout is JSON, though these packages print."""
    code, out, err = command(f"{RUN} --json --track wandb:me/mine,trackio --out {tmp_path / 'run'}")
    assert code == 0
    assert json.loads(out)["now"] == {"done": 4}
    assert "tracker wandb: 4 of 4 cells sent to me/mine\ntracker trackio: 4 of 4 cells sent\n" in err
    frames = load(tmp_path / "run")
    for of, runs in stubs.items():
        pairs = {
            r.given["config"]["key"]: {(k, i): v for i, row in r.rows for k, v in row.items()} for r in runs
        }
        check(frames, pairs)
        assert all(r.ended for r in runs), of
        assert {(r.given["name"], r.given["group"]) for r in runs} == {
            (f"{name} seed {seed}", "toy/class") for name in ("finetune", "er") for seed in range(2)
        }
    (options,) = {(r.given["project"], r.given["entity"]) for r in stubs["wandb"]}
    assert options == ("mine", "me")
    assert {r.given["project"] for r in stubs["trackio"]} == {"lethe"}
    config = stubs["wandb"][-1].given["config"]
    assert (config["suite"], config["training.epochs"], config["status"]) == ("toy", 1, "done")
    assert config["made_by.command"].startswith("lethe run toy")


def test_tensorboard_event_files_read_back(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = f"{RUN} --track tensorboard --out {tmp_path / 'run'}"
    assert command(words)[0] == 0
    assert command(f"{words} --force")[0] == 0  # the curves of the first time are purged
    frames, sent = load(tmp_path / "run"), {}
    for folder in {path.parent for path in (tmp_path / "run" / "tensorboard").rglob("events*")}:
        events = EventAccumulator(str(folder)).Reload()
        points = {(tag, of.step): of.value for tag in events.Tags()["scalars"] for of in events.Scalars(tag)}
        assert len(points) == sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])
        key = next(key for key in frames.cells["key"] if folder.name.endswith(key[:8]))
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        assert key.encode() in content
        assert b"hyper." in content or folder.parent.name == "finetune"
        sent[key] = points
    check(frames, sent)


def test_an_mlflow_store_reads_back(command: Command, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow: pip install 'lethe-bench[mlflow]'")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert command(f"{RUN} --track mlflow:{uri} --out {tmp_path / 'run'}")[0] == 0
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("lethe").experiment_id])
    sent = {
        run.data.tags["key"]: {
            (name, of.step): of.value
            for name in run.data.metrics
            for of in client.get_metric_history(run.info.run_id, name)
        }
        for run in runs
    }
    check(load(tmp_path / "run"), sent)
    assert {run.info.run_name for run in runs} >= {"er seed 0", "finetune seed 1"}
    assert {(run.info.status, run.data.params["training.epochs"]) for run in runs} == {("FINISHED", "1")}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_packages_themselves_offline(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason=f"needs {name}: pip install 'lethe-bench[{name}]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)
    code, out, err = command(f"{RUN} --json --track {name}:mine --out run")
    assert code == 0
    assert json.loads(out)["now"] == {"done": 4}
    assert f"tracker {name}: 4 of 4 cells sent to mine" in err
    if name == "wandb":
        assert len([*tmp_path.glob("wandb/offline-run-*/*.wandb")]) == 4
    else:
        trackio: Any = importlib.import_module("trackio")
        runs = trackio.Api().runs("mine")
        assert {run.name for run in runs} == {f"{s} seed {n}" for s in ("er", "finetune") for n in (0, 1)}


def broken(place: str) -> Any:
    raise ConnectionError("no server\nat this address")


class Breaks:
    """A tracker that breaks at its second cell, or hangs."""

    def __init__(self, place: str) -> None:
        self.written = 0
        self.hangs = place == "hangs"

    def write(self, cell: object) -> None:
        self.written += 1
        if self.written == 2:
            if self.hangs:
                threading.Event().wait(30)
            raise SystemExit(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "sink", "says"),
    [
        ("", broken, "tracker trackio failed: ConnectionError: no server; the run goes on without it"),
        ("", Breaks, "tracker trackio failed: SystemExit: 3; the run goes on without it"),
        ("hangs", Breaks, "tracker trackio: 1 of 4 cells sent to hangs; it does not answer"),
    ],
)
def test_a_failing_tracker_is_one_line(
    place: str,
    sink: Callable[[str], Any],
    says: str,
    stubs: dict[str, list[Logged]],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its run ends as without it, and other trackers get everything."""
    monkeypatch.setitem(TRACKERS, "trackio", sink)
    monkeypatch.setattr(feed, "PATIENCE", 0.5)
    code, _, err = command(f"{RUN} --track trackio:{place} --track wandb --out {tmp_path / 'run'}")
    assert code == 0
    assert (err.count("tracker trackio"), says in err) == (1, True)
    assert [*load(tmp_path / "run").cells["status"]] == ["done"] * 4
    assert len(stubs["wandb"]) == 4


def test_python_warns_of_a_failing_tracker(
    stubs: dict[str, list[Logged]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS, "trackio", broken)
    with pytest.warns(UserWarning, match="tracker trackio failed: ConnectionError: no server"):
        frames = lethe.run("toy", "er", seeds=1, settings={"epochs": 1}, track=["trackio", "wandb"])
    assert [*frames.cells["status"]] == ["done"]
    assert len(stubs["wandb"]) == 1


def test_failed_cells_are_sent_with_their_reason_and_done_ones_once(
    stubs: dict[str, list[Logged]], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(
        "from strategies.baselines.finetune import Finetune\n\n\n"
        "class Bad(Finetune):\n    def begin_task(self, task):\n        raise RuntimeError('no such task')\n"
    )
    out = tmp_path / "run"
    command(f"{RUN} --out {out}")
    code, _, err = command(f"{RUN} -s {tmp_path / 'bad.py'}:Bad --no-check --track wandb --out {out}")
    assert code == 1
    assert "2 of 2 cells sent" in err
    assert {r.given["config"]["status"] for r in stubs["wandb"]} == {"failed"}
    assert {"RuntimeError: no such task" in r.given["config"]["reason"] for r in stubs["wandb"]} == {True}
    assert [r.rows for r in stubs["wandb"]] == [[], []]
    assert "tracker" not in command(f"{RUN} --track wandb --out {out}")[2]


def test_cells_of_other_commands_and_earlier_ones_are_not_sent(tmp_path: Path) -> None:
    """Another command writes a record into the folder while this one runs."""
    request = Request("toy", ("finetune",), seeds=(0,))
    ran(tmp_path / "run", request)
    sent: list[str] = []

    def watch(record: dict[str, Any]) -> None:
        sent.append(record["identity"])
        if len(sent) == 1:
            ran(tmp_path / "run", Request("toy", ("lwf",), seeds=(0,)))

    more = Request("toy", ("finetune", "er", "ewc"), seeds=(0,))
    ran(tmp_path / "run", more, on_record=watch)
    assert sorted(sent) == ["er", "ewc"]


@pytest.mark.parametrize("place", ["seen", "elsewhere"])
def test_records_of_an_engine_are_sent(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its workers write them or send them home."""

    def there(asked: Asked) -> Asked:
        models = type(asked.target.models)(tmp_path / place)
        return asked if place == "seen" else replace(asked, target=replace(asked.target, models=models))

    sent: list[str] = []
    ran_on(Threads(there), tmp_path / "run", monkeypatch, on_record=lambda of: sent.append(of["key"]))
    assert sorted(sent) == sorted(RunReader(tmp_path / "run").statuses())


@pytest.mark.slow
def test_records_of_worker_processes_are_sent(tmp_path: Path) -> None:
    sent: list[str] = []
    few = {"epochs": "1", "rows_per_class": "10"}
    request = Request("digits", ("finetune",), seeds=(0, 1), settings=few)
    ran(tmp_path / "run", request, jobs=2, lanes=1, on_record=lambda record: sent.append(record["key"]))
    assert sorted(sent) == sorted(RunReader(tmp_path / "run").statuses())


def test_an_experiment_file_names_trackers(
    stubs: dict[str, list[Logged]], command: Command, refuses: Refuses, tmp_path: Path
) -> None:
    file = tmp_path / "toy.toml"
    text = 'track = ["trackio:mine"]\n[[run]]\nsuite = "toy"\nstrategies = ["er"]\nseeds = 1\n'
    file.write_text(text + "set = { epochs = 1 }\n")
    assert command(f"run {file} --out {tmp_path / 'run'}")[0] == 0
    assert [r.given["project"] for r in stubs["trackio"]] == ["mine"]
    assert command(f"run {file} --force --track wandb --out {tmp_path / 'run'}")[0] == 0
    assert (len(stubs["trackio"]), len(stubs["wandb"])) == (1, 1)
    file.write_text(text.replace("trackio:mine", "tracio"))
    refuses("unknown tracker 'tracio'; did you mean trackio?", f"run {file} --dry-run")


def test_words_that_name_no_tracker_are_refused(
    stubs: dict[str, list[Logged]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert check_trackers("wandb:a/b, trackio", None) == {"wandb": "a/b", "trackio": ""}
    assert check_trackers(["mlflow:sqlite:///x.db"] if feed.find_spec("mlflow") else "", None) in (
        {"mlflow": "sqlite:///x.db"}, {}
    )  # fmt: skip
    assert check_trackers("", None) == {}
    refused("--track names wandb twice", check_trackers, ["wandb", "wandb:x"], None)
    monkeypatch.setattr(feed, "find_spec", lambda name: None if name == "mlflow" else name)
    refused(
        r"--track mlflow needs mlflow: pip install 'lethe-bench\[mlflow\]'", check_trackers, "mlflow", None
    )
    refused("needs a folder without --out: tensorboard:DIR", check_trackers, "tensorboard", None)
    assert check_trackers("tensorboard", tmp_path) == {"tensorboard": str(tmp_path / "tensorboard")}


def test_without_trackers_nothing_is_made() -> None:
    before = threading.active_count()
    with tracking({}) as send:
        assert send is None
        assert threading.active_count() == before
