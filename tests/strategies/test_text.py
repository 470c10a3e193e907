"""Methods for transformers and for their features, against calculations of one lane in plain torch."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
from bench.models import pretrained
from bench.results.outcome import score_matrix
from bench.train import LaneState, learn_task, make_lanes, run_group
from lethe.testing.made_lanes import assert_equal, new_batch, perturb, ready, snapshot
from lethe.testing.plain_torch import features_of, lane_value
from lethe.testing.toy_suites import toy_cell
from strategies.core import Batch, Strategy, Unsuitable, eval_mode


def group(name: str, scenario: str = "class", tune: str = "lora", **changes: Any) -> LaneState:
    """Return two lanes of a method on a few short texts."""
    options = {"tune": tune, "max_tokens": 24, "rank": 3, **changes.pop("model_options", {})}
    changes |= {"suite": "toy-text", "epochs": 1, "model_options": options}
    return make_lanes([toy_cell(name, s, scenario, **changes) for s in range(2)])


def both_tasks(strategy: Strategy, size: int = 4) -> Batch:
    """Return a batch with an equal number of rows of both tasks."""
    rows = [torch.cat([t.test_rows[: size // 2] for t in s.tasks]) for s in strategy.streams.streams]
    return strategy.streams.batch(torch.stack(rows))


def backbone(x_BS: Tensor, prompt: Tensor | None = None, added: dict[str, Tensor] | None = None) -> Tensor:
    """Return the transformer's features of a prompt and a text, with changed weights."""
    base = pretrained.backbone("tiny-bert", "mean")
    for name, more in (added or {}).items():
        base.transformer.get_parameter(f"{name}.weight").add_(more)
    return base(x_BS, prompt)


@pytest.mark.parametrize("ridge", [0.0, 2.5])
def test_ranpac_is_ridge_regression_on_random_features(ridge: float) -> None:
    """One lane, all rows of both tasks at once; lambda by the error on every fifth row of the second task.

    Lambdas smaller than the rounding error of the sums are left out.
    """
    strategy = ready("ranpac", width=20, ridge=ridge)
    strategy.ridge[:] = ridge
    for task in (0, 1):
        strategy.begin_task(task)
        rows = torch.stack([s.tasks[task].train_rows[:30] for s in strategy.streams.streams])
        for of_step in rows.split(6, 1):
            strategy.learn(strategy.streams.batch(of_step))
    batch = new_batch(strategy, 1)
    scores_LBU = strategy.predict(batch).detach()
    for lane, stream in enumerate(strategy.streams.streams):
        rows = torch.cat([t.train_rows[:30] for t in stream.tasks])
        seen = strategy.streams.batch(rows.expand(3, -1))

        def h(x: Tensor, lane: int = lane) -> np.ndarray[Any, Any]:
            f = features_of(strategy, lane, x).detach()
            return (f @ strategy.projection_LFM[lane]).relu().double().numpy()

        h_NM, y_NU = h(seen.x_LBX[lane]), np.eye(4)[seen.y_LB[lane]]
        best = ridge
        if not ridge:
            held = np.arange(1, 31) % 5 == 0
            (fit_h, fit_y), (held_h, held_y) = ([s[30:][of] for s in (h_NM, y_NU)] for of in (~held, held))
            errors = {}
            least = np.finfo(np.float32).eps * np.trace(h_NM.T @ h_NM)
            for candidate in (10.0**k for k in range(-8, 9) if 10.0**k >= least):
                w = np.linalg.solve(fit_h.T @ fit_h + candidate * np.eye(20), fit_h.T @ fit_y)
                errors[candidate] = np.square(held_y - held_h @ w).sum()
            best = min(errors, key=lambda r: errors[r])
            assert float(strategy.notes()["ridge"][lane]) == pytest.approx(best)
        w_MU = np.linalg.solve(h_NM.T @ h_NM + best * np.eye(20), h_NM.T @ y_NU)
        np.testing.assert_allclose(scores_LBU[lane], h(batch.x_LBX[lane]) @ w_MU, rtol=1e-2, atol=1e-3)


def test_ranpac_holds_out_every_fifth_row_without_padding() -> None:
    """Whatever the batch size and the place of padding; the final sums include these rows."""
    strategy = ready("ranpac", width=7)
    random = torch.Generator().manual_seed(0)
    for task in (0, 1):
        strategy.begin_task(task)
        rows: list[list[tuple[Tensor, Tensor]]] = [[], [], []]
        for size in (1, 3, 5, 6, 11):
            h_LBM = torch.rand(3, size, 7, generator=random)
            one_LBU = F.one_hot(torch.randint(4, (3, size), generator=random), 4).float()
            one_LBU *= (torch.rand(3, size, 1, generator=random) < 0.8).float()
            strategy.count(h_LBM, one_LBU)
            for lane in range(3):
                real_B = one_LBU[lane].any(1)
                rows[lane] += zip(h_LBM[lane, real_B], one_LBU[lane, real_B], strict=True)
        for lane, own in enumerate(rows):
            of_part = [[r for i, r in enumerate(own, 1) if (i % 5 == 0) == held] for held in (True, False)]
            assert all(of_part)
            for part, chosen in enumerate(of_part):
                h_RM, one_RU = (torch.stack(t) for t in zip(*chosen, strict=True))
                torch.testing.assert_close(strategy.task_grams[part][lane], h_RM.T @ h_RM)
                torch.testing.assert_close(strategy.task_sums[part][lane], one_RU.T @ h_RM)
        before_LMM = strategy.grams()
    strategy.begin_task(2)
    torch.testing.assert_close(strategy.gram_LMM, before_LMM)
    assert not strategy.task_grams[0].any()


def test_ranpac_chooses_no_lambda_below_the_rounding_of_its_sums() -> None:
    """If all rows of a class are equal, the smallest lambda has the smallest error, but G has rank four.

    Then only rounding decides whether G + lambda I is definite, and predictions are wrong.
    """
    strategy = ready("ranpac", width=300)
    strategy.begin_task(0)
    random = torch.Generator().manual_seed(0)
    like_UM = 30 * torch.rand(4, 300, generator=random)
    for _ in range(8):
        y_LB = torch.randint(4, (3, 9), generator=random)
        strategy.count(like_UM[y_LB], F.one_hot(y_LB, 4).float())
    scores_LUU = strategy.scores(like_UM.expand(3, -1, -1))
    for lane in range(3):
        least = float(torch.linalg.eigvalsh(strategy.grams()[lane].double())[0])
        assert float(strategy.notes()["ridge"][lane]) > 10 * abs(least)
        torch.testing.assert_close(scores_LUU[lane], torch.eye(4), rtol=0, atol=1e-2)


def test_ranpac_uses_the_lambda_given_for_a_lane() -> None:
    """In a group with a lane that chooses its lambda."""
    cells = [toy_cell("ranpac", 0, "class", ridge=ridge) for ridge in (0.0, 3.0)]
    chose, given = run_group(cells)
    assert given["notes"]["ridge"] == 3.0
    assert chose["notes"] == run_group(cells[:1])[0]["notes"] != given["notes"]


def test_inc_lora_equals_merging_factors_into_the_weights() -> None:
    """Features in the second task are those of W + (alpha / r) (B_1 A_1 + B_2 A_2)."""
    of = group("inc-lora")
    strategy: Any = of.strategy
    sets = []
    for task in (0, 1):
        learn_task(of, task)
        sets.append({name: p.detach().clone() for name, p in strategy.model.trained.items()})
    assert any(bool((sets[0][n] != 0).all()) for n in sets[0] if n.endswith("up"))
    batch = both_tasks(strategy)
    for lane in range(2):
        added = {}
        for layer in (name.removesuffix("/down") for name in sets[0] if name.endswith("/down")):
            products = [(s[f"{layer}/down"][lane] @ s[f"{layer}/up"][lane]).T for s in sets]
            added[layer.replace("/", ".")] = 16 / 3 * sum(products)
        ours_BF = strategy.model.features(batch.x_LBX)[lane]
        torch.testing.assert_close(ours_BF, backbone(batch.x_LBX[lane], added=added), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(ours_BF, backbone(batch.x_LBX[lane]), rtol=1e-3, atol=1e-3)


def test_new_lora_factors_change_nothing_at_first() -> None:
    """The network is the same at the end of a task and at the start of the next."""
    of = group("inc-lora")
    learn_task(of, 0)
    batch = both_tasks(of.strategy)
    before = of.strategy.model(batch.x_LBX)
    of.strategy.begin_task(1)
    torch.testing.assert_close(of.strategy.model(batch.x_LBX), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("penalty", ["absolute", "squared"])
def test_o_lora_s_loss_adds_the_overlap_of_directions(penalty: str) -> None:
    of = group("o-lora", penalty=penalty, lam=0.3)
    strategy: Any = of.strategy
    batch = both_tasks(strategy)
    raw = strategy.model(batch.x_LBX)
    assert strategy.extra_loss(batch, raw) is None
    learn_task(of, 0)
    first = {name: p.detach().clone() for name, p in strategy.model.trained.items()}
    strategy.begin_task(1)
    added_L = strategy.extra_loss(batch, raw).detach()
    down = [(first[k], p.detach()) for k, p in strategy.model.trained.items() if k.endswith("/down")]
    for lane in range(2):
        overlaps = torch.stack([old[lane].T @ new[lane] for old, new in down])
        total = float((overlaps.abs() if penalty == "absolute" else overlaps**2).sum())
        assert float(added_L[lane]) == pytest.approx(0.3 * total, rel=1e-4)


def test_a_lora_per_task_forgets_nothing() -> None:
    """Predictions of the first task do not change; the second task has its own factors."""
    of = group("lora-per-task", "task")
    strategy = of.strategy
    learn_task(of, 0)
    batch = both_tasks(strategy)
    before = strategy.predict(batch)
    learn_task(of, 1)
    after = strategy.predict(batch)
    first, second = batch.split(2)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[:, 2:], strategy.logits(second), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after[:, :2], strategy.logits(first), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in strategies.names() if strategies.get(name).tunes])
def test_methods_for_transformers_name_their_requirements(name: str) -> None:
    tune = "prompt" if "prompt" in name or name == "l2p" else "lora"
    with pytest.raises(Unsuitable, match=f"{name} needs a transformer, such as minilm, with tune={tune}"):
        ready(name, "task")
    with pytest.raises(Unsuitable, match=f"tune={tune}"):
        group(name, "task", "adapter")


@pytest.mark.parametrize("scenario", ["task", "class"])
def test_progressive_prompts_are_concatenated_latest_first(scenario: str) -> None:
    """After two tasks [P_2, P_1, x], or [P_1, x] for a row of the first task."""
    of = group("progressive-prompts", scenario, "prompt", model_options={"prompts": 3})
    strategy: Any = of.strategy
    sets = []
    for task in (0, 1):
        learn_task(of, task)
        sets.append(strategy.model.trained["prompt"].detach().clone())
    batch = both_tasks(strategy)
    scores_LBU, head = strategy.predict(batch), strategy.model.head
    for lane in range(2):
        latest, first = sets[1][lane], sets[0][lane]
        assert not torch.allclose(latest, first)
        of_task = [first if scenario == "task" else torch.cat([latest, first]), torch.cat([latest, first])]
        for row in range(4):
            prompt = of_task[row // 2].unsqueeze(0)
            feature_BF = backbone(batch.x_LBX[lane, row : row + 1], prompt)
            logits_BU = feature_BF @ head.weight[lane] + head.bias[lane]
            known = slice(None) if batch.active_LBU is None else batch.active_LBU[lane, row]
            ours = scores_LBU[lane, row][known]
            torch.testing.assert_close(ours, logits_BU[0][known], rtol=1e-4, atol=1e-5)


def test_l2p_selects_the_prompts_with_the_nearest_keys() -> None:
    of = group("l2p", "class", "prompt", model_options={"prompts": 12}, pool=6, top=2, lam=0.5)
    learn_task(of, 0)
    strategy: Any = of.strategy
    batch = both_tasks(strategy)
    # Only rows of the current task have a label among its units.
    own = batch.split(2)[0]
    loss_L, scores_LBU = strategy.loss(own).detach(), strategy.predict(batch)
    for lane in range(2):
        x_BS, key_MF = batch.x_LBX[lane], strategy.keys["key"][lane].detach()
        cosine_BM = F.cosine_similarity(backbone(x_BS).unsqueeze(1), key_MF.unsqueeze(0), dim=2)
        parts = strategy.model.trained["prompt"][lane].detach().view(6, 2, -1)
        chosen = [sorted(range(6), key=lambda m, c=c: -float(c[m]))[:2] for c in cosine_BM]
        prompt_BPF = torch.stack([torch.cat([parts[m] for m in of_row]) for of_row in chosen])
        head = strategy.model.head
        logits_BU = (backbone(x_BS, prompt_BPF) @ head.weight[lane] + head.bias[lane]).detach()
        known = strategy.streams.own_LTU[lane, 0]
        torch.testing.assert_close(scores_LBU[lane][:, known], logits_BU[:, known], rtol=1e-4, atol=1e-5)
        plain = F.cross_entropy(logits_BU[:2].masked_fill(~known, -torch.inf), batch.y_LB[lane, :2])
        pull = np.mean([sum(float(cosine_BM[b, m]) for m in chosen[b]) for b in range(2)])
        assert float(loss_L[lane]) == pytest.approx(float(plain) - 0.5 * pull, rel=1e-4)


@pytest.mark.parametrize("penalty", ["sum", "mean"])
def test_coda_prompt_is_a_weighted_sum(penalty: str) -> None:
    """In the second task: all components so far with their attentions, those of the first task frozen."""
    options = {"prompts": 8}
    of = group("coda-prompt", "class", "prompt", model_options=options, pool=4, lam=0.1, penalty=penalty)
    learn_task(of, 0)
    strategy: Any = of.strategy
    before = [v.detach().clone() for v in strategy.vectors()]
    learn_task(of, 1)
    batch = both_tasks(strategy)
    prompt_LBPF, added_L = (t.detach() for t in strategy.prompts(batch))
    for lane in range(2):
        component, key, attention = (v[lane].detach() for v in strategy.vectors())
        for old, new in zip(before, (component, key, attention), strict=True):
            assert torch.equal(old[lane, :2], new[:2])
            assert not torch.equal(old[lane, 2:], new[2:])
        query_BF = backbone(batch.x_LBX[lane])
        for row, query_F in enumerate(query_BF):
            weights = [F.cosine_similarity(query_F * attention[m], key[m], dim=0) for m in range(4)]
            total = sum(w * c for w, c in zip(weights, component, strict=True))
            torch.testing.assert_close(prompt_LBPF[lane, row].flatten(), total, rtol=1e-4, atol=1e-5)
        squares = torch.stack([(v @ v.T - torch.eye(4)) ** 2 for v in (component, key, attention)])
        crowding = float(squares.sum()) / (1 if penalty == "sum" else 16)
        assert float(added_L[lane]) == pytest.approx(0.1 * crowding, rel=1e-3)


def test_coda_prompt_s_new_components_are_orthogonal_to_the_old() -> None:
    of = group("coda-prompt", "class", "prompt", model_options={"prompts": 8}, pool=4)
    learn_task(of, 0)
    strategy: Any = of.strategy
    strategy.begin_task(1)
    for v_LMD in strategy.vectors():
        inner_LMM = v_LMD @ v_LMD.transpose(1, 2)
        torch.testing.assert_close(inner_LMM[:, 2:, :2], torch.zeros(2, 2, 2), rtol=0, atol=1e-5)
        torch.testing.assert_close(inner_LMM[:, 2:, 2:], torch.eye(2).expand(2, 2, 2), rtol=0, atol=1e-5)


def test_a_prompt_pool_that_does_not_fit_is_refused() -> None:
    for name, prompts, pool, why in (
        ("l2p", 20, 7, "20 prompts cannot be divided into a pool of 7"),
        ("l2p", 20, 4, "top=5 is more than pool=4: set top to 4 or less"),
        ("coda-prompt", 20, 1, "pool=1 has fewer components than the 2 tasks of the stream"),
        ("coda-prompt", 40, 40, "pool=40 is more than 32 features"),
    ):
        with pytest.raises(Unsuitable, match=why):
            group(name, "class", "prompt", pool=pool, model_options={"prompts": prompts})


def test_sparse_replay_takes_steps_on_old_rows_alone() -> None:
    """Every second step is followed by a plain SGD step on rows in memory, except in resting lanes."""
    strategy = ready("sparse-er", every=2, buffer=50)
    first = new_batch(strategy)
    strategy.learn(first)
    strategy.after_step(first)
    before = snapshot(strategy)
    strategy.context.active = (True, True, False)
    second = strategy.streams.batch(first.rows_LB, torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 6))
    seen: list[Batch] = []
    review = strategy.review
    strategy.review = lambda old, due: seen.append(old) or review(old, due)
    strategy.model.zero_grad()
    strategy.learn(second)
    (old,) = seen
    assert strategy.steps_L.tolist() == [2, 2, 1]
    for lane in range(2):
        p = [b[lane].clone().requires_grad_() for b in before]
        for part in (first, old):  # the second batch has the rows of the first
            hidden = F.linear(part.x_LBX[lane].flatten(1), p[0].T, p[1]).relu()
            loss = F.cross_entropy(F.linear(hidden, p[2].T, p[3]), part.y_LB[lane])
            gradients = torch.autograd.grad(loss, p)
            p = [(w - 0.1 * g).detach().requires_grad_() for w, g in zip(p, gradients, strict=True)]
        ours = [of[lane] for of in strategy.model.parameters()]
        torch.testing.assert_close(ours, p, rtol=1e-4, atol=1e-6)
    assert_equal((ours[2] for ours in strategy.model.parameters()), (was[2] for was in before))


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_mbpa_adapts_a_network_to_each_row(scenario: str) -> None:
    """Each row alone: nearest rows in memory by untrained features, torch's SGD on loss and distance."""
    chosen: dict[str, Any] = {"neighbours": 3, "adapt_steps": 4, "adapt_rate": 0.05, "adapt_lam": 0.1}
    strategy = ready("mbpa++", scenario, buffer=20, **chosen)
    untrained = snapshot(strategy)
    for task in (0, 1):
        strategy.after_step(new_batch(strategy, task))
    perturb(strategy)
    rows = torch.stack([s.tasks[1].test_rows[:5] for s in strategy.streams.streams])
    batch = strategy.streams.batch(rows, torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]).expand(3, 5))
    with torch.no_grad():
        answers_LBU = strategy.predict(batch)
    n_kept = int(strategy.memory.filled_L[0])
    kept = strategy.streams.batch(strategy.memory.rows_LM[:, :n_kept])
    for lane in range(3):
        rate, lam = (lane_value(getattr(strategy, f"adapt_{name}"), lane) for name in ("rate", "lam"))
        weight, bias = untrained[0][lane].T, untrained[1][lane]
        keys = F.linear(kept.x_LBX[lane].flatten(1), weight, bias).relu()
        for row in (0, 1, 3, 4):
            query = F.linear(batch.x_LBX[lane, row].flatten(), weight, bias).relu()
            near = (keys - query).norm(dim=1).argsort()[:3]
            p = [w.detach()[lane].clone().requires_grad_() for w in strategy.model.parameters()]
            start, update = [w.detach().clone() for w in p], torch.optim.SGD(p, rate, momentum=0.9)

            def answer(x_BX: Tensor, p: list[Tensor] = p) -> Tensor:
                return F.linear(F.linear(x_BX.flatten(1), p[0].T, p[1]).relu(), p[2].T, p[3])

            for _ in range(4):
                logits = answer(kept.x_LBX[lane, near])
                if scenario == "task":
                    logits = logits.masked_fill(~kept.active_LBU[lane, near], -torch.inf)
                loss = F.cross_entropy(logits, kept.y_LB[lane, near])
                away = sum(((w - was) ** 2).sum() for w, was in zip(p, start, strict=True))
                update.zero_grad()
                (loss + lam * away).backward()
                update.step()
            ours = answers_LBU[lane, row]
            real = ours > torch.finfo(ours.dtype).min
            assert int(real.sum()) == (2 if scenario == "task" else 4)
            expected = answer(batch.x_LBX[lane, row : row + 1])[0].detach()
            torch.testing.assert_close(ours[real], expected[real], rtol=1e-4, atol=1e-5)
    assert_equal(strategy.key_network.parameters(), untrained)


def test_mbpa_adapts_a_transformer_and_restores_it() -> None:
    """Prediction changes neither parameters nor the count of training tokens."""
    strategy = group("mbpa++", neighbours=2, adapt_steps=2, adapt_rate=0.5).strategy
    batch = both_tasks(strategy)
    strategy.after_step(batch)
    before = snapshot(strategy)
    counts = dict(strategy.model.counts)
    with torch.no_grad(), eval_mode(strategy.model):
        adapted, plain = strategy.predict(batch), strategy.logits(batch)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    assert strategy.model.counts == counts
    assert_equal(strategy.model.parameters(), before)


def test_mbpa_with_an_empty_memory_predicts_as_the_network() -> None:
    strategy = ready("mbpa++", adapt_lam=0.0)
    batch = new_batch(strategy)
    with torch.no_grad():
        torch.testing.assert_close(strategy.predict(batch), strategy.logits(batch))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tune"), [("o-lora", "lora"), ("l2p", "prompt"), ("coda-prompt", "prompt")])
def test_methods_for_transformers_learn(name: str, tune: str) -> None:
    """With real weights, both tasks are known at the end."""
    model = {"suite": "toy-text", "model": "minilm", "model_options": {"tune": tune, "max_tokens": 16}}
    (record,) = run_group([toy_cell(name, 0, "task", epochs=2, lr=5e-3, **model)])
    assert np.asarray(score_matrix(record))[-1].mean() > 0.8


def test_progressive_prompts_refuse_more_tokens_than_the_model_s_positions() -> None:
    """Two tasks of 30 prompts and 24 tokens are more than 64, although one task would fit."""
    places = int(group("finetune", "class", "prompt").model.places)
    assert group("progressive-prompts", "class", "prompt", model_options={"prompts": (places - 24) // 2})
    with pytest.raises(Unsuitable, match=rf"before max_tokens=24, and the model reads {places} in all"):
        group("progressive-prompts", "class", "prompt", model_options={"prompts": (places - 24) // 2 + 1})
