"""``python -m tests.planted_faults``: does ``lethe compare`` find faults planted in a copy of the code?

Each fault replaces one piece of source text, which must occur exactly once, in a copy of the packages. The
copy runs digits, and its run is compared with one of the code as it is. ``--write`` makes the record that
docs/regressions.md shows.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.results import Comparison
from bench.results.compared_runs import compare_frames, hashed_frames

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "lethe", "strategies", "suites")
RECORD = ROOT / "results" / "reference" / "planted-faults.json"
SEEDS, MOST = 5, 20
SCENARIOS = "task,domain,class"


@dataclass(frozen=True)
class Fault:
    """A fault: its name, the file it is planted in, and the cells that are run to see it."""

    name: str
    file: str
    before: str
    after: str
    strategy: str
    settings: tuple[str, ...] = ()
    """``--set`` of both runs."""
    scenarios: str = SCENARIOS


_BATCH_NORM = ("model=resnet18", "width=4", "epochs=3")
_MOMENTUM = ("optimiser=momentum", "epochs=1", "lr=0.01")
"""Few steps per task: Adam over 20 epochs recovers its moments before the task ends."""
FAULTS = (
    Fault(
        "EWC penalty times 0",
        "strategies/parts/quadratic.py",
        "torch._foreach_addcmul_(gradients(self.model), self._pull, away)",
        "torch._foreach_addcmul_(gradients(self.model), self._pull, away, value=0.0)",
        "ewc",
    ),
    Fault(
        "EWC Fisher of the wrong task",
        "strategies/regularisation/ewc.py",
        "            self.add(self.fisher_information(task))",
        "            self.add(self.fisher_information(task - 1))",
        "ewc",
        scenarios="domain",
    ),
    Fault(
        "buffer never updated after task 1",
        "strategies/parts/replay.py",
        "        self.memory.write(batch)",
        "        if self.task == 0:\n            self.memory.write(batch)",
        "er",
    ),
    Fault(
        "replay only from the last task",
        "strategies/parts/replay.py",
        'return self.memory.replay("replay", self.stored(batch), batch)',
        "late = self.streams.task_of(self.memory.rows_LM[:, :-1]) >= self.task - 1\n"
        '        slots_LB = self.memory.draw_distinct("replay", 16, self.memory.in_use_LM() & late)\n'
        "        return self.memory.read(slots_LB, batch)",
        "er",
    ),
    Fault(
        "reservoir that keeps the newest",
        "strategies/parts/memory.py",
        "drawn = (draw * nth).long()",
        "drawn = (draw * self.slots).long()",
        "er",
    ),
    Fault(
        "LwF teacher not frozen",
        "strategies/parts/teacher.py",
        "self.teacher = copy.deepcopy(self.model).requires_grad_(False).eval()",
        "self.teacher = self.model",
        "lwf",
    ),
    Fault(
        "distillation temperature ignored",
        "strategies/parts/teacher.py",
        "    return logits_LBU / per_lane(temperature_L, logits_LBU)",
        "    return logits_LBU",
        "lwf",
    ),
    Fault(
        "labels shifted in task 3's evaluation",
        "bench/train/accuracy.py",
        "pair_LB * units + scores_LBU.argmax(2), real_LB.int()",
        "pair_LB * units + (scores_LBU.argmax(2) + (self.streams.task_of(batch.rows_LB) == 2)) % units, "
        "real_LB.int()",
        "er",
    ),
    Fault(
        "evaluation in train mode with batch norm",
        "bench/train/accuracy.py",
        "        with eval_mode(self.strategy.model):\n            chunks",
        "        if True:\n            chunks",
        "er",
        _BATCH_NORM,
    ),
    Fault(
        "optimiser state lost between tasks",
        "bench/train/loop.py",
        "    if state.training.reset_optimiser or strategy.restarts:",
        "    if True:",
        "finetune",
        _MOMENTUM,
    ),
    Fault(
        "learning rate times 3",
        "bench/train/lane_state.py",
        'lr, decay = [s.training["lr"] for s in specs]',
        'lr, decay = [3 * s.training["lr"] for s in specs]',
        "finetune",
        scenarios="task,domain",
    ),
    Fault(
        "last batch of each epoch dropped",
        "suites/training.py",
        "        per_pass = -(-rows // self.batch)",
        "        per_pass = rows // self.batch",
        "er",
    ),
    Fault(
        "masked units counted in the loss",
        "strategies/core/strategy.py",
        "loss_L = self.cross_entropy(mask(raw_LBU, batch.active_LBU), batch)",
        "loss_L = self.cross_entropy(raw_LBU, batch)",
        "finetune",
    ),
    Fault(
        "gradient projection skipped",
        "strategies/gradient/agem.py",
        "[per_lane(scale_L, r) * r for r in reference]",
        "[per_lane(0 * scale_L, r) * r for r in reference]",
        "agem",
    ),
    Fault(
        "a seed ignored in the data order",
        "bench/train/schedule.py",
        'generator(stream.seed, f"batches/{task}")',
        'generator(0, f"batches/{task}")',
        "er",
    ),
    Fault(
        "class order the same for all seeds",
        "suites/scenarios.py",
        'order_of(self.order, n_classes, "classes", seed)',
        'order_of(self.order, n_classes, "classes", 0)',
        "er",
    ),
)


def planted(fault: Fault, root: Path = ROOT) -> str:
    """Return the source of a file with a fault; fail if the text does not occur exactly once."""
    text = (root / fault.file).read_text()
    n = text.count(fault.before)
    if n != 1:
        raise AssertionError(f"{fault.name}: {fault.before!r} occurs {n} times in {fault.file}, not once")
    return text.replace(fault.before, fault.after)


def copy_packages(folder: Path, changed: dict[str, str] | None = None) -> Path:
    """Copy Lethe's packages, and write changed files by path."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)
    for path, text in (changed or {}).items():
        (folder / path).write_text(text)
    return folder


def run(code: Path, out: Path, words: Iterable[str]) -> Path:
    """Run digits by the packages in a folder, in a process of its own."""
    command = [sys.executable, "-m", "bench", "run", "digits", *words, "--jobs", "1", "--out", str(out)]
    # No path of the code that is compared with, and no other may be first.
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {code}: {done.stderr}")
    return out


def cells(fault: Fault, seeds: int) -> list[str]:
    """Return the words of ``lethe run digits`` that make the cells of a fault."""
    settings = [word for setting in fault.settings for word in ("--set", setting)]
    return ["-s", fault.strategy, "--scenario", fault.scenarios, "--seeds", str(seeds), *settings]


def runs(fault: Fault, folder: Path, seeds: int) -> tuple[Path, Path]:
    """Return the runs of the code as it is, made once for the same cells, and of the code with the fault."""
    words = cells(fault, seeds)
    name = "".join(words).replace(",", "-")
    base, new = folder / name, folder / f"{name} {fault.name}"
    if not base.exists():
        run(ROOT, base, words)
    if not new.exists():
        with tempfile.TemporaryDirectory(prefix="lethe-planted-") as scratch:
            run(copy_packages(Path(scratch), {fault.file: planted(fault)}), new, words)
    return base, new


def evidence(comparison: Comparison) -> str:
    """Return the clearest alarm in a few words."""
    worse = comparison.with_verdict("worse")
    if worse:
        of = max(worse, key=lambda s: (-(s.p_holm or 0), abs(s.difference)))
        return f"{of.score}, {of.scenario}: {of.difference:+.1f} {of.unit}"
    others = [
        *comparison.steps,
        *(f"{words}: all seeds have the same stream" for words in comparison.repeated),
    ]
    return others[0].removeprefix("digits ") if others else ""


def comparer(base: Path, new: Path) -> Callable[..., Comparison]:
    """Return ``compare`` of two runs, which are read once."""
    frames = hashed_frames(base), hashed_frames(new)
    return partial(compare_frames, *frames, ("BASE", "NEW"), margins={})


def found(fault: Fault, folder: Path) -> dict[str, Any]:
    """Return what ``compare`` says about a fault with 5 seeds, and the fewest seeds with a worse score."""
    compare = comparer(*runs(fault, folder, SEEDS))
    at_5 = compare()
    unequal = (n for n in range(1, SEEDS + 1) if compare(expect="equal", seeds=range(n)).unequal)
    needed_equal, most = next(unequal, None), SEEDS
    if not at_5.alarms:
        most, compare = MOST, comparer(*runs(fault, folder, MOST))
    of_n = ((n, compare(seeds=range(n))) for n in range(2, most + 1))
    clearest = min(at_5.scores, key=lambda s: (s.p_holm is None, s.p_holm))
    return {
        "fault": fault.name,
        "run": " ".join([fault.strategy, *fault.settings, fault.scenarios]),
        "alarm": bool(at_5.alarms),
        "shown_by": evidence(at_5),
        "seeds_needed": next((n for n, comparison in of_n if comparison.with_verdict("worse")), None),
        "clearest": f"{clearest.score}, {clearest.scenario}: {clearest.difference:+.1f} ({clearest.verdict})",
        "seeds_needed_equal": needed_equal,
    }


def main() -> None:
    """Plant the faults that are named, or all, and print or write what is found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="words of the names of faults")
    parser.add_argument("--write", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    parser.add_argument(
        "--keep", type=Path, help="folder of the runs; those that are there are not made again"
    )
    given = parser.parse_args()
    faults = [f for f in FAULTS if not given.only or any(word in f.name for word in given.only)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="lethe-planted-") as scratch:
        for fault in faults:
            rows.append(found(fault, given.keep or Path(scratch)))
            print(json.dumps(rows[-1]), flush=True)
    print(f"{sum(row['alarm'] for row in rows)} of {len(rows)} faults are found with {SEEDS} seeds")
    if given.write:
        RECORD.write_text(json.dumps({"seeds": SEEDS, "most_seeds": MOST, "faults": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
