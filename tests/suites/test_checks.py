"""Invalid data and streams are refused with one line of error before training."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from bench.plan import Request
from bench.runner import Options, resolve_for
from lethe.testing import TOY, blobs, codes, registered, sentences
from suites import checks
from suites.base import Data, Scenario, Stream, Suite, Task, Training
from suites.errors import Unavailable
from suites.scenarios import Split, by_class, by_domain, by_permutation, by_rotation
from tests.conftest import process, ran, refused

OPTIONS = Options(jobs=1, quiet=True)


def with_domains() -> Data:
    """Return 160 training and 80 test rows of 4 alternating classes; each domain has two classes."""
    data = blobs()
    return replace(data, domain_N=data.y_N // 2, domain_names=("A", "B"), mean=(0.5,), std=(0.2,))


def changed(name: str, value: Any, rows: Any = None) -> Callable[[Data], Data]:
    """Return a function that changes a field of a data set, or some of its rows."""

    def change(data: Data) -> Data:
        if rows is None:
            return replace(data, **{name: value(data) if callable(value) else value})
        content = list(getattr(data, name)) if name in ("texts", "targets") else getattr(data, name).clone()
        content[rows] = value
        return replace(data, **{name: content})

    return change


def of(load: Callable[[], Any], split: Split = TOY.split) -> Suite:
    return replace(TOY, name="odd", load=load, split=split)


def floats(data: Data) -> Data:
    x_N = data.x_N.float()
    x_N[7, 0, 0, 0], x_N[3] = float("inf"), float("nan")
    return replace(data, x_N=x_N)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("y_N", lambda d: d.y_N + 1), "y_N: rows 3, 7, 11 and 57 more are 4, but class_names has "
         "names for 0 to 3 only: write y_N - 1 where they count from 1, or add the missing names"),
        (changed("y_N", -2, 5), "y_N: row 5 is -2, but class_names has names for 0 to 3 only: correct them"),
        (changed("y_N", -1, slice(2, 4)), "y_N: rows 2, 3 for training have label -1 (no class), which only"),
        (changed("y_N", lambda d: [str(int(y)) for y in d.y_N]), "y_N must be a tensor of int64, not list of "
         "str: write torch.tensor([...]) of numbers 0 to 3, the indices of their names in class_names"),
        (changed("y_N", lambda d: d.y_N.float()), "y_N has type float32, not int64: write y_N.long()"),
        (changed("y_N", lambda d: d.y_N[1:]), "y_N has shape (239,) for 240 rows of x_N: write one number"),
        (changed("class_names", ("a", "b", "c")), "y_N: rows 3, 7, 11 and 57 more are 3, but class_names"),
        (changed("class_names", ("a", "b", "a", "c")), "class_names has 'a' more than once"),
        (changed("class_names", (0, 1, 2, 3)), "class_names must be a tuple of str"),
        (changed("class_names", ()), "class_names is empty"),
        (changed("n_train", 240), "n_train is 240 of 240 rows: the first n_train are for "
         "training and the others for testing, so write a whole number from 1 to 239"),
        (changed("n_train", 0), "n_train is 0 of"),
        (changed("n_train", 0.8), "n_train is 0.8 of"),
        (floats, "x_N: rows 3, 7 have NaN or infinite values"),
        (changed("x_N", lambda d: d.x_N.numpy()), "x_N must be a tensor, not ndarray: write torch.tensor"),
        (changed("x_N", lambda d: d.x_N > 9), "x_N has shape (240, 1, 8, 8) and type bool: write pixels"),
        (changed("x_N", torch.zeros(240, 0)), "x_N has no pixels and texts is empty"),
        (changed("std", ()), "mean is given without std: write both, a number for each channel, or neither"),
        (changed("mean", ()), "std is given without mean"),
        (changed("std", (0.0,)), "std contains 0.0: write finite numbers above 0"),
        (changed("mean", (float("nan"),)), "mean contains nan: write finite numbers"),
        (changed("mean", (0.1, 0.2)), "mean has 2 numbers for 1 channels: write one for each"),
        (changed("mean", 0.5), "mean must be a tuple of numbers, one for each channel, not float"),
        (changed("scale", 0.0), "scale is 0.0: write the divisor of pixels"),
        (changed("domain_N", 2, slice(3, 5)), "domain_N: rows 3, 4 are 2, but domain_names has names"),
        (changed("domain_N", -1, 0), "domain_N: row 0 is -1, but domain_names"),
        (changed("domain_N", lambda d: d.domain_N[:9]), "domain_N has shape (9,) for 240 rows"),
        (changed("domain_N", None), "domain_names are given without domain_N"),
        (changed("domain_names", ("A", "A")), "domain_names has 'A' more than once"),
        (changed("validation_N", torch.ones(240) > 0), "validation_N marks 80 test rows: only the first"),
        (changed("validation_N", torch.ones(3) > 0), "validation_N must be a tensor of bool with one value "
         "for each of 240 rows, not shape (3,) of bool"),
        (changed("validation_N", [True]), "validation_N must be a tensor of bool with one value for each of "
         "240 rows, not list"),
        (changed("fingerprint", ""), "fingerprint is empty: write suites.sources.fingerprint(x_N"),
    ],
)  # fmt: skip
def test_an_invalid_data_set_is_an_error_of_one_line(change: Callable[[Data], Data], says: str) -> None:
    whole = re.escape(f"suite odd, data set blobs: {says}")
    refused(whole, of(lambda: change(with_domains())).load)
    # A data set that the suite did not load is checked too.
    odd = change(with_domains())
    refused(re.escape(says), of(with_domains).stream, odd, "class", 0, TOY.training)


@pytest.mark.parametrize(
    ("load", "change", "says"),
    [
        (sentences, changed("texts", float("nan"), 4), 'texts: row 4 holds nan, not text: write str (""'),
        (sentences, lambda d: replace(d, texts=d.texts[:-1]), "texts has 239 entries for 240 rows"),
        (sentences, changed("texts", torch.zeros(240)), "texts must be a tuple of str, not Tensor"),
        (codes, changed("targets", None, 7), "targets: row 7 holds None, not text"),
        (codes, changed("y_N", 1, 3), "y_N: row 3 is 1, but class_names has names"),
        (codes, changed("texts", ()), "targets are given without texts"),
        (codes, changed("prefixes", ("german: ",)), "prefixes has 1 entries for 2 domains"),
    ],
)
def test_invalid_texts_are_an_error_of_one_line(
    load: Callable[[], Data], change: Callable[[Data], Data], says: str
) -> None:
    refused(re.escape(says), of(lambda: change(load())).load)


def own(**fields: Any) -> Split:
    """Return the toy's split with changed fields in its second task."""

    def split(data: Data, scenario: Scenario, seed: int, training: Training) -> Stream:
        made = TOY.split(data, scenario, seed, training)
        first, second = made.tasks
        values = {name: change(second, made) for name, change in fields.items()}
        return replace(made, tasks=(first, replace(second, **values)))

    return split


def none(_: Task, __: Stream) -> torch.Tensor:
    return torch.empty(0, dtype=torch.int64)


def unlearned(y: int, part: slice) -> Callable[[], Data]:
    """Return a loader of the toy in which a part has no rows of a class: they get class 0."""

    def load() -> Data:
        data = blobs()
        y_N = data.y_N.clone()
        y_N[part][y_N[part] == y] = 0
        return replace(data, y_N=y_N)

    return load


@pytest.mark.parametrize(
    ("suite", "says"),
    [
        (of(blobs, by_class(3)), "4 classes cannot be split into 3 equal tasks"),
        (of(blobs, by_domain()), "blobs has no domains: by_domain needs domain_N and domain_names"),
        (of(with_domains, by_domain((("A", "C"),))), "unknown domain of blobs 'C'"),
        (of(sentences, by_permutation(2)), "sentences has texts: only pixels can be permuted or rotated"),
        (of(lambda: replace(blobs(), x_N=blobs().x_N.flatten(1)), by_rotation(2)), "rotated, not (64,)"),
        (of(unlearned(3, slice(160)), by_class(4)), "(classes: blob 3) has no training rows: none of the"),
        (of(unlearned(3, slice(160, None)), by_class(4)), "(classes: blob 3) has no test rows: add"),
        (of(blobs, own(train_rows=none)), "has no training rows left: validation holds out"),
        (of(blobs, own(validation_rows=none)), "has no validation rows: hold out some training rows, or"),
        (of(blobs, own(test_rows=lambda t, s: t.test_rows - 240)), "test_rows must be from 240 to 479"),
        (of(blobs, own(test_rows=lambda t, s: t.test_rows.float())), "test_rows must be row numbers"),
        (of(blobs, own(test_rows=lambda t, s: s.tasks[0].test_rows + 240)), "of the data set have no class"),
        (of(blobs, own(classes=lambda t, s: (0, 4))), "has classes (0, 4), but the data set has 4"),
        (of(blobs, lambda *_: {}["x"]), "suite odd, scenario class, seed 0: KeyError: 'x'"),
        (of(blobs, lambda *_: None), "suite odd: split must return a Stream, not NoneType"),  # type: ignore[arg-type,return-value]
        (of(lambda: None), "suite odd: load must return a Data, not NoneType"),
        (of(lambda: [][1]), "suite odd: IndexError: list index out of range"),
    ],
)  # fmt: skip
def test_an_invalid_split_stops_run_and_dry_run(suite: Suite, says: str, tmp_path: Path) -> None:
    model = "tiny-bert" if "has texts" in says else "mlp"
    request = Request("odd", ("finetune",), settings={"model": model})
    with registered(suite):
        refused(re.escape(says), resolve_for, [request], None, OPTIONS, download=False)
        refused(re.escape(says), ran, tmp_path / "run", request)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_does_not_check_data_that_is_not_available() -> None:
    with registered(of(Mock(side_effect=Unavailable("not here")), by_class(3))):
        assert len(resolve_for([Request("odd", ("finetune",))], None, OPTIONS, download=False).groups) == 1


@pytest.mark.parametrize("split", [by_permutation(3), by_rotation(3)])
def test_rows_of_no_class_are_in_no_task_of_permutations_and_rotations(split: Split) -> None:
    """An earlier version used them as rows of the last class."""
    suite = of(lambda: changed("y_N", -1, [170, 231])(blobs()), split)
    for scenario in ("task", "domain", "class"):
        made = suite.stream(suite.load(), scenario, 0, TOY.training)
        for task in made.tasks:
            rows = torch.cat([task.train_rows, task.validation_rows, task.test_rows])
            assert sorted(made.data.index_of(rows).tolist()) == [r for r in range(240) if r not in (170, 231)]
        # Every task has them in its own view.
        assert made.outside_rows.tolist() == [t * 240 + r for t in range(3) for r in (170, 231)]


def test_tasks_without_validation_rows_are_valid_with_validation_0() -> None:
    training = replace(TOY.training, validation=0.0)
    made = of(blobs, by_class(2)).stream(blobs(), "class", 0, training)
    assert [len(task.validation_rows) for task in made.tasks] == [0, 0]


def test_a_data_set_is_checked_once_and_a_changed_copy_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = blobs(), Mock(return_value=())
    monkeypatch.setattr(checks, "_of_data", asked)
    suite = of(lambda: data)
    again = replace(suite, name="again")
    for seed in range(3):
        again.stream(suite.load(), "class", seed, TOY.training)
    assert asked.call_count == 1
    again.stream(replace(data, scale=1.0), "class", 0, TOY.training)
    assert asked.call_count == 2
    assert suite.load() is again.load() is data


@pytest.mark.slow
def test_an_invalid_suite_of_a_user_s_file_exits_with_2_and_one_line(tmp_path: Path) -> None:
    text = "from dataclasses import replace\nfrom lethe.testing import TOY, blobs\n"
    text += "MINE = replace(TOY, name='mine', load=lambda: replace(blobs(), y_N=blobs().y_N + 1))\n"
    (tmp_path / "mine.py").write_text(text)
    for more in ("--dry-run", f"--out {tmp_path / 'run'}"):
        done = process(f"run {tmp_path / 'mine.py'}:MINE -s finetune --seeds 1 {more}")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "suite mine, data set blobs: y_N: rows 3, 7, 11 and 57 more are 4" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_suite_whose_data_takes_long_says_what_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("suites.announce.PATIENCE", 0.05)
    data = blobs()

    def load() -> Data:
        time.sleep(0.5)
        return data

    TOY.load()
    assert capsys.readouterr().err == ""
    replace(TOY, load=load).load()
    assert capsys.readouterr().err == "reading the data of toy ...\n"
