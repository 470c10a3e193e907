"""Checks of the contract of methods, for authors: ``lethe check`` and ``lethe.testing``.

A check runs the method on small generated streams (``made_streams``) and compares records. Its findings are
lines for the author: what differs, and what to do. A method may refuse what it cannot do, with a reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import strategies
import suites
from bench.checks.in_memory import Checkpoints
from bench.checks.made_streams import AGAIN, EASY
from bench.checks.one_check import Fault, Note, Skip
from bench.checks.pretended_runs import device_findings
from bench.checks.subjects import Subject, accuracies, beyond_rounding, compared, run
from bench.export import Predictor, save, served
from bench.plan import CellSpec, Fields, Request
from bench.store import SavedModels
from bench.train import Saving, make_lanes, run_group, run_lanes
from strategies.core import Composed, Strategy, Unsuitable, python_if
from suites.base import SCENARIOS, Scenario, Training
from suites.errors import UserError


def alone(subject: Subject) -> None:
    """A lane has the same numbers alone and together with lanes whose tasks have other sizes."""
    _, records, _, _ = subject.base
    if diverged := next((r["reason"] for r in records if r["status"] != "done"), ""):
        raise Fault(
            f"{diverged}, on a stream with a last batch of one row and a task smaller than a batch: "
            "do not divide by what can be zero, as the spread of one row, or a sum in a lane at rest"
        )
    for seed, one, beside in zip((1, 2), subject.alone, records[1:], strict=True):
        if words := beyond_rounding(one, beside, subject.of_texts):
            raise Fault(
                f"seed {seed} alone and beside others: {words}: lanes are mixed: take no sum, mean or "
                "maximum over axis 0, use no number of lane 0 for all, and change nothing in a lane at rest "
                "(batch.learns_L 0)"
            )
        if words := compared(one, beside, subject.of_texts):
            raise Note(
                f"seed {seed} alone and beside others: {words}: exp, log and sigmoid round by "
                "place: write lanewise(torch.exp, x), add_up(list) for the sum of a list, and products with "
                "lanes first"
            )


def hyper(subject: Subject) -> None:
    """The numbers of a lane do not depend on settings of other lanes; its own learning rate has an effect."""
    changed, cell = subject.hyper_changed(), subject.base[0][1]
    rate = {"lr": 2 * cell.training["lr"]}
    beside = [replace(cell, training=cell.training | rate), replace(cell, hyper=cell.hyper | changed)]
    try:
        records = run_group([cell, *beside])
    except Exception as error:
        if where := python_if(error):
            raise Note(f"{where}; until then they run one by one, slower, with the same numbers") from None
        raise
    if words := compared(records[0], subject.alone[0], subject.of_texts):
        named = ", ".join(f"{k} = {v:g}" for k, v in (changed or rate).items())
        raise Fault(
            f"beside a lane with {named}: {words}: a hyper-parameter is a tensor (L,): multiply it with a "
            "loss (L,), or per_lane(value, x) with a tensor (L, ...), and take no mean over it"
        )
    if not subject.strategy.one_pass and records[0]["loss"] == records[1]["loss"]:
        raise Fault("lr has no effect: take steps with self.optimiser, or say one_pass = True")


def twice(subject: Subject) -> None:
    """A lane that is run again, with two threads of torch, has the same numbers."""
    cells, records = subject.cells("easy", (1,), epochs=1, batch=24), []
    for number, threads in enumerate((1, 1, 2)):
        torch.set_num_threads(threads)
        torch.manual_seed(number)
        records += run(cells)
    first, again, by_threads = records
    if words := compared(first, again) or beyond_rounding(first, by_threads, subject.of_texts):
        raise Fault(
            f"run twice: {words}: something outlives a run (a list of the class or the module), or is drawn "
            "by torch's global generator: make state in setup, draw with self.draws.uniform(name, n)"
        )


def resumed(subject: Subject) -> None:
    """A run that is interrupted after any task and resumed has the same numbers."""
    cells, records, saved, _ = subject.base
    for done in sorted(saved.after):
        _ends_alike(cells, records, saved, done)
    again = run(cells[1:2], checkpoints=saved.at(2))[0]
    if words := beyond_rounding(records[1], again, subject.of_texts):
        raise Fault(f"interrupted after task 2 and resumed without its neighbours: {words}: lanes are mixed")


def _ends_alike(cells: list[CellSpec], records: list[Fields], saved: Checkpoints, done: int) -> None:
    again = run(cells, checkpoints=saved.at(done))
    for spec, straight, one in zip(cells, records, again, strict=True):
        if words := compared(straight, one):
            raise Fault(
                f"interrupted after task {done} and resumed, seed {spec.seed}: {words}: what it remembers "
                "must be in attributes of self, not in the class, the module, a closure or not_saved"
            )


def boundaries(subject: Subject) -> None:
    """With hidden boundaries it runs and can be interrupted, or it refuses with a reason."""
    cells, saved = subject.cells("uneven", (0, 1), boundaries="hidden", epochs=1), Checkpoints()
    _ends_alike(cells, run(cells, checkpoints=saved), saved, 2)


def again(subject: Subject) -> None:
    """With classes that occur again, lanes are not mixed, and the last task is learned."""
    cells = subject.cells("again", (0, 1), epochs=1 if subject.of_texts else 16)
    records = run(cells)
    if words := beyond_rounding(run(cells[1:])[0], records[1], subject.of_texts):
        raise Fault(f"classes that come back, seed 1 alone and beside another: {words}: lanes are mixed")
    if subject.of_texts or subject.scenario == "domain":  # where classes are the same in every task
        return
    for spec, record in zip(cells, records, strict=True):
        learned, table = accuracies(record)[-1][-1], AGAIN[spec.seed % len(AGAIN)]
        known = len({place for task in table for place in task})
        chance = 1 / (len(table[-1]) if subject.scenario == "task" else known)
        if not learned > chance + 0.05:
            raise Fault(
                f"classes that come back, seed {spec.seed}: {learned:.0%} of the last task right, chance is "
                f"{chance:.0%}: a class is new in the task where it first appears, not where it comes back"
            )


def units(subject: Subject) -> None:
    """In the task-incremental scenario, every prediction is a unit of the row's task."""
    cell = subject.cells("uneven", (0,), "task", epochs=1)[0]
    state = make_lanes([cell])
    record = run_lanes(state)[0]
    own = {(t, u) for t, task in enumerate(state.streams.streams[0].tasks, 1) for u in task.units}
    wrong = [row for row in record["classes"]["test"] if (row[1], row[3]) not in own]
    if wrong:
        raise Fault(
            f"task-incremental, rows of task {wrong[0][1]} are given to units of another: mask what "
            "predict() returns with mask(logits_LBU, batch.active_LBU)"
        )


def buffer(subject: Subject) -> None:
    """A memory of rows stays within its budget, also if that is smaller than the number of classes."""
    if not any(f.name == "buffer" for f in fields(subject.strategy)):
        raise Skip("it has no memory of rows")
    for slots in (10, 3):
        try:
            record = run(subject.cells("uneven", (0,), hyper={"buffer": slots}, epochs=1))[0]
        except Unsuitable:
            if slots == 10:
                raise
            continue  # a method may refuse a memory with fewer rows than classes
        rows, size = (record["resources"][f"memory_{of}"] for of in ("samples", "bytes"))
        if not rows <= slots or (slots == 10 and not (rows and size >= rows * 64)):
            raise Fault(
                f"buffer={slots}: it reports {rows} rows and {size} bytes, a row has 64 bytes: store "
                "rows in an object whose held_rows(lane) returns their number and the bytes of each"
            )


def memory(subject: Subject) -> None:
    """State that is not in checkpoints does not hide memory from the reported size."""
    strategy = subject.base[3].strategy
    parts: list[Strategy] = vars(strategy)["parts"] if isinstance(strategy, Composed) else [strategy]
    for part in parts:
        for name in part.not_saved:
            left_out = tensors_in(vars(part).get(name))
            if size := sum(t.nbytes for t in left_out):
                raise Fault(
                    f"self.{name} is in not_saved and has {size // len(subject.base[0])} bytes a lane "
                    "after the last task, which the reported memory leaves out: take it out of not_saved, "
                    "or set it to None in end_task"
                )


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors of an attribute, also in lists, dictionaries and modules; not of optimisers."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return [*value.parameters(), *value.buffers()]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [t for item in items for t in tensors_in(item)]


def export(subject: Subject) -> None:
    """An exported model predicts as it was scored, or the export is refused by name."""
    cell = subject.cells("uneven", (0,))[0]
    with tempfile.TemporaryDirectory(prefix="lethe-check-") as scratch:
        models = SavedModels(Path(scratch), "last")
        state = make_lanes([cell])
        record = run_lanes(state, Saving(models=models))[0]
        try:
            predictor = served(Path(scratch), cell.key)
        except UserError as reason:
            if state.strategy.answers_with_more_than_model():
                raise Skip(str(reason)) from None
            raise
        save(predictor, Path(scratch) / "exported")
        loaded = Predictor.load(Path(scratch) / "exported")
    # Not the data of the streams, which can be features of a frozen backbone.
    stream, data = state.streams.streams[0], suites.get(cell.suite).load()
    names = stream.unit_names()
    place = {names.index(label): i for i, label in enumerate(loaded.labels)}
    for t, (task, scored) in enumerate(zip(stream.tasks, record["test"]["right"][-1], strict=True)):
        index = data.index_of(task.test_rows)
        given: Any = [data.texts[i] for i in index] if data.texts else data.x_N[index].numpy()
        among = [place[u] for u in (task.units if cell.scenario == "task" else sorted(place))]
        answer = torch.tensor(among)[loaded.logits(given)[:, among].argmax(1)]
        truth = torch.tensor([place[int(u)] for u in stream.unit_TC[t][data.y_N[index]]])
        right = int((answer == truth).sum())
        # Rows that were given to units never learned, which the exported head does not have.
        last = [row[3:] for row in record["classes"]["test"] if row[:2] == [len(stream.tasks), t + 1]]
        unlearned = sum(count for unit, count in last if unit not in place)
        if abs(right - scored) > 1 + unlearned:
            raise Fault(
                f"exported, its model predicts {right} rows of task {t + 1} correctly, scored were {scored}: "
                "predictions that need more than self.model must be made in predict() or logits()"
            )


def learns(subject: Subject) -> None:
    """Two easy tasks are learned better than by chance, in every scenario that it supports."""
    if subject.of_texts:
        raise Skip("a random transformer with a few trained parameters learns little in so short a time")
    for scenario in SCENARIOS:
        try:
            epochs = 40 if scenario == "online" else 20
            cells = subject.cells("easy", (0, 1), scenario, epochs=epochs)
        except Skip:
            continue
        records = run(cells)
        chance = 1 / len(EASY[0][0]) if scenario in ("task", "domain") else 1 / sum(map(len, EASY[0]))
        if diverged := [r["reason"] for r in records if r["status"] != "done"]:
            raise Fault(f"{scenario}-incremental, two easy tasks: {diverged[0]}: lower the loss or lr")
        learned = float(np.mean([accuracies(r)[-1].mean() for r in records]))
        if not learned > chance + 0.2:
            raise Fault(
                f"{scenario}-incremental, two easy tasks: {learned:.0%} right, chance is {chance:.0%}: does "
                "loss() reach the model's parameters, and does predict() mask a unit that can be right?"
            )


@cache
def _lost_by_finetune(scenario: Scenario) -> float:
    return _lost(Subject("finetune"), scenario)


def _lost(subject: Subject, scenario: Scenario) -> float:
    """Return the loss of accuracy on the first task; on digits for task-incremental methods."""
    if scenario == "task":  # two easy tasks with a head each are hardly forgotten
        small = {"epochs": "5", "lr": "0.01", "rows_per_class": "60"}
        cells = Request("digits", (subject.selector,), ("task",), (0, 1, 2), small).cells()
    else:
        cells = subject.cells("easy", (0, 1, 2), scenario, epochs=20)
    return float(np.mean([(of := accuracies(record))[1, 0] - of[-1, 0] for record in run(cells)]))


def forgets(subject: Subject) -> None:
    """A method that replays or isolates parameters forgets less than fine-tuning."""
    if subject.strategy.family not in ("replay", "isolation"):
        raise Skip(f"it is neither replay nor isolation, but {subject.strategy.family}")
    if subject.of_texts:
        raise Skip("a transformer forgets little in so short a time")
    plain, own = _lost_by_finetune(subject.scenario), _lost(subject, subject.scenario)
    if not plain - own > 0.1:
        raise Fault(
            f"it forgets {own:.0%} of its first task, plain training {plain:.0%}: are old rows learned?"
        )


def convolutions(subject: Subject) -> None:
    """With a convolutional network, lanes only differ by rounding."""
    if subject.of_texts:
        raise Skip("it needs a transformer")
    cells = subject.cells("uneven", (0, 1, 2), model="cnn", width=4, hidden=8, epochs=1, lr=0.003)
    records, one = run(cells), run(cells[1:2])[0]
    a, b = (np.array(record["loss"], dtype=float) for record in (one, records[1]))
    if not np.allclose(a, b, rtol=2e-3, equal_nan=True):
        raise Fault(
            f"with model=cnn, seed 1 alone and beside others: {compared(one, records[1])}: lanes are mixed"
        )


def texts(subject: Subject) -> None:
    """Texts, as features and as tokens, are learned, or refused with a reason before training."""
    reasons = []
    for tune in ("head", "lora"):
        try:
            records = run(subject.cells("check-easy-texts", (0, 1), tune=tune, epochs=1))
        except (Unsuitable, Skip) as reason:
            reasons.append(str(reason))
            continue
        if diverged := [r["reason"] for r in records if r["status"] != "done"]:
            raise Fault(f"texts, tune={tune}: {diverged[0]}")
    if len(reasons) == 2:
        raise Skip(reasons[0])


def device(subject: Subject) -> None:
    """On a pretended GPU it has the CPU's numbers, mixes no tensors of two devices, and steps do not wait."""
    cells = subject.cells("uneven", (0, 1), epochs=1)
    try:
        found = [*device_findings(cells)]
    except Exception as error:
        if not python_if(error):
            raise
        found = [*device_findings(cells[:1])]
    if found:
        raise Fault("; ".join(found))


def described(subject: Subject) -> None:
    """It has a docstring, help for every hyper-parameter, and clear reasons for scenarios that it refuses."""
    cls = subject.strategy
    entry = strategies.REGISTRY.describe(subject.cells("uneven", (0,))[0].strategy)
    if not entry.summary.strip():
        raise Fault('it has no docstring: write what it does in one line, """Weights are pulled back."""')
    for scenario in SCENARIOS:
        training = Training()
        if cls().unsuitable(scenario, training) is None and scenario not in cls.scenarios:
            raise Fault(f"unsuitable() allows {scenario}, but scenarios does not list it: make them agree")
    cell = subject.cells("uneven", (0,))[0]
    if Request("digits", (cell.identity,), (subject.scenario,)).cells()[0].identity != cell.identity:
        raise Fault(f"its name {cell.identity!r} is not read back as the same method")
    if missing := [option.name for option in entry.options if not option.help]:
        raise Note(f"{missing[0]} has no help: write a string under it")


CHECKS: dict[str, Callable[[Subject], None]] = {
    f.__name__: f
    for f in (
        described, alone, hyper, twice, resumed, boundaries, again, units, buffer, memory, export, learns,
        forgets, convolutions, texts, device,
    )
}  # fmt: skip
"""The checks of a method by name."""
FIRST = ("alone", "hyper", "twice", "resumed")
"""The checks of a file before its first run."""
