"""Models that generate text: exported, loaded by transformers alone, used, and trained further."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from bench import models
from bench.encode import token_pairs as pairs
from bench.export import build as export, load_into, predictor as serve
from bench.models.seq2seq import TINY, Pair, Seq2Seq, loaded
from bench.plan import Request
from bench.schema import Exported
from bench.store import RunFolder, SavedModels
from bench.train import make_lanes
from bench.train.text_scores import bleu_and_chrf
from lethe.testing import TOY_PAIRS, codes, registered
from suites import REGISTRY
from tests.bench.test_serving import save
from tests.conftest import Command, Refuses, ran, refused

KEEP = {"keep_models": "all"}
TUNED = ["full", "lora"]
TEXTS = ["german: a small dog", "spanish: cow", "spanish: ", "german: " + "cat " * 40]


def asked(suite: str = "toy-pairs", start: Path | str = "", **settings: str) -> Request:
    """Return a request of one domain-incremental cell of er, with or without a warm start."""
    return Request(suite, ("er",), ("domain",), settings=settings, resume_from=str(start))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of the small model, one for each way to tune."""
    folders = {tune: tmp_path_factory.mktemp("pairs") / tune for tune in TUNED}
    for tune, folder in folders.items():
        request = asked(tune=tune, epochs="3", targets="attention")
        assert ran(folder, request, **KEEP).counts == {"done": 1}
    return folders


@pytest.fixture(params=TUNED)
def run(request: pytest.FixtureRequest, runs: dict[str, Path]) -> Path:
    return runs[request.param]


@pytest.fixture
def exported(runs: dict[str, Path], tmp_path: Path) -> Path:
    """The exported small model, fully tuned."""
    return save(runs["full"], tmp_path / "model")


def live(run: Path, name: str = TINY) -> Seq2Seq:
    """Return the run's saved model, as it was trained."""
    key = export.find(run, "er/0")
    options = SavedModels(run).header(key, 2).spec.model_options
    net = models.build(models.reference(name), options, (2, 32), 1, [torch.Generator()])
    state = SavedModels(run).tensors(key, 2)
    net.load_state_dict({k.removeprefix("model/"): t[None] for k, t in state.items()})
    return cast(Seq2Seq, net)


@torch.no_grad()
def check_same(run: Path, folder: Path, name: str, exactly: bool) -> None:
    """Assert that an exported model has the logits and texts of the run's model."""
    data, own = codes(), live(run, name)
    x_LN2S = pairs.pair_tokens(data, name, 32)[data.n_train :].unsqueeze(0)
    theirs = Seq2Seq(1, Pair(loaded(str(folder))))
    far = 0 if exactly else 1e-4
    torch.testing.assert_close(theirs(x_LN2S), own(x_LN2S), rtol=far, atol=far)
    assert torch.equal(theirs.generate(x_LN2S), own.generate(x_LN2S))
    tokenizer = pairs.tokenizer_of(data, name)
    written = serve.load(folder).written(data.texts[data.n_train :])
    assert written == pairs.words(own.generate(x_LN2S)[0], tokenizer)


@pytest.mark.slow
def test_an_exported_model_generates_as_the_run_s_model(run: Path, tmp_path: Path) -> None:
    """Logits and texts agree, exactly where nothing was merged; BLEU equals the record's."""
    folder, data = save(run, tmp_path / "m"), codes()
    (record,) = RunFolder(run).records()
    check_same(run, folder, TINY, exactly=record["spec"]["model_options"]["tune"] == "full")
    model = serve.load(folder)
    order = list(Exported.at(folder).header.tasks)
    for name, value in zip(order, record["test"]["value"][2], strict=True):
        domain = data.domain_names.index(name)
        rows = [row for row in range(data.n_train, len(data.texts)) if data.domain_N[row] == domain]
        written = model.written([data.texts[row] for row in rows])
        assert bleu_and_chrf(written, [data.targets[row] for row in rows])["value"] == value
    assert record["test"]["value"][2][1] > 1  # the model has learned something


@pytest.mark.slow
def test_an_exported_model_can_be_loaded_by_transformers_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the code of the folder's README; the tokenizer equals the trained one."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = save(run, tmp_path / "m")
    tokenizer, ours = AutoTokenizer.from_pretrained(folder), pairs.tokenizer_of(codes(), TINY)
    for text in (*TEXTS, "Größe, čeština: ça va?"):
        numbers = ours(text)["input_ids"]
        assert tokenizer(text)["input_ids"] == numbers
        decoded, expected = (t.decode(numbers, skip_special_tokens=True) for t in (tokenizer, ours))
        assert decoded == expected
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert (theirs.dtype, theirs.config.architectures) == (torch.float32, ["T5ForConditionalGeneration"])
    assert not re.search("lora|frozen|whole", " ".join(theirs.state_dict()).lower())
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["model.safetensors"]
    ours_, alone = (folder / "README.md").read_text().replace("DIR", str(folder)).split("```python\n")[1:]
    for code in (ours_, alone):
        exec(code.split("```")[0], {})
    listed, plain = capsys.readouterr().out.splitlines()
    (task, *_) = Exported.at(folder).header.tasks
    assert listed == str([plain]) == str(serve.load(folder).written(["a sentence"], task))


@pytest.mark.slow
@pytest.mark.parametrize("tune", TUNED)
def test_a_model_from_a_folder_can_be_exported_and_trained_further(tmp_path: Path, tune: str) -> None:
    """A different architecture, with buffers and its own tokenizer."""
    from transformers import BartConfig, BartForConditionalGeneration

    pairs.tokenizer_of(codes(), TINY).save_pretrained(tmp_path / "base")
    of_part = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
    sizes: Any = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in of_part.items()}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}
    config = BartConfig(vocab_size=2000, d_model=32, forced_eos_token_id=None, **sizes, **ends)
    torch.manual_seed(0)
    base = BartForConditionalGeneration(config)
    base.final_logits_bias[0, 100] = 5  # stored in a buffer
    base.save_pretrained(tmp_path / "base")
    name = str(tmp_path / "base")
    ran(tmp_path / "r", asked(tune=tune, epochs="1", max_tokens="32", lr="0.01", model=name), **KEEP)
    (record,) = RunFolder(tmp_path / "r").records()
    assert len(record["data"]["model"]) == 64
    assert record["loss"][1] < record["loss"][0]
    folder = save(tmp_path / "r", tmp_path / "m")
    check_same(tmp_path / "r", folder, name, exactly=tune == "full")
    assert ran(tmp_path / "s", asked(start=folder, epochs="1"), **KEEP).counts == {"done": 1}
    shutil.rmtree(tmp_path / "base")
    check_same(tmp_path / "s", save(tmp_path / "s", tmp_path / "n"), str(folder), exactly=tune == "full")


@pytest.mark.slow
def test_lora_on_the_embedding_is_not_merged(tmp_path: Path) -> None:
    """The last layer shares its weights with the embedding: merging would change both."""
    ran(tmp_path / "r", asked(tune="lora", targets="dense", epochs="1"), **KEEP)
    says = r"^LoRA on lm_head cannot be merged: its weight is also the embedding"
    refused(says, save, tmp_path / "r", tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_export_needs_neither_data_nor_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the trained tokenizer from the run."""
    expected = serve.load(save(run, tmp_path / "m")).written(TEXTS)
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(pairs, "_TOKENIZERS", {})
    monkeypatch.setattr(pairs, "tokenizer_of", None)
    monkeypatch.delitem(REGISTRY.entered, "toy-pairs")
    assert serve.load(save(run, tmp_path / "n")).written(TEXTS) == expected


@pytest.mark.slow
def test_predict_prints_a_line_for_each_text(exported: Path, command: Command) -> None:
    code, out, err = command("predict", str(exported), *TEXTS)
    assert (code, err.strip()) == (0, "1 of 4 texts cut at 32 tokens")
    assert out == "".join(f"{text}\n" for text in serve.load(exported).written(TEXTS))
    code, out, _ = command(f"predict {exported} --task spanish cow", "a small dog")
    assert code == 0
    assert out.splitlines() == serve.load(exported).written(["spanish: cow", "spanish: a small dog"])


def test_predict_reads_and_writes_csv(exported: Path, tmp_path: Path, command: Command) -> None:
    given = ["a small dog", "", 'word, "quoted"\nand a second line', "cow"]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["n", "said"], *([i, text] for i, text in enumerate(given))])
    words = ["--file", str(tmp_path / "rows.csv"), "--column", "said", "--out", str(tmp_path / "out.csv")]
    code, out, _ = command("predict", str(exported), *words, "--task", "german")
    assert (code, out.strip()) == (0, f"4 predictions: {tmp_path / 'out.csv'}")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    written = serve.load(exported).written(given, "german")
    assert rows == [["text", "written"], *([text, own] for text, own in zip(given, written, strict=True))]


def test_many_texts_are_generated_in_batches(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = serve.load(exported), list(codes().texts[:9])
    whole = model.written(texts)
    monkeypatch.setattr(serve, "_WRITTEN_AT_ONCE", 4)
    assert (model.written(texts), model.written([])) == (whole, [])


def test_invalid_arguments_are_errors_of_one_line(exported: Path, tmp_path: Path, refuses: Refuses) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("said\na dog\n")
    shutil.copytree(exported, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"rubbish")
    resume = f"run toy-text -s er --resume-from {exported} --out {tmp_path / 'r'}"
    for words, message in (
        (f"predict {exported} cow", "needs the task: choose --task "),
        (f"predict {exported} cow --task germn", "unknown task 'germn'; did you mean german"),
        (f"predict {exported} --file {rows} --task german", "has no column 'text'; it has: said"),
        (f"predict {exported}", "give either sentences or --file"),
        (f"predict {tmp_path / 'damaged'} cow", "damaged"),
        (resume, "cannot read sentences, which has no target texts"),
    ):
        refuses(message, words)
    says = "tune=head is not implemented for sequence-to-sequence models"
    refused(says, ran, tmp_path / "s", asked(start=exported, tune="head"))
    refused("it has no labels", serve.load(exported).answers, ["a dog"])


def test_a_classifier_does_not_generate_text(tmp_path: Path, refuses: Refuses) -> None:
    ran(tmp_path / "r", Request("toy-text", ("er",), settings={"epochs": "1", "shots": "2"}), **KEEP)
    folder = save(tmp_path / "r", tmp_path / "m")
    says = "lethe: this model predicts classes: there is no task to choose\n"
    refuses(says, f"predict {folder} cow --task german")
    refused("it generates no text", serve.load(folder).written, ["a dog"])
    refused("cannot generate text, as codes needs", ran, tmp_path / "s", asked(start=folder))


def test_a_model_generates_only_for_tasks_it_has_learned(run: Path, tmp_path: Path, command: Command) -> None:
    code, out, _ = command(f"export {run} er/0 {tmp_path / 'early'} --task 1")
    assert code == 0
    first, second = Exported.at(save(run, tmp_path / "late")).header.tasks
    assert f"1 tasks: {first}\n" in out
    early = serve.load(tmp_path / "early")
    assert early.header.tasks == {first: f"{first}: "}
    refused(f"unknown task '{second}'", early.written, ["a dog"], second)


def test_texts_without_a_prefix_need_no_task_name(tmp_path: Path) -> None:
    """As in dialogues, where the texts alone determine the task."""
    data = replace(codes(), prefixes=(), name="bare", fingerprint="bare")
    with registered(replace(TOY_PAIRS, name="toy-bare", load=lambda: data)):
        ran(tmp_path / "r", asked("toy-bare", epochs="1", shots="3"), **KEEP)
    model = export.served(tmp_path / "r", export.find(tmp_path / "r", "er/0"))
    assert model.written(["a dog"]) == model.written(["a dog"], "german")
    assert model.header.tasks == {"german": "", "spanish": ""}


@pytest.mark.slow
def test_training_continues_from_an_exported_model(
    runs: Any, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the same weights and tokenizer, so row 0 equals the last row of the earlier run."""
    request = asked(start=exported, epochs="1")
    assert ran(tmp_path / "r", request, quiet=False, keep_models="last").counts == {"done": 1}
    assert f"continues from {exported}: known: german, spanish\n" in capsys.readouterr().err
    (spec,) = request.cells()
    assert spec.continues == Exported.at(exported).fingerprint
    group = make_lanes([spec], warm_start=load_into)
    before = loaded(str(exported)).state_dict()
    start = {k.split("/", 1)[1].replace("/", "."): p[0] for k, p in group.model.trained.items()}
    assert len(start) > 20
    for name, weight in start.items():
        assert torch.equal(weight, before[name.removesuffix(".whole")])
    tokenizer = pairs.tokenizer_of(group.streams.data, spec.model)
    theirs = pairs.tokenizer_of(codes(), TINY)
    assert tokenizer(list(codes().targets))["input_ids"] == theirs(list(codes().targets))["input_ids"]
    tasks: Any = pairs.generation_header(group.streams.streams[0], TINY)["tasks"]
    assert list(Exported.at(exported).header.tasks) == [name for name, _ in tasks]
    (record,), (earlier,) = (RunFolder(folder).records() for folder in (tmp_path / "r", runs["full"]))
    assert record["test"]["value"][0] == earlier["test"]["value"][2]


@pytest.mark.slow
def test_training_continues_on_another_suite_with_the_same_tokenizer(exported: Path, tmp_path: Path) -> None:
    """The suite alone would train a different tokenizer; earlier tasks can still be generated."""
    data = codes()
    texts = tuple(text.replace("german: ", "french: ") for text in data.texts)
    named: Any = {"domain_names": ("french", "spanish"), "prefixes": ("french: ", "spanish: ")}
    data = replace(data, texts=texts, fingerprint="french", **named)
    with registered(replace(TOY_PAIRS, name="toy-french", load=lambda: data)):
        request = asked("toy-french", exported, tune="lora", epochs="1")
        assert ran(tmp_path / "r", request, **KEEP).counts == {"done": 1}
    folder = save(tmp_path / "r", tmp_path / "n")
    assert Exported.at(folder).header.tasks == {name: f"{name}: " for name in ("german", "french", "spanish")}
    now, before = (json.loads((at / "tokenizer.json").read_text()) for at in (folder, exported))
    assert now["model"] == before["model"]
    assert len(serve.load(folder).written(["a dog", "cow"], "french")) == 2
