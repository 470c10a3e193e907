"""Reading texts: from small local mirrors, from the real one, and without any."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import suites
from suites import docstrings, published_data
from suites.base import Training
from suites.errors import Unavailable
from suites.intents import BANKING77, CLINC150
from suites.own import hub
from suites.own.cleaning import bare_posts
from suites.published_data import Published, load, load_joined
from suites.sentiment import DOMAINS, SENTIMENT
from suites.topics import NEWSGROUPS, TEXT5, TEXT5_ORDERS, TREC
from tests.conftest import refused

TINY = Published("hub:someone/tiny@main", text=("text",), class_names=("for", "against"))
ROWS = {"train": [("good", "for"), ("bad", "against"), ("fine", "for")], "test": [("poor", "against")]}
TEXT_SUITES = (
    "clinc150", "clinc150-15", "banking77", "sentiment-domains",
    "trec", "newsgroups", "newsgroups-10", "text5", "docstrings",
)  # fmt: skip


Rows = dict[str, list[tuple[Any, ...]]]
"""Split -> texts and label of each row."""


def write(
    folder: Path, rows: Rows, names: Sequence[str] = (), columns: tuple[str, ...] = ("text", "label"),
    where: str = "someone/tiny/default",
) -> None:  # fmt: skip
    """Write a mirror as `datasets` does; with names, labels are of type ClassLabel."""
    import datasets

    for split, of_split in rows.items():
        of_columns = dict(zip(columns, map(list, zip(*of_split, strict=True)), strict=True))
        made = datasets.Dataset.from_dict(of_columns)
        if names:
            made = made.cast_column(columns[-1], datasets.ClassLabel(names=list(names)))
        (folder / where).mkdir(parents=True, exist_ok=True)
        made.to_parquet(folder / where / f"{split}.parquet")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LETHE_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("names", [("for", "against"), ("against", "for"), ()])
def test_classes_are_matched_by_name(mirror: Path, names: tuple[str, ...]) -> None:
    """The order of classes does not depend on how a copy numbers them."""
    write(mirror, ROWS, names)
    data = load(TINY)
    assert (data.texts, data.y_N.tolist()) == (("good", "bad", "fine", "poor"), [0, 1, 0, 1])
    assert (data.n_train, data.class_names) == (3, ("for", "against"))
    assert (tuple(data.x_N.shape), data.x_N.dtype) == ((4, 0), torch.uint8)


def test_label_names_map_other_labels_of_a_column(mirror: Path) -> None:
    write(mirror, {split: [(t, 1 if n == "for" else 2) for t, n in pairs] for split, pairs in ROWS.items()})
    refused(
        "row 1 of its train split, row 3 .* label '1' is unknown; known .* for, against",
        load,
        TINY,
    )
    assert load(replace(TINY, label_names=("1", "2"))).y_N.tolist() == [0, 1, 0, 1]


def test_text_columns_are_joined_and_empty_texts_retained(mirror: Path) -> None:
    rows = [("A", "b", "for"), (None, "c", "against"), ("", "", "for"), ("Ü", "🦉 x", "for")]
    write(mirror, {"train": rows, "test": rows}, columns=("title", "body", "label"))
    data = load(replace(TINY, text=("title", "body")))
    assert data.texts[:4] == ("A b", "c", "", "Ü 🦉 x")


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ({}, ("sentence", "label"), "unknown column of hub:.* 'text'; there are: label, sentence"),
        ({}, ("text", "class"), "unknown column of hub:.* 'label'; there are: class, text"),
        ({"train": [(1, "for")], "test": [(2, "for")]}, ("text", "label"), "column 'text' contains int64"),
        (
            {"test": [("hm", "neither")]},
            ("text", "label"),
            "row 1 of its test split: the label 'neither' is unknown",
        ),
        ({"train": [("good", "for")]}, ("text", "label"), "no training row of 1 classes: 'against'"),
        ({"train": [("good", None)]}, ("text", "label"), "row 1 of its train split: the label is missing"),
    ],
)
def test_a_mirror_that_does_not_fit_is_refused_with_a_reason(
    mirror: Path, rows: Rows, columns: tuple[str, str], message: str
) -> None:
    write(mirror, ROWS | rows, columns=columns)
    refused(message, load, TINY)


def test_a_row_without_label_is_refused(mirror: Path) -> None:
    write(mirror, {split: [("good", 0), ("bad", 1), ("odd", -1)] for split in ROWS}, ("for", "against"))
    refused("row 3 of its train split.*: the label is missing", load, TINY)


def test_rows_of_no_class_are_only_for_testing(mirror: Path) -> None:
    outside = {split: [("what", "oos"), *pairs, ("eh", "oos")] for split, pairs in ROWS.items()}
    write(mirror, outside, ("oos", "for", "against"))
    data = load(replace(TINY, outside="oos"))
    assert data.texts == ("good", "bad", "fine", "what", "poor", "eh")
    assert (data.y_N.tolist(), data.n_train) == ([0, 1, 0, -1, 1, -1], 3)


def test_rows_are_drawn_the_same_each_time(mirror: Path) -> None:
    many = [(f"text {i}", "for" if i % 2 else "against") for i in range(60)]
    write(mirror, {"train": many, "test": many})
    few = replace(TINY, train_rows=20, test_rows=70)
    data = load(few)
    assert set(data.texts[:20]) < {t for t, _ in many}
    assert (data.n_train, len(set(data.texts[:20])), len(data.texts)) == (20, 20, 80)
    for one, c in zip(data.texts, data.y_N.tolist(), strict=True):
        assert data.class_names[c] == ("for" if int(one.split()[1]) % 2 else "against")
    published_data._loaded.cache_clear()
    assert load(few).fingerprint == data.fingerprint


def test_the_fingerprint_changes_with_texts_labels_and_split(mirror: Path) -> None:
    marks = set()
    for changed in (
        {}, {"test": [("poor ", "against")]}, {"test": [("poor", "for")]},
        {"train": [*ROWS["train"], *ROWS["test"]]},
        {"train": [("goodbad", "for"), ("", "against"), ("fine", "for")]},
    ):  # fmt: skip
        write(mirror, ROWS | changed)
        marks.add(load(TINY).fingerprint)
    assert [len(mark) for mark in marks] == [64] * 5


def test_domains_share_classes_by_name(mirror: Path) -> None:
    write(mirror, ROWS)
    write(mirror, {"train": [("ok", "against"), ("ho", "neutral")], "test": [("hu", "neutral")]}, where="b/c")
    other = replace(TINY, place="hub:b@main", config="c", class_names=("neutral", "against"))
    data = load_joined("two", (("one", TINY), ("two", other)))
    assert data.texts == ("good", "bad", "fine", "ok", "ho", "poor", "hu")
    assert (data.class_names, data.domain_names) == (("for", "against", "neutral"), ("one", "two"))
    assert (data.y_N.tolist(), data.n_train) == ([0, 1, 0, 1, 2, 1, 2], 5)
    assert data.domain_N.tolist() == [0, 0, 0, 1, 1, 0, 1]
    swapped = load_joined("two", (("two", other), ("one", TINY)))
    assert swapped.fingerprint != data.fingerprint


def test_rows_of_no_class_have_none_in_suites_of_domains(mirror: Path) -> None:
    write(mirror, {**ROWS, "test": [("poor", "against"), ("what", "oos")]})
    data = load_joined("one", (("one", replace(TINY, outside="oos")),))
    assert data.y_N.tolist() == [0, 1, 0, 1, -1]


def test_the_pinned_revision_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(*names: str, revision: str) -> Any:
        asked.append((*names, revision))
        splits = {s: {"text": [t for t, _ in p], "label": [n for _, n in p]} for s, p in ROWS.items()}
        return {split: datasets.Dataset.from_dict(columns) for split, columns in splits.items()}

    monkeypatch.setattr(hub, "hub_in_reach", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    data = load(replace(TINY, place="hub:someone/tiny@0123abc"))
    assert data.y_N.tolist() == [0, 1, 0, 1]
    assert asked == [("someone/tiny", "default", "0123abc")]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("sentiment-domains", "fdu-mtl/apparel"), ("multi30k", "multi30k/task1"),
        ("schema-guided-dialogue", "schema-guided-dialogue/buses"),
        ("split-cifar100-subset", "cifar100-subset/default"),
    ],
)  # fmt: skip
def test_without_a_mirror_the_error_says_that_no_hub_has_the_data(
    name: str, folder: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match=rf"the mirror has no .*{folder}/train\.parquet; use a mirror"):
        suites.get(name).load()
    monkeypatch.delenv("LETHE_DATA")
    says = rf"the hub has no copy of {folder.partition('/')[0]} .* set LETHE_DATA .*{folder}/train\.parquet"
    with pytest.raises(Unavailable, match=says):
        suites.get(name).load()


def test_headers_quotes_and_signatures_of_posts_are_removed_once() -> None:
    post = "From: a@b\nSubject: Re: cars\n\nIn article <1> x writes:\n> old\nI like them.\n\n--\nA. Person\n"
    bare = bare_posts([post, post])
    assert [one.strip() for one in bare] == ["I like them."] * 2
    assert bare_posts([*bare, post]) == [*bare, post]  # most posts are bare already: nothing more is removed


def test_text5_has_five_data_sets_in_four_orders(mirror: Path) -> None:
    """Synthetic copies with the columns and labels of the hub: 33 classes, reviews share five."""
    for _, source in TEXT5:
        names = list(source.label_names or source.class_names)
        stars = names[0] == "1"  # Amazon's labels are whole numbers, the others of type ClassLabel
        texts = [[f"{column} {n}" for column in source.text] for n in names]
        rows = [(*of, int(n) if stars else i) for i, (of, n) in enumerate(zip(texts, names, strict=True))]
        where, columns = f"{source.short}/{source.config or 'default'}", (*source.text, source.label_column)
        write(mirror, {"train": rows, "test": rows}, () if stars else names, columns, where)
    suite = suites.get("text5")
    data = suite.load()
    assert len(data.class_names) == 33
    n_classes = {"agnews": 4, "yelp": 5, "amazon": 5, "dbpedia": 14, "yahoo": 10}
    for seed in range(5):
        stream = suite.stream(data, "class", seed, Training(validation=0))
        for task, name in zip(stream.tasks, TEXT5_ORDERS[seed % 4], strict=True):
            domain = data.domain_names.index(name)
            assert (data.domain_N[task.train_rows % len(data.texts)] == domain).all()
            assert len(task.classes) == n_classes[name]
        of = {name: task.units for name, task in zip(TEXT5_ORDERS[seed % 4], stream.tasks, strict=True)}
        assert (of["yelp"], stream.n_units) == (of["amazon"], 33)
    assert suite.stream(data, "task", 0, Training(validation=0)).n_units == 38
    refused("text5 has no domain scenario", suite.stream, data, "domain", 0, Training())
    assert all(sorted(order) == sorted(name for name, _ in TEXT5) for order in TEXT5_ORDERS)


def test_sentiment_domains_has_sixteen_domains(mirror: Path) -> None:
    for domain, _ in SENTIMENT:
        rows = {s: [(f"{domain} {i}", "negative" if i % 2 else "positive") for i in range(6)] for s in ROWS}
        write(mirror, rows, where=f"fdu-mtl/{domain}")
    suite = suites.get("sentiment-domains")
    stream = suite.stream(suite.load(), "domain", 3, suite.training)
    assert (len(stream.tasks), len(DOMAINS), stream.n_units) == (16, 16, 2)
    for task in stream.tasks:
        of_task = [stream.data.texts[row % len(stream.data.texts)] for row in task.test_rows.tolist()]
        assert len({text.split()[0] for text in of_task}) == 1


@pytest.mark.parametrize("name", TEXT_SUITES)
def test_suites_of_texts_have_a_model_and_a_number_of_tokens(name: str) -> None:
    suite = suites.get(name)
    assert suite.model == "minilm"
    assert suite.model_options["max_tokens"] in (64, 128, 256)
    assert suite.needs


@pytest.mark.parametrize(
    ("name", "source", "tasks", "classes"),
    [
        ("clinc150", CLINC150, 10, 15), ("clinc150-15", CLINC150, 15, 10), ("banking77", BANKING77, 7, 11),
        ("trec", TREC, 3, 2), ("newsgroups", NEWSGROUPS, 5, 4), ("newsgroups-10", NEWSGROUPS, 10, 2),
    ],
)  # fmt: skip
def test_classes_of_text_suites_divide_into_tasks(
    mirror: Path, name: str, source: Published, tasks: int, classes: int
) -> None:
    """A synthetic copy with the columns and labels of the hub, with classes in reverse order."""
    labels = list(reversed(source.label_names or source.class_names))
    where = f"{source.short}/{source.config or 'default'}"
    rows = [(f"about {label}", label) for label in labels for _ in range(2)]
    write(mirror, {"train": rows, "test": rows}, (), (source.text[0], source.label_column), where)
    suite = suites.get(name)
    stream = suite.stream(suite.load(), "class", 0, suite.training)
    assert [len(task.classes) for task in stream.tasks] == [classes] * tasks
    of_class = dict(zip(source.class_names, source.label_names or source.class_names, strict=True))
    for text_, c in zip(stream.data.texts, stream.data.y_N.tolist(), strict=True):
        assert text_ == f"about {of_class[source.class_names[c]]}"


def test_names_of_packages_in_docstrings_are_masked() -> None:
    for text_, masked in (
        ("NumPy or np.ndarray, torch_dtype", "[package] or [package].ndarray, [package]_dtype"),
        ("enriched inputs of scikit-learn and Hugging Face", "enriched inputs of [package] and [package]"),
    ):
        assert docstrings.masked(text_) == masked


def made_up_packages(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "") -> None:
    """Write packages with docstrings of functions, classes and modules, under the names that are read."""
    import importlib.machinery
    import importlib.util

    for number, package in enumerate(docstrings.PACKAGES):
        (folder / package / "tests").mkdir(parents=True, exist_ok=True)
        mark = f"kind {number}"  # names are masked, and texts of several packages left out
        body = [f'"""The module {package} of {mark}, of version {version or 0}.\n\nMore of it."""']
        for i in range(30):
            body.append(f'def f{i}():\n    """Return {package}\'s answer to question {i} of {mark}."""')
        body.append('class C:\n    """Too short."""')
        body.append('    def g(self):\n        """A paragraph that all packages have."""')
        (folder / package / "__init__.py").write_text("\n".join(body))
        (folder / package / "broken.py").write_text("def (")
        (folder / package / "tests" / "t.py").write_text('"""A docstring of tests is not for us at all."""')

    def found(name: str) -> importlib.machinery.ModuleSpec:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder / name)]
        return spec

    monkeypatch.setattr(docstrings.importlib.util, "find_spec", found)
    # Tests share a cache: each has its own version.
    monkeypatch.setattr(docstrings.importlib.metadata, "version", lambda name: f"{version}-of-{folder}")
    docstrings.docstrings.cache_clear()


@pytest.fixture(autouse=True)
def fresh() -> Any:
    yield
    docstrings.docstrings.cache_clear()


def test_docstrings_are_distinct_masked_and_limited_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up_packages(tmp_path, monkeypatch)
    monkeypatch.setattr(docstrings, "MOST", 25)
    data = docstrings.docstrings()
    assert data.class_names == docstrings.PACKAGES
    assert max(data.y_N.bincount()) <= 25
    assert len(set(data.texts)) == len(data.texts)
    assert 0.6 * len(data.texts) < data.n_train < len(data.texts)
    unwanted = [*docstrings.PACKAGES, "of tests", "all packages", "\n"]
    assert not [one for one in data.texts if any(word in one.lower() for word in unwanted)]
    docstrings.docstrings.cache_clear()
    assert docstrings.docstrings().fingerprint == data.fingerprint
    monkeypatch.setattr(docstrings, "MOST", 800)
    made_up_packages(tmp_path, monkeypatch, version="2")
    assert docstrings.docstrings().fingerprint != data.fingerprint


def test_docstrings_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are parsed again after a change of a version."""
    made_up_packages(tmp_path, monkeypatch, version="1")
    data = docstrings.docstrings()
    version = docstrings.importlib.metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(docstrings.ast, "parse", Mock(side_effect=AssertionError("a source was parsed")))
        docstrings.docstrings.cache_clear()
        again = docstrings.docstrings()
        assert (again.texts, again.fingerprint) == (data.texts, data.fingerprint)
        for changed in ("scikit-learn", "torch"):
            docstrings.docstrings.cache_clear()
            after = lambda name, changed=changed: version(name) + "+" * (name == changed)  # noqa: E731
            patch.setattr(docstrings.importlib.metadata, "version", after)
            with pytest.raises(AssertionError, match="a source was parsed"):
                docstrings.docstrings()
    made_up_packages(tmp_path, monkeypatch, version="2")
    newer = docstrings.docstrings()
    assert newer.fingerprint != data.fingerprint
    assert any("version 2" in one for one in newer.texts)
    assert not any("version 1" in one for one in newer.texts)


DAMAGES: Any = [lambda b: b[:-40], lambda b: b"", lambda b: b.replace(b"answer", b"answre")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_of_docstrings_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    made_up_packages(tmp_path / "packages", monkeypatch)
    data = docstrings.docstrings()
    (cached,) = (tmp_path / "cache").iterdir()
    whole = cached.read_bytes()
    assert damage(whole) != whole
    cached.write_bytes(damage(whole))
    docstrings.docstrings.cache_clear()
    assert (docstrings.docstrings().fingerprint, cached.read_bytes()) == (data.fingerprint, whole)


def test_docstrings_of_unknown_versions_are_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    made_up_packages(tmp_path / "packages", monkeypatch)
    unknown = Mock(side_effect=docstrings.importlib.metadata.PackageNotFoundError("it"))
    monkeypatch.setattr(docstrings.importlib.metadata, "version", unknown)
    assert docstrings.docstrings().texts
    assert not (tmp_path / "cache").exists()


def test_packages_without_source_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_packages(tmp_path, monkeypatch)
    for path in (tmp_path / "numpy").rglob("*.py"):
        path.unlink()
    with pytest.raises(Unavailable, match="finds no source of numpy"):
        docstrings.docstrings()
    monkeypatch.setattr(docstrings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="the source of datasets, which is not installed"):
        docstrings.docstrings()


@pytest.mark.slow
def test_docstrings_of_installed_packages_make_five_tasks() -> None:
    """Each package has enough rows."""
    suite = suites.get("docstrings")
    data = suite.load()
    counts = data.y_N[: data.n_train].bincount(minlength=10), data.y_N[data.n_train :].bincount(minlength=10)
    assert min(counts[0]) >= 200
    assert min(counts[1]) >= 40
    assert max(counts[0] + counts[1]) <= docstrings.MOST
    stream = suite.stream(data, "class", 0, suite.training)
    assert [len(task.classes) for task in stream.tasks] == [2] * 5
