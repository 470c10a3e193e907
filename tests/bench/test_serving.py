"""Trained models: saved, exported, used to predict, and trained further."""

import csv
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bench
import strategies
from bench import models
from bench.encode import tokens
from bench.export import build as export, load_into, predict_files as rows, predictor as serve
from bench.models import pretrained
from bench.plan import Request
from bench.results.merge import merge
from bench.results.outcome import score_matrix
from bench.schema import Exported
from bench.store import RunFolder, SavedModels, write_tensors
from bench.train import make_lanes, saving
from bench.train.lane_record import make_record
from bench.train.loop import score
from lethe.testing import TOY, TOY_TEXT, blobs, outcome, registered, sentences, toy_cell
from tests.conftest import Command, Refuses, ran, refused, tree

TEXTS = ["an apple", "the ocean and the harbour today", "", "😀 drum", "word " * 300]
TUNED = ("head", "full", "lora", "adapter", "bitfit", "prompt")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images with all models saved."""
    folder = tmp_path_factory.mktemp("images") / "run"
    requests = [Request("toy", ("er", "ncm"), ("class",), (0, 1)), Request("toy", ("er",), ("task",), (0,))]
    assert ran(folder, *requests, keep_models="all").counts == {"done": 5}
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the cached run of one way to tune and to pool."""

    @cache
    def run(tune: str, pooling: str = "mean") -> Path:
        folder = tmp_path_factory.mktemp("texts") / "run"
        few = {"epochs": "1", "rows_per_class": "12", "max_tokens": "48"}
        request = Request("toy-text", ("er",), settings=few | {"tune": tune, "pooling": pooling})
        assert ran(folder, request, keep_models="all").counts == {"done": 1}
        return folder

    return run


@pytest.fixture(params=[*((tune,) for tune in TUNED), ("lora", "own"), ("adapter", "own"), ("head", "first")])
def texts(request: pytest.FixtureRequest, trained: Callable[..., Path]) -> Path:
    """A run of texts for each way to tune and to pool."""
    return trained(*request.param)


def save(run: Path, folder: Path, task: int | None = None, cell: str = "er/0") -> Path:
    """Export a cell of a run."""
    export.save(export.served(run, export.find(run, cell), task), folder)
    return folder


@pytest.fixture
def exported(images: Path, tmp_path: Path) -> Path:
    """An exported model of images."""
    return save(images, tmp_path / "model", cell=key_of(images, "er"))


@pytest.fixture
def exported_texts(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """An exported model of texts, whose LoRA is merged."""
    return save(trained("lora"), tmp_path / "model")


def key_of(run: Path, identity: str, seed: int = 0) -> str:
    """Return the key of a class-incremental cell."""
    specs = {r["key"]: r["spec"] for r in RunFolder(run).records()}
    found = {k: (s["identity"], s["seed"], s["scenario"]) for k, s in specs.items()}
    return next(key for key, of in found.items() if of == (identity, seed, "class"))


def test_models_are_saved_after_every_task(images: Path) -> None:
    saved = SavedModels(images)
    assert len(saved.cells()) == 5
    key = key_of(images, "er")
    assert saved.tasks(key) == [1, 2]
    facts = saved.header(key, 1)
    assert facts.units == [f"blob {c}" for c in range(4)]
    assert sorted(u for own in facts.tasks for u in own) == [0, 1, 2, 3]
    assert (facts.data.name, facts.data.fingerprint) == ("blobs", "blobs-4-0")
    assert set(saved.tensors(key, 1)) == {
        f"model/{layer}.{part}" for layer in ("head", "layers.0") for part in ("weight", "bias")
    }
    assert any(name.startswith("strategy/") for name in saved.tensors(key_of(images, "ncm"), 2))


def test_saving_models_does_not_change_keys_or_records(images: Path, tmp_path: Path) -> None:
    ran(tmp_path, Request("toy", ("er", "ncm"), ("class",), (0, 1)))
    assert not (tmp_path / "models").exists()
    for record in RunFolder(tmp_path).records():
        (same,) = [r for r in RunFolder(images).records() if r["key"] == record["key"]]
        assert outcome(record) == outcome(same)


def test_keep_models_last_saves_only_the_last_task_s_model(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For cells done without saving a model, the run says how to get one."""
    request = Request("toy", ("er",))
    ran(tmp_path, request)
    assert ran(tmp_path, request, quiet=False, keep_models="last").counts == {}
    assert "1 cells were done without saving their models: --force runs them again" in capsys.readouterr().err
    refused("saved no model of er/0", export.find, tmp_path, "er/0")
    ran(tmp_path, request, keep_models="last", force=True)
    key = key_of(tmp_path, "er")
    saved, before = SavedModels(tmp_path), SavedModels(images)
    assert saved.tasks(key) == [2]
    for name, tensor in saved.tensors(key, 2).items():
        assert torch.equal(tensor, before.tensors(key, 2)[name])
    refused(
        "unknown value for --keep-models 'al'; did you mean all", ran, tmp_path, request, keep_models="al"
    )


def test_a_killed_run_resumes_with_all_its_models(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between writing the first task's model and its checkpoint, and after both."""
    request, real = Request("toy", ("er",), ("class",), (0, 1)), saving.save_checkpoint

    def killed(*args: Any) -> None:
        if after:
            real(*args)
        raise KeyboardInterrupt

    for after in (False, True):
        folder = tmp_path / str(after)
        monkeypatch.setattr(saving, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            ran(folder, request, keep_models="all")
        monkeypatch.setattr(saving, "save_checkpoint", real)
        assert len(SavedModels(folder).cells()) == 2
        ran(folder, request, keep_models="all")
        for seed, task in itertools.product((0, 1), (1, 2)):
            ours, theirs = (
                SavedModels(p).tensors(key_of(images, "er", seed), task) for p in (folder, images)
            )
            assert all(torch.equal(ours[name], t) for name, t in theirs.items())


def test_damaged_models_are_refused(images: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(images, tmp_path / "run"))
    key = key_of(run, "er", 1)
    tensors = run / "models" / key / "2" / "model.safetensors"
    flipped = bytearray(tensors.read_bytes())
    flipped[-100] ^= 1
    for damage in (flipped, b"rubbish", tensors.read_bytes()[:-512] + bytes(512)):
        tensors.write_bytes(damage)
        refused("damaged: run the cell again with --force", export.served, run, key)
    (run / "models" / key / "2" / "facts.json").write_text("{")
    refused("cannot be read: it is not complete JSON; run the cell again", export.served, run, key)


def test_a_cell_is_found_by_key_start_of_key_or_name(images: Path) -> None:
    key = key_of(images, "er", 1)
    assert export.find(images, key) == export.find(images, key[:8]) == export.find(images, "er/1") == key
    one = "toy (class|task) er seed 0"
    refused(f"er/0 could be .*{one}.*{one}", export.find, images, "er/0")
    says = r"has no cell ewc/0; saved models: .*toy class ncm seed 1"
    refused(says, export.find, images, "ewc/0")
    refused("is not a run's folder", export.find, images / "cells", "er/0")


@pytest.mark.parametrize(
    ("name", "part"),
    [("er", None), ("ncm", "ncm"), ("o-lora", "o-lora"), ("er+lwf", None), ("er+xdg", "xdg")],
)
def test_methods_that_predict_with_more_than_the_model_say_so(name: str, part: str | None) -> None:
    """The saved model of o-lora, for example, lacks the LoRA products of earlier tasks."""
    assert strategies.get(name)().answers_with_more_than_model() == part


def test_a_method_that_predicts_with_more_than_the_model_is_not_exported(images: Path) -> None:
    refused("^ncm does not predict with its network alone", export.served, images, key_of(images, "ncm"))


def test_an_exported_model_predicts_as_the_run_s_model(images: Path, exported: Path) -> None:
    """Labels equal row by row, and logits are the same after saving and loading."""
    key, data = key_of(images, "er"), blobs()
    model = serve.load(exported)
    state = {k.removeprefix("model/"): t[None] for k, t in SavedModels(images).tensors(key, 2).items()}
    x_N = data.x_N[data.n_train :]
    hidden = (x_N.flatten(1) / 255 @ state["layers.0.weight"][0] + state["layers.0.bias"][0]).relu()
    logits = state["head.bias"] + hidden @ state["head.weight"][0]
    torch.testing.assert_close(model.logits(x_N.numpy()), logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.logits(x_N.numpy()), export.served(images, key).logits(x_N.numpy()))
    truth = [data.class_names[y] for y in data.y_N[data.n_train :]]
    right = sum(label == own for (label, _), own in zip(model.answers(x_N.numpy()), truth, strict=True))
    (record,) = [r for r in RunFolder(images).records() if r["key"] == key]
    assert right == sum(record["test"]["right"][2])
    assert (exported / "README.md").read_text().startswith("# A model that Lethe exported")


def test_a_changed_backbone_is_refused(trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("lora")
    monkeypatch.setattr(pretrained, "fingerprint", lambda name: "another")
    says = "model tiny-bert has changed since it was trained"
    refused(says, export.served, run, export.find(run, "er/0"))


def test_a_diverged_cell_has_no_model_to_export(tmp_path: Path) -> None:
    """Export says that the cell diverged."""
    request = Request("toy", ("finetune",), settings={"optimiser": "sgd", "lr": "1e30"})
    assert ran(tmp_path, request, keep_models="all").counts == {"diverged": 1}
    assert SavedModels(tmp_path).cells() == []
    refused("finetune/0 is diverged: it has no model", export.find, tmp_path, "finetune/0")


def test_a_model_predicts_only_classes_of_tasks_it_has_learned(images: Path) -> None:
    key = key_of(images, "er")
    early, late = export.served(images, key, 1), export.served(images, key, 2)
    assert len(early.labels) == 2
    assert set(early.labels) < set(late.labels)
    assert {label for label, _ in early.answers(blobs().x_N.numpy())} <= set(early.labels)
    refused("after task 3 was not saved; saved are those after task 1, 2", export.served, images, key, 3)


def test_export_does_not_change_an_existing_folder(images: Path, exported: Path) -> None:
    model = export.served(images, key_of(images, "er"))
    before = tree(exported)
    refused("exists already", export.save, model, exported)
    (exported.parent / "file").write_text("")
    refused("cannot write", export.save, model, exported.parent / "file" / "model")
    assert tree(exported) == before
    assert sorted(p.name for p in exported.parent.iterdir()) == ["file", "model"]


def test_an_exported_model_has_the_suite_s_normalisation_and_buffers(tmp_path: Path) -> None:
    """Predictions equal those of the run."""
    data = replace(blobs(), mean=(0.3,), std=(0.2,), name="normalised")
    settings = {"model": "resnet18", "width": "2", "epochs": "1"}
    with registered(replace(TOY, name="toy-normalised", load=lambda: data)):
        ran(tmp_path / "r", Request("toy-normalised", ("finetune",), settings=settings), keep_models="all")
    (record,) = RunFolder(tmp_path / "r").records()
    model = export.served(tmp_path / "r", record["key"])
    export.save(model, tmp_path / "m")
    x_N, y_N = data.x_N[data.n_train :].numpy(), data.y_N[data.n_train :].tolist()
    assert torch.equal(serve.load(tmp_path / "m").logits(x_N), model.logits(x_N))
    right = sum(a == data.class_names[y] for (a, _), y in zip(model.answers(x_N), y_N, strict=True))
    assert abs(right - sum(record["test"]["right"][2])) <= 1  # batches of another size round differently


@pytest.mark.slow
def test_an_exported_text_model_predicts_as_the_run_s_model(texts: Path, tmp_path: Path) -> None:
    """Merged and trained model agree in labels and closely in logits; a loaded model is exactly equal."""
    key = export.find(texts, "er/0")
    facts = SavedModels(texts).header(key, 2)
    options = facts.spec.model_options
    state = {k.removeprefix("model/"): t[None] for k, t in SavedModels(texts).tensors(key, 2).items()}
    x_NS = tokens(TEXTS, pretrained.tokenizer("tiny-bert"), 48)
    if options["tune"] == "head":
        x_NS = pretrained.backbone("tiny-bert", options["pooling"])(x_NS)
    net = models.build(models.reference("tiny-bert"), options, tuple(x_NS.shape[1:]), 4, [torch.Generator()])
    net.load_state_dict(state)
    with torch.no_grad():
        theirs = net(x_NS[None])[0]
    model = export.served(texts, key)
    torch.testing.assert_close(ours := model.logits(TEXTS), theirs, rtol=1e-4, atol=1e-4)
    assert [label for label, _ in model.answers(TEXTS)] == [facts.units[u] for u in theirs.argmax(1)]
    export.save(model, tmp_path / "m")
    assert torch.equal(serve.load(tmp_path / "m").logits(TEXTS), ours)


def test_an_exported_text_model_can_be_loaded_by_transformers_alone(texts: Path, tmp_path: Path) -> None:
    """By the code of the folder's README; except for adapters and prompts, which cannot be merged."""
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    model = export.served(texts, export.find(texts, "er/0"))
    export.save(model, tmp_path / "m")
    options, readme = model.header.options, (tmp_path / "m" / "README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    text = tokenizer(TEXTS[1], truncation=True, max_length=48, return_tensors="pt")
    head = load_file(tmp_path / "m" / "head.safetensors")
    if options["tune"] in ("adapter", "prompt"):
        assert any(name.startswith("trained") for name in head)
        assert "transformers alone would ignore" in readme
        return
    assert set(head) == {"weight", "bias"}
    with torch.no_grad():
        if options["pooling"] == "own":
            theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
            logits = theirs(**text).logits
        else:
            theirs = AutoModel.from_pretrained(tmp_path / "m").eval()
            states = theirs(**text).last_hidden_state
            pooled = states.mean(1) if options["pooling"] == "mean" else states[:, 0]
            logits = pooled @ head["weight"].T + head["bias"]
    torch.testing.assert_close(logits, model.logits(TEXTS[1:2]), rtol=1e-4, atol=1e-5)
    assert list(theirs.config.id2label.values()) == list(model.labels)
    assert theirs.config.label2id == {label: u for u, label in enumerate(model.labels)}
    # Run the code of the README.
    code = readme.split("```python\n")[-1].split("```")[0].replace("DIR", str(tmp_path / "m"))
    exec(code, {})


def test_predict_prints_a_line_for_each_text(exported_texts: Path, command: Command) -> None:
    code, out, err = command("predict", str(exported_texts), *TEXTS)
    assert (code, err.strip()) == (0, "1 of 5 texts cut at 48 tokens")
    answers = serve.load(exported_texts).answers(TEXTS)
    assert out.splitlines() == [f"{label}\t{p:.4f}" for label, p in answers]


def test_predict_reads_and_writes_csv(exported_texts: Path, tmp_path: Path, command: Command) -> None:
    given = [*TEXTS, 'word, "quoted"\nand a second line', "word " * 10_000]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["n", "said"], *([i, text] for i, text in enumerate(given))])
    words = ["--file", str(tmp_path / "rows.csv"), "--column", "said", "--out", str(tmp_path / "out.csv")]
    code, out, err = command("predict", str(exported_texts), *words)
    assert (code, out.strip()) == (0, f"7 predictions: {tmp_path / 'out.csv'}")
    assert "2 of 7 texts cut at 48 tokens" in err
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == given
    assert set(written[0]) == {"text", "label", "probability"}
    assert all(0.25 <= float(row["probability"]) <= 1 for row in written)


def test_predict_reads_images_from_npy(exported: Path, tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "x.npy", blobs().x_N[:3].numpy())
    line = f"predict {exported} --file {tmp_path / 'x.npy'}"
    answers = serve.load(exported).answers(blobs().x_N[:3].numpy())
    assert command(line)[:2] == (0, "".join(f"{label}\t{p:.4f}\n" for label, p in answers))
    in_json = [{"row": row, "label": label, "probability": p} for row, (label, p) in enumerate(answers)]
    assert json.loads(command(f"{line} --json")[1]) == in_json
    assert command(f"{line} --out {tmp_path / 'out.csv'}")[0] == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "row,label,probability"


def test_an_invalid_csv_file_is_refused(tmp_path: Path) -> None:
    for content, message in (
        (b"", "is empty: its first line must name the columns"),
        (b"text\n", "has no rows below its first line"),
        (b"id,said\n1,x\n", "has no column 'text'; it has: id, said"),
        (b"text\n\xff\xfe\n", "is not CSV in UTF-8"),
    ):
        (tmp_path / "rows.csv").write_bytes(content)
        refused(message, rows.read_texts, tmp_path / "rows.csv", "text")


def test_an_invalid_array_is_refused(exported: Path, tmp_path: Path) -> None:
    for name, content in (("x.npy", b"no array"), ("y.npy", b""), ("z.csv", b"text\n1\n")):
        (tmp_path / name).write_bytes(content)
        refused(r"is not an array of numbers|must be a \.npy|cannot read", rows.read_images, tmp_path / name)
    np.save(tmp_path / "x.npy", np.array(["a"]))
    refused("must contain images as numbers", rows.read_images, tmp_path / "x.npy")
    says = r"reads images of shape \(N, 1, 8, 8\), not \(2, 3\)"
    refused(says, serve.load(exported).answers, np.zeros((2, 3)))


def test_invalid_arguments_are_errors_of_one_line(exported: Path, tmp_path: Path, refuses: Refuses) -> None:
    for name, header in (("damaged", (exported / "lethe.json").read_text()), ("old", '{"schema": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lethe.json").write_text(header)
    for words, message in (
        (f"predict {tmp_path / 'none'} x", "is not an exported model: it has no lethe.json"),
        (f"predict {tmp_path / 'old'} x", "was not exported by this version of Lethe"),
        (f"predict {exported} x", "reads images, not sentences"),
        (f"predict {exported}", "give either sentences or --file"),
        (f"predict {exported} --file {tmp_path / 'no.npy'}", "cannot read"),
        (f"predict {exported} --file {exported / 'lethe.json'}", "must be a .npy"),
        (f"export {tmp_path} er/0 {tmp_path / 'm'}", "is not a run's folder"),
        (f"run toy -s er --resume-from {tmp_path} --dry-run", "is not an exported model"),
        (f"run x.toml --resume-from {exported}", "says what is run: leave out --resume-from"),
        (f"run toy -s er --resume-from {exported} --model cnn --dry-run", "sets the model"),
    ):
        refuses(message, words)
    refused("is damaged: model.safetensors cannot be read", serve.load, tmp_path / "damaged")


def test_a_changed_file_of_an_export_is_refused_and_no_file_is_missed(exported_texts: Path) -> None:
    header = json.loads((exported_texts / "lethe.json").read_text())
    continued = replace(Request("toy-text", ("er",)), resume_from=str(exported_texts))
    assert header["files"].keys() == {p.name for p in exported_texts.iterdir()} - {"lethe.json", "README.md"}
    for path in map(exported_texts.joinpath, header["files"]):
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        refused(f"is damaged: {path.name} has changed", serve.load, exported_texts)
        path.unlink()
        refused(f"is damaged: {path.name} cannot be read", continued.cells)
        path.write_bytes(whole)
    assert serve.load(exported_texts).answers(["a"])


def forget_checksums(exported: Path) -> None:
    """Make the header of an exported model as earlier versions wrote it."""
    content = json.loads((exported / "lethe.json").read_text())
    for name in ("files", "crc32"):
        del content[name]
    (exported / "lethe.json").write_text(json.dumps(content))


def test_an_export_of_an_earlier_version_is_read_but_not_without_its_tokenizer(exported_texts: Path) -> None:
    forget_checksums(exported_texts)
    assert serve.load(exported_texts).answers(["a"])
    for path in exported_texts.glob("tokenizer*"):
        path.unlink()
    refused("is damaged: it has no tokenizer; export it again", serve.load, exported_texts)


def later(n_classes: int = 6) -> Any:
    """Return toy images in which classes 3 to 5 have new names."""
    data = blobs(n_classes)
    return replace(data, class_names=("blob 0", "blob 1", "blob 2", "new 3", "new 4", "new 5"))


def test_training_continues_from_an_exported_image_model(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request("toy-later", ("er",), resume_from=str(exported))
    with registered(replace(TOY, name="toy-later", load=later)):
        assert ran(tmp_path / "r", request, quiet=False, keep_models="last").counts == {"done": 1}
        (spec,) = request.cells()
        group = make_lanes([spec], warm_start=load_into)
        fresh = make_lanes([replace(spec, continues="", model="mlp")]).model.state_dict()
        model = export.served(tmp_path / "r", spec.key)
    classes = "known: blob 0, blob 1, blob 2; new: new 3, new 4, new 5; not in the suite, left out: blob 3"
    assert classes in capsys.readouterr().err
    before, start = serve.load(exported).model.state_dict(), group.model.state_dict()
    place = serve.load(exported).labels.index("blob 2")
    assert torch.equal(start["layers.0.weight"], before["layers.0.weight"])
    head, earlier, drawn = (state["head.weight"][0] for state in (start, before, fresh))
    assert torch.equal(head[:, 2:], torch.cat([earlier[:, place, None], drawn[:, 3:]], 1))
    # The new model can be exported too.
    assert (model.header.model, len(model.labels)) == ("mlp", 6)


def test_an_exported_image_model_can_be_used_as_an_architecture(exported: Path, tmp_path: Path) -> None:
    """``--set model=DIR`` is that architecture with new weights; a later export does not need DIR."""
    request = Request("toy", ("er",), settings={"model": str(exported), "epochs": "1"})
    ran(tmp_path / "r", request, keep_models="last")
    (spec,) = request.cells()
    assert (spec.model, spec.reference.architecture, spec.continues) == (str(exported), "mlp", "")
    assert export.served(tmp_path / "r", spec.key).header.model == "mlp"


def test_a_warm_start_predicts_known_classes_before_training(exported: Path) -> None:
    (spec,) = Request("toy", ("finetune",), resume_from=str(exported)).cells()
    with pytest.raises(ValueError, match="warm_start is missing"):  # never silently from scratch
        make_lanes([spec])
    group = make_lanes([spec], warm_start=load_into)
    score(group, 0)
    assert score_matrix(make_record(group, 0))[0].mean() > 0.8


def test_the_key_depends_on_the_exported_model_s_content_not_its_folder(
    exported: Path, tmp_path: Path
) -> None:
    def key(folder: Path) -> str:
        return Request("toy", ("er",), resume_from=str(folder)).cells()[0].key

    plain = Request("toy", ("er",)).cells()[0]
    shutil.copytree(exported, tmp_path / "copy")
    assert key(tmp_path / "copy") == key(exported) != plain.key
    (tmp_path / "copy" / "README.md").write_text("mine")
    assert key(tmp_path / "copy") == key(exported)
    forget_checksums(tmp_path / "copy")
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    weights["head.bias"][0] += 1
    (spec,) = Request("toy", ("er",), resume_from=str(tmp_path / "copy")).cells()
    write_tensors(tmp_path / "copy" / "model.safetensors", weights)
    assert key(tmp_path / "copy") != key(exported)
    refused("has changed since the run was planned", make_lanes, [spec], warm_start=load_into)
    # Cells without a warm start are recorded without the field.
    assert ("continues" in plain.as_record(), "continues" in asdict(plain)) == (False, True)


def test_a_run_from_python_continues_from_an_exported_model(exported: Path, tmp_path: Path) -> None:
    once: dict[str, Any] = {"seeds": 1, "settings": {"epochs": 1}}
    frames = bench.run("toy", "er", out=tmp_path / "r", keep_models="last", resume_from=exported, **once)
    (key,) = frames.cells["key"]
    assert SavedModels(tmp_path / "r").tasks(key) == [2]
    # A report distinguishes it from a run from scratch of the same name.
    bench.run("toy", "er", out=tmp_path / "s", **once)
    merged = merge([tmp_path / "r", tmp_path / "s"]).cells
    mark = Exported.at(exported).fingerprint[:8]
    assert {cell.identity for cell in merged} == {f"er (model={mark})", "er (model=mlp)"}


def test_a_run_does_not_mix_warm_starts_and_starts_from_scratch(exported: Path, tmp_path: Path) -> None:
    request = Request("toy", ("finetune",), settings={"epochs": "1"})
    ran(tmp_path, request)
    refused("choose another --out", ran, tmp_path, replace(request, resume_from=str(exported)))


def test_a_model_that_does_not_fit_the_suite_is_refused(exported: Path, tmp_path: Path) -> None:
    request = Request("toy", ("er",), resume_from=str(exported))
    narrow = replace(request, settings={"hidden": "8"})
    refused("was trained with hidden=32: continuing with hidden=8", narrow.cells)
    refused("cannot read sentences, a data set of texts", ran, tmp_path, replace(request, suite="toy-text"))
    wide = replace(blobs(), x_N=torch.zeros(240, 3, 8, 8, dtype=torch.uint8))
    says = r"reads images of shape \(1, 8, 8\); toy-wide has shape \(3, 8, 8\)"
    with registered(replace(TOY, name="toy-wide", load=lambda: wide)):
        refused(says, ran, tmp_path, replace(request, suite="toy-wide"))
    assert list(tmp_path.iterdir()) == [exported]


@pytest.mark.slow
def test_training_continues_from_an_exported_text_model(texts: Path, tmp_path: Path) -> None:
    """On the same suite, row 0 of the new run equals the last row of the earlier run."""
    settings, folder = {"epochs": "1", "rows_per_class": "12"}, save(texts, tmp_path / "m")
    (spec,) = Request("toy-text", ("er",), settings=settings, resume_from=str(folder)).cells()
    group = make_lanes([spec], warm_start=load_into)
    score(group, 0)
    (before,) = RunFolder(texts).records()
    now, then = make_record(group, 0)["test"]["right"][0], before["test"]["right"][2]
    assert max(abs(a - b) for a, b in zip(now, then, strict=True)) <= 1  # merging may decide a near tie
    assert group.scorer.classes(0)["units"][:4] == list(sentences().class_names)


def test_settings_that_would_drop_trained_adapters_are_refused(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save(trained("adapter"), tmp_path / "m")
    for setting in ({"tune": "head"}, {"width": "8"}, {"pooling": "first"}):
        request = Request("toy-text", ("er",), settings=setting, resume_from=str(folder))
        refused("would lose what it learned", request.cells)


def test_a_merged_model_can_be_tuned_in_another_way(exported_texts: Path, tmp_path: Path) -> None:
    settings = {"tune": "bitfit", "epochs": "1", "shots": "4"}
    request = Request("toy-text", ("er",), settings=settings, resume_from=str(exported_texts))
    assert ran(tmp_path / "r", request, keep_models="last").counts == {"done": 1}
    (record,) = RunFolder(tmp_path / "r").records()
    assert record["spec"]["continues"] == Exported.at(exported_texts).fingerprint
    assert json.loads((exported_texts / "lethe.json").read_text())["from"]["tasks_done"] == 2
    again = export.served(tmp_path / "r", record["key"])
    export.save(again, tmp_path / "n")
    assert torch.equal(serve.load(tmp_path / "n").logits(TEXTS), again.logits(TEXTS))


def test_an_exported_encoder_can_be_used_as_a_model(exported_texts: Path) -> None:
    """``--set model=DIR`` is the same encoder at every load, with a new head."""
    name = str(exported_texts)
    first = pretrained.fingerprint.__wrapped__(name)
    assert pretrained.fingerprint.__wrapped__(name) == first != pretrained.fingerprint("tiny-bert")
    assert pretrained.backbone(name, "own")(torch.ones(1, 3, dtype=torch.long)).shape == (1, 32)


def test_short_options_set_model_shots_and_rows_per_class(
    monkeypatch: pytest.MonkeyPatch, command: Command, refuses: Refuses
) -> None:
    assert toy_cell().continues == ""
    seen: list[Any] = []
    monkeypatch.setattr("bench.plan.Request.cells", lambda request: seen.append(request) or [])
    monkeypatch.setattr("bench.plan.Request.shared", lambda request: {})
    words = "--model minilm --shots 4 --rows-per-class 9 --dry-run"
    assert command(f"run toy-text -s er --seeds 1 {words}")[0] == 0
    assert seen[0].settings == {"model": "minilm", "shots": "4", "rows_per_class": "9"}
    assert TOY_TEXT.model == "tiny-bert"
    refuses("lethe: --set shots is given twice", f"run toy -s er --set shots=4 {words}")
