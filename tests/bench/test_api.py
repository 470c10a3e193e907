"""``lethe.run`` and ``Frames``: what Python accepts, refuses and shows."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import lethe
from bench.plan.selectors import selectors_of
from bench.report.figures import ACROSS, FIGURES
from bench.stats import holm
from lethe.testing import made_cell, made_up, record, toy_run, write_run
from tests.conftest import refused


@pytest.mark.parametrize(
    ("given", "selectors"),
    [
        ("er[buffer=100]", ("er[buffer=100]",)),
        (("er", "ewc"), ("er", "ewc")),
        ((name for name in ("er", "ewc")), ("er", "ewc")),
        ({"er": {"buffer": 100}}, ("er[buffer=100]",)),
        ({"ewc": {"lam": np.float64(1e9), "half": False}, "er": {}}, ("ewc[lam=1e9,half=false]", "er")),
        (["finetune", {"er": {"buffer": 9}}, {"er": None}], ("finetune", "er[buffer=9]", "er")),
    ],
)
def test_strategies_from_python_are_read_as_meant(given: Any, selectors: tuple[str, ...]) -> None:
    assert selectors_of(given) == selectors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy", []), "choose at least one strategy"),
        (("toy", {}), "choose at least one strategy"),
        (("toy", lethe.Strategy), "'./file.py:Class'"),
        (("toy", ["er", 3]), "strategies must be names"),
        (("toy", {"er": 100}), "cannot read the options 100 of 'er'"),
        (("toy", {"er": {"buffer": [100, {}]}}), "er: buffer must be a number"),
        (("toy", {"er": {"buffer": []}}), "er: buffer has no values"),
        (("toy", {"er+lwf": {"lam": 1}}), r"write the options of 'er\+lwf' into it"),
        (("toy", {"er[buffer=9]": {"lam": 1}}), "write the options of"),
        ((["toy"], "er"), "a suite is a name"),
        (("toy", "er", {"scenarios": []}), "choose at least one scenario"),
        (("toy", "er", {"seeds": []}), "cannot read seeds"),
        (("toy", "er", {"seeds": 0}), "cannot read seeds"),
        (("toy", "er", {"seeds": True}), "cannot read seeds"),
        (("toy", "er", {"seeds": 2.5}), "seeds must be a number of seeds"),
        (("toy", "er", {"settings": ["epochs"]}), "settings must be a dictionary"),
        (("toy", "er", {"settings": {"epoch": 1}}), "did you mean epochs"),
        (
            ("toy-text", {"er": {"augment": True}}),
            "augment crops and flips images, and tiny-bert reads texts",
        ),
        (("toy-text", "er", {"settings": {"augment": True}}), "augment crops and flips images"),
    ],
)
def test_what_python_cannot_mean_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    more = arguments[2] if len(arguments) > 2 else {}
    refused(message, lethe.run, *arguments[:2], **more)


def test_no_run_at_all_is_refused() -> None:
    refused("choose at least one run", lethe.load, [])
    refused("choose at least one run", lethe.classes, [])


def test_a_dry_run_returns_the_plan_and_runs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "r"
    frames = lethe.run("toy", {"er": {"buffer": 9}}, seeds="2-3", out=out, dry_run=True)
    assert [spec.title for spec in frames.plan.to_run] == [  # type: ignore[union-attr]
        f"toy class er[buffer=9] seed {seed}" for seed in (2, 3)
    ]
    assert "2 cells, 2 to run" in str(frames.plan)
    assert frames.cells.empty
    assert not out.exists()


def test_ten_seeds_are_the_default() -> None:
    assert len(lethe.run("toy", "er", dry_run=True).plan.cells) == 10  # type: ignore[union-attr]


@pytest.mark.slow
def test_strategies_listed_twice_run_once_and_a_line_says_so() -> None:
    with pytest.warns(UserWarning, match=r"er\[buffer=500\] is listed twice and run once, as er"):
        frames = lethe.run("toy", ["er", "er[buffer=500]"], seeds=np.arange(1), settings={"epochs": 1})
    assert len(frames.cells) == 1


def test_failed_cells_are_warnings_and_rows_and_progress_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.py"
    bad = "class Bad(Strategy):\n    def setup(self):\n        raise ValueError('no!')\n"
    path.write_text(f"from lethe import Strategy\n\n\n{bad}")
    with pytest.warns(UserWarning, match=r"failed: .*no!"):
        frames = lethe.run("toy", ["finetune", f"{path}:Bad"], seeds=1, settings={"epochs": 1}, progress=True)
    assert [*frames.failed["status"]] == ["failed"]
    assert "no!" in frames.failed["why"][0]
    assert "2/2 cells" in capsys.readouterr().err


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> lethe.Frames:
    """Records of four strategies and six seeds, with validation rows that score half as well."""
    cells = []
    for one in made_up(4, seeds=6):
        cell = made_cell(one["spec"]["strategy"], one["spec"]["hyper"], one["spec"]["seed"])
        own = {k: v for k, v in one.items() if k in record([[0], [1]])}
        test = own["test"]
        own["validation"] = {**test, "right": [[n and n // 2 for n in row] for row in test["right"]]}
        cells.append((cell, own))
    return lethe.load(write_run(tmp_path_factory.mktemp("made") / "r", cells))


def test_frames_are_short_in_a_terminal_and_a_table_in_a_notebook(frames: lethe.Frames) -> None:
    assert repr(frames) == f"<Frames of {frames.folder}: toy class; 4 strategies, 6 seeds; 24 done>"
    html = frames._repr_html_()
    assert html.count("<tr>") == 5
    assert "<b>" in html
    assert "Bold: best mean." in html


def test_the_table_is_that_of_the_report_as_numbers(frames: lethe.Frames) -> None:
    table = frames.table(["acc", "forgetting"], spread="sd")
    assert [*table] == [
        "suite", "scenario", "strategy", "n", "acc", "acc_mark", "acc_sd",
        "forgetting", "forgetting_mark", "forgetting_sd",
    ]  # fmt: skip
    acc = frames.scores[frames.scores["score"] == "acc"].groupby("identity")["value"]
    expected = pd.DataFrame({"acc": acc.mean(), "acc_sd": acc.std()}).sort_values("acc", ascending=False)
    assert [*table["strategy"]] == [*expected.index]
    np.testing.assert_allclose(table[["acc", "acc_sd"]], expected)
    assert {"acc_low", "acc_high"} <= {*frames.table(spread="bca")}
    refused("unknown score 'akk'", frames.table, ["akk"])


def test_pairs_are_all_pairs_with_holm_over_them(frames: lethe.Frames) -> None:
    pairs = frames.pairs()
    names = {*frames.cells["identity"]} - {"joint"}  # a bound is not compared
    assert {frozenset(pair) for pair in pairs[["a", "b"]].itertuples(index=False)} == {
        frozenset(pair) for pair in itertools.combinations(names, 2)
    }
    values = frames.scores[frames.scores["score"] == "acc"].pivot(
        index="seed", columns="identity", values="value"
    )
    for pair in pairs.to_dict("records"):
        assert pair["mean"] == pytest.approx((values[pair["a"]] - values[pair["b"]]).mean())
    assert [*pairs["p_holm"]] == pytest.approx(holm([*pairs["p"]]))
    # n = 6 cannot show a difference over three pairs: 2 / 2^6 x 3 is above 0.05.
    assert {*pairs["verdict"]} == {"too few seeds"}


def test_every_figure_of_a_report_is_a_method(frames: lethe.Frames) -> None:
    made = {name.removeprefix("plot_") for name in dir(frames) if name.startswith("plot_")}
    assert made == {*FIGURES, *ACROSS}
    assert isinstance(frames.plot_bars(width=3.5), Figure)
    refused("nothing that the figure schedules could show", frames.plot_schedules)


def test_scores_on_validation_rows(frames: lethe.Frames) -> None:
    validation = frames.on("validation")
    R = validation.matrix[(validation.matrix["split"] == "validation") & (validation.matrix["i"] == 5)]
    expected = R.groupby("identity")["value"].mean()
    table = validation.table(["acc", "oos_auroc"]).set_index("strategy")
    np.testing.assert_allclose(table["acc"][expected.index], expected)
    assert (table["acc"] < 0.6 * frames.table(["acc"]).set_index("strategy")["acc"][table.index]).all()
    assert "validation rows" in repr(validation)
    assert "Scores on validation rows" in validation._repr_html_()
    assert validation.on("test").scores.equals(frames.scores)
    assert lethe.load(frames.folder, split="validation").scores.equals(validation.scores)
    refused("unknown split 'train'", frames.on, "train")


def test_runs_without_validation_rows_have_no_scores_on_them(tmp_path: Path) -> None:
    none = {"right": [[0], [0]], "total": [[0], [0]]}
    found = lethe.load(toy_run(tmp_path / "r", {("er", 0): record([[0], [1]], validation=none)}))
    refused("made with validation=0", found.on, "validation")
