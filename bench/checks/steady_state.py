"""Training steps in steady state, timed in turns with a bare loop; also the process that measures one tree.

``python -P steady_state.py`` is the process that ``against`` starts in each of two trees. It imports Lethe
from the tree on PYTHONPATH, so that one file measures both; of that tree it needs only ``one_cell``,
``make_lanes``, ``learn_task``, ``begin_task`` and ``take_steps``.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from scipy import stats
from torch import nn

Call = Callable[[], object]
BARE_STEPS, BARE_BATCH = 40, 32
_STEPS = 20


@dataclass(frozen=True)
class Setup:
    """What is measured: lanes of one strategy on one suite, and the seconds of a turn."""

    suite: str
    strategy: str
    scenario: str = "class"
    lanes: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As in ``--set``: training settings, ``model``, and the model's options."""
    device: str = "cpu"
    seconds: float = 0.05
    """Least time of one turn."""

    @property
    def title(self) -> str:
        """The setup in words."""
        model = f", {self.settings['model']}" if "model" in self.settings else ""
        return (
            f"{self.suite} {self.scenario} {self.strategy}{model}, {self.lanes} lane{'s'[: self.lanes > 1]}"
        )


@dataclass(frozen=True)
class Turn:
    """One measurement: seconds of a training step, and of a step of the bare loop beside it."""

    step: float
    bare: float

    @property
    def ratio(self) -> float:
        """Time of the step in units of the bare loop's."""
        return self.step / self.bare


class Workload:
    """The training steps of a setup and the bare loop, warmed up, ready to take turns."""

    def __init__(self, setup: Setup) -> None:
        from bench.plan import one_cell
        from bench.train import begin_task, learn_task, make_lanes, take_steps

        settings = {"iterations": _STEPS, **setup.settings}
        at = setup.suite, setup.strategy, setup.scenario
        self.setup, self.device = setup, torch.device(setup.device)
        self.bare = bare_loop(self.device)
        state = make_lanes([one_cell(*at, seed, settings) for seed in range(setup.lanes)], setup.device)
        learn_task(state, 0)  # memories are filled, penalties have something to protect
        # A strategy that learns all tasks at once waits for the last one.
        schedule = next(filter(None, (begin_task(state, task) for task in range(1, state.streams.n_tasks))))
        self.n_steps, self.rows = schedule.n_steps, schedule.samples // schedule.n_steps
        self.ours: Call = lambda: take_steps(state, schedule)
        self.repeats, self.bare_repeats = self._calibrated(self.ours), self._calibrated(self.bare)

    def turn(self, bare_first: bool = False) -> Turn:
        """Measure a step and a step of the bare loop, one after the other."""
        if bare_first:
            bare = self.bare_seconds()
            return Turn(self.step_seconds(), bare)
        return Turn(self.step_seconds(), self.bare_seconds())

    def step_seconds(self) -> float:
        """Return the seconds of a training step, the mean over one turn."""
        return timed(self.ours, self.device, self.repeats) / (self.repeats * self.n_steps)

    def bare_seconds(self) -> float:
        """Return the seconds of a step of the bare loop, the mean over one turn."""
        return timed(self.bare, self.device, self.bare_repeats) / (self.bare_repeats * BARE_STEPS)

    def _calibrated(self, call: Call) -> int:
        timed(call, self.device)  # allocation and lazy imports
        once = min(timed(call, self.device) for _ in range(2))
        return max(1, round(self.setup.seconds / max(once, 1e-6)))


def bare_loop(device: torch.device) -> Call:
    """Return a plain training loop in torch alone: 784-400-400-10, SGD, batch 32, on random rows."""
    torch.manual_seed(0)
    layers = [
        layer for of in itertools.pairwise((784, 400, 400, 10)) for layer in (nn.Linear(*of), nn.ReLU())
    ]
    net = nn.Sequential(*layers[:-1]).to(device)
    update = torch.optim.SGD(net.parameters(), lr=0.001)
    x_ND, y_N = torch.rand(2048, 784, device=device), torch.arange(2048, device=device) % 10
    rows_SB = torch.randint(0, 2048, (BARE_STEPS, BARE_BATCH), device=device)

    def loop() -> None:
        for rows_B in rows_SB:
            loss = F.cross_entropy(net(x_ND[rows_B]), y_N[rows_B])
            update.zero_grad()
            loss.backward()
            update.step()

    return loop


def timed(
    call: Call, device: torch.device, repeats: int = 1, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the seconds of some calls: by a clock on a CPU, by events on a GPU.

    Processor time, the clock by default, leaves out other programs that share the machine.
    """
    if device.type != "cuda":
        start = clock()
        for _ in range(repeats):
            call()
        return clock() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1000


def clock_rates(device: torch.device) -> dict[str, int]:
    """Return the clock of the GPU in MHz, empty for a CPU or where its driver does not tell."""
    if device.type != "cuda":
        return {}
    try:
        return {"sm": torch.cuda.clock_rate(device)}
    except (ModuleNotFoundError, RuntimeError):
        return {}


@dataclass(frozen=True)
class Measured:
    """Turns of one setup, in this process."""

    setup: Setup
    turns: list[Turn]
    rows: int
    """Rows that a step learns, of all lanes."""
    peak_bytes: int
    clocks: dict[str, int]

    @property
    def step_ms(self) -> float:
        """Median milliseconds of a step."""
        return 1e3 * float(statistics.median(turn.step for turn in self.turns))

    @property
    def samples_per_second(self) -> float:
        """Rows learned in a second, of all lanes."""
        return 1e3 * self.rows / self.step_ms

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Median time of a step in units of the bare loop's, with its 95 % interval by order statistics."""
        ratios = [turn.ratio for turn in self.turns]
        found = stats.quantile_test(ratios, p=0.5).confidence_interval(0.95)
        return statistics.median(ratios), float(found.low), float(found.high)


def measure(setup: Setup, turns: int) -> Measured:
    """Measure a setup in this process, on one thread.

    Args:
        setup: What is measured.
        turns: Number of turns; each gives one ratio.
    """
    torch.set_num_threads(1)
    work = Workload(setup)
    found = [work.turn(bool(number % 2)) for number in range(turns)]
    return Measured(setup, found, work.rows, peak_bytes(work.device), clock_rates(work.device))


def peak_bytes(device: torch.device) -> int:
    """Return the largest memory use so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve() -> None:
    """Answer requests in lines of JSON: first the setups, then a line for each turn of all of them."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what Lethe prints is not an answer
    torch.set_num_threads(1)
    works = [Workload(Setup(**of)) for of in json.loads(sys.stdin.readline())]
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        turn = {"steps": [work.step_seconds() for work in works], "peak_bytes": peak_bytes(works[0].device)}
        print(json.dumps(turn), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
