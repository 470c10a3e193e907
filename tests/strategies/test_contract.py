"""Enforced during a run: one loss for each lane, and state that is saved completely or refused by name."""

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import strategies
from bench.checks.in_memory import Checkpoints as Saved
from bench.store import Checkpoints
from bench.train import run_group
from lethe.testing import SEEDS, outcome, ready, toy_cell
from strategies.core import ContractBroken, LaneFloat, NotNegative, SavedState, Strategy
from strategies.core.strategy import Unsuitable
from strategies.core.streams import Batch
from tests.conftest import Command


@pytest.fixture(autouse=True)
def entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the methods of this file."""
    for value in globals().values():
        if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy:
            monkeypatch.setitem(
                strategies.REGISTRY.entered, value.__name__, strategies.core.complete("x", value)
            )
            monkeypatch.setitem(strategies.REGISTRY._entered_by, value.__name__, __name__)


class ScalarLoss(Strategy):
    """One number for all lanes."""

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch).mean()


class ScalarExtra(Strategy):
    """A term that is one number for all lanes."""

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        return raw_LBU.pow(2).mean()


class ScalarLearn(Strategy):
    """A step that returns no tensor."""

    def learn(self, batch: Batch) -> Any:
        return float(super().learn(batch).sum())


@pytest.mark.parametrize("hook", ["loss", "extra_loss", "learn"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_loss_that_is_not_one_number_for_each_lane_is_refused(hook: str, seeds: tuple[int, ...]) -> None:
    cls = {"loss": ScalarLoss, "extra_loss": ScalarExtra, "learn": ScalarLearn}[hook]
    with pytest.raises(ContractBroken) as broken:
        run_group([toy_cell(cls.__name__, seed) for seed in seeds])
    line = getattr(cls, hook).__code__.co_firstlineno
    assert f"test_contract.py, line {line}: {hook} of {cls.__name__} returned" in str(broken.value)
    assert f"not shape ({len(seeds)},)" in str(broken.value)
    if hook == "extra_loss":  # in a sum too
        with pytest.raises(ContractBroken, match=f"line {line}: extra_loss of ScalarExtra"):
            run_group([toy_cell("ScalarExtra+er", seed) for seed in seeds])


WRONG = '''
from lethe import NotNegative, Strategy

class Wrong(Strategy):
    """A loss of one number for all lanes."""

    def loss(self, batch):
        return super().loss(batch).mean()


class PythonIf(Strategy):
    """Python decides for all lanes."""

    strength: NotNegative = 0.1

    def extra_loss(self, batch, raw_LBU):
        if self.strength > 0:
            return self.strength * raw_LBU.pow(2).mean((1, 2))
        return None
'''


def test_a_break_of_the_contract_fails_only_its_own_cells(command: Command, tmp_path: Path) -> None:
    """One line of error for all its seeds and exit code 1; other strategies have records."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    given = [f"--strategy={path}:Wrong", f"--out={tmp_path / 'run'}"]
    code, out, err = command("run toy -s finetune --seeds 3 --set epochs=1 --jobs 1 --no-check", *given)
    assert code == 1
    assert "3 done, 3 failed" in out
    line = next(line for line in err.splitlines() if "ContractBroken" in line)
    assert f"seed 0, 2 more: ContractBroken: {path}, line 7: loss of Wrong returned shape ()" in line
    assert "ran as halves" not in err


@pytest.mark.slow
def test_lanes_run_one_by_one_where_python_branches_on_their_values(command: Command, tmp_path: Path) -> None:
    """A warning names the line once."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    each = [f"--strategy={path}:PythonIf[strength={n}]" for n in (0.1, 0.2, 0.3)]
    code, out, err = command(
        "run toy --seeds 1 --set epochs=1 --no-check", *each, f"--out={tmp_path / 'run'}"
    )
    assert code == 0
    assert "3 done" in out
    assert err.count("one by one") == 1
    assert f"{path}, line 17: Python decides once for all lanes in 'if self.strength > 0:'" in err


# State.


@dataclass
class Anchor:
    """A user's container."""

    of: list[Tensor] = field(default_factory=list)
    times: int = 0


class Keeper(Strategy):
    """A base for methods that store state in different places; ``pull`` draws the weights to that state."""

    def pull(self) -> list[Tensor]:
        return []

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        anchors = self.pull()
        if not anchors:
            return None
        pairs = zip(self.model.parameters(), anchors, strict=True)
        return sum(((p - a).pow(2).flatten(1).sum(1) for p, a in pairs), raw_LBU.new_zeros(len(raw_LBU)))

    def copies(self) -> list[Tensor]:
        return [p.clone() for p in self.model_tensors()]


class InDict(Keeper):
    def setup(self) -> None:
        self.anchors: dict[Any, Any] = {}

    def pull(self) -> list[Tensor]:
        return self.anchors["last"][0] if self.anchors else []

    def end_task(self, task: int) -> None:
        self.anchors["last"] = (self.copies(), f"task {task}", {task: None})


class InGrowingList(Keeper):
    def setup(self) -> None:
        self._anchors: list[list[Tensor]] = []

    def pull(self) -> list[Tensor]:
        return self._anchors[0] if self._anchors else []

    def end_task(self, task: int) -> None:
        self._anchors.append(self.copies())


class InDataclass(Keeper):
    def setup(self) -> None:
        self.anchor: Anchor | None = None

    def pull(self) -> list[Tensor]:
        return [self.anchor.times * a for a in self.anchor.of] if self.anchor else []

    def end_task(self, task: int) -> None:
        self.anchor = Anchor(self.copies(), task + 1)


class InTeacher(Keeper):
    """A copy of the network, None until the first task has ended."""

    def setup(self) -> None:
        self.teacher: nn.Module | None = None

    def pull(self) -> list[Tensor]:
        return list(self.teacher.parameters()) if self.teacher else []

    def end_task(self, task: int) -> None:
        import copy

        self.teacher = copy.deepcopy(self.model).requires_grad_(False)


class InNumbers(Keeper):
    """Counters, text, a deque, a set, a random generator of each kind."""

    def setup(self) -> None:
        self.steps, self.word, self.last = 0, "", deque([1.0], maxlen=3)
        self.met: set[int] = set()
        self.counts = Counter({"a": 1})
        self.by_task: defaultdict[int, float] = defaultdict(float)
        self.drawn = torch.Generator().manual_seed(1)
        self.numpy, self.python = np.random.default_rng(2), random.Random(3)

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        self.steps += 1
        self.by_task[self.task] += 0.5
        noise = float(torch.rand((), generator=self.drawn)) + self.numpy.random() + self.python.random()
        weight = noise * (len(self.met) + self.last[-1] + len(self.word) + sum(self.by_task.values()))
        return weight / self.steps * raw_LBU.pow(2).mean((1, 2))

    def end_task(self, task: int) -> None:
        self.met.add(task)
        self.last.append(task + 0.5)
        self.word += "x"


class InUnderscore(Keeper):
    def setup(self) -> None:
        self._mean: Tensor | None = None

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        now_LU = raw_LBU.mean(1)
        self._mean = now_LU.detach() if self._mean is None else 0.99 * self._mean + 0.01 * now_LU.detach()
        return (now_LU - self._mean).pow(2).sum(1)


class InModule(Keeper):
    """A module with parameters, a buffer and a number, its optimiser, and a changed hyper-parameter."""

    strength: NotNegative = LaneFloat(0.1)

    def setup(self) -> None:
        self.scale = nn.ParameterList([torch.ones(self.streams.lanes, 1)])
        self.scale.register_buffer("times", torch.zeros(self.streams.lanes), persistent=False)
        self.second = self.optimiser.alike(self.scale.parameters())
        self.order_L = torch.arange(self.streams.lanes)

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor:
        one_L1: Any = self.scale[0]
        self.second.descend(
            (one_L1 - raw_LBU.detach().mean((1, 2)).unsqueeze(1)).pow(2).sum(1), self.context.active
        )
        self.scale.times += batch.learns_L
        assert bool((self.order_L == torch.arange(len(raw_LBU))).all())
        return self.strength * one_L1.detach().squeeze(1) * self.scale.times * raw_LBU.pow(2).mean((1, 2))

    def end_task(self, task: int) -> None:
        self.strength = self.strength * 0.5


KEEPERS = ["InDict", "InGrowingList", "InDataclass", "InTeacher", "InNumbers", "InUnderscore", "InModule"]


@pytest.mark.parametrize("name", KEEPERS)
@pytest.mark.parametrize("boundaries", ["shown", "hidden"])
def test_state_is_saved_wherever_a_method_stores_it(name: str, boundaries: str) -> None:
    cells = [toy_cell(name, seed, epochs=1, boundaries=boundaries) for seed in SEEDS]
    saved = Saved()
    straight = [outcome(r) for r in run_group(cells, checkpoints=saved)]
    assert sorted(saved.after) == [1]
    if boundaries == "shown" or name not in ("InDict", "InGrowingList", "InDataclass", "InTeacher"):
        plain = run_group([toy_cell(seed=seed, epochs=1, boundaries=boundaries) for seed in SEEDS])
        assert straight[0]["loss"] != plain[0]["loss"]  # the result depends on the saved state
    assert [outcome(r) for r in run_group(cells, checkpoints=saved.at(1))] == straight
    for seed in (1, 2):  # in another grouping: resumed if the checkpoint allows it
        again, alone = run_group([cells[seed]], checkpoints=saved.at(1)), run_group([cells[seed]])
        assert outcome(again[0]) == outcome(alone[0])


class InViews(Keeper):
    """Views that overlap, with lanes and without, and other types of numbers."""

    def end_task(self, task: int) -> None:
        self.wide = torch.ones(self.streams.lanes, 4, dtype=torch.bfloat16)
        self.narrow, self.numbers = self.wide[:, :2], torch.arange(6.0)[:4]
        self.some, self.spread = self.numbers[1:3], torch.ones(1).expand(7)

    def extra_loss(self, batch: Batch, raw_LBU: Tensor) -> Tensor | None:
        if not self.task:
            return None
        weight_L = self.narrow.sum(1) + self.some.sum() + self.spread.sum()
        return weight_L * raw_LBU.pow(2).mean((1, 2))


def test_views_that_overlap_are_written_and_read(tmp_path: Path) -> None:
    """On disk, where a file refuses tensors that share memory."""
    cells, run = [toy_cell("InViews", seed, epochs=1) for seed in SEEDS], Checkpoints(tmp_path)
    straight = [outcome(r) for r in run_group(cells, checkpoints=run)]
    assert [outcome(r) for r in run_group(cells, checkpoints=run)] == straight
    assert {h.tasks_done for h in run.headers().values()} == {1}  # it went on from there


class Opaque(Strategy):
    """State that cannot be saved."""

    def setup(self) -> None:
        self.rows = iter(range(9))


class LateModule(Strategy):
    """A module that setup did not make."""

    def end_task(self, task: int) -> None:
        self.extra = nn.Linear(2, 2)


class OfTheClass(Strategy):
    """A list that all runs of a process share."""

    anchors = []  # type: ignore[var-annotated]  # noqa: RUF012

    def end_task(self, task: int) -> None:
        self.anchors.append(task)


class Permitted(Strategy):
    """The same state, which the author declares as not saved."""

    not_saved = ("rows",)

    def setup(self) -> None:
        self.rows = iter(range(9))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Opaque", "self.rows of Opaque is a range_iterator, which cannot be saved"),
        ("LateModule", "self.extra of LateModule is a module made after setup: make it in setup"),
        ("OfTheClass", "self.anchors of OfTheClass belongs to the class, so that all runs share it"),
    ],
)
def test_state_that_cannot_be_saved_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(ContractBroken) as broken:
        run_group([toy_cell(name, epochs=1)], checkpoints=Saved())
    assert said in str(broken.value)
    assert "test_contract.py, line" in str(broken.value)
    assert ("write not_saved = ('rows',) in the class" in str(broken.value)) == (name == "Opaque")
    run_group([toy_cell("Permitted", epochs=1)], checkpoints=Saved())


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_a_checkpoint_with_other_names_is_an_error(change: str) -> None:
    saved, cell = Saved(), toy_cell("er", epochs=1)
    run_group([cell], checkpoints=saved)
    tensors, _ = saved.after[1][cell.key]
    if change == "unknown":
        tensors["strategy/more"] = torch.zeros(1)
    else:
        del tensors["strategy/memory.rows_LM"]
    name = "strategy/more" if change == "unknown" else "strategy/memory.rows_LM"
    with pytest.raises(ContractBroken, match=f"other state than the method has now: {name}; --force"):
        run_group([cell], checkpoints=saved.at(1))


def test_aliases_and_unchanged_state_survive_a_checkpoint() -> None:
    strategy = ready("finetune")
    strategy.a = strategy.b = torch.zeros(3, 2)
    strategy.column = torch.zeros(32, 1).as_strided((1, 1), (32, 32))  # one number with unusual strides
    strategy.views = [p.detach() for p in strategy.model.parameters()]
    saved = SavedState(strategy)
    strategy.a = torch.ones(3, 2)
    strategy.c = {"same": strategy.a, 1: float("inf"), "whole": torch.arange(5)}
    tree, lanes, whole = saved.save()
    assert set(lanes) == {"a", "b"}
    assert {k: t.tolist() for k, t in whole.items()} == {"c['whole']": [0, 1, 2, 3, 4]}
    strategy.a, strategy.b, strategy.c = [torch.zeros(3, 2)] * 2 + [None]
    saved.load(tree, {k: t.clone() for k, t in (lanes | whole).items()})
    assert strategy.c["same"] is strategy.a
    assert strategy.c[1] == float("inf")
    assert strategy.a.sum() == 6
    assert strategy.b.sum() == 0
    strategy.views[0].zero_()
    assert next(strategy.model.parameters()).sum() == 0


def test_unsuitable_is_not_a_break_of_the_contract() -> None:
    assert not issubclass(Unsuitable, ContractBroken)
