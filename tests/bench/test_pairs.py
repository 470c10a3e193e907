"""Sequence to sequence: tokens, losses, generated text and its scores, and which methods can learn it."""

import itertools
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import strategies
import suites
from bench import models
from bench.encode import token_pairs as pairs
from bench.models.seq2seq import TINY, Seq2Seq, drawn
from bench.plan import Request
from bench.plan.resolving import unsuitable
from bench.report.tables import markdown
from bench.results import load
from bench.results.outcome import score_matrix
from bench.store import RunFolder
from bench.train import learn_task, make_lanes, run_group
from bench.train.text_scores import TextScorer, bleu_and_chrf
from lethe.testing import codes, outcome, toy_cell, write_run
from strategies.core import IGNORED, Unsuitable, eval_mode, row_losses
from suites.base import BLEU, Data, generator
from suites.errors import Unavailable
from tests.bench.test_texts import assert_lanes_apart, randomised

GENERATING = sorted(n for n in strategies.names() if strategies.get(n).generates)
HYPER: dict[str, dict[str, Any]] = {"ewc": {"fisher": "batched"}}
"""Hyper-parameters with which a method can learn to generate."""


def built(lanes: int = 2, tune: str = "full", **more: str) -> Seq2Seq:
    seeds, options = [generator(s, "model") for s in range(lanes)], {"tune": tune, **more}
    return cast(Seq2Seq, models.build(models.reference(TINY), options, (2, 32), 1, seeds))


def read(rows: int = 6) -> torch.Tensor:
    """Return the tokens of the first rows of the toy suite, (B, 2, S); every third text is shorter."""
    return pairs.pair_tokens(codes(), TINY, 32)[:rows]


def cell(strategy: str = "finetune", seed: int = 0, **changes: Any) -> Any:
    return toy_cell(strategy, seed, "domain", suite="toy-pairs", **HYPER.get(strategy, {}), **changes)


def test_row_losses_are_mean_cross_entropies_over_real_tokens() -> None:
    logits_LBSV = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    y_LBS = torch.randint(7, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    y_LBS[0, 0, 2:], y_LBS[1, 2, :] = IGNORED, IGNORED
    found_LB = row_losses(logits_LBSV, y_LBS)
    rows = zip(logits_LBSV.flatten(0, 1), y_LBS.flatten(0, 1), strict=True)
    expected = [
        F.cross_entropy(logits, y) if (y != IGNORED).any() else torch.tensor(0.0) for logits, y in rows
    ]
    torch.testing.assert_close(found_LB.flatten(), torch.stack(expected))
    # Targets may be padded beyond the length of the logits.
    padded_LBS = F.pad(y_LBS, (0, 3), value=IGNORED)
    assert torch.equal(row_losses(logits_LBSV, padded_LBS), found_LB)


@pytest.mark.slow
def test_row_losses_equal_those_of_transformers() -> None:
    """Compared with the forward pass of transformers with labels, one row at a time."""
    net, x_B2S = built(lanes=1), read()
    ours_LB = row_losses(net(x_B2S.unsqueeze(0)), x_B2S[:, 1].long().unsqueeze(0))
    theirs = drawn(generator(0, "model")).eval()
    for row, (text_S, target_S) in enumerate(x_B2S.long()):
        text, target = text_S[text_S != 0], target_S[target_S != IGNORED]
        loss = theirs(input_ids=text[None], labels=target[None]).loss
        torch.testing.assert_close(ours_LB[0, row], loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_padding_does_not_change_logits_losses_or_generated_texts(tune: str) -> None:
    """A row has the same results alone, beside longer rows and with more padding."""
    net, x_B2S = built(tune=tune), read()
    x_LB2S = x_B2S.expand(2, *x_B2S.shape)
    text_LBS, y_LBS = x_LB2S.unbind(2)
    wider_LB2S = torch.stack([F.pad(text_LBS, (0, 5)), F.pad(y_LBS, (0, 5), value=IGNORED)], dim=2)
    logits, close = net(x_LB2S), partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    close(net(wider_LB2S), logits)
    losses_LB, written = row_losses(logits, y_LBS.long()), net.generate(x_LB2S)
    for row in range(len(x_B2S)):
        alone = x_LB2S[:, row : row + 1]
        close(row_losses(net(alone), alone[:, :, 1].long())[:, 0], losses_LB[:, row])
        assert torch.equal(net.generate(alone)[:, 0], written[:, row])


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_lanes_do_not_mix(tune: str) -> None:
    """A lane's logits, gradients and texts equal those of a model with that lane alone."""
    both, x_B2S = randomised(built(tune=tune), 0.02), read()
    x_LB2S = torch.stack([x_B2S, x_B2S.flip(0)])
    singles = [built(lanes=1, tune=tune) for _ in range(2)]
    assert_lanes_apart(both, singles, x_LB2S, lambda x, logits: row_losses(logits, x[:, :, 1].long()))
    written = both.generate(x_LB2S)
    for lane, alone in enumerate(singles):
        assert torch.equal(alone.generate(x_LB2S[lane : lane + 1])[0], written[lane])


@pytest.mark.parametrize("targets", ["query-value", "attention", "dense"])
def test_lora_starts_as_the_unchanged_model(targets: str) -> None:
    """For every choice of layers; at first only the factors B have gradients."""
    x_LB2S, net = read().unsqueeze(0), built(1, "lora", targets=targets)
    theirs = drawn(torch.Generator().manual_seed(0)).eval()
    text_BS, target_BS = x_LB2S[0].long().unbind(1)
    labels = target_BS[:, : int((target_BS != IGNORED).sum(1).max())].contiguous()
    logits = theirs(input_ids=text_BS, attention_mask=(text_BS != 0).long(), labels=labels).logits
    torch.testing.assert_close(net(x_LB2S)[0], logits, rtol=1e-4, atol=1e-4)
    row_losses(net(x_LB2S), x_LB2S[:, :, 1].long()).sum().backward()
    moved = [name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert {name.endswith("up") for name in moved} == {True}


def test_tokens_decode_to_the_same_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also text with other letters; a tokenizer trained again equals the cached one."""
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    monkeypatch.setattr(pairs, "_TOKENIZERS", {})
    data = codes()
    first = pairs.tokenizer_of(data, TINY)
    for text in (*data.targets[:5], "Größe, čeština: ça va?"):
        numbers = torch.tensor([first(text)["input_ids"]])
        assert (numbers[0, -1], pairs.words(numbers, first)) == (first.eos_token_id, [text])
    (path,) = tmp_path.glob("tokenizer-*.json")
    for content in (path.read_bytes(), b"not a tokenizer", b""):
        path.write_bytes(content)
        pairs._TOKENIZERS.clear()
        again = pairs.tokenizer_of(data, TINY)
        assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()


def test_bleu_and_chrf_equal_those_of_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = ["a dog runs over the green grass", "two men are sitting on a bench"]
    targets = ["a dog runs across the green grass .", "two men sit on a bench"]
    bleu, chrf = (score(texts, [targets]).score for score in (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf))
    assert bleu_and_chrf(texts, targets) == {"value": bleu, "chrf": chrf}
    assert bleu_and_chrf(targets, targets)["value"] == pytest.approx(BLEU.high)
    assert bleu_and_chrf([], []) == {"value": None, "chrf": None}


def test_without_sacrebleu_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.train.text_scores.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'lethe-bench\[text\]'"):
        TextScorer(None, None, BLEU, None)  # type: ignore[arg-type]


def test_each_generated_text_is_compared_with_its_own_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that generates the targets has a BLEU of 100 on every task."""
    monkeypatch.setattr(Seq2Seq, "generate", lambda self, x_LB2S: x_LB2S[:, :, 1].clamp(min=0))
    (record,) = run_group([cell(epochs=1, rows_per_class=10)])
    assert score_matrix(record) == pytest.approx(np.ones((3, 2)))
    assert np.array(record["test"]["chrf"]) == pytest.approx(np.full((3, 2), 100))
    assert record["test"]["rows"] == [10, 10]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GENERATING if name not in ("finetune", "er")])
def test_methods_that_declare_generates_learn(name: str) -> None:
    """Some task is learned; R stays within the bounds of BLEU, and the record is JSON."""
    (record,) = run_group([cell(name)])
    R = score_matrix(record)
    assert record["status"] == "done"
    assert R[0].max() < 0.05
    assert np.nanmax(R[1:]) > 0.8
    assert np.nanmax(R) <= 1
    score = json.loads(json.dumps(record, allow_nan=False))["score"]
    assert (score["name"], score["low"], score["high"]) == ("bleu", 0, 100)


@pytest.mark.slow
def test_replay_retains_what_finetune_forgets() -> None:
    """Finetune learns each task and then loses the first one; replay does not."""
    forgetful, replaying = (run_group([cell(name)])[0] for name in ("finetune", "er"))
    assert np.diag(score_matrix(forgetful), -1).min() > 0.8
    assert score_matrix(forgetful)[-1, 0] < 0.2
    assert score_matrix(replaying)[-1, 0] > 0.8


@pytest.mark.slow
def test_losses_are_lane_invariant_within_rounding() -> None:
    cells = [cell("er", seed, epochs=2) for seed in range(2)]
    together = run_group(cells)
    for own, beside in zip(cells, together, strict=True):
        (alone,) = run_group([own])
        np.testing.assert_allclose(alone["loss"], beside["loss"], rtol=1e-3)


@pytest.mark.slow
def test_a_run_continues_from_a_checkpoint(tmp_path: Path) -> None:
    spec, run = cell(epochs=2, score_every=10), RunFolder(tmp_path).checkpoints
    kept: dict[str, Any] = {}
    save = run.save

    def recording_save(key: str, tensors: dict[str, Any], facts: dict[str, Any], rows: Any) -> None:
        save(key, tensors, facts, rows)
        kept[key] = facts["tasks_done"]

    run.save = recording_save  # type: ignore[method-assign]
    (whole,) = run_group([spec], checkpoints=run)
    assert kept == {spec.key: 1}
    (resumed,) = run_group([spec], checkpoints=run)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_tokens_and_padding_of_training_are_counted(tune: str) -> None:
    """Tokens of texts and targets are counted; padding is counted separately."""
    net, x_LB2S = built(tune=tune), torch.stack([read(), read()])
    text_LBS, target_LBS = x_LB2S.unbind(2)
    with torch.no_grad():
        net(x_LB2S)
    assert net.counts == {"tokens": 0, "padded": 0}
    net(x_LB2S)
    both = ((text_LBS, net.base.padding), (target_LBS, IGNORED))
    lengths = [(tokens != padding).sum(2).flatten().tolist() for tokens, padding in both]
    assert net.counts["tokens"] == sum(map(sum, lengths))
    assert net.counts["padded"] == 12 * sum(map(max, lengths))
    assert 0 < net.counts["tokens"] < net.counts["padded"]


@pytest.mark.slow
def test_frames_show_the_bleu_chrf_and_tokens_of_records(tmp_path: Path) -> None:
    spec = cell(epochs=1, score_every=4)
    (record,) = run_group([spec])
    write_run(tmp_path, [(spec, record)])
    assert not list(tmp_path.glob("classes/*"))
    frames = load(tmp_path)
    test = frames.matrix[frames.matrix["split"] == "test"]
    assert test["value"].to_numpy() * 100 == pytest.approx(np.array(record["test"]["value"]).ravel())
    assert test["right"].isna().all()
    acc, chrf = (frames.scores.query("score == @name")["value"].iloc[0] for name in ("acc", "chrf"))
    assert chrf == pytest.approx(np.mean(record["test"]["chrf"][-1]) / 100) != 0
    assert "| final BLEU | final chrF |" in markdown(frames, ["acc", "chrf"])
    assert 100 * acc == pytest.approx(np.mean(record["test"]["value"][-1]))
    assert len(frames.curves) == 2 * len(record["curves"]) > 0
    assert 0 < record["timings"]["padding_share"] < 0.5
    assert record["timings"]["tokens_per_second"] > 0


def test_methods_that_cannot_generate_are_skipped_with_a_reason() -> None:
    """The reason is known without the data, so that a dry run shows it."""
    for name in (n for n in strategies.names() if n not in GENERATING):
        assert f"{name} cannot learn to generate text" in str(strategies.get(name)().cannot_generate())
    for name, changes, reason in (
        ("lwf", {}, "lwf cannot learn to generate text"),
        ("er+lwf", {}, "er+lwf cannot learn to generate text"),
        ("er", {"write": "ring"}, "write=reservoir does not"),
        ("ewc", {}, "fisher=batched can"),
    ):
        unable = toy_cell(name, 0, "domain", suite="toy-pairs", **changes)
        assert reason in str(unsuitable(unable))
        with pytest.raises(Unsuitable, match=re.escape(reason)):
            run_group([unable])
    assert unsuitable(cell("er")) is None


@pytest.mark.slow
def test_a_sum_of_methods_that_generate_learns() -> None:
    (record,) = run_group([toy_cell("er+si", 0, "domain", suite="toy-pairs", epochs=2)])
    assert score_matrix(record)[-1].max() > score_matrix(record)[0].max()


def of_each_domain(data: Data, train: int, test: int) -> Data:
    """Return only the first rows of each domain: making tokens of all rows is slow."""
    parts = torch.arange(len(data.y_N)).tensor_split([data.n_train])
    n_domains = len(data.domain_names)
    wanted = itertools.product(zip(parts, (train, test), strict=True), range(n_domains))
    rows = torch.cat([part[data.domain_N[part] == domain][:n] for (part, n), domain in wanted])
    texts, targets = (tuple(of[row] for row in rows) for of in (data.texts, data.targets))
    return replace(
        data, x_N=data.x_N[rows], y_N=data.y_N[rows], n_train=train * n_domains, domain_N=data.domain_N[rows],
        texts=texts, targets=targets, fingerprint=f"{data.fingerprint}-{train}-{test}",
    )  # fmt: skip


def test_the_small_model_learns_real_translation(real_data: str) -> None:
    """After 100 steps on French captions, held-out ones have a much lower loss and a higher chrF."""
    settings = {"iterations": "100", "batch": "16", "validation": "0.0", "lr": "0.003"}
    (asked,) = Request("multi30k", ("finetune",), ("domain",), (0,), settings=settings).cells()
    group = make_lanes([asked], "cpu", of_each_domain(suites.get("multi30k").load(), train=1_000, test=100))
    stream = group.streams.streams[0]
    rows = stream.tasks[0].test_rows
    batch = group.streams.batch(rows.unsqueeze(0))

    def scores() -> tuple[float, float]:
        with eval_mode(group.model), torch.no_grad():
            loss, tokens = float(group.strategy.loss(batch)), group.model.generate(batch.x_LBX)[0]
        written = pairs.words(tokens, pairs.tokenizer_of(stream.data, TINY))
        return loss, bleu_and_chrf(written, [stream.data.targets[row] for row in rows])["chrf"]

    (loss, chrf), _, (loss_after, chrf_after) = scores(), learn_task(group, 0), scores()
    assert loss > 8 > 5.2 > loss_after
    assert chrf < 1 < 6 < chrf_after
