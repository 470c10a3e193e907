"""Texts: tokens, padding, ways to tune, frozen features and their cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from bench import models
from bench.encode import model_inputs as inputs
from bench.models import pretrained
from bench.models.transformer import Transformer
from bench.models.tuning import insert_adapters, key_of
from bench.results.outcome import score_matrix
from bench.train import run_group
from lethe.testing import TOY, outcome, sentences, toy_cell
from suites.base import generator
from suites.errors import Unavailable, UserError
from tests.conftest import refused

TEXTS = (
    "a short one", "a much longer text about rivers, harbours and the sea that goes on", "",
    "😀 ok", "word " * 300,
)  # fmt: skip
TUNED = ("full", "lora", "adapter", "bitfit", "prompt")
PRETRAINED = ("tiny-bert", "minilm")


def built(name: str, lanes: int = 2, **options: Any) -> Transformer:
    seeds = [generator(s, "model") for s in range(lanes)]
    return cast(Transformer, models.build(models.reference(name), options, (32,), 5, seeds))


def read(name: str, lanes: int = 2, most: int = 48) -> torch.Tensor:
    tokens_NS = inputs.tokens(TEXTS, pretrained.tokenizer(name), most)
    return tokens_NS.expand(lanes, *tokens_NS.shape)


def randomised(net: Any, scale: float = 0.05) -> Any:
    """Add noise to all parameters, so that parts that start at 0 have an effect."""
    random = torch.Generator().manual_seed(1)
    for p in net.parameters():
        p.data += scale * torch.randn(p.shape, generator=random)
    return net


def assert_lanes_apart(both: Any, singles: list[Any], x_L: torch.Tensor, loss: Callable[..., Any]) -> None:
    """Assert that each lane's logits and gradients equal those of a model with that lane alone."""
    logits = both(x_L)
    loss(x_L, logits).sum().backward()
    for lane, alone in enumerate(singles):
        alone.load_state_dict({k: v[lane : lane + 1] for k, v in both.state_dict().items()})
        own = alone(x_L[lane : lane + 1])
        torch.testing.assert_close(own, logits[lane : lane + 1], rtol=1e-4, atol=1e-4)
        loss(x_L[lane : lane + 1], own).sum().backward()
        ours, theirs = [p.grad[lane] for p in both.parameters()], [p.grad[0] for p in alone.parameters()]
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("tune", TUNED)
def test_padding_does_not_change_logits(name: str, tune: str) -> None:
    """A row has the same logits alone, beside longer rows and with more padding."""
    net = randomised(built(name, tune=tune))
    x_LBS = read(name)
    together = net(x_LBS)
    wider = net(torch.nn.functional.pad(x_LBS, (0, 7), value=net.base.padding))
    torch.testing.assert_close(wider, together, rtol=1e-4, atol=1e-5)
    for row in range(len(TEXTS)):
        length = max(1, int((x_LBS[0, row] != net.base.padding).sum()))
        alone = net(x_LBS[:, row : row + 1, :length])
        torch.testing.assert_close(alone, together[:, row : row + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tune", TUNED)
def test_lanes_do_not_mix(tune: str) -> None:
    singles = [built("tiny-bert", lanes=1, tune=tune) for _ in range(2)]
    both = randomised(built("tiny-bert", tune=tune))
    assert_lanes_apart(both, singles, read("tiny-bert"), lambda x, logits: logits.square())


@pytest.mark.parametrize("tune", ["lora", "adapter", "bitfit"])
def test_added_parameters_change_nothing_before_training(tune: str) -> None:
    net, x_LBS = built("tiny-bert", tune=tune), read("tiny-bert")
    plain = pretrained.backbone("tiny-bert", "mean")(x_LBS[0])
    torch.testing.assert_close(net.features(x_LBS)[0], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
# peft uses an old name of transformers.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", PRETRAINED)
def test_lora_equals_peft(name: str) -> None:
    """Outputs and gradients of one lane equal those of peft on the same transformer."""
    peft = pytest.importorskip("peft")
    net, x_LBS = randomised(built(name, lanes=1, tune="lora", rank=4, alpha=8)), read(name, lanes=1)
    base = pretrained.backbone(name, "mean")
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], lora_dropout=0.0)
    theirs = peft.get_peft_model(base.transformer, config)
    pairs = []
    for n, m in theirs.named_modules():
        if isinstance(m, peft.tuners.lora.Linear):
            for part, factor in (("down", m.lora_A), ("up", m.lora_B)):
                ours = net.trained[key_of(n.removeprefix("base_model.model."), part)]
                factor["default"].weight.data = ours.data[0].T.clone()
                pairs.append((ours, factor["default"].weight))
    assert pairs
    theirs_BF = pretrained.Backbone(base.transformer, "mean", base.padding)
    for n, p in theirs.named_parameters():
        p.requires_grad_("lora_" in n)
    ours_BF, theirs_out = net.features(x_LBS)[0], theirs_BF(x_LBS[0])
    torch.testing.assert_close(ours_BF, theirs_out, rtol=1e-4, atol=1e-5)
    ours_BF.square().sum().backward()
    theirs_out.square().sum().backward()
    for ours, other in pairs:
        torch.testing.assert_close(ours.grad[0].T, other.grad, rtol=1e-3, atol=1e-4)


def test_own_pooling_equals_that_of_transformers_classifiers() -> None:
    """``own`` features and a head give the logits of AutoModelForSequenceClassification."""
    net, x_LBS = built("tiny-bert", lanes=1, tune="lora", pooling="own"), read("tiny-bert", lanes=1)
    whole = pretrained.sequence_classifier("tiny-bert", 5).eval()
    last = whole.get_submodule(pretrained.last_layer(whole, 5))
    last.weight.data, last.bias.data = net.head.weight.data[0].T.clone(), net.head.bias.data[0].clone()
    # With the same seed, the weights before the head are equal.
    out = whole(input_ids=x_LBS[0], attention_mask=(x_LBS[0] != 0).long()).logits
    torch.testing.assert_close(net(x_LBS)[0], out, rtol=1e-4, atol=1e-5)


def test_adapters_are_refused_without_layers_of_a_transformer() -> None:
    with pytest.raises(UserError, match="finds no layer"):
        insert_adapters(nn.Sequential(nn.Linear(2, 2)), nn.ParameterDict(), [generator(0, "model")], 2)


@pytest.mark.parametrize(("tune", "most"), [("lora", 513), ("prompt", 500)])
def test_more_tokens_than_the_model_s_positions_are_refused(tune: str, most: int) -> None:
    refused("reads 512 tokens at most", built, "minilm", tune=tune, max_tokens=most)


def test_without_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained, "hub_in_reach", lambda: "no network")
    with pytest.raises(Unavailable, match="name a folder that contains the model"):
        pretrained.tokenizer("nobody/no-such-model")
    refused("cannot load model", pretrained.backbone, str(tmp_path), "mean")


def test_a_model_of_texts_refuses_images_and_the_reverse() -> None:
    images, texts = TOY.load(), sentences()
    refused("minilm cannot read blobs", inputs.inputs, images, models.reference("minilm"), {})
    refused("mlp cannot read sentences", inputs.inputs, texts, models.reference("mlp"), {})
    assert inputs.inputs(images, models.reference("mlp"), {}) is images


def test_tokens_are_cut_and_padded() -> None:
    x_LBS, own = read("minilm", most=16), pretrained.tokenizer("minilm")
    assert x_LBS.shape[2] == 16
    assert x_LBS[0, 2].tolist()[:3] == [own.cls_token_id, own.sep_token_id, own.pad_token_id]
    assert (x_LBS[0, 4] != own.pad_token_id).all()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the backbones that texts are passed through."""
    found: list[str] = []
    real = pretrained.backbone
    monkeypatch.setattr(pretrained, "backbone", lambda name, of: found.append(name) or real(name, of))
    return found


def test_features_equal_the_backbone_s_and_are_computed_once(cache: Path, passes: list[str]) -> None:
    options = models.options(models.reference("tiny-bert")) | {"max_tokens": 48}
    plain = pretrained.backbone("tiny-bert", "mean")(read("tiny-bert", lanes=1)[0])
    passes.clear()
    first = inputs.features(TEXTS, "tiny-bert", options).clone()
    torch.testing.assert_close(first, plain, rtol=1e-4, atol=1e-5)
    assert torch.equal(inputs.features(TEXTS, "tiny-bert", options), first)
    assert passes == ["tiny-bert"]


@pytest.mark.parametrize("change", ["text", "order", "pooling", "max_tokens", "weights", "tokenizer"])
def test_features_are_computed_again_after_a_change(
    cache: Path, passes: list[str], monkeypatch: Any, change: str
) -> None:
    options = models.options(models.reference("tiny-bert"))
    inputs.features(TEXTS, "tiny-bert", options)
    texts = {"text": ("another", *TEXTS[1:]), "order": TEXTS[::-1]}.get(change, TEXTS)
    options |= {"pooling": {"pooling": "first"}, "max_tokens": {"max_tokens": 9}}.get(change, {})
    inputs._key.cache_clear()
    pretrained.fingerprint.cache_clear()
    real = pretrained._encoder

    def other(name: str) -> Any:
        encoder = real(name)
        next(encoder.parameters()).data[0, 0] += 1e-3
        return encoder

    if change == "tokenizer":
        monkeypatch.setattr(pretrained, "tokenizer_content", lambda of: "another")
    if change == "weights":
        monkeypatch.setattr(pretrained, "_encoder", other)
    inputs.features(texts, "tiny-bert", options)
    inputs._key.cache_clear()
    pretrained.fingerprint.cache_clear()
    assert passes == ["tiny-bert"] * 2


def test_a_damaged_cache_is_computed_again(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file may be left by a kill or written by another program."""
    options = models.options(models.reference("tiny-bert"))
    first = inputs.features(TEXTS, "tiny-bert", options).clone()
    (path,) = cache.glob("features-*.npy")
    for damage in (path.read_bytes()[:-8], b"", b"not an array at all"):
        path.write_bytes(damage)
        assert torch.equal(inputs.features(TEXTS, "tiny-bert", options), first)
    np.save(path, np.zeros((3, 2), np.float32))
    assert torch.equal(inputs.features(TEXTS, "tiny-bert", options), first)
    assert len([*cache.glob("features-*.npy.damaged*")]) == 4
    capsys.readouterr()
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 4  # one bit of a number
    path.write_bytes(damaged)
    assert torch.equal(inputs.features(TEXTS, "tiny-bert", options), first)
    said = (
        f"{path} is damaged, or from an earlier version: it is {path.name}.damaged-5 now, and is made again"
    )
    assert said in capsys.readouterr().err


def matrix(record: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(score_matrix(record))


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["head", *TUNED])
def test_every_way_to_tune_learns(tune: str) -> None:
    """It beats chance on two easy tasks, and the record shows tokens and padding."""
    # With real weights: small trained parts achieve little on a frozen random backbone.
    options = {"tune": tune, "max_tokens": 32, "rank": 4, "width": 8, "prompts": 4}
    training: dict[str, Any] = {"scenario": "task", "epochs": 1, "lr": 3e-4 if tune == "full" else 0.01}
    of = {"suite": "toy-text", "model": "minilm", "model_options": options}
    (record,) = run_group([toy_cell("er", **of, **training)])
    assert matrix(record)[[1, 2], [0, 1]].mean() > 0.7
    assert ("padding_share" in record["timings"]) == (tune != "head")
    if tune != "head":
        assert 0 <= record["timings"]["padding_share"] < 0.5
        assert record["timings"]["tokens_per_second"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["head", "lora"])
def test_models_of_texts_are_lane_invariant(tune: str) -> None:
    """Exactly for frozen features; otherwise rounding decides a row or two."""
    options = {"tune": tune, "max_tokens": 64}
    cells = [toy_cell("er", s, suite="toy-text", model_options=options) for s in range(2)]
    for cell, beside in zip(cells, run_group(cells), strict=True):
        (alone,) = run_group([cell])
        if tune == "head":
            assert outcome(alone) == outcome(beside)
        else:
            assert np.abs(matrix(alone) - matrix(beside)).max() <= 0.1


@pytest.mark.slow
def test_a_head_that_starts_from_class_names_predicts_before_training() -> None:
    """With ``start=names`` row 0 is the zero-shot score, here far above chance."""
    options = {"start": "names", "max_tokens": 32}
    zero, plain = (
        run_group([toy_cell("finetune", suite="toy-text", model="minilm", model_options=options | more)])[0]
        for more in ({}, {"start": "random"})
    )
    assert matrix(zero)[0].mean() > 0.7
    assert matrix(plain)[0].mean() < 0.6
