"""Reading files of the hub: from a small local mirror, from the real one, and without any."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import suites
from suites import published_data, sources, statistics
from suites.errors import Unavailable
from suites.mnist import MNIST
from suites.own.hub import opened
from suites.published_data import load as load_published
from tests.conftest import refused

TINY = replace(MNIST, place="hub:someone/tiny@main", class_names=("a", "b"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    published_data._loaded.cache_clear()
    return tmp_path / "cache"


def mirror(folder: Path, channels: int = 1) -> np.ndarray[Any, Any]:
    """Write a mirror of six images as `datasets` does; return their pixels."""
    import datasets
    from PIL import Image

    shape = (6, 5, 4) if channels == 1 else (6, 5, 4, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for split, part in (("train", slice(0, 4)), ("test", slice(4, 6))):
        rows = {"image": [Image.fromarray(p) for p in pixels[part]], "label": [i % 2 for i in range(6)][part]}
        path = folder / "someone/tiny/mnist"
        path.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path / f"{split}.parquet")
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_a_mirror_are_read_exactly(
    tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = mirror(tmp_path / "m", channels)
    monkeypatch.setenv("LETHE_DATA", str(tmp_path / "m"))
    data = load_published(TINY)
    expected = pixels[:, None] if channels == 1 else pixels.transpose(0, 3, 1, 2)
    assert np.array_equal(data.x_N.numpy(), expected)
    assert data.x_N.is_contiguous()
    assert (data.y_N.tolist(), data.n_train) == ([0, 1, 0, 1, 0, 1], 4)


def test_the_cache_is_used_and_replaced_if_damaged(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(tmp_path / "m")
    monkeypatch.setenv("LETHE_DATA", str(tmp_path / "m"))
    first = load_published(TINY)
    (cached,) = own_cache.glob("declared/*.arrow")
    converted = Mock(wraps=published_data._read)
    monkeypatch.setattr(published_data, "_read", converted)
    published_data._loaded.cache_clear()
    assert load_published(TINY).fingerprint == first.fingerprint
    assert converted.call_count == 0
    whole = cached.read_bytes()
    for damage in (whole[:50], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        cached.write_bytes(damage)
        published_data._loaded.cache_clear()
        assert load_published(TINY).fingerprint == first.fingerprint
        assert cached.read_bytes() == whole
    assert converted.call_count == 3


def test_without_network_and_mirror_the_error_says_what_to_do(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.socket, "getaddrinfo", Mock(side_effect=OSError("no address")))
    loads = [suites.get(name).load for name in ("clinc150", "banking77", "trec", "newsgroups", "text5")]
    for load in (lambda: load_published(TINY), *loads):
        says = "connect to the network, or set LETHE_DATA or --data to a folder"
        refused(says if load in loads else rf"{says}.*someone/tiny/mnist/train\.parquet", load)
    assert not own_cache.exists()


def test_within_without_hub_nothing_is_downloaded(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.socket, "getaddrinfo", asked := Mock())
    with sources.without_hub(), pytest.raises(Unavailable, match="downloads are off"):
        load_published(TINY)
    asked.assert_not_called()
    assert sources.hub_in_reach() is None or "OFFLINE" in str(sources.hub_in_reach())


COMMITTED = json.loads(statistics.PATH.read_text())


def test_the_committed_statistics_of_digits_are_right() -> None:
    assert statistics.describe(statistics.SOURCES["digits"]()) == COMMITTED["digits"]


@pytest.mark.parametrize("name", sorted({*COMMITTED} - {"digits"}))
@pytest.mark.usefixtures("real_data")
def test_the_committed_statistics_of_real_data_are_right(name: str) -> None:
    assert statistics.describe(statistics.SOURCES[name]()) == COMMITTED[name]


def test_replay_forgets_less_than_finetune_on_real_mnist(real_data: str, tmp_path: Path) -> None:
    """A few steps of split-mnist: finetune learns each task, and er has a higher final accuracy."""
    import bench

    settings = {"iterations": 100, "hidden": 50, "score_every": 0}
    frames = bench.run("split-mnist", ["finetune", "er"], seeds=2, out=tmp_path / "r", settings=settings)
    scores = frames.scores.pivot_table(index="identity", columns="score", values="value")
    assert scores.loc["finetune", "learning_acc"] > 0.9
    assert scores.loc["er", "acc"] > scores.loc["finetune", "acc"] + 0.2


def test_without_the_hub_its_cache_is_read_in_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    pixels = mirror(tmp_path / "mirror")
    for revision in ("older", "main"):
        folder = tmp_path / "hub" / "someone___tiny" / "mnist" / "0.0.0" / revision
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            file = str(tmp_path / f"mirror/someone/tiny/mnist/{split}.parquet")
            rows = datasets.Dataset.from_parquet(file, cache_dir=str(tmp_path / "scratch"))
            if revision == "main":
                rows.save_to_disk(tmp_path / split)
                arrow = (tmp_path / split / "data-00000-of-00001.arrow").read_bytes()
                (folder / f"tiny-{split}.arrow").write_bytes(arrow)
                (folder / "tiny-dev-00000-of-00001.arrow").write_bytes(arrow)
        splits = {"train": {}, "dev": {}, "test": {}}
        (folder / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (load_published(TINY).x_N[:, 0].numpy() == pixels).all()
    refused("HF_HUB_OFFLINE is set", load_published, replace(TINY, place="hub:someone/tiny@another"))
    with opened(TINY) as splits:
        assert {split: len(rows) for split, rows in splits.items()} == {"train": 4, "dev": 2, "test": 2}


def test_behind_a_proxy_names_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", Mock(side_effect=OSError))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert sources.hub_in_reach() == "no network"
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert sources.hub_in_reach() is None
    monkeypatch.setenv("no_proxy", "huggingface.co")
    assert sources.hub_in_reach() == "no network"
