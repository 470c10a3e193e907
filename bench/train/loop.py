"""One group of lanes through one stream: the main loop, on one screen.

All cells of a group share suite, scenario, strategy, model and training; seeds, rates and the strategy's
float hyper-parameters differ from lane to lane. Nothing in a task's steps waits for the device.

Axes: L lanes, S steps, B batch, T tasks, U units, C classes, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import strategies
import suites
from bench.encode import inputs, kept_facts, mark, name_features, tokenizer_of
from bench.models import build
from bench.train.accuracy import Scorer, unit_names
from bench.train.clock import Clock, peak_bytes
from bench.train.schedule import Plan, plan_task
from bench.train.text_scores import TextScorer
from strategies.core import OPTIMISERS, Draws, LaneModel, LaneStreams, Optimiser, Strategy
from suites.base import Data, Training, generator

if TYPE_CHECKING:
    from bench.plan import CellSpec


WarmStart = Callable[[LaneModel, LaneStreams, "CellSpec"], None]
"""Loads the exported model that a cell continues from into all lanes; see bench.export."""


class Models(Protocol):
    """Where trained models are kept; see bench.store.saved_models."""

    def wanted(self, tasks_done: int, n_tasks: int) -> bool: ...  # noqa: D102
    def write(self, key: str, tasks_done: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...  # noqa: D102


class Checkpoints(Protocol):
    """Where the state after a task is kept until its cell is done; see bench.store."""

    def save(self, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...  # noqa: D102
    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...  # noqa: D102


def run_group(
    specs: Sequence[CellSpec],
    *,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    models: Models | None = None,
    progress: Callable[[int, int], None] | None = None,
    data: Data | None = None,
    warm_start: WarmStart | None = None,
) -> list[dict[str, Any]]:
    """Run cells of one group side by side and return their records, in the same order.

    ``data`` is the suite's data set where it is in memory already. Cells with checkpoints must all have
    finished as many tasks. Cells that continue from an exported model need a ``warm_start``.
    """
    group = Group(specs, device, data, warm_start)
    first = group.resume(checkpoints) if checkpoints else 0
    if first == 0:
        group.score(0)
    for task in range(first, group.streams.n_tasks):
        if progress:
            progress(task, group.streams.n_tasks)
        if group.learn(task):
            group.score(task + 1)
            if models and models.wanted(task + 1, group.streams.n_tasks):
                group.keep(models, task + 1)
        if checkpoints and task + 1 < group.streams.n_tasks:
            group.save(checkpoints, task + 1)
    if progress:
        progress(group.streams.n_tasks, group.streams.n_tasks)
    return [group.record(lane) for lane in range(len(specs))]


class Group:
    """The lanes of one group: streams, model, strategy, optimiser, and what was measured so far."""

    def __init__(
        self,
        specs: Sequence[CellSpec],
        device: str,
        data: Data | None,
        warm_start: WarmStart | None = None,
    ) -> None:
        self.specs, self.device = list(specs), torch.device(device)
        spec, seeds = specs[0], [s.seed for s in specs]
        suite = suites.get(spec.suite)
        self.training = Training(**spec.training)
        self.data = inputs(data or suite.load(), spec.model, spec.model_options, device)
        streams = [suite.stream(self.data, spec.scenario, seed, self.training) for seed in seeds]  # type: ignore[arg-type]
        self.streams = LaneStreams(streams, self.training, self.device)
        generators = [generator(seed, "model") for seed in seeds]
        model = build(spec.model, spec.model_options, self.streams.shape, self.streams.n_units, generators)
        self.model = model.to(self.device)
        if spec.model_options.get("start") == "names":
            self._start_from_names()
        if spec.continues:
            if warm_start is None:
                raise ValueError(f"{spec.identity} continues from an exported model: warm_start is missing")
            warm_start(self.model, self.streams, spec)
        if self.training.compile:
            self.model.compile()
        self.initial = {k: v.clone() for k, v in model.state_dict().items()}
        self.optimiser = self._optimiser()
        self.draws = Draws(seeds, self.device)
        self.strategy = self._strategy()
        self.scorer: Scorer | TextScorer
        if self.data.generates:
            tokenizer = tokenizer_of(self.data, spec.model)
            self.scorer = TextScorer(self.streams, self.strategy, suite.score, tokenizer)
        else:
            self.scorer = Scorer(self.streams, self.strategy)
        self.clock = Clock(self.device)
        self.loss: list[list[float | None]] = []
        self.diverged: dict[int, str] = {}

    @torch.no_grad()
    def _start_from_names(self) -> None:
        """Begin with the classes' names as prototypes: row 0 of R is then what the encoder knows unaided."""
        spec, data = self.specs[0], self.data
        name_CF = name_features(data, spec.model, spec.model_options, str(self.device)).to(self.device)
        for lane, stream in enumerate(self.streams.streams):
            of_UC = torch.zeros(self.streams.n_units, len(data.class_names), device=self.device)
            for unit_C in stream.unit_TC.to(self.device):
                known = (unit_C >= 0).nonzero().flatten()
                of_UC[unit_C[known], known] = 1
            # A unit of several classes stands for their mean.
            self.model.head.weight[lane] = F.normalize(of_UC @ F.normalize(name_CF, dim=1), dim=1).T
        self.model.head.bias.zero_()

    def _optimiser(self) -> Optimiser:
        rates = [s.training["lr"] for s in self.specs], [s.training["weight_decay"] for s in self.specs]
        return OPTIMISERS[self.training.optimiser](list(self.model.parameters()), *rates)

    def _strategy(self) -> Strategy:
        strategy = strategies.get(self.specs[0].strategy)(**self.specs[0].hyper)
        for name in strategy.lane_fields():
            values = [float(s.hyper[name]) for s in self.specs]
            setattr(strategy, name, torch.tensor(values, device=self.device))
        strategy.attach(self.model, self.streams, self.draws, self.optimiser, self.autocast)
        strategy.setup()
        return strategy

    def learn(self, task: int) -> bool:
        """Train on one task; return whether there was anything to learn."""
        strategy, training = self.strategy, self.training
        budget = replace(training, epochs=1, iterations=0) if strategy.one_pass else training
        plan = plan_task(self.streams.streams, task, budget, strategy.trains_on, self.device)
        if plan is None:
            self.loss.append([None] * len(self.specs))
            return False
        if strategy.restarts:
            self.model.load_state_dict(self.initial)
        if training.reset_optimiser or strategy.restarts:
            self.optimiser.reset()
        shown = training.boundaries == "shown"
        self.draws.begin(task)
        self.streams.begin_task(task)
        if shown:
            strategy.task = task
        self.model.train()
        self.clock.start()
        if shown or task == 0:
            strategy.begin_task(task)
        loss_L = self.steps(plan, task)
        if shown or task == self.streams.n_tasks - 1:
            strategy.end_task(task)
        self.clock.stop(plan.samples)
        self.clock.read(self.model.counts)
        self._note_loss(loss_L / torch.tensor(plan.steps, device=self.device), task)
        return True

    def steps(self, plan: Plan, task: int) -> Tensor:
        """Take every step of a task; return each lane's summed loss, on the device, shape (L,)."""
        strategy, streams, optimiser, model = self.strategy, self.streams, self.optimiser, self.model
        total_L = torch.zeros(len(self.specs), device=self.device)
        for step in range(plan.n_steps):
            active = plan.active(step)
            rows_LB, weight_LB = plan.rows(step), plan.weight(step)
            resting = None if active is None else _buffers(model)
            for p in optimiser.parameters:
                p.grad = None
            batch = streams.batch(rows_LB, weight_LB, self._augment(rows_LB))
            strategy.moment.active = active
            loss_L = strategy.learn(batch)
            strategy.after_step(batch)
            if active is not None and weight_LB is not None:  # what a method adds to no rows is no loss
                loss_L = torch.where(weight_LB.amax(1) > 0, loss_L, 0)
            total_L += loss_L
            if resting is not None and active is not None:
                _restore(model, resting, active)
            self.clock.step(step)
            if self.training.score_every and (step + 1) % self.training.score_every == 0:
                self.scorer.curve(task + 1, step + 1, active, self.clock)
        return total_L

    def autocast(self) -> AbstractContextManager[Any]:
        """Return bfloat16 autocast where it was asked for."""
        if self.training.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _augment(self, rows_LB: Tensor) -> Tensor | None:
        if not self.training.augment:
            return None
        return self.draws.uniform("augment", 3 * rows_LB.shape[1]).view(*rows_LB.shape, 3)

    def score(self, row: int) -> None:
        """Measure one row of R, on test and validation rows."""
        with self.autocast():
            self.scorer.measure(row, self.clock)

    def _note_loss(self, mean_L: Tensor, task: int) -> None:
        finite_L = torch.stack(
            [p.detach().flatten(1).isfinite().all(1) for p in self.model.parameters()]
        ).all(0)
        values = mean_L.tolist()
        for lane, finite in enumerate(finite_L.tolist()):
            if not (finite and math.isfinite(values[lane])) and lane not in self.diverged:
                self.diverged[lane] = f"loss or parameters were no longer finite after task {task + 1}"
        self.loss.append([None if lane in self.diverged else value for lane, value in enumerate(values)])

    # Records and checkpoints.

    def record(self, lane: int) -> dict[str, Any]:
        """Return one cell's record; see bench.store for the fields around it."""
        why = self.diverged.get(lane)
        samples, size = self.strategy.memory_size()
        classes = self.scorer.classes(lane)
        return {
            "status": "diverged" if why else "done",
            "reason": why,
            **self.scorer.record(lane),
            **({"classes": classes} if classes else {}),
            "loss": [row[lane] for row in self.loss],
            # All that differs between two runs of the same cell stands here.
            "timings": {
                **self.clock.timings(len(self.specs)),
                "lanes": len(self.specs),
                "device": self.clock.device_name,
                "peak_bytes": peak_bytes(self.device),
            },
            "resources": {
                "parameters": sum(p[0].numel() for p in self.model.parameters()),
                "memory_samples": samples,
                "memory_bytes": size,
            },
            "data": self._data_facts(),
            "notes": {name: _finite(t[lane].tolist()) for name, t in self.strategy.notes().items()},
        }

    def _data_facts(self) -> dict[str, str]:
        facts = {"name": self.data.name, "fingerprint": self.data.fingerprint}
        return facts | ({"model": mark(self.data, self.specs[0].model)} if self.data.texts else {})

    def _state(self) -> dict[str, Tensor]:
        parts = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state(),
            "strategy": self.strategy.state(),
        }
        return {f"{part}/{name}": t for part, state in parts.items() for name, t in state.items()}

    def keep(self, models: Models, tasks_done: int) -> None:
        """Keep the model of every lane that has not diverged."""
        otherwise = self.strategy.answers_with_more_than_model()
        wanted = ("model/", "strategy/") if otherwise else ("model/",)
        state = {name: t.cpu() for name, t in self._state().items() if name.startswith(wanted)}
        for lane, (spec, stream) in enumerate(zip(self.specs, self.streams.streams, strict=True)):
            facts = {
                "spec": spec.facts(),
                "units": unit_names(stream),
                "tasks": [list(task.units) for task in stream.tasks],
                "data": self._data_facts(),
                "answers_otherwise": otherwise,
                "writes": kept_facts(stream, spec.model),
                "shape": None if self.data.texts else list(self.streams.shape),
                "scale": self.data.scale,
                "mean": list(self.data.mean),
                "std": list(self.data.std),
            }
            if lane not in self.diverged:
                own = {name: t[lane].contiguous() for name, t in state.items()}
                models.write(spec.key, tasks_done, own, facts)

    def save(self, checkpoints: Checkpoints, tasks_done: int) -> None:
        """Keep each lane's state by itself, so that it can go on beside other lanes."""
        state = {name: t.cpu() for name, t in self._state().items()}
        for lane, spec in enumerate(self.specs):
            facts = {
                "tasks_done": tasks_done,
                "loss": [row[lane] for row in self.loss],
                "diverged": self.diverged.get(lane),
                "scores": self.scorer.record(lane),
                "clock": self.clock.state(),
            }
            own = {name: t[lane].contiguous() for name, t in state.items()}
            checkpoints.save(spec.key, own | self.scorer.tensors(lane), facts)

    def resume(self, checkpoints: Checkpoints) -> int:
        """Take up every lane where its checkpoint left it; return the tasks done."""
        kept = [checkpoints.load(spec.key) for spec in self.specs]
        found = [k for k in kept if k is not None]
        if len(found) < len(kept) or len({facts["tasks_done"] for _, facts in found}) != 1:
            return 0
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "strategy": {}}
        for name in self._state():
            part, _, key = name.partition("/")
            parts[part][key] = torch.stack([tensors[name] for tensors, _ in found]).to(self.device)
        self.model.load_state_dict(parts["model"])
        self.optimiser.load_state(parts["optimiser"])
        self.strategy.load_state(parts["strategy"])
        for lane, (tensors, facts) in enumerate(found):
            self.scorer.load(lane, facts["scores"], tensors)
            if facts["diverged"]:
                self.diverged[lane] = facts["diverged"]
        done: int = found[0][1]["tasks_done"]
        self.loss = [[facts["loss"][task] for _, facts in found] for task in range(done)]
        self.clock.load(found[0][1]["clock"])
        self.strategy.task = done - 1 if self.training.boundaries == "shown" else 0
        return done


def _finite(value: Any) -> Any:
    """Return nested lists of numbers with None for what JSON cannot say."""
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value if math.isfinite(value) else None


def _buffers(model: torch.nn.Module) -> list[Tensor]:
    return [b.clone() for b in model.buffers()]


def _restore(model: torch.nn.Module, kept: list[Tensor], active: tuple[bool, ...]) -> None:
    """Undo what a step did to the running statistics of lanes at rest."""
    for buffer, before in zip(model.buffers(), kept, strict=True):
        for lane, on in enumerate(active):
            if not on:
                buffer[lane] = before[lane]
