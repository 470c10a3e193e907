"""Data sets of users: equal to built-in suites cell by cell, in every format, refused with the row."""

import csv
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import lethe
import suites
from bench.plan import Request, read_experiment
from bench.report.parts import stem
from bench.store import RunReader, staleness_of
from suites.base import Data, Training
from suites.cache import cache_folder
from suites.declared import parsed, suite_named
from suites.own import loaded as own_data, suite as own_suite
from suites.own.declaration import Declaration
from suites.own.loaded import drawn_test_rows
from suites.own.portrait import portrait
from tests.conftest import Command, Refuses, ran, refused

Rows = Sequence[Sequence[Any]]
HEADER = ("text", "label", "month", "split")
REVIEWS = [
    (f"{word} {n}", label, f"2024-0{m}", "test" if n > 3 else "train")
    for m in (2, 1) for n in range(6) for word, label in (("good", "positive"), ("bad", "negative"))
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(name: str, rows: Rows = REVIEWS, header: Sequence[str] = HEADER) -> str:
    """Write a table in the format that its name says; return the name."""
    import datasets

    frame = [dict(zip(header, row, strict=True)) for row in rows]
    if name.endswith((".csv", ".tsv")):
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",").writerows([header, *rows])
    elif name.endswith(".json"):
        Path(name).write_text(json.dumps(frame))
    elif name.endswith(".jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in frame))
    else:
        datasets.Dataset.from_list(frame).to_parquet(name)
    return name


def load(name: str) -> Data:
    return suites.get(name).load()


def test_sentiment_domains_as_one_csv_have_the_same_r(real_data: str, here: Path) -> None:
    data = load("sentiment-domains")
    splits = ["train"] * data.n_train + ["test"] * (len(data.texts) - data.n_train)
    labels = [data.class_names[c] for c in data.y_N.tolist()]
    assert data.domain_N is not None
    domains = [data.domain_names[d] for d in data.domain_N.tolist()]
    write("all.csv", list(zip(data.texts, labels, domains, splits, strict=True)))
    own = suite_named("all.csv", {"text": "text", "task": "month", "split": "split", "order": "shuffled"})
    assert load(own).fingerprint == data.fingerprint
    settings = {"model": "tiny-bert", "max_tokens": "16", "rows_per_class": "4", "epochs": "2"}
    asked = [Request(name, ("er",), ("domain",), (0, 1), settings) for name in ("sentiment-domains", own)]
    ran(here / "run", *asked)
    same_results(here / "run", "sentiment-domains", own, 2)


def same_results(folder: Path, one: str, other: str, n: int) -> None:
    """Assert that two suites have the same R, and its counts, in each of n cells."""
    cells: dict[str, dict[Any, Any]] = {one: {}, other: {}}
    for record in RunReader(folder).each(lambda record: record).values():
        spec = record["spec"]
        cells[spec["suite"]][spec["scenario"], spec["identity"], spec["seed"]] = (
            record["test"],
            record["validation"],
        )
    assert len(cells[one]) == n
    assert cells[one] == cells[other]


def write_digits(folder: Path, by_metadata: bool) -> None:
    """Write scikit-learn's digits as images, grey values times 15, in the order of the suite."""
    from PIL import Image

    data = load("digits")
    lines = []
    for n, (x, y) in enumerate(zip(data.x_N.numpy(), data.y_N.tolist(), strict=True)):
        split = "train" if n < data.n_train else "test"
        path = folder / (f"{n:04}.png" if by_metadata else f"{split}/{y}/{n:04}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0] * 15).save(path)
        lines.append((path.name, y, split))
    if by_metadata:
        write(str(folder / "metadata.csv"), lines, ("file_name", "digit", "part"))


@pytest.mark.slow
@pytest.mark.parametrize("by_metadata", [False, True])
def test_digits_as_a_folder_of_images_have_the_same_r(by_metadata: bool, here: Path) -> None:
    write_digits(here / "images", by_metadata)
    columns = {"label": "digit", "split": "part"} if by_metadata else {}
    own = suite_named("images", {"scale": 240, **columns})
    data, built_in = load(own), load("digits")
    assert (data.fingerprint, data.scale) == (built_in.fingerprint, 16.0)
    settings = {"model": "mlp", "hidden": "20", "layers": "1", "epochs": "1", "rows_per_class": "20"}
    asked = [Request(s, ("er",), ("class",), (0, 1), settings) for s in ("digits", own)]
    ran(here / "run", *asked)
    same_results(here / "run", "digits", own, 2)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_data(suffix: str) -> None:
    data = load(f"{write(f'r.{suffix}')}[text=text,task=month,split=split]")
    assert data.class_names == ("negative", "positive")
    assert data.domain_names == ("2024-02", "2024-01"), "tasks are in order of their first row"
    train = [row for row in REVIEWS if row[3] == "train"]
    assert data.texts[: data.n_train] == tuple(row[0] for row in train)
    assert [data.class_names[c] for c in data.y_N[: data.n_train].tolist()] == [row[1] for row in train]
    assert load(f"r.{suffix}[text=text,task=month,split=split,sorted=true]").domain_names[0] == "2024-01"


def test_numbers_and_text_that_pandas_takes_for_missing_stay_what_they_are() -> None:
    rows = [(word, label) for label in ("NA", "null", "01", "1") for word in ("None", "NaN", "x", "y", "z")]
    data = load(f"{write('r.csv', rows, HEADER[:2])}[text=text,classes=2]")
    assert data.class_names == ("01", "1", "NA", "null")
    assert {"None", "NaN"} <= {*data.texts}
    ints = [(f"t{n}", n % 12) for n in range(48)]
    assert load(f"{write('i.jsonl', ints, HEADER[:2])}[text=text]").class_names == tuple(map(str, range(12)))


def test_files_of_arrays_are_images_or_features(here: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 4
    np.savez("a.npz", x=x, y=y)
    data = load("a.npz")  # needs no option
    assert (data.x_N.shape, data.scale, data.class_names) == ((60, 3, 8, 8), 255.0, ("0", "1", "2", "3"))
    assert data.n_train == 48
    from safetensors.numpy import save_file

    floats = random.normal(size=(60, 5)).astype(np.float32)
    of_tasks = {"x_train": floats[:40], "y_train": y[:40], "x_test": floats[40:], "y_test": y[40:]}
    save_file(of_tasks, "b.safetensors")
    data = load("b.safetensors")
    assert torch.equal(data.x_N, torch.from_numpy(floats)[:, None, None])
    assert data.n_train == 40
    outcome = ran(here / "run", Request("b.safetensors", ("er",), settings={"epochs": "1"}))
    assert outcome.counts == {"done": 1}


def test_photos_are_resized_and_grey_ones_become_colours(here: Path) -> None:
    from PIL import Image

    for n in range(24):
        path = here / f"photos/{'ab'[n % 2]}{n % 4 // 2}/{n}.{'png' if n % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if n % 5 == 0 else "RGB", (10 + n, 12), 100).save(path)
    (here / "photos/.DS_Store").write_bytes(b"x")
    data = load(suite_named("photos", {"size": 8}))
    assert (data.x_N.shape, data.class_names) == ((24, 3, 8, 8), ("a0", "a1", "b0", "b1"))
    refused(r"row 2 .*photos/b0/1.png\): the image has 12 x 11 pixels, and 12 x 10 in row 1.*--size 12",
            load, suite_named("photos/", {"scale": 255}))  # fmt: skip
    refused("a folder for each class has no label column: write ./photos/metadata.csv",
            load, suite_named("photos", {"size": 8, "label": "kind"}))  # fmt: skip


def test_test_rows_are_a_share_of_each_task_and_class_and_the_same_for_all_seeds() -> None:
    stratum_N = torch.tensor([0] * 10 + [1] * 3 + [2] + [3] * 2)
    is_test = drawn_test_rows(stratum_N, 0.3, 5)
    assert stratum_N[is_test].bincount(minlength=4).tolist() == [3, 1, 0, 1]
    assert not torch.equal(is_test, drawn_test_rows(stratum_N, 0.3, 6))
    write("r.csv")
    suite = suites.get("r.csv[text=text,task=month,test=0.25]")
    data, test_rows = suite.load(), set()
    for seed in (0, 1):
        stream = suite.stream(data, "domain", seed, Training())
        test_rows.add(tuple(tuple(task.test_rows.tolist()) for task in stream.tasks))
        assert [len(task.test_rows) for task in stream.tasks] == [4, 4], "round(0.25 * 6) of each class"
    assert len(test_rows) == 1
    assert load("r.csv[text=text,task=month,test=0.25,test_seed=1]").texts != data.texts


DAYS = [
    (f"{d} {n}", "ab"[n % 2], f"2024-{d}", "")
    for d in ("03-05", "01-01", "01-20", "02-10", "02-11", "03-06")
    for n in range(8)
]


def test_time_makes_tasks_and_splits() -> None:
    write("r.csv", DAYS)
    months = load("r.csv[text=text,task=month,bins=month,test_last=0.5]")
    assert months.domain_names == ("2024-01", "2024-02", "2024-03")
    january = [t for t in months.texts[months.n_train :] if t.startswith("01")]
    assert january == [f"01-20 {n}" for n in range(8)], "the last half in time, rows of a day together"
    halves = load("r.csv[text=text,task=month,bins=2]")
    assert halves.domain_names == ("2024-01-01 to 2024-02-10", "2024-02-11 to 2024-03-06")
    later = load("r.csv[text=text,test_from=2024-02-01,time=month,tasks=1]")
    assert {t[:2] for t in later.texts[later.n_train :]} == {"02", "03"}
    assert load("r.csv[text=text,task=month,bins=week]").domain_names[0] == "2024-W01"
    assert load("r.csv[text=text,task=month,bins=day]").domain_names[-1] == "2024-03-06"
    refused("all rows are in the task '2024-Q1'", load, "r.csv[text=text,task=month,bins=quarter]")


def test_a_column_and_classes_divide_each_task() -> None:
    rows = [(f"{m}{c}{n}", f"{m}{c}", m, "") for m in "xy" for c in "abcd" for n in range(5)]
    data = load(f"{write('r.csv', rows)}[text=text,task=month,classes=2]")
    assert data.domain_names == ("x: xa, xb", "x: xc, xd", "y: ya, yb", "y: yc, yd")
    suite = suites.get("r.csv[text=text,task=month]")
    assert suite.scenarios == ("task", "class", "online")
    refused(
        r"no domain scenario \(its tasks must share two classes .* share none\)",
        suite.check_scenario,
        "domain",
    )
    assert suites.get(f"{write('s.csv')}[text=text,task=month]").usual_scenario == "domain"


def test_options_of_splits_are_in_the_same_brackets() -> None:
    write("r.csv")
    name = "r.csv[rows=3,text=text,order=fixed,task=month,noise=0.0]"
    assert suites.REGISTRY.spelled(name) == "./r.csv[rows=3,task=month,text=text]"
    suite = suites.get(name)
    stream = suite.stream(suite.load(), "domain", 0, Training())
    assert [len(task.train_rows) + len(task.validation_rows) for task in stream.tasks] == [3, 3]
    assert (
        suites.REGISTRY.spelled("r.csv[task=month,text=text]@tuning")
        == "./r.csv[task=month,text=text]@tuning"
    )
    refused("unknown option of ./r.csv 'rowz'; did you mean rows", suites.get, "r.csv[text=text,rowz=3]")


@pytest.mark.parametrize(
    "odd", ["a, b", 'say "it"', "[x]", "a=b", "a+b", " space ", "naïve ☃", "\\", "@tuning", "two\nlines"]
)
def test_names_with_any_columns_are_read_as_written(odd: str) -> None:
    made = Declaration("./r.csv", text=(odd, "text"), task=odd, of_split=(("rows", "3"),))
    assert parsed(made.name) == made
    assert suites.REGISTRY.is_declared(made.name)
    assert "/" not in stem(made.name, "class")
    write("r.csv", [(*row, row[0]) for row in REVIEWS], ("text", "label", odd, "split", "more"))
    assert load(made.name).domain_names == ("2024-02", "2024-01")


FAULTS: dict[str, tuple[Callable[[], object], str, str]] = {
    "missing label": (
        lambda: write("r.csv", [*REVIEWS, ("a", "", "2024-01", "train")]),
        "[text=text]", r"row 25 \(line 26\): the label is missing",
    ),
    "missing label of a row of a list": (
        lambda: write("r.json", [*REVIEWS, ("a", "", "2024-01", "train")]),
        "[text=text]", "row 25: the label is missing",
    ),
    "fewer columns": (
        lambda: Path(write("r.csv")).write_text("text,label\na,b\nc\n"),
        "[text=text]", r"row 2 \(line 3\) has 1 columns, the header 2",
    ),
    "more columns after a text of two lines": (
        lambda: Path(write("r.csv")).write_text('text,label\n"a\nb",b\n\nc,d,e\n'),
        "[text=text]", r"row 2 \(line 5\) has 3 columns, the header 2",
    ),
    "encoding": (
        lambda: Path(write("r.csv")).write_bytes(b"text,label\na,b\ncaf\xe9,b\n"),
        "[text=text]", r"line 3 is not UTF-8 \(byte 4 of the line\)",
    ),
    "open quote": (
        lambda: Path(write("r.csv")).write_text('text,label\na,b\n"c,b\n'),
        "[text=text]", "the row that begins on line 3: unexpected end of data",
    ),
    "null": (
        lambda: Path(write("r.csv")).write_bytes(b"text,label\na\0,b\n"), "[text=text]", "line 2 has a null",
    ),
    "header twice": (
        lambda: Path(write("r.csv")).write_text("text,text,label\na,a,b\n"), "[text=text]", "'text' twice",
    ),
    "semicolons": (
        lambda: Path(write("r.csv")).write_text("text;label\na;b\n"), "[text=text]", "separated by ';'",
    ),
    "no rows": (lambda: Path(write("r.csv")).write_text("text,label\n"), "[text=text]", "has no rows"),
    "no column": (lambda: write("r.csv"), "[text=texts]", "unknown column .* 'texts'; did you mean text"),
    "mixed types": (
        lambda: write("r.jsonl", [("a", 1, "", ""), ("b", "1", "", "")]),
        "[text=text]", r'row 2 \(line 2\): label is "1", and 1 in row 1: write numbers or text',
    ),
    "no object": (lambda: Path("r.jsonl").write_text("[1]\n"), "[text=text]", "row 1 is not an object"),
    "no json": (
        lambda: Path("r.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": \n'), "[text=text]",
        "line 2 is not JSON",
    ),
    "a name twice": (
        lambda: Path("r.jsonl").write_text('{"text": "a", "label": "b", "label": "c"}\n'), "[text=text]",
        "line 1 is not JSON: a name is twice in text, label, label",
    ),
    "decimal label": (
        lambda: write("r.parquet", [("a", 1.0, "", ""), ("b", 1.5, "", "")]),
        "[text=text]", r"row 2: label is 1.5: a class is a word or a whole number",
    ),
    "parquet that is not UTF-8": (
        lambda: Path(write("r.parquet", [("caf_", "a", "", ""), ("b", "c", "", "")])).write_bytes(
            Path("r.parquet").read_bytes().replace(b"f_", b"f\xe9")
        ),
        "[text=text]", "row 1: text is not UTF-8",
    ),
    "only in test": (
        lambda: write("r.csv", [*REVIEWS, ("a", "new", "2024-01", "test")]),
        "[text=text,task=month,split=split]", r"row 25 \(line 26\): no training row has the label 'new'",
    ),
    "odd split": (
        lambda: write("r.csv", [*REVIEWS, ("a", "positive", "2024-01", "held")]),
        "[text=text,split=split]", r"row 25 \(line 26\): the split 'held' is none of",
    ),
    "no test rows": (
        lambda: write("r.csv", REVIEWS[:4]), "[text=text,split=split]", "all rows are in the split train",
    ),
    "one row": (
        lambda: write("r.csv", [*REVIEWS, ("a", "positive", "2024-03", "train")]),
        "[text=text,task=month]", r"row 25 \(line 26\): task '2024-03' of 1 row has no test row",
    ),
    "no validation rows": (
        lambda: write("r.csv", [*REVIEWS, ("a", "positive", "2024-01", "val")]),
        "[text=text,task=month,split=split]", "task '2024-02' of 12 rows has no validation row",
    ),
    "one class": (lambda: write("r.csv", REVIEWS[::2]), "[text=text]", "all rows have the class 'positive'"),
    "one task of all classes": (
        lambda: write("r.csv"), "[text=text]",
        "2 classes, which cannot be divided into equal tasks of 2: write classes=1",
    ),
    "no date": (
        lambda: write("r.csv", [*REVIEWS, ("a", "positive", "May", "train")]),
        "[text=text,task=month,bins=month]",
        r"row 25 \(line 26\): month is 'May', not a date like 2024-05-31",
    ),
    "no file": (lambda: None, "[text=text]", "no such file: ./r.csv"),
    "no text": (lambda: write("r.csv"), "", "say which column is read: --text COLUMN"),
    "two splits": (lambda: None, "[text=text,split=a,test=0.2]", "choose one of split and test"),
    "bins": (lambda: None, "[text=text,task=a,bins=decade]", "bins must be year, quarter, month"),
    "share": (lambda: None, "[text=text,test=1.5]", "test shares are between 0 and 1, not 1.5"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_rows_are_refused_in_one_line_with_the_row(fault: str) -> None:
    make, options, says = FAULTS[fault]
    make()
    there = [f for f in ("r.csv", "r.json", "r.jsonl", "r.parquet") if Path(f).exists()]
    refused(says, suites.get, f"{there[-1] if there else 'r.csv'}{options}")


@pytest.mark.slow
def test_bad_images_and_arrays_are_refused_with_the_row(here: Path) -> None:
    write_digits(here / "images", by_metadata=False)
    bad = here / "images/train/3/0003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    refused(r"row 4 \(images/train/3/0003.png\): the image cannot be decoded", load, "images/")
    (here / "images/loose.png").write_bytes(b"")
    refused("loose.png is not at ./images/CLASS/IMAGE|is not at ./images/SPLIT/CLASS/IMAGE", load, "images/")
    np.savez("a.npz", x=np.array([[1.0], [np.nan], [2.0]]), y=np.array([0, 1, 1]))
    refused("row 2: x has NaN or infinite values", load, "a.npz")
    np.savez("b.npz", x=np.zeros((3, 1)), y=np.array([0, 1]))
    refused(r"y has shape \(2,\) for 3 rows", load, "b.npz")
    np.savez("c.npz", x=np.array([{}]), y=np.array([0]), allow_pickle=True)
    refused("c.npz: cannot be read", load, "c.npz")


def test_own_validation_rows_are_held_out() -> None:
    rows = [*REVIEWS, *((f"held {n}", "positive", f"2024-0{1 + n % 2}", "dev") for n in range(4))]
    suite = suites.get(f"{write('r.csv', rows)}[text=text,task=month,split=split]")
    data = suite.load()
    for task in suite.stream(data, "domain", 3, Training()).tasks:
        held = data.index_of(task.validation_rows).tolist()
        assert len(held) == 2
        assert all(data.texts[n].startswith("held") for n in held)


def test_data_is_read_once_and_again_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{write('r.csv')}[text=text,task=month]"
    first, read = load(name), own_data.read
    monkeypatch.setattr(own_data, "read", lambda d: pytest.fail("read again"))
    own_data._loaded.cache_clear()
    again = load(name)
    for field in ("fingerprint", "texts", "class_names", "domain_names", "n_train"):
        assert getattr(again, field) == getattr(first, field)
    assert torch.equal(again.y_N, first.y_N)
    monkeypatch.setattr(own_data, "read", read)
    write("r.csv", [*REVIEWS, ("more", "positive", "2024-01", "train")])
    os.utime("r.csv", (1, 1))
    assert load(name).fingerprint != first.fingerprint


def test_a_plan_that_asks_for_the_suite_of_every_cell_does_not_look_at_the_files_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("r.csv")
    names = [
        "r.csv[text=text,task=month]",
        "r.csv[text=text,classes=1]",
        "r.csv[text=text,task=month,rows=5]",
    ]
    known = [suites.get(name) for name in names]
    monkeypatch.setattr(own_suite, "loaded", lambda d: pytest.fail("looked at the files"))
    assert [suites.get(name).scenarios for name in names] == [suite.scenarios for suite in known]


def test_portrait_counts_what_makes_numbers_misleading() -> None:
    rows = [("same", "a", "1", "train"), ("same", "a", "1", "test"), ("same", "b", "2", "test"),
            *((f"{t}{s}{n}", "a", t, s) for t in "12" for s in ("train", "test") for n in range(2)),
            *((f"b{n}", "b", "1", "train") for n in range(2))]  # fmt: skip
    name = f"{write('r.csv', rows)}[text=text,task=month,split=split]"
    found = portrait(load(name))
    assert found.rows_TC2.tolist() == [[[3, 3], [2, 0]], [[2, 2], [0, 1]]]
    assert found.duplicates == {"train": 0, "test": 1, "between": 2, "contradicting": 3}
    assert found.untrained == (("2", "b", 1),)
    assert found.drift == [0.4]  # shares 3/5, 2/5 then 1, 0
    assert suites.notes_of(name) == [f"r.csv: {words}" for words in found.warnings]
    assert "2 of 6 test rows have the same input as a training row" in found.warnings[0]


def test_describe_says_what_is_in_a_data_set(here: Path, command: Command, refuses: Refuses) -> None:
    write("r.csv", [*REVIEWS, ("", "positive", "2024-01", "test"), ("good 0", "negative", "2024-01", "test")])
    line = "describe r.csv --text text --task month --split split"
    code, out, _ = command(f"{line} --figure figure.svg")
    assert code == 0
    assert Path("figure.svg").read_text().count("2024-01")
    assert "24 training rows" not in out
    assert "16 training rows, 10 test rows, 2 classes" in out
    assert "characters of a text: smallest 0, median 5.5, mean 5.3, largest 6; 1 empty" in out
    assert "duplicates: 8 within train, 4 within test, 1 test rows are in train, 3 rows with several" in out
    assert "warning: rows without a text, used as empty texts: 1" in out
    assert "no class scenario: every task has all classes" in out
    found = json.loads(command(f"{line} --json")[1])
    assert {"task": "2024-01", "class": "positive", "train": 4, "test": 3} in found["rows"]
    assert (found["empty"], found["drift"], found["scenarios"]) == (1, [0.0], ["task", "domain", "online"])
    refuses("write a name that ends in .svg", f"{line} --figure figure.gif")
    n_train = load("digits").n_train
    assert (
        f"{n_train:,} training rows, {1797 - n_train} test rows, 10 classes" in command("describe digits")[1]
    )


def test_python_takes_frames_and_datasets(here: Path) -> None:
    import datasets

    frame = pd.DataFrame(REVIEWS, columns=HEADER)
    columns = {"text": "text", "task": "month", "split": "split"}
    arguments: dict[str, Any] = {
        "columns": columns,
        "strategies": "finetune",
        "seeds": 1,
        "out": here / "run",
    }
    arguments["settings"] = {"model": "tiny-bert", "epochs": 1}
    (name,) = lethe.run(dataset=frame, **arguments).cells["suite"]
    assert load(name).texts[0] == "good 0"
    (saved,) = cache_folder().glob("frames/*")
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600, "the rows are the user's own"
    parts = {
        s: datasets.Dataset.from_pandas(frame[frame["split"] == s], preserve_index=False)
        for s in ("train", "test")
    }
    both = {split: part.remove_columns("split") for split, part in parts.items()}
    (same,) = lethe.run(dataset=datasets.Dataset.from_pandas(frame), **arguments).cells["suite"]
    assert same == name, "the same rows are the same suite"
    arguments["columns"] = {"text": "text", "task": "month"}
    assert len(lethe.run(dataset=datasets.DatasetDict(both), **arguments).cells) == 2
    frame["label"] = [1, *REVIEWS[0][1:2] * 23]
    refused("number in row 1, str in row 2", lethe.run, dataset=frame, **arguments)
    refused("dataset must be a path, a pandas.DataFrame", lethe.run, dataset=[1], **arguments)
    refused("the data has no column 'month'", lethe.run, dataset=frame[["text", "label"]], **arguments)
    refused("columns describe a dataset", lethe.run, "toy", columns={"text": "a"})


def test_an_experiment_file_declares_a_data_set_beside_it(here: Path) -> None:
    (here / "sub").mkdir()
    write("sub/r.csv")
    toml = here / "sub/e.toml"
    text = (
        '[dataset]\npath = "r.csv"\ntext = ["text"]\ntask = "month"\nrows = 3\n[[run]]\nstrategies = ["er"]\n'
    )
    toml.write_text(text)
    (request,) = read_experiment(toml).requests
    assert request.named_suite == "./sub/r.csv[rows=3,task=month,text=text]"
    assert {cell.scenario for cell in request.cells()} == {"domain"}
    toml.write_text(text.replace("path", "file"))
    refused(r"\[dataset\] has no path", read_experiment, toml)
    toml.write_text("[[run]]" + text.split("[[run]]")[1])
    refused(r"table 1 of \[\[run\]\] has no suite, and there is no \[dataset\]", read_experiment, toml)


@pytest.mark.slow
def test_the_command_line_runs_a_table_and_readers_need_no_file(
    here: Path, command: Command, refuses: Refuses
) -> None:
    write("r.csv")
    line = "run r.csv --text text --label label --task month -s er -s finetune --seeds 1 --out run --jobs 1"
    code, _, err = command(f"{line} --set model=tiny-bert --set epochs=1")
    assert code == 0, err
    write("r.csv", [*REVIEWS, ("more", "positive", "2024-01", "train")])
    own_data._loaded.cache_clear()
    run = RunReader(here / "run")
    assert "the data of ./r.csv" in command("status run")[1]
    code, out, _ = command(f"{line} --set model=tiny-bert --set epochs=1 --dry-run")
    assert (code, out.count("stale, the data of")) == (0, 2)
    (here / "r.csv").unlink()
    assert set(run.each(staleness_of(run).of_record).values()) == {None}
    assert command("status run")[0] == 0
    assert "./r.csv[task=month,text=text]" in str(lethe.load("run").table())
    refuses("text describe a data set, and digits is not one", "run digits --text a -s er --dry-run")
    refuses("no such file: ./r.csv", "run r.csv --text text -s er --dry-run")


PAGES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "kind"), [("own-table", "table"), ("own-images", "images")])
def test_the_page_runs_as_it_is_written(
    page: str, kind: str, here: Path, command: Command, refuses: Refuses
) -> None:
    """Every file is written, every program and command is run, in the order of the page."""
    text = (PAGES / f"{page}.md").read_text()
    n = 0
    for before, language, code in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)```", text, re.DOTALL):
        if language == "toml":
            Path(re.findall(r"`(\w+\.toml)`", before)[-1]).write_text(code)
        elif language == "python":
            exec(compile(code, page, "exec"), {})
        for line in code.splitlines() if language == "sh" else ():
            words = shlex.split(line)[1:] + (["--jobs", "1"] if " run " in line else [])
            status, _, err = command("", *words)
            assert status == 0, f"{line}: {err}"
            n += 1
    assert n >= 4
    assert f"`lethe init {kind}`" in text
    assert command(f"init {kind}")[0] == 0
    status, out, _ = command(f"run {kind}.toml --dry-run")
    assert (status, out.count("seed 4")) == (0, 3)
    refuses(f"{kind}.toml exists already: choose another folder", f"init {kind}")


def test_a_data_set_of_the_hub_is_read_from_a_mirror_and_refused_without(
    here: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    import datasets

    names = datasets.ClassLabel(names=["z", "b", "a", "never"])
    folder = here / "mirror/someone/news/default"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = {"body": [f"{split} {n}" for n in range(9)], "kind": [n % 3 for n in range(9)]}
        made = datasets.Dataset.from_dict(rows).cast_column("kind", names)
        made.to_parquet(folder / f"{split}.parquet")
    name = "hub:someone/news@abc[text=body,label=kind,classes=1]"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = "run hub:someone/news@abc --text body --label kind --classes 1 -s er"
    refuses("cannot download someone/news from the Hugging Face hub", f"{line} --out run")
    assert suites.get(name).scenarios == ("task", "domain", "class", "online"), "not known yet"
    monkeypatch.setenv("LETHE_DATA", str(here / "mirror"))
    suite = suites.get(name)
    data = suite.load()
    assert data.class_names == ("z", "b", "a"), "in the order of the data set"
    assert (data.n_train, data.texts[0], data.texts[9]) == (9, "train 0", "test 0")
    assert len(suite.stream(data, "class", 0, Training()).tasks) == 3
    refuses("name its revision", "run hub:someone/news --text body -s er --dry-run")


@pytest.mark.parametrize(
    ("declared", "built_in"),
    [("hub:ylecun/mnist@77f3279092a1c1579b2250db8eafed0ad422088c[config=mnist,image=image]", "split-mnist"),
     ("hub:cifar100-subset@mirror[image=img,label=fine_label,classes=10]", "split-cifar100-subset")],
)  # fmt: skip
def test_built_in_data_can_be_declared(real_data: str, declared: str, built_in: str) -> None:
    data, known = load(declared), load(built_in)
    assert (data.fingerprint, data.class_names) == (known.fingerprint, known.class_names)
    assert suites.get(declared).options == suites.get(built_in).options
