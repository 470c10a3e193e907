"""Times a run of digits in Avalanche and in Lethe, and writes the record that README shows.

Both learn the same five tasks with the same network, optimiser, batch size and passes, on one thread, and
test all tasks after each. A time is wall time without imports and data, the least of several rounds in turn.

    pip install avalanche-lib && python tests/perf/peers.py results/reference/peers.json
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lethe
import suites

SEEDS, ROUNDS = 10, 3
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "finetune": ("Naive", {}),
    "er": ("Replay", {"mem_size": 500}),
    "der": ("DER", {"mem_size": 500, "batch_size_mem": 16, "alpha": 0.5}),
    "agem": ("AGEM", {"patterns_per_exp": 100, "sample_size": 16}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
    "ewc[fisher=true]": ("EWC", {"ewc_lambda": 1000.0}),
    "si": ("SynapticIntelligence", {"si_lambda": 1.0}),
}
"""By Lethe's selector: Avalanche's class and its arguments."""


def avalanche_run(method: str) -> Callable[[], float]:
    """Return a function that trains and tests seed 0 with Avalanche's own accuracy and no loggers."""
    from avalanche import training
    from avalanche.benchmarks import tensors_benchmark
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin

    suite = suites.get("digits")
    data, settings = suite.load(), suite.training_for("class", {})
    tasks = suite.stream(data, "class", 0, settings).tasks
    x_NX, y_N = data.x_N.float() / data.scale, data.y_N

    def part(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = data.index_of(rows)
        return x_NX[index], y_N[index]

    benchmark = tensors_benchmark(
        train_tensors=[part(task.train_rows) for task in tasks],
        test_tensors=[part(task.test_rows) for task in tasks],
        task_labels=[0] * len(tasks),
    )
    name, arguments = METHODS[method]

    def learn() -> float:
        torch.manual_seed(0)
        hidden = [nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()]
        model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, len(data.class_names)))
        strategy = getattr(training, name)(
            model=model,
            optimizer=torch.optim.Adam(model.parameters(), lr=settings.lr),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=settings.batch,
            train_epochs=settings.epochs,
            eval_mb_size=256,
            evaluator=EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
            **arguments,
        )
        for experience in benchmark.train_stream:
            strategy.train(experience)
            found = strategy.eval(benchmark.test_stream)
        return float(next(value for key, value in found.items() if key.startswith("Top1_Acc_Stream")))

    return learn


def lethe_run(method: str, seeds: int) -> Callable[[], float]:
    """Return a function that does the same in Lethe, planning and records included."""

    def learn() -> float:
        scores = lethe.run("digits", method, scenarios="class", seeds=seeds, jobs=1).scores
        return float(scores[scores["score"] == "acc"]["value"].mean())

    return learn


def main(target: Path) -> None:
    """Measure every method and write the record."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for method in METHODS:
        runs = {
            "avalanche": avalanche_run(method),
            "lethe": lethe_run(method, 1),
            "lanes": lethe_run(method, SEEDS),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        accuracy = {}
        for _ in range(ROUNDS):
            for name, learn in runs.items():
                start = time.perf_counter()
                accuracy[name] = learn()
                seconds[name].append(time.perf_counter() - start)
        least = {name: min(times) for name, times in seconds.items()}
        found[method] = {
            "avalanche": METHODS[method][0],
            "seconds_avalanche": round(least["avalanche"], 2),
            "seconds_lethe": round(least["lethe"], 2),
            "seconds_lethe_per_seed": round(least["lanes"] / SEEDS, 3),
            "faster_one_seed": round(least["avalanche"] / least["lethe"], 1),
            "faster_many_seeds": round(least["avalanche"] / (least["lanes"] / SEEDS), 1),
            "accuracy_avalanche": round(100 * accuracy["avalanche"], 1),
            "accuracy_lethe": round(100 * accuracy["lethe"], 1),
        }
        print(method, found[method], flush=True)
    packages = {name: version(name) for name in ("avalanche-lib", "torch")} | {"lethe": lethe.__version__}
    about = {
        "made": f"{datetime.now(UTC):%Y-%m-%d}",
        "packages": packages,
        "machine": platform.machine(),
        "seeds": SEEDS,
    }
    target.write_text(json.dumps({"about": about, "methods": found}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
