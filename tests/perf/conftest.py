"""Benchmarks within one process: two functions take turns, and each turn gives a ratio."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.checks.step_costs import dear

Step = Callable[[], object]
ROUNDS = 15
_TABLE: list[tuple[str, str, float, str]] = []


@pytest.fixture
def compare(benchmark: BenchmarkFixture) -> Callable[..., float]:
    """Return a function that times ``ours`` against ``other`` and records the median ratio of their turns.

    They run one after the other, so that both have the same load, and alternate in who begins. Times are
    processor times, so that other programs are not included.
    """

    def measure(
        title: str, against: str, ours: Step, other: Step, target: str, per: int = 1,
        implied: float | None = None,
    ) -> float:  # fmt: skip
        ours(), other()  # warm up: allocation, lazy imports
        seconds: tuple[list[float], list[float]] = ([], [])

        def turn() -> None:
            order = (0, 1) if len(seconds[0]) % 2 else (1, 0)
            for i in order:
                start = time.process_time()
                (ours, other)[i]()
                seconds[i].append(time.process_time() - start)

        benchmark.pedantic(turn, rounds=ROUNDS, iterations=1)
        ratios = [a / b for a, b in zip(*seconds, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1e3 * statistics.median(seconds[0]) / per
        benchmark.extra_info.update({
            "title": title, "against": against, "ratio": ratio, "low": low, "high": high, "target": target,
            "implied": implied, "ours_ms": milliseconds,
        })  # fmt: skip
        if implied is not None and dear(ratio, implied):
            target += "  <- docs/costs.md says why"
        _TABLE.append((f"{title} ({milliseconds:.3f} ms)", against, ratio, target))
        return ratio

    return measure


@pytest.fixture(autouse=True, scope="session")
def table() -> Iterator[None]:
    yield
    wide = max((len(row[0]) for row in _TABLE), default=0)
    print("\n\nmedian ratios of processor time, turn by turn within this process, one thread")
    for title, against, ratio, target in _TABLE:
        print(f"  {title:<{wide}}  {ratio:6.2f} x {against}  {target}")
